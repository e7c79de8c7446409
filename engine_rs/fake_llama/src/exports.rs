//! The C functions of `llama.h` and `ggml-backend.h` that the engine calls.
#![allow(clippy::missing_safety_doc, reason = "the contracts are those of llama.h")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use crate::cache::{Cache, Positions};
use crate::decode::decode;
use crate::gguf::{N_EMBD, script_of};
use crate::log::{self, LogCallback, error};
use crate::params::{Batch, ContextParams, ModelParams};
use crate::sessions::{AbortCallback, Context, Model, Watch};
use crate::vocabulary::Vocabulary;

/// The registration of the only backend; never looked into.
static BACKEND: u8 = 0;

#[unsafe(no_mangle)]
pub extern "C" fn llama_log_set(callback: Option<LogCallback>, user_data: *mut c_void) {
    log::set(callback, user_data);
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_backend_init() {}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ggml_backend_load(path: *const c_char) -> *const u8 {
    // SAFETY: a NUL-terminated path.
    let path = unsafe { text(path) };
    if std::fs::read(&path).is_ok_and(|bytes| !bytes.is_empty()) {
        return &raw const BACKEND;
    }
    error(&format!("load_backend: failed to load {path}\n"));
    null()
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_model_default_params() -> ModelParams {
    ModelParams::default()
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_context_default_params() -> ContextParams {
    ContextParams::default()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_load_from_file(path: *const c_char, _params: ModelParams) -> *mut Model {
    // SAFETY: a NUL-terminated path.
    let path = unsafe { text(path) };
    let Some(script) = std::fs::read(&path).ok().and_then(|file| script_of(&file)) else {
        error(&format!("llama_model_load: error loading model: {path} has no script\n"));
        return null_mut();
    };
    if let Some(reason) = script.load_error {
        error(&format!("llama_model_load: error loading model: {reason}\n"));
        return null_mut();
    }
    let watch = Watch::of(&path);
    watch.count(|counts| counts.models += 1);
    Box::into_raw(Box::new(Model { vocabulary: Vocabulary::of(&script), script, watch }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_free(model: *mut Model) {
    // SAFETY: made by `llama_model_load_from_file` and freed once.
    unsafe { Box::from_raw(model) }.watch.count(|counts| {
        assert_eq!(counts.contexts, 0, "a model is freed before its contexts");
        counts.models -= 1;
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_n_ctx_train(model: &Model) -> i32 {
    model.script.context_length as i32
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_model_n_embd(_model: &Model) -> i32 {
    N_EMBD as i32
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_model_size(model: &Model) -> u64 {
    u64::from(model.vocabulary.len() as u32) * N_EMBD * 4
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_desc(_model: &Model, buffer: *mut c_char, size: usize) -> i32 {
    // SAFETY: the buffer has that size.
    unsafe { print("scripted llama", buffer, size) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_model_meta_val_str(
    model: &Model,
    key: *const c_char,
    buffer: *mut c_char,
    size: usize,
) -> i32 {
    // SAFETY: a NUL-terminated key.
    let value = match unsafe { text(key) }.as_str() {
        "general.architecture" => "llama",
        "general.name" => "scripted",
        "tokenizer.chat_template" => model.script.chat_template.as_deref().unwrap_or_default(),
        _ => return -1,
    };
    // SAFETY: the buffer has that size.
    unsafe { print(value, buffer, size) }
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_model_get_vocab(model: &Model) -> &Vocabulary {
    &model.vocabulary
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_type(_vocab: &Vocabulary) -> i32 {
    1
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_n_tokens(vocab: &Vocabulary) -> i32 {
    vocab.len()
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_bos(_vocab: &Vocabulary) -> i32 {
    Vocabulary::BOS
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_eos(_vocab: &Vocabulary) -> i32 {
    Vocabulary::EOS
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_is_eog(_vocab: &Vocabulary, token: i32) -> bool {
    Vocabulary::is_end(token)
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_get_add_bos(_vocab: &Vocabulary) -> bool {
    true
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_vocab_get_text(vocab: &Vocabulary, token: i32) -> *const c_char {
    assert!(vocab.has(token), "std::out_of_range");
    vocab.entry(token).as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_tokenize(
    vocab: &Vocabulary,
    text: *const c_char,
    length: i32,
    tokens: *mut i32,
    room: i32,
    add_special: bool,
    parse_special: bool,
) -> i32 {
    // SAFETY: the text has that length.
    let text = unsafe { std::slice::from_raw_parts(text.cast(), length as usize) };
    recurse(text.len());
    let found = vocab.tokenize(text, add_special, parse_special);
    // SAFETY: the buffer has that room.
    unsafe { copy(&found, tokens, room) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_token_to_piece(
    vocab: &Vocabulary,
    token: i32,
    buffer: *mut c_char,
    room: i32,
    _lstrip: i32,
    special: bool,
) -> i32 {
    assert!(vocab.has(token), "std::out_of_range");
    // SAFETY: the buffer has that room.
    unsafe { copy(vocab.piece(token, special), buffer.cast(), room) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_detokenize(
    vocab: &Vocabulary,
    tokens: *const i32,
    count: i32,
    buffer: *mut c_char,
    room: i32,
    remove_special: bool,
    _unparse_special: bool,
) -> i32 {
    // SAFETY: there are that many tokens.
    let mut tokens = unsafe { std::slice::from_raw_parts(tokens, count as usize) };
    if let (true, [Vocabulary::BOS, rest @ ..]) = (remove_special, tokens) {
        tokens = rest;
    }
    // SAFETY: the buffer has that room.
    unsafe { copy(&vocab.spell(tokens), buffer.cast(), room) }
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_init_from_model(model: *const Model, params: ContextParams) -> *mut Context {
    // SAFETY: the model is alive and outlives the context.
    let known = unsafe { &*model };
    known.watch.count(|counts| counts.contexts += 1);
    let unified = params.kv_unified && !known.script.split_cache;
    let cells = known.script.cells.unwrap_or(params.n_ctx) as usize;
    let per_sequence = if unified { cells } else { cells / params.n_seq_max as usize };
    Box::into_raw(Box::new(Context {
        model,
        cache: Cache::new(cells, per_sequence),
        n_ctx: params.n_ctx,
        n_batch: params.n_batch.min(params.n_ctx),
        n_ubatch: params.n_ubatch,
        n_seq_max: params.n_seq_max,
        unified,
        embeddings: false,
        abort: None,
        outputs: Vec::new(),
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_free(context: *mut Context) {
    // SAFETY: made by `llama_init_from_model` and freed once, while its model is alive.
    unsafe { (*Box::from_raw(context).model).watch.count(|counts| counts.contexts -= 1) };
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_n_ctx(context: &Context) -> u32 {
    context.n_ctx
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_n_ctx_seq(context: &Context) -> u32 {
    if context.unified { context.n_ctx } else { context.n_ctx / context.n_seq_max }
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_n_batch(context: &Context) -> u32 {
    context.n_batch
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_n_seq_max(context: &Context) -> u32 {
    context.n_seq_max
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_set_n_threads(_context: &Context, n_threads: i32, n_threads_batch: i32) {
    assert!(n_threads > 0 && n_threads_batch > 0, "GGML_ASSERT(n_threads > 0) failed");
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_set_abort_callback(context: &mut Context, callback: AbortCallback, data: *mut c_void) {
    context.abort = Some((callback, data));
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_set_embeddings(context: &mut Context, embeddings: bool) {
    context.embeddings = embeddings;
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_pooling_type(_context: &Context) -> i32 {
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn llama_decode(context: &mut Context, batch: Batch) -> i32 {
    // SAFETY: the batch's arrays have `n_tokens` items; the model outlives the context.
    let (entries, model) = unsafe { (batch.entries(), &*context.model) };
    decode(context, model, &entries)
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_get_logits_ith(context: &Context, index: i32) -> *const f32 {
    assert!(!context.embeddings, "logits of an embedding context");
    row(context, index)
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_get_embeddings_ith(context: &Context, index: i32) -> *const f32 {
    assert!(context.embeddings, "embeddings of a generating context");
    row(context, index)
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_get_embeddings_seq(_context: &Context, _sequence: i32) -> *const f32 {
    null()
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_get_memory(context: *mut Context) -> *mut Context {
    context
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_memory_seq_rm(memory: &mut Context, sequence: i32, p0: i32, p1: i32) -> bool {
    memory.cache.remove(sequence, Positions(p0, p1));
    true
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_memory_seq_cp(memory: &mut Context, from: i32, to: i32, p0: i32, p1: i32) {
    let range = Positions(p0, p1);
    let known = 0..memory.n_seq_max as i32;
    assert!(known.contains(&from) && known.contains(&to), "GGML_ASSERT((size_t) seq_id < seq_to_stream.size())");
    assert!(memory.unified || range.are_all(), "GGML_ASSERT(is_full && \"seq_cp() is only supported for full\")");
    memory.cache.share(from, to, range);
}

#[unsafe(no_mangle)]
pub extern "C" fn llama_memory_clear(memory: &mut Context, _data: bool) {
    memory.cache.clear();
}

/// Takes stack for each byte, as `std::regex` does in the real one.
fn recurse(depth: usize) -> usize {
    let frame = std::hint::black_box([0_u8; 64]);
    if depth == 0 { frame.len() } else { std::hint::black_box(recurse(depth - 1)) }
}

fn row(context: &Context, index: i32) -> *const f32 {
    let output = usize::try_from(index).ok().and_then(|index| context.outputs.get(index)?.as_ref());
    output.map_or(null(), Vec::as_ptr)
}

/// # Safety
/// `text` must be NUL-terminated.
pub(crate) unsafe fn text(text: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Copies all items and returns their number, or that number negated if there is no room.
///
/// # Safety
/// `target` must have room for `room` items.
unsafe fn copy<T: Copy>(items: &[T], target: *mut T, room: i32) -> i32 {
    let count = items.len() as i32;
    if count > room {
        return -count;
    }
    // SAFETY: there is room, as the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), target, items.len()) };
    count
}

/// Writes text as `snprintf` does.
///
/// # Safety
/// `buffer` must have `size` bytes.
unsafe fn print(text: &str, buffer: *mut c_char, size: usize) -> i32 {
    let shown = text.len().min(size.saturating_sub(1));
    if size > 0 {
        // SAFETY: text and end fit, as the caller promises.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), shown);
            buffer.add(shown).write(0);
        }
    }
    text.len() as i32
}
