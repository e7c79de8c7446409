//! Judges whether the opened runtime can run a well-formed model, before the runtime sees the file.

use memchr::memmem;

use crate::error::{EngineError, Result};
use crate::ffi::{Profile, Runtime};
use crate::gguf::{GgufSummary, TensorTotal};
use crate::hardware::{Cpu, runs_sse4a};

/// `IQ2_XXS` and `IQ3_XXS`.
const NEED_SSE4A: [u32; 2] = [16, 18];

/// Refuses a model with an architecture or a tensor type that the runtime does not know.
///
/// Some runtimes end the process over an unknown type.
///
/// # Errors
/// [`EngineError::GgufUnsupported`].
pub fn require(runtime: &Runtime, summary: &GgufSummary) -> Result<()> {
    if let Some(total) = summary.tensor_types.iter().find(|total| !runs_type(runtime, total)) {
        return refuse(runtime, &format!("the tensor type {}", total.name));
    }
    if runtime.profile() == Profile::Since2025 {
        return Ok(());
    }
    if !names(runtime, &summary.architecture)? {
        return refuse(runtime, &format!("the architecture {}", summary.architecture));
    }
    // Their caches of recurrent states end the process once sequences come and go.
    if summary.dimensions.head_count == 0 {
        return refuse(runtime, &format!("recurrent models such as {}", summary.architecture));
    }
    // A scale is a tensor too many in every other architecture of 2024.
    if summary.has_scales && summary.architecture != "bitnet" {
        return refuse(runtime, &format!("a {} model with scales beside its weights", summary.architecture));
    }
    Ok(())
}

/// Refuses a model that would be transcoded for nothing: what comes of it has types and scales that the libraries of
/// 2024 do not know.
///
/// # Errors
/// [`EngineError::GgufUnsupported`].
pub fn require_for_source(runtime: &Runtime, summary: &GgufSummary) -> Result<()> {
    let transcodes = summary.ternary.as_ref().is_some_and(|ternary| ternary.needs_transcoding);
    if transcodes && runtime.profile() != Profile::Since2025 {
        return refuse(runtime, "BitNet models; every libllama since 2025 can");
    }
    Ok(())
}

fn refuse(runtime: &Runtime, what: &str) -> Result<()> {
    let spec = runtime.spec();
    Err(EngineError::GgufUnsupported(format!("the runtime {} ({}) cannot run {what}", spec.id, spec.variant)))
}

fn runs_type(runtime: &Runtime, total: &TensorTotal) -> bool {
    match runtime.profile() {
        // It would be asked beyond the end of its table for what came later.
        Profile::August2024 => {
            total.type_id <= 30 && (!NEED_SSE4A.contains(&total.type_id) || runs_sse4a(&Cpu::detect()))
        }
        Profile::October2024 | Profile::Since2025 => {
            runtime.type_name(total.type_id).is_none_or(|name| name.eq_ignore_ascii_case(total.name.as_bytes()))
        }
    }
}

/// Whether the library holds the name of the architecture; from 2025 on it refuses others by itself.
fn names(runtime: &Runtime, architecture: &str) -> Result<bool> {
    let libllama = &runtime.spec().libllama;
    let bytes = std::fs::read(libllama)
        .map_err(|error| EngineError::LibraryNotFound(format!("{}: {error}", libllama.display())))?;
    Ok(memmem::find(&bytes, format!("{architecture}\0").as_bytes()).is_some())
}
