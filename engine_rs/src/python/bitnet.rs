//! Transcoding in Python: where its cache is, who hears of its progress, and `prune_transcoded`.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

use crate::bitnet::{self, Cache, Prepared};
use crate::error::EngineError;

/// The folder and the limit come from Python, which alone knows the user's directories.
pub fn cache(py: Python<'_>) -> PyResult<Cache> {
    let module = py.import("tabagent_engine.transcoded")?;
    let folder: PathBuf = module.call_method0("folder")?.extract()?;
    Ok(Cache::new(folder, module.getattr("LIMIT")?.extract()?))
}

/// Makes a file loadable. `progress` is called on this thread, which is the caller's own; what it raises ends the work.
pub fn prepare(path: &Path, cache: &Cache, progress: Option<Py<PyAny>>) -> PyResult<Prepared> {
    let mut raised = None;
    let mut tell = |share: f32| {
        let Some(progress) = &progress else { return Ok(()) };
        Python::attach(|py| progress.call1(py, (share,))).map(drop).map_err(|error| {
            raised = Some(error);
            EngineError::ModelLoadFailed("transcoding was interrupted".into())
        })
    };
    let prepared = bitnet::prepare(path, cache, &mut tell);
    match raised {
        Some(error) => Err(error),
        None => Ok(prepared?),
    }
}

#[pyfunction]
#[pyo3(signature = (keep=0))]
pub fn prune_transcoded(py: Python<'_>, keep: u64) -> PyResult<(u64, u64)> {
    let cache = cache(py)?;
    let pruned = py.detach(|| cache.prune(keep))?;
    Ok((pruned.files, pruned.bytes))
}
