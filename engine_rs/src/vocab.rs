//! Text to tokens and tokens to text, in whole UTF-8 characters.

use std::ffi::CStr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use crate::error::{EngineError, Result};
use crate::ffi::{LlamaVocab, Symbols};
use crate::model::Model;

/// `LLAMA_VOCAB_TYPE_NONE`: to tokenize with it would end the process.
const TYPE_NONE: i32 = 0;

/// The longest text in bytes. More tokens than this makes fit into no context there is.
const MAX_TEXT: usize = 4 << 20;
/// Some tokenizers split text by `std::regex`, which recurses for each character of a run: 352 bytes of stack were
/// measured with libstdc++. Where the stack ends, so does the process.
const STACK_PER_BYTE: usize = 512;
/// Up to this many bytes any thread's stack is enough.
const MAX_TEXT_ON_CALLERS_STACK: usize = 1024;

/// The vocabulary of a model. Cheap to clone; keeps the model alive.
#[derive(Clone)]
pub struct Vocab {
    ptr: *const LlamaVocab,
    n_tokens: i32,
    model: Arc<Model>,
}

// SAFETY: it points into a model, which is `Send`, `Sync` and owned here; the library only reads it.
unsafe impl Send for Vocab {}
// SAFETY: as above.
unsafe impl Sync for Vocab {}

impl Vocab {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let symbols = &model.runtime().symbols;
        let ptr = match symbols.get_vocab {
            // SAFETY: the model is alive.
            Some(get_vocab) => unsafe { get_vocab(model.as_ptr()) },
            // Before the split the model itself stood in for the vocabulary.
            None => model.as_ptr().cast::<LlamaVocab>().cast_const(),
        };
        // SAFETY: the vocabulary lives as long as the model.
        let n_tokens = unsafe { (symbols.vocab_n_tokens)(ptr) };
        Self { ptr, n_tokens, model }
    }

    /// Turns text into tokens.
    ///
    /// `add_special` puts in what the model wants around a text (usually a start token); `parse_special` reads
    /// the text of control tokens as these tokens, which only trusted text may do.
    ///
    /// # Errors
    /// [`EngineError::InvalidParameter`] for more than 4 MiB of text, [`EngineError::GgufUnsupported`] for a model
    /// without a tokenizer, [`EngineError::OutOfMemory`] when there is no room to work in.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>> {
        if self.kind() == TYPE_NONE {
            return Err(EngineError::GgufUnsupported("the model has no tokenizer".into()));
        }
        if text.len() > MAX_TEXT {
            return Err(too_long());
        }
        if text.len() <= MAX_TEXT_ON_CALLERS_STACK {
            return self.tokenize_here(text, add_special, parse_special);
        }
        let no_stack = |error: std::io::Error| EngineError::OutOfMemory(format!("no stack to tokenize on: {error}"));
        let builder =
            thread::Builder::new().name("tokenize".into()).stack_size((1 << 20) + text.len() * STACK_PER_BYTE);
        thread::scope(|scope| {
            let tokenizing = builder.spawn_scoped(scope, || self.tokenize_here(text, add_special, parse_special));
            tokenizing.map_err(no_stack)?.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn tokenize_here(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>> {
        // Room for every byte as a token of its own, and for the special ones.
        let mut tokens = vec![0_i32; text.len() + 8];
        for _ in 0..2 {
            // SAFETY: text and buffer are passed with their lengths, which `MAX_TEXT` keeps small; neither is kept.
            let count = unsafe {
                (self.symbols().tokenize)(
                    self.ptr,
                    text.as_ptr().cast(),
                    text.len() as i32,
                    tokens.as_mut_ptr(),
                    tokens.len() as i32,
                    add_special,
                    parse_special,
                )
            };
            // Negated, it is the room that is needed.
            tokens.resize(count.unsigned_abs() as usize, 0);
            if count >= 0 {
                return Ok(tokens);
            }
        }
        Err(too_long())
    }

    /// Appends the bytes of one token, which need not be whole UTF-8. Control tokens have text only with `special`;
    /// an id outside the vocabulary has none.
    pub fn piece(&self, token: i32, special: bool, out: &mut Vec<u8>) {
        if !self.has(token) {
            return;
        }
        let start = out.len();
        out.resize(start + 32, 0);
        for _ in 0..2 {
            let room = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
            // SAFETY: the token exists; buffer and room belong together.
            let length = unsafe {
                (self.symbols().token_to_piece)(self.ptr, token, out[start..].as_mut_ptr().cast(), room, 0, special)
            };
            let needed = start + length.unsigned_abs() as usize;
            if length >= 0 {
                return out.truncate(needed);
            }
            out.resize(needed, 0);
        }
        out.truncate(start);
    }

    /// The text of a whole answer or prompt: undoes [`tokenize`](Self::tokenize), added start tokens included.
    ///
    /// # Errors
    /// [`EngineError::InvalidParameter`] for an id outside the vocabulary.
    pub fn detokenize(&self, tokens: &[i32]) -> Result<String> {
        let invalid = |message: String| EngineError::InvalidParameter { param: "tokens", message };
        if let Some(token) = tokens.iter().find(|&&token| !self.has(token)) {
            return Err(invalid(format!("there is no token {token}")));
        }
        let count = i32::try_from(tokens.len()).map_err(|_| invalid("too many tokens".into()))?;
        let mut bytes = vec![0_u8; tokens.len() * 8 + 32];
        for _ in 0..2 {
            let room = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            // SAFETY: all tokens exist; both buffers are passed with their lengths.
            let length = unsafe {
                (self.symbols().detokenize)(
                    self.ptr,
                    tokens.as_ptr(),
                    count,
                    bytes.as_mut_ptr().cast(),
                    room,
                    true,
                    true,
                )
            };
            bytes.resize(length.unsigned_abs() as usize, 0);
            if length >= 0 {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a token ends an answer.
    #[must_use]
    pub fn is_eog(&self, token: i32) -> bool {
        // SAFETY: the token exists.
        self.has(token) && unsafe { (self.symbols().vocab_is_eog)(self.ptr, token) }
    }

    /// The start token, if there is one.
    #[must_use]
    pub fn bos(&self) -> Option<i32> {
        // SAFETY: the vocabulary is alive.
        Some(unsafe { (self.symbols().vocab_bos)(self.ptr) }).filter(|&token| self.has(token))
    }

    /// The end token, if there is one.
    #[must_use]
    pub fn eos(&self) -> Option<i32> {
        // SAFETY: the vocabulary is alive.
        Some(unsafe { (self.symbols().vocab_eos)(self.ptr) }).filter(|&token| self.has(token))
    }

    /// Whether `tokenize` with `add_special` puts the start token in front.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        // SAFETY: the vocabulary is alive.
        unsafe { (self.symbols().vocab_add_bos)(self.ptr) }
    }

    /// Number of tokens.
    #[must_use]
    pub fn n_tokens(&self) -> usize {
        self.n_tokens.try_into().unwrap_or(0)
    }

    /// The entry of a token as the file spells it, e.g. `▁the` or `<0x0A>`; `None` for an id outside the vocabulary.
    #[must_use]
    pub fn text(&self, token: i32) -> Option<String> {
        if !self.has(token) || self.kind() == TYPE_NONE {
            return None;
        }
        // SAFETY: the token exists; its text is NUL-terminated and belongs to the model.
        let text = unsafe { CStr::from_ptr((self.symbols().vocab_text)(self.ptr, token)) };
        Some(text.to_string_lossy().into_owned())
    }

    fn has(&self, token: i32) -> bool {
        (0..self.n_tokens).contains(&token)
    }

    fn kind(&self) -> i32 {
        // SAFETY: the vocabulary is alive.
        unsafe { (self.symbols().vocab_type)(self.ptr) }
    }

    fn symbols(&self) -> &Symbols {
        &self.model.runtime().symbols
    }
}

impl std::fmt::Debug for Vocab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocab").field("n_tokens", &self.n_tokens).finish_non_exhaustive()
    }
}

fn too_long() -> EngineError {
    EngineError::InvalidParameter { param: "prompt", message: "the text is too long".into() }
}

/// Joins the bytes of successive tokens into text and never splits a character.
///
/// The joined output equals [`String::from_utf8_lossy`] of the joined input, however that was cut.
#[derive(Debug, Default, Clone)]
pub struct Detokenizer {
    /// The first bytes of a character whose rest has not come yet.
    held: Vec<u8>,
}

impl Detokenizer {
    /// Takes the bytes of a token and appends what is whole to `out`; invalid bytes become U+FFFD.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.held.extend_from_slice(bytes);
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = tail;
                    if let Some(invalid) = error.error_len() {
                        out.push(char::REPLACEMENT_CHARACTER);
                        rest = &tail[invalid..];
                        continue;
                    }
                }
            }
            break;
        }
        self.held.drain(..self.held.len() - rest.len());
    }

    /// Ends the text: a character that never became whole is one U+FFFD.
    pub fn flush(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the bytes in pieces of these lengths, again and again.
    fn joined(bytes: &[u8], lengths: &[usize]) -> String {
        let (mut detokenizer, mut out) = (Detokenizer::default(), String::new());
        let mut rest = bytes;
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, tail) = rest.split_at((*length).min(rest.len()));
            detokenizer.push(piece, &mut out);
            rest = tail;
        }
        detokenizer.flush(&mut out);
        out
    }

    proptest! {
        #[test]
        fn any_split_of_any_text_comes_out_equal(text in ".*", lengths in prop::collection::vec(1_usize..6, 1..8)) {
            prop_assert_eq!(joined(text.as_bytes(), &lengths), text);
        }

        #[test]
        fn any_split_of_any_bytes_comes_out_as_if_joined_first(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xF0), Just(0x9F), Just(0xE2), Just(0x82)], 0..64),
            lengths in prop::collection::vec(1_usize..6, 1..8),
        ) {
            prop_assert_eq!(joined(&bytes, &lengths), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn nothing_whole_is_held_back(text in ".*", tail in 0_usize..4) {
            let (mut detokenizer, mut out) = (Detokenizer::default(), String::new());
            detokenizer.push(text.as_bytes(), &mut out);
            detokenizer.push(&"\u{1F600}".as_bytes()[..tail], &mut out);
            prop_assert_eq!(out, text);
        }
    }
}
