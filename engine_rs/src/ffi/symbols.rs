//! The functions of `libllama` this crate calls, each with the older names it went by.

use std::ffi::{c_char, c_void};

use super::abi::{Block, DefaultParams};
use super::library::Libraries;
use super::log::LogCallback;
use crate::error::{EngineError, Result};

/// A `llama_model`.
pub(crate) enum LlamaModel {}
/// A `llama_context`.
pub(crate) enum LlamaContext {}
/// A `llama_vocab`, or the `llama_model` where the library predates the split (12 January 2025).
pub(crate) enum LlamaVocab {}
/// A `llama_memory_t`, or the `llama_context` where the library predates it (June 2025).
pub(crate) enum LlamaMemory {}
/// A `ggml_backend_reg`.
pub(crate) enum GgmlBackendReg {}
/// A `ggml_backend_dev_t`.
pub(crate) enum GgmlBackendDevice {}
/// A `ggml_threadpool`.
pub(crate) enum GgmlThreadpool {}

/// A `ggml_tensor`.
pub(crate) enum GgmlTensor {}

/// `ggml_abort_callback`.
pub(crate) type AbortCallback = unsafe extern "C" fn(data: *mut c_void) -> bool;

/// Declares the table: `field: signature = names, newest first`.
macro_rules! symbols {
    (
        required { $($field:ident: fn($($arg:ty),*) $(-> $ret:ty)? = $($name:literal)|+;)+ }
        optional { $($opt_field:ident: fn($($opt_arg:ty),*) $(-> $opt_ret:ty)? = $opt_name:literal;)+ }
    ) => {
        /// Resolved functions. Call them only while the [`Runtime`](super::Runtime) that holds them lives.
        pub(crate) struct Symbols {
            $(pub(crate) $field: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)+
            $(pub(crate) $opt_field: Option<unsafe extern "C" fn($($opt_arg),*) $(-> $opt_ret)?>,)+
        }

        impl Symbols {
            /// Resolves all of them, or names the first that is missing.
            pub(crate) fn resolve(libraries: &Libraries) -> Result<Self> {
                Ok(Self {
                    // SAFETY: the signatures are those of llama.h and ggml-backend.h, under each name since August 2024.
                    $($field: unsafe { libraries.symbol(&[$($name),+]) }.ok_or_else(|| missing(&[$($name),+]))?,)+
                    // SAFETY: as above.
                    $($opt_field: unsafe { libraries.symbol(&[$opt_name]) },)+
                })
            }
        }
    };
}

symbols! {
    required {
        log_set: fn(LogCallback, *mut c_void) = "llama_log_set";
        backend_init: fn() = "llama_backend_init";

        model_load: fn(*const c_char, Block) -> *mut LlamaModel
            = "llama_model_load_from_file" | "llama_load_model_from_file";
        model_free: fn(*mut LlamaModel) = "llama_model_free" | "llama_free_model";
        model_n_ctx_train: fn(*const LlamaModel) -> i32 = "llama_model_n_ctx_train" | "llama_n_ctx_train";
        model_n_embd: fn(*const LlamaModel) -> i32 = "llama_model_n_embd" | "llama_n_embd";
        model_size: fn(*const LlamaModel) -> u64 = "llama_model_size";
        model_desc: fn(*const LlamaModel, *mut c_char, usize) -> i32 = "llama_model_desc";
        model_meta_val_str: fn(*const LlamaModel, *const c_char, *mut c_char, usize) -> i32
            = "llama_model_meta_val_str";

        vocab_type: fn(*const LlamaVocab) -> i32 = "llama_vocab_type";
        vocab_n_tokens: fn(*const LlamaVocab) -> i32 = "llama_vocab_n_tokens" | "llama_n_vocab";
        vocab_bos: fn(*const LlamaVocab) -> i32 = "llama_vocab_bos" | "llama_token_bos";
        vocab_eos: fn(*const LlamaVocab) -> i32 = "llama_vocab_eos" | "llama_token_eos";
        vocab_is_eog: fn(*const LlamaVocab, i32) -> bool = "llama_vocab_is_eog" | "llama_token_is_eog";
        vocab_add_bos: fn(*const LlamaVocab) -> bool = "llama_vocab_get_add_bos" | "llama_add_bos_token";
        vocab_text: fn(*const LlamaVocab, i32) -> *const c_char = "llama_vocab_get_text" | "llama_token_get_text";
        tokenize: fn(*const LlamaVocab, *const c_char, i32, *mut i32, i32, bool, bool) -> i32 = "llama_tokenize";
        token_to_piece: fn(*const LlamaVocab, i32, *mut c_char, i32, i32, bool) -> i32 = "llama_token_to_piece";
        detokenize: fn(*const LlamaVocab, *const i32, i32, *mut c_char, i32, bool, bool) -> i32 = "llama_detokenize";

        context_init: fn(*mut LlamaModel, Block) -> *mut LlamaContext
            = "llama_init_from_model" | "llama_new_context_with_model";
        context_free: fn(*mut LlamaContext) = "llama_free";
        n_ctx: fn(*const LlamaContext) -> u32 = "llama_n_ctx";
        n_batch: fn(*const LlamaContext) -> u32 = "llama_n_batch";
        n_seq_max: fn(*const LlamaContext) -> u32 = "llama_n_seq_max";
        set_n_threads: fn(*mut LlamaContext, i32, i32) = "llama_set_n_threads";
        set_abort_callback: fn(*mut LlamaContext, AbortCallback, *mut c_void) = "llama_set_abort_callback";
        set_embeddings: fn(*mut LlamaContext, bool) = "llama_set_embeddings";
        decode: fn(*mut LlamaContext, Block) -> i32 = "llama_decode";
        get_logits_ith: fn(*mut LlamaContext, i32) -> *mut f32 = "llama_get_logits_ith";
        get_embeddings_ith: fn(*mut LlamaContext, i32) -> *mut f32 = "llama_get_embeddings_ith";
        get_embeddings_seq: fn(*mut LlamaContext, i32) -> *const f32 = "llama_get_embeddings_seq";
        pooling_type: fn(*const LlamaContext) -> i32 = "llama_pooling_type";

        memory_seq_rm: fn(*mut LlamaMemory, i32, i32, i32) -> bool
            = "llama_memory_seq_rm" | "llama_kv_self_seq_rm" | "llama_kv_cache_seq_rm";
        memory_seq_cp: fn(*mut LlamaMemory, i32, i32, i32, i32)
            = "llama_memory_seq_cp" | "llama_kv_self_seq_cp" | "llama_kv_cache_seq_cp";
        // The older two take no flag; one argument too many is harmless in C.
        memory_clear: fn(*mut LlamaMemory, bool)
            = "llama_memory_clear" | "llama_kv_self_clear" | "llama_kv_cache_clear";
    }
    optional {
        get_vocab: fn(*const LlamaModel) -> *const LlamaVocab = "llama_model_get_vocab";
        get_memory: fn(*const LlamaContext) -> *mut LlamaMemory = "llama_get_memory";
        n_ctx_seq: fn(*const LlamaContext) -> u32 = "llama_n_ctx_seq";
        type_name: fn(i32) -> *const c_char = "ggml_type_name";
        attach_threadpool: fn(*mut LlamaContext, *mut GgmlThreadpool, *mut GgmlThreadpool) = "llama_attach_threadpool";
        backend_load: fn(*const c_char) -> *mut GgmlBackendReg = "ggml_backend_load";
        backend_reg_get_proc_address: fn(*mut GgmlBackendReg, *const c_char) -> *mut c_void
            = "ggml_backend_reg_get_proc_address";
        tensor_name: fn(*const GgmlTensor) -> *const c_char = "ggml_get_name";
        tensor_data: fn(*const GgmlTensor) -> *mut c_void = "ggml_get_data";
        tensor_elements: fn(*const GgmlTensor) -> i64 = "ggml_nelements";
        tensor_bytes: fn(*const GgmlTensor) -> usize = "ggml_nbytes";
        backend_reg_dev_count: fn(*mut GgmlBackendReg) -> usize = "ggml_backend_reg_dev_count";
        backend_reg_dev_get: fn(*mut GgmlBackendReg, usize) -> *mut GgmlBackendDevice = "ggml_backend_reg_dev_get";
        backend_dev_name: fn(*mut GgmlBackendDevice) -> *const c_char = "ggml_backend_dev_name";
        backend_dev_description: fn(*mut GgmlBackendDevice) -> *const c_char = "ggml_backend_dev_description";
        backend_dev_memory: fn(*mut GgmlBackendDevice, *mut usize, *mut usize) = "ggml_backend_dev_memory";
    }
}

/// Looks the two `*_default_params` functions up, whose results have a layout of their own in each build.
pub(crate) fn default_params(libraries: &Libraries) -> Result<[DefaultParams; 2]> {
    let resolve = |name: &str| {
        // SAFETY: both take nothing and return a struct too large for registers.
        unsafe { libraries.symbol::<DefaultParams>(&[name]) }.ok_or_else(|| missing(&[name]))
    };
    Ok([resolve("llama_model_default_params")?, resolve("llama_context_default_params")?])
}

/// Whether there is such a function.
pub(crate) fn exists(libraries: &Libraries, name: &str) -> bool {
    // SAFETY: the pointer is not called.
    unsafe { libraries.symbol::<unsafe extern "C" fn()>(&[name]) }.is_some()
}

/// The error for a symbol that is not there under any of its names.
pub(crate) fn missing(names: &[&str]) -> EngineError {
    EngineError::AbiUnsupported(format!("the library has no {}", names.join(" or ")))
}
