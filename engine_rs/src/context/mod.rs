//! A `llama_context`: decode batches and edit the KV cache.

mod abort;
mod batch;
mod squared_relu;

use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

pub use abort::AbortHandle;
pub use batch::Batch;
use batch::{Limits, SequenceArrays};
use squared_relu::SquaredRelu;

use crate::error::{EngineError, Result};
use crate::ffi::{Block, LlamaContext, LlamaMemory, Runtime, Symbols, Threadpool, tells_of_memory, with_errors};
use crate::model::Model;

/// Sizes of a context, in tokens unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextParams {
    /// KV cells, shared by all sequences.
    pub n_ctx: u32,
    /// Most tokens of one [`Context::decode`].
    pub n_batch: u32,
    /// Most tokens the library computes at once.
    pub n_ubatch: u32,
    /// Most sequences at once.
    pub n_seq_max: u32,
    /// Compute threads for a batch of one token per sequence.
    pub n_threads: u32,
    /// Compute threads for longer batches.
    pub n_threads_batch: u32,
    /// Compute embeddings instead of logits.
    pub embeddings: bool,
}

/// How a decode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// Everything was computed.
    Done,
    /// The [`AbortHandle`] stopped it. Part of the batch may be in the cache: remove it from each sequence.
    Aborted,
    /// Not enough KV cells; the cache is as it was. Builds of March 2025 fail instead.
    NoSpace,
}

/// A context: the KV cache of its sequences and the outputs of the last decode.
pub struct Context {
    ptr: NonNull<LlamaContext>,
    /// Null for models that keep nothing between decodes.
    memory: *mut LlamaMemory,
    kv_unified: bool,
    n_ctx: u32,
    n_batch: u32,
    n_seq_max: u32,
    n_vocab: usize,
    abort: AbortHandle,
    /// Set for the models that need it.
    squared_relu: Option<Rc<SquaredRelu>>,
    /// The last one is in use. The library pauses the one before at its next decode, so none goes before the context.
    threadpools: Vec<Threadpool>,
    /// Which tokens of the last decode have an output.
    outputs: Vec<i8>,
    arrays: SequenceArrays,
    model: Arc<Model>,
}

// SAFETY: the library ties a context to no thread; all changes need `&mut`, so one thread at a time makes them, and
// its `Rc` has no second owner.
unsafe impl Send for Context {}

impl Context {
    /// Makes a context, checked against what was asked for.
    ///
    /// Where a unified cache cannot be proved, the context holds one sequence: see [`n_seq_max`](Self::n_seq_max).
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`] when the cache cannot be had, [`EngineError::InvalidParameter`] for sizes of 0,
    /// [`EngineError::AbiUnsupported`] when the library understood other sizes, [`EngineError::ModelLoadFailed`] else.
    pub fn new(model: &Arc<Model>, params: &ContextParams) -> Result<Self> {
        for (param, size) in [("ctx_size", params.n_ctx), ("parallel", params.n_seq_max), ("n_batch", params.n_batch)] {
            if size == 0 || i32::try_from(size).is_err() {
                return Err(EngineError::InvalidParameter { param, message: format!("{param} cannot be {size}") });
            }
        }
        let runtime = Arc::clone(model.runtime());
        let single = ContextParams { n_seq_max: 1, ..*params };
        if params.n_seq_max > 1 && !may_be_unified(&runtime) {
            return Self::create(model, &runtime, &single);
        }
        let context = Self::create(model, &runtime, params)?;
        if context.kv_unified || params.n_seq_max == 1 {
            return Ok(context);
        }
        drop(context);
        Self::create(model, &runtime, &single)
    }

    fn create(model: &Arc<Model>, runtime: &Runtime, params: &ContextParams) -> Result<Self> {
        let symbols = &runtime.symbols;
        let mut block = context_block(runtime, params);
        let squared_relu = squared_relu::attach(model, &mut block)?;
        // SAFETY: the model is alive; the block holds the library's defaults, changed at known fields, and the data of
        // its callback outlives the context.
        let (context, errors) = with_errors(|| unsafe { (symbols.context_init)(model.as_ptr(), block) });
        let context = NonNull::new(context).ok_or_else(|| {
            if tells_of_memory(&errors) {
                EngineError::OutOfMemory(format!("no room for a context of {} tokens: {errors}", params.n_ctx))
            } else {
                EngineError::ModelLoadFailed(format!("no context: {errors}"))
            }
        })?;
        let pointer = context.as_ptr();
        // SAFETY: the context is alive; the memory lives as long, and before June 2025 the context stands in for it.
        let memory = unsafe { symbols.get_memory.map_or(pointer.cast(), |get_memory| get_memory(pointer)) };
        // SAFETY: the context is alive.
        let (n_ctx, n_batch, n_seq_max) =
            unsafe { ((symbols.n_ctx)(pointer), (symbols.n_batch)(pointer), (symbols.n_seq_max)(pointer)) };
        let mut made = Self {
            ptr: context,
            memory,
            kv_unified: is_unified(symbols, context),
            n_ctx,
            n_batch,
            n_seq_max: params.n_seq_max,
            n_vocab: model.n_vocab(),
            abort: AbortHandle::default(),
            squared_relu,
            threadpools: Vec::new(),
            outputs: Vec::new(),
            arrays: SequenceArrays::default(),
            model: Arc::clone(model),
        };
        made.check_sizes(params, n_seq_max)?;
        made.set_threads(params.n_threads, params.n_threads_batch);
        // SAFETY: the context is alive; the flag outlives it, as `drop` frees the context first.
        unsafe {
            if runtime.profile().can_abort() {
                (symbols.set_abort_callback)(pointer, abort::is_set, made.abort.as_ptr());
            }
            (symbols.set_embeddings)(pointer, params.embeddings);
        }
        made.prove_squared_relu()?;
        Ok(made)
    }

    /// A library that reads its parameters from other offsets than ours must not be used.
    /// Early 2025's tell their cells when asked for `n_seq_max`.
    fn check_sizes(&self, asked: &ContextParams, made_for: u32) -> Result<()> {
        let batch = asked.n_batch.min(self.n_ctx);
        if self.n_ctx < asked.n_ctx || self.n_batch < batch || made_for < asked.n_seq_max {
            return Err(EngineError::AbiUnsupported(format!(
                "asked for {asked:?}, got n_ctx {}, n_batch {}, n_seq_max {}",
                self.n_ctx, self.n_batch, made_for
            )));
        }
        Ok(())
    }

    /// KV cells; at least as many as asked for.
    #[must_use]
    pub fn n_ctx(&self) -> u32 {
        self.n_ctx
    }

    /// KV cells one sequence may use.
    #[must_use]
    pub fn n_ctx_seq(&self) -> u32 {
        if self.kv_unified { self.n_ctx } else { self.n_ctx / self.n_seq_max }
    }

    /// Most tokens of one [`decode`](Self::decode).
    #[must_use]
    pub fn n_batch(&self) -> u32 {
        self.n_batch
    }

    /// Sequences it can hold: as asked for, or 1 where a unified cache could not be proved.
    #[must_use]
    pub fn n_seq_max(&self) -> u32 {
        self.n_seq_max
    }

    /// Whether all sequences are known to share all cells.
    #[must_use]
    pub fn kv_unified(&self) -> bool {
        self.kv_unified
    }

    /// The model it runs.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// A handle that stops decodes of this context.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        self.abort.clone()
    }

    /// Sets the compute threads for batches of one token per sequence and for longer ones.
    pub fn set_threads(&mut self, n_threads: u32, n_threads_batch: u32) {
        let [single, batch] = [n_threads, n_threads_batch].map(|n| i32::try_from(n).unwrap_or(i32::MAX).max(1));
        // SAFETY: the context is alive.
        unsafe { (self.symbols().set_n_threads)(self.as_ptr(), single, batch) };
        let threads = single.max(batch);
        if threads == 1 || self.threadpools.last().is_some_and(|pool| pool.threads() >= threads) {
            return;
        }
        let Some(pool) = self.model.runtime().threadpool.and_then(|api| Threadpool::new(api, threads)) else { return };
        // SAFETY: the context is alive, and freed before its pools.
        unsafe { pool.attach(self.as_ptr()) };
        self.threadpools.push(pool);
    }

    /// Computes a batch. Outputs of the decode before are gone after it, whatever comes of it.
    ///
    /// Positions of a sequence must follow on what its cache holds.
    ///
    /// # Errors
    /// [`EngineError::DecodeFailed`] for a batch that does not fit this context or that the library refuses,
    /// [`EngineError::OutOfMemory`] when it cannot get memory to compute.
    pub fn decode(&mut self, batch: &Batch) -> Result<Decoded> {
        self.outputs.clear();
        let limits = Limits { tokens: self.n_batch, sequences: self.n_seq_max, vocabulary: self.n_vocab };
        batch.check(limits).map_err(EngineError::DecodeFailed)?;
        if self.abort.is_set() {
            return Ok(Decoded::Aborted);
        }
        let block = batch.block(&mut self.arrays);
        // SAFETY: the context is alive, every token was checked, and the arrays live until the call returns.
        let (code, errors) = with_errors(|| unsafe { (self.symbols().decode)(self.as_ptr(), block) });
        // After an abort, too: the next decode counts its layers anew.
        let corrected = self.check_squared_relu();
        match code {
            0 => {
                corrected?;
                self.outputs.extend_from_slice(batch.outputs());
                Ok(Decoded::Done)
            }
            1 => Ok(Decoded::NoSpace),
            2 => Ok(Decoded::Aborted),
            -2 => Err(EngineError::OutOfMemory(format!("decoding {} tokens: {errors}", batch.len()))),
            code => Err(EngineError::DecodeFailed(format!("llama_decode returned {code}: {errors}"))),
        }
    }

    /// The logits of token `index` of the last decode, one for each token of the vocabulary.
    ///
    /// # Errors
    /// [`EngineError::DecodeFailed`] if that token has no output.
    pub fn logits(&self, index: i32) -> Result<&[f32]> {
        let values = self.output(self.symbols().get_logits_ith, index)?;
        // SAFETY: a row of that width, which stays until the next decode; that needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(values, self.n_vocab) })
    }

    /// [`logits`](Self::logits), to be changed in place: the library does not read them again.
    ///
    /// # Errors
    /// [`EngineError::DecodeFailed`] if that token has no output.
    pub fn logits_mut(&mut self, index: i32) -> Result<&mut [f32]> {
        let values = self.output(self.symbols().get_logits_ith, index)?;
        // SAFETY: as for `logits`; `&mut self` keeps all other readers away.
        Ok(unsafe { std::slice::from_raw_parts_mut(values, self.n_vocab) })
    }

    /// The embedding of token `index` of the last decode, for models that do not pool.
    ///
    /// # Errors
    /// [`EngineError::DecodeFailed`] if that token has no output.
    pub fn token_embedding(&self, index: i32) -> Result<&[f32]> {
        let values = self.output(self.symbols().get_embeddings_ith, index)?;
        // SAFETY: a row of that width, which stays until the next decode; that needs `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(values, self.model.n_embd()) })
    }

    /// The pooled embedding of a sequence of the last decode; `None` for models that do not pool.
    #[must_use]
    pub fn sequence_embedding(&self, seq_id: i32) -> Option<&[f32]> {
        /// `LLAMA_POOLING_TYPE_NONE`, and `…_RANK`, whose output is no embedding.
        const NOT_POOLED: [i32; 2] = [0, 4];
        // SAFETY: the context is alive.
        let pooling = unsafe { (self.symbols().pooling_type)(self.as_ptr()) };
        if pooling < 0 || NOT_POOLED.contains(&pooling) || self.outputs.is_empty() || !self.has_sequence(seq_id) {
            return None;
        }
        // SAFETY: the context is alive and has decoded.
        let values = unsafe { (self.symbols().get_embeddings_seq)(self.as_ptr(), seq_id) };
        // SAFETY: not null, it points to one embedding that stays until the next decode, which needs `&mut self`.
        (!values.is_null()).then(|| unsafe { std::slice::from_raw_parts(values, self.model.n_embd()) })
    }

    /// Where the output of token `index` of the last decode begins.
    fn output(&self, read: unsafe extern "C" fn(*mut LlamaContext, i32) -> *mut f32, index: i32) -> Result<*mut f32> {
        let none = || EngineError::DecodeFailed(format!("token {index} of the last batch has no output"));
        let asked = usize::try_from(index).ok().and_then(|index| self.outputs.get(index));
        if asked.is_none_or(|&asked| asked == 0) {
            return Err(none());
        }
        // SAFETY: the last decode was done, and this token was marked as an output.
        let values = unsafe { read(self.as_ptr(), index) };
        if values.is_null() { Err(none()) } else { Ok(values) }
    }

    /// Removes the positions `p0..p1` of a sequence (`p0 < 0`: from the start, `p1 < 0`: to the end,
    /// `seq_id < 0`: of all sequences). False if the model cannot forget just a part: then nothing was removed.
    pub fn memory_seq_rm(&mut self, seq_id: i32, p0: i32, p1: i32) -> bool {
        if self.memory.is_null() {
            return true;
        }
        // SAFETY: the memory is alive and the sequence exists.
        (seq_id < 0 || self.has_sequence(seq_id))
            && unsafe { (self.symbols().memory_seq_rm)(self.memory, seq_id, p0, p1) }
    }

    /// Lets sequence `to` share the positions `p0..p1` of `from`; negative ends as in
    /// [`memory_seq_rm`](Self::memory_seq_rm). `to` should be empty there.
    ///
    /// # Errors
    /// [`EngineError::AbiUnsupported`] without a unified cache, where the library would end the process;
    /// [`EngineError::DecodeFailed`] for a sequence that does not exist.
    pub fn memory_seq_cp(&mut self, from: i32, to: i32, p0: i32, p1: i32) -> Result<()> {
        if !self.kv_unified {
            return Err(EngineError::AbiUnsupported("the KV cache is not known to be unified".into()));
        }
        if !self.has_sequence(from) || !self.has_sequence(to) {
            return Err(EngineError::DecodeFailed(format!("there is no sequence {from} or {to}")));
        }
        if !self.memory.is_null() {
            // SAFETY: the memory is alive and unified, both sequences exist.
            unsafe { (self.symbols().memory_seq_cp)(self.memory, from, to, p0, p1) };
        }
        Ok(())
    }

    /// Forgets all sequences.
    pub fn memory_clear(&mut self) {
        if !self.memory.is_null() {
            // SAFETY: the memory is alive; its cells are forgotten, their data need no clearing.
            unsafe { (self.symbols().memory_clear)(self.memory, false) };
        }
    }

    fn has_sequence(&self, id: i32) -> bool {
        u32::try_from(id).is_ok_and(|id| id < self.n_seq_max)
    }

    fn as_ptr(&self) -> *mut LlamaContext {
        self.ptr.as_ptr()
    }

    fn symbols(&self) -> &Symbols {
        &self.model.runtime().symbols
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `create` and freed only here, before its threads, its callbacks' data and its model.
        unsafe { (self.symbols().context_free)(self.as_ptr()) };
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("n_ctx", &self.n_ctx)
            .field("n_seq_max", &self.n_seq_max)
            .field("kv_unified", &self.kv_unified)
            .finish_non_exhaustive()
    }
}

/// `llama_context_params`: four sizes, which every build has in this order, and the cache flag.
fn context_block(runtime: &Runtime, params: &ContextParams) -> Block {
    let mut block = runtime.context_defaults.block();
    // Pooling needs a sequence in one piece, and the library asserts it.
    let n_ubatch = if params.embeddings { params.n_batch } else { params.n_ubatch };
    let sizes = [params.n_ctx, params.n_batch, n_ubatch, params.n_seq_max];
    for (offset, size) in [0, 4, 8, 12].into_iter().zip(sizes) {
        block.set_i32(runtime.layout.context_sizes + offset, size as i32);
    }
    if params.n_seq_max > 1
        && let Some(offset) = runtime.layout.kv_unified
    {
        block.set_bool(offset, true);
    }
    block
}

/// Whether several sequences are worth a try: the flag was found, or the library predates caches that are not unified.
fn may_be_unified(runtime: &Runtime) -> bool {
    runtime.layout.kv_unified.is_some() || runtime.symbols.get_memory.is_none()
}

/// The proof that the flag was read: one sequence may use all cells.
fn is_unified(symbols: &Symbols, context: NonNull<LlamaContext>) -> bool {
    match symbols.n_ctx_seq {
        // SAFETY: the context is alive.
        Some(n_ctx_seq) => unsafe { n_ctx_seq(context.as_ptr()) == (symbols.n_ctx)(context.as_ptr()) },
        // Split caches came in July 2025, after `llama_get_memory`; in between nothing proves anything.
        None => symbols.get_memory.is_none(),
    }
}
