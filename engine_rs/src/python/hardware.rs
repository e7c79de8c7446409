//! `detect_hardware` and `list_runtimes` in Python, and the runtime that an engine opens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::Result;
use crate::ffi::{Runtime, RuntimeSpec};
use crate::hardware::{self, Candidate, Cpu, RuntimeFolder};

/// The folders come from Python, which alone knows its packages and the user's directories.
pub fn runtime_folders(py: Python<'_>, runtime: Option<&str>) -> PyResult<Vec<RuntimeFolder>> {
    let found = py.import("tabagent_engine.runtimes")?.call_method1("folders", (runtime,))?;
    let found: Vec<(String, String, Vec<PathBuf>, String)> = found.extract()?;
    let folders = found
        .into_iter()
        .map(|(id, origin, folders, version)| Ok(RuntimeFolder { id, origin: origin.parse()?, folders, version }));
    Ok(folders.collect::<Result<_>>()?)
}

/// Opens the best runtime. Who names none gets the one that is open already: a process has but one.
pub fn open_runtime(wanted: Option<&str>, folders: &[RuntimeFolder]) -> Result<Arc<Runtime>> {
    match Runtime::opened() {
        Some(runtime) if wanted.is_none() => Ok(runtime),
        _ => Runtime::open(&hardware::choose(&judge(folders))?),
    }
}

fn judge(folders: &[RuntimeFolder]) -> Vec<Candidate> {
    hardware::judge(folders, &Cpu::detect())
}

#[derive(IntoPyObject)]
pub struct Runnable {
    id: String,
    path: String,
    module: Option<String>,
    variant: String,
    version: String,
    allowed: bool,
    score: u32,
    chosen: bool,
    reason: String,
}

#[pyfunction]
#[pyo3(signature = (runtime=None))]
pub fn list_runtimes(py: Python<'_>, runtime: Option<&str>) -> PyResult<Vec<Runnable>> {
    let folders = runtime_folders(py, runtime)?;
    Ok(py.detach(|| {
        let candidates = judge(&folders);
        let chosen =
            Runtime::opened().map(|runtime| runtime.spec().clone()).or_else(|| hardware::choose(&candidates).ok());
        candidates.into_iter().map(|candidate| runnable(candidate, chosen.as_ref())).collect()
    }))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn runnable(candidate: Candidate, chosen: Option<&RuntimeSpec>) -> Runnable {
    let Candidate { spec, allowed, score, .. } = candidate;
    let chosen = chosen.filter(|one| (&one.libllama, &one.cpu_module) == (&spec.libllama, &spec.cpu_module));
    Runnable {
        id: spec.id,
        path: text(&spec.libllama),
        module: spec.cpu_module.as_deref().map(text),
        variant: spec.variant,
        version: spec.version,
        allowed,
        score,
        chosen: chosen.is_some(),
        reason: chosen.map_or(spec.reason, |one| one.reason.clone()),
    }
}

#[derive(IntoPyObject)]
struct Processor {
    vendor: String,
    family: u32,
    model: u32,
    name: String,
    flags: Vec<&'static str>,
    cores: u32,
    threads: u32,
}

#[pyfunction]
pub fn detect_hardware(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let hardware::Hardware { cpu, memory, gpus } = py.detach(hardware::detect);
    let processor = Processor {
        vendor: cpu.vendor,
        family: cpu.family,
        model: cpu.model,
        name: cpu.name,
        flags: cpu.flags.iter().collect(),
        cores: cpu.cores,
        threads: cpu.threads,
    };
    let hardware = PyDict::new(py);
    hardware.set_item("cpu", processor)?;
    hardware.set_item("memory", HashMap::from([("total", memory.total), ("available", memory.available)]))?;
    hardware.set_item("gpus", gpus)?;
    Ok(hardware)
}
