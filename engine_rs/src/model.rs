//! A loaded `llama_model`.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::error::{EngineError, Result};
use crate::ffi::{LlamaModel, MappingField, Runtime, c_path, tells_of_memory, with_errors};
use crate::vocab::Vocab;

/// How a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelParams {
    /// Layers offloaded to a GPU; 0 keeps everything on the CPU.
    pub gpu_layers: i32,
    /// Map the file instead of reading it.
    pub mmap: bool,
}

impl Default for ModelParams {
    fn default() -> Self {
        Self { gpu_layers: 0, mmap: true }
    }
}

/// A loaded model; freed when the last owner, contexts included, is gone.
pub struct Model {
    ptr: NonNull<LlamaModel>,
    runtime: Arc<Runtime>,
    gpu_layers: i32,
}

// SAFETY: a loaded model is not changed any more; the library's own server reads one from many threads.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Loads a model. The file must have been judged by [`crate::gguf`]: a damaged one can end the process.
    ///
    /// # Errors
    /// [`EngineError::ModelNotFound`], [`EngineError::ModelLoadFailed`] with what the library logged,
    /// [`EngineError::OutOfMemory`], [`EngineError::AbiUnsupported`] when mapping cannot be turned off.
    pub fn load(runtime: &Arc<Runtime>, path: &Path, params: &ModelParams) -> Result<Arc<Self>> {
        if !path.is_file() {
            return Err(EngineError::ModelNotFound(path.display().to_string()));
        }
        let c_path = c_path(path).ok_or_else(|| EngineError::ModelNotFound(path.display().to_string()))?;
        let mut block = runtime.model_defaults.block();
        block.set_i32(runtime.layout.n_gpu_layers, params.gpu_layers);
        if !params.mmap {
            match runtime.layout.mapping {
                Some(MappingField::UseMmap(at)) => block.set_bool(at, false),
                Some(MappingField::LoadMode(at)) => block.set_i32(at, 0),
                None => {
                    return Err(EngineError::AbiUnsupported("memory mapping cannot be turned off here".into()));
                }
            }
        }
        // SAFETY: the path lives through the call; the block holds the library's defaults, changed at known fields.
        let (model, errors) = with_errors(|| unsafe { (runtime.symbols.model_load)(c_path.as_ptr(), block) });
        let Some(model) = NonNull::new(model) else {
            let text = format!("{}: {errors}", path.display());
            return Err(if tells_of_memory(&errors) {
                EngineError::OutOfMemory(text)
            } else {
                EngineError::ModelLoadFailed(text)
            });
        };
        Ok(Arc::new(Self { ptr: model, runtime: Arc::clone(runtime), gpu_layers: params.gpu_layers }))
    }

    /// The runtime it is loaded in.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Layers that were to be offloaded to a GPU.
    #[must_use]
    pub fn gpu_layers(&self) -> i32 {
        self.gpu_layers
    }

    /// Its vocabulary.
    #[must_use]
    pub fn vocab(self: &Arc<Self>) -> Vocab {
        Vocab::new(Arc::clone(self))
    }

    /// Tokens it was trained with.
    #[must_use]
    pub fn n_ctx_train(&self) -> u32 {
        // SAFETY: the model is alive.
        unsafe { (self.runtime.symbols.model_n_ctx_train)(self.as_ptr()) }.try_into().unwrap_or(0)
    }

    /// Width of an embedding.
    #[must_use]
    pub fn n_embd(&self) -> usize {
        // SAFETY: the model is alive.
        unsafe { (self.runtime.symbols.model_n_embd)(self.as_ptr()) }.try_into().unwrap_or(0)
    }

    /// Entries of the vocabulary, which is the width of the logits.
    #[must_use]
    pub fn n_vocab(self: &Arc<Self>) -> usize {
        self.vocab().n_tokens()
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { (self.runtime.symbols.model_size)(self.as_ptr()) }
    }

    /// Architecture, size and type in a few words, e.g. `llama 1B Q4_0`.
    #[must_use]
    pub fn description(&self) -> String {
        // SAFETY: the model is alive; buffer and length belong together.
        read_string(|buffer, length| unsafe { (self.runtime.symbols.model_desc)(self.as_ptr(), buffer, length) })
            .unwrap_or_default()
    }

    /// A value of the file's metadata as text; `None` if there is no such key or it is an array.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        // SAFETY: the model is alive, the key is NUL-terminated, buffer and length belong together.
        read_string(|buffer, length| unsafe {
            (self.runtime.symbols.model_meta_val_str)(self.as_ptr(), key.as_ptr(), buffer, length)
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut LlamaModel {
        self.ptr.as_ptr()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: contexts and vocabularies own the model, so none is left.
        unsafe { (self.runtime.symbols.model_free)(self.as_ptr()) };
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("description", &self.description()).finish_non_exhaustive()
    }
}

/// Reads text from a function in the manner of `snprintf`, which tells the length it would have written.
fn read_string(read: impl Fn(*mut c_char, usize) -> i32) -> Option<String> {
    let mut buffer = vec![0_u8; 256];
    loop {
        let length = usize::try_from(read(buffer.as_mut_ptr().cast(), buffer.len())).ok()?;
        if length < buffer.len() {
            buffer.truncate(length);
            return Some(String::from_utf8_lossy(&buffer).into_owned());
        }
        buffer.resize(length + 1, 0);
    }
}
