//! The Python module `tabagent_engine._native`: the only folder that names `PyO3`.
//!
//! No thread of the engine ever enters Python: what happens is queued, and one byte on a socket tells the reader.

#![allow(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "Python names and hands over arguments")]

mod bitnet;
mod engine;
mod gguf;
mod hardware;
mod template;

use pyo3::prelude::*;

use crate::error::EngineError;

mod exception {
    pyo3::import_exception!(tabagent_engine.errors, EngineError);
}

/// The one place where errors of the engine become exceptions.
impl From<EngineError> for PyErr {
    fn from(error: EngineError) -> Self {
        exception::EngineError::new_err((error.code(), error.to_string(), error.param()))
    }
}

fn invalid(param: &'static str, message: impl Into<String>) -> EngineError {
    EngineError::InvalidParameter { param, message: message.into() }
}

/// The compiled part of the engine.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::bitnet::prune_transcoded;
    #[pymodule_export]
    use super::engine::GgufEngine;
    #[pymodule_export]
    use super::gguf::inspect_gguf;
    #[pymodule_export]
    use super::hardware::{advise_runtime, detect_hardware, list_gpus, list_runtimes};
    #[pymodule_export]
    use super::template::render_template;

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
