//! `detect_hardware` and `list_runtimes` in Python, and the runtime that an engine opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;

use crate::engine::GpuLayers;
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

/// Opens the best runtime, for layers on a GPU the best that has a module for one. Who names none gets the one that
/// is open already: a process has but one.
pub fn open_runtime(wanted: Option<&str>, folders: &[RuntimeFolder], layers: GpuLayers) -> Result<Arc<Runtime>> {
    match Runtime::opened() {
        Some(runtime) if wanted.is_none() => Ok(runtime),
        _ => {
            let mut candidates = judge(folders);
            if matches!(layers, GpuLayers::Count(1..)) {
                hardware::prefer_gpus(&mut candidates);
            }
            Runtime::open(&hardware::choose(&candidates)?)
        }
    }
}

/// The devices of the best runtime that has a GPU module; opens it, so it is for a process of its own.
#[pyfunction]
pub fn list_gpus(py: Python<'_>, runtime: &str) -> PyResult<Vec<GpuDevice>> {
    let folders = runtime_folders(py, Some(runtime))?;
    py.detach(|| {
        let runtime = open_runtime(Some(runtime), &folders, GpuLayers::Count(1))?;
        let gpus = runtime.gpus()?.iter().map(|device| GpuDevice {
            name: device.name.clone(),
            description: device.description.clone(),
            memory: device.memory.0,
            free: device.memory.1,
        });
        Ok(gpus.collect())
    })
}

#[derive(IntoPyObject)]
pub struct GpuDevice {
    name: String,
    description: String,
    memory: u64,
    free: u64,
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
    gpu: Vec<&'static str>,
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
        path: text(&spec.libllama),
        gpu: spec.gpu_modules().into_iter().map(|(interface, _)| interface).collect(),
        id: spec.id,
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
    stepping: u32,
    name: String,
    microarchitecture: Option<&'static str>,
    flags: Vec<&'static str>,
    cores: u32,
    threads: u32,
    allowed: u32,
    quota: Option<f64>,
    kinds: Vec<KindOfCores>,
    caches: Vec<Cache>,
}

#[derive(IntoPyObject)]
struct KindOfCores {
    kind: &'static str,
    cores: u32,
    threads: u32,
    usable: u32,
}

#[derive(IntoPyObject)]
struct Cache {
    level: u32,
    purpose: &'static str,
    bytes: u64,
    count: u32,
}

#[derive(IntoPyObject)]
struct Memory {
    total: u64,
    available: u64,
    limit: Option<u64>,
}

#[derive(IntoPyObject)]
struct Gpu {
    vendor: &'static str,
    name: String,
    id: String,
    driver: Option<String>,
    memory: Option<u64>,
}

#[derive(IntoPyObject)]
struct Threads {
    count: u32,
    reason: String,
}

#[derive(IntoPyObject)]
pub struct Detected {
    cpu: Processor,
    memory: Memory,
    gpus: Vec<Gpu>,
    threads: Threads,
}

#[pyfunction]
pub fn detect_hardware(py: Python<'_>) -> Detected {
    let hardware::Hardware { cpu, memory, gpus } = py.detach(hardware::detect);
    let hardware::Threads { count, reason } = hardware::compute_threads(&cpu);
    let gpu = |gpu: hardware::Gpu| Gpu {
        vendor: gpu.vendor,
        name: gpu.name,
        id: gpu.id,
        driver: gpu.driver,
        memory: gpu.memory,
    };
    Detected {
        cpu: processor(cpu),
        memory: Memory { total: memory.total, available: memory.available, limit: memory.limit },
        gpus: gpus.into_iter().map(gpu).collect(),
        threads: Threads { count, reason },
    }
}

fn processor(cpu: hardware::Cpu) -> Processor {
    let kind = |one: hardware::Cores| KindOfCores {
        kind: one.kind.as_str(),
        cores: one.cores,
        threads: one.threads,
        usable: one.usable,
    };
    let cache =
        |one: hardware::Cache| Cache { level: one.level, purpose: one.purpose, bytes: one.bytes, count: one.count };
    Processor {
        microarchitecture: cpu.microarchitecture(),
        vendor: cpu.vendor,
        family: cpu.family,
        model: cpu.model,
        stepping: cpu.stepping,
        name: cpu.name,
        flags: cpu.flags.iter().collect(),
        cores: cpu.cores,
        threads: cpu.threads,
        allowed: cpu.allowed,
        quota: cpu.quota,
        kinds: cpu.kinds.into_iter().map(kind).collect(),
        caches: cpu.caches.into_iter().map(cache).collect(),
    }
}

#[derive(IntoPyObject)]
pub struct Advice {
    text: &'static str,
    gains: Vec<Gain>,
}

#[derive(IntoPyObject)]
struct Gain {
    weights: &'static str,
    prompt: f64,
    generation: Option<f64>,
}

#[pyfunction]
pub fn advise_runtime(py: Python<'_>, variant: &str) -> Vec<Advice> {
    let flags = py.detach(|| hardware::Cpu::detect().flags);
    let gain = |one: &hardware::Gain| Gain { weights: one.weights, prompt: one.prompt, generation: one.generation };
    let advice = hardware::advise(variant, &flags).into_iter();
    advice.map(|one| Advice { text: one.text, gains: one.gains.iter().map(gain).collect() }).collect()
}
