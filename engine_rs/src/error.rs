//! Everything the engine refuses or fails at; each cause has a stable code.

/// The one error of this crate. [`EngineError::code`] is public API, the texts are not.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file is not a well-formed GGUF.
    #[error("not a valid GGUF: {0}")]
    GgufInvalid(String),
    /// The file is a well-formed GGUF that this engine or runtime cannot run.
    #[error("unsupported GGUF: {0}")]
    GgufUnsupported(String),
    /// No usable `libllama` was found.
    #[error("no runtime library: {0}")]
    LibraryNotFound(String),
    /// The library lacks a symbol, or a parameter layout could not be verified.
    #[error("runtime not supported: {0}")]
    AbiUnsupported(String),
    /// Another runtime or CPU module is already loaded in this process.
    #[error("runtime conflict: {0}")]
    RuntimeConflict(String),
    /// The model file was judged fine, but could not be opened or loaded.
    #[error("model could not be loaded: {0}")]
    ModelLoadFailed(String),
    /// There is no file at the given path.
    #[error("no such model file: {0}")]
    ModelNotFound(String),
    /// A decode call failed.
    #[error("decode failed: {0}")]
    DecodeFailed(String),
    /// Not enough memory for the model or its context.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The prompt does not fit into the context.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context}")]
    ContextLengthExceeded {
        /// Tokens of the rendered prompt.
        prompt_tokens: usize,
        /// Tokens one request may use.
        context: usize,
    },
    /// A value that the request carries is out of range.
    #[error("{message}")]
    InvalidParameter {
        /// Name of the offending field.
        param: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The engine is closing.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl EngineError {
    /// The stable word for this cause, as in the public contract.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::GgufInvalid(_) => "gguf_invalid",
            Self::GgufUnsupported(_) => "gguf_unsupported",
            Self::LibraryNotFound(_) => "library_not_found",
            Self::AbiUnsupported(_) => "abi_unsupported",
            Self::RuntimeConflict(_) => "runtime_conflict",
            Self::ModelLoadFailed(_) => "model_load_failed",
            Self::ModelNotFound(_) => "model_not_found",
            Self::DecodeFailed(_) => "decode_failed",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::ContextLengthExceeded { .. } => "context_length_exceeded",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The request field that is to blame, if one is.
    #[must_use]
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::InvalidParameter { param, .. } => Some(param),
            _ => None,
        }
    }
}

/// Short for a result of this crate.
pub type Result<T> = std::result::Result<T, EngineError>;
