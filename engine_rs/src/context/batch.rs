//! Tokens to decode together, as the library takes them.

use crate::ffi::Block;

/// Tokens to decode together, of any number of sequences.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    outputs: Vec<i8>,
}

impl Batch {
    /// An empty batch with room for `n` tokens.
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(n),
            positions: Vec::with_capacity(n),
            sequences: Vec::with_capacity(n),
            outputs: Vec::with_capacity(n),
        }
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.outputs.clear();
    }

    /// Appends a token of sequence `seq_id` at position `pos` and returns its index, by which
    /// [`Context::logits`](super::Context::logits) names its output if it has one.
    pub fn push(&mut self, token: i32, pos: i32, seq_id: i32, output: bool) -> i32 {
        self.tokens.push(token);
        self.positions.push(pos);
        self.sequences.push(seq_id);
        self.outputs.push(output.into());
        self.tokens.len() as i32 - 1
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// What a context can take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Tokens of a batch.
    pub(super) tokens: u32,
    /// Sequences of the context.
    pub(super) sequences: u32,
    /// Entries of the vocabulary.
    pub(super) vocabulary: usize,
}

/// The arrays a `llama_batch` points to besides the batch itself.
#[derive(Default)]
pub(super) struct SequenceArrays {
    counts: Vec<i32>,
    pointers: Vec<*const i32>,
}

impl Batch {
    /// Says what the library would refuse, some of it by an assertion that ends the process.
    pub(super) fn check(&self, limits: Limits) -> Result<(), String> {
        if self.is_empty() || self.len() > limits.tokens as usize {
            return Err(format!("a batch has 1 to {} tokens, not {}", limits.tokens, self.len()));
        }
        if let Some(token) = self.tokens.iter().find(|&&token| token < 0 || token as usize >= limits.vocabulary) {
            return Err(format!("there is no token {token}"));
        }
        if let Some(id) = self.sequences.iter().find(|&&id| id < 0 || id as u32 >= limits.sequences) {
            return Err(format!("there is no sequence {id}"));
        }
        if let Some(pos) = self.positions.iter().find(|&&pos| pos < 0) {
            return Err(format!("there is no position {pos}"));
        }
        Ok(())
    }

    /// Which tokens have an output.
    pub(super) fn outputs(&self) -> &[i8] {
        &self.outputs
    }

    /// A `llama_batch`: `n_tokens`, then pointers to `token`, `embd`, `pos`, `n_seq_id`, `seq_id`, `logits`. It
    /// points into `self` and `arrays`.
    pub(super) fn block(&self, arrays: &mut SequenceArrays) -> Block {
        arrays.counts.resize(self.len().max(arrays.counts.len()), 1);
        arrays.pointers.clear();
        arrays.pointers.extend(self.sequences.iter().map(std::ptr::from_ref));
        let mut block = Block::filled(0);
        block.set_i32(0, self.len() as i32);
        block.set_pointer(8, self.tokens.as_ptr().cast());
        block.set_pointer(24, self.positions.as_ptr().cast());
        block.set_pointer(32, arrays.counts.as_ptr().cast());
        block.set_pointer(40, arrays.pointers.as_ptr().cast());
        block.set_pointer(48, self.outputs.as_ptr().cast());
        block
    }
}
