//! Makes ternary models run on a stock `libllama`, which knows neither their `I2_S` tensors nor all their names.
//!
//! A file that needs it is rewritten once, tensor by tensor, into a [`Cache`] on disk: the codes move bit by bit into
//! `TQ2_0` blocks (`Q4_0` where rows are not whole 256ths) whose own scale is 1, and the one scale of each tensor
//! becomes a tensor beside it, so nothing is rounded. What is no ternary model is used as it is.

mod cache;
mod codes;
mod identity;
mod plan;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

pub use cache::{Cache, Pruned};

use crate::error::{EngineError, Result};
use crate::gguf;
use plan::Plan;

/// Told the share of the work that is done, from 0 to 1; what it fails with ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(f32) -> Result<()>;

/// A file that the library can load. While this lives, no process removes it from the cache.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    _in_use: Option<File>,
}

impl Prepared {
    /// The file to load.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the file itself, or what it has been transcoded to, now or earlier. Blocks as long as that takes.
///
/// # Errors
/// `model_not_found`, `gguf_invalid` (codes that are no ternary values among the causes), `gguf_unsupported`,
/// `model_load_failed` when the cache cannot be written or the disk is full, and whatever `progress` fails with.
pub fn prepare(path: &Path, cache: &Cache, progress: Progress) -> Result<Prepared> {
    let summary = gguf::inspect(path)?;
    summary.require_supported()?;
    if !summary.ternary.as_ref().is_some_and(|ternary| ternary.needs_transcoding) {
        return Ok(Prepared { path: path.to_owned(), _in_use: None });
    }
    if summary.parts > 1 {
        return Err(EngineError::GgufUnsupported("a ternary model split over several files".into()));
    }
    let (file, bytes) = gguf::open(path)?;
    // Read again, now with the places: the file opened here is the one that is copied.
    let (summary, layout) = gguf::inspect_layout(&file, bytes)?;
    summary.require_supported()?;
    let plan = Plan::new(&summary, &layout)?;
    let source = identity::Source::new(file)?;
    let identity = source.identity(&layout)?;
    let (path, in_use) = cache.obtain(identity, plan.bytes(), progress, |target, progress| {
        let header = write::transcode(&plan, &source, target, progress)?;
        source.require_unchanged()?;
        Ok(header)
    })?;
    Ok(Prepared { path, _in_use: Some(in_use) })
}
