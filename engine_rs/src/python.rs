//! The Python module `tabagent_engine._native`: the only file that names `PyO3`.
//!
//! No thread of the engine ever enters Python: what happens is queued, and one byte on a socket tells the reader.

#![allow(clippy::needless_pass_by_value, clippy::too_many_arguments, reason = "Python names and hands over arguments")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::engine::{self, EngineOptions, Event, Prompt, Request, TokenLogprob};
use crate::error::{EngineError, Result};
use crate::ffi::{Runtime, RuntimeSpec};
use crate::gguf::{self, MetaValue};
use crate::hardware::{self, Candidate, RuntimeFolder};
use crate::sampler::SamplingParams;
use crate::template::{self, Limits};
use crate::waker::SocketWaker;

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
    use super::GgufEngine;
    #[pymodule_export]
    use super::{detect_hardware, inspect_gguf, list_runtimes, render_template};

    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}

/// One loaded GGUF with its scheduler. All methods may be called from any thread.
#[pyclass(frozen, module = "tabagent_engine._native")]
struct GgufEngine(engine::GgufEngine);

#[derive(FromPyObject)]
enum PromptArgument {
    Text(String),
    Tokens(Vec<i32>),
}

#[pymethods]
impl GgufEngine {
    #[staticmethod]
    #[pyo3(signature = (model_path, *, wake_fd, runtime=None, ctx_size=None, parallel=4, threads=None, gpu_layers=0,
        mmap=true, stall_timeout=30.0))]
    fn open(
        py: Python<'_>,
        model_path: PathBuf,
        wake_fd: i64,
        runtime: Option<&str>,
        ctx_size: Option<u32>,
        parallel: u32,
        threads: Option<u32>,
        gpu_layers: i32,
        mmap: bool,
        stall_timeout: f64,
    ) -> PyResult<Self> {
        let stall_timeout =
            Duration::try_from_secs_f64(stall_timeout).map_err(|error| invalid("stall_timeout", error.to_string()))?;
        let waker = SocketWaker::new(wake_fd).map_err(|error| invalid("wake_fd", error.to_string()))?;
        let options = EngineOptions { ctx_size, parallel, threads, gpu_layers, mmap, stall_timeout };
        let folders = runtime_folders(py, runtime)?;
        let opened = py.detach(|| {
            let runtime = open_runtime(runtime, &folders)?;
            engine::GgufEngine::open(&runtime, &model_path, &options, Box::new(waker))
        })?;
        Ok(Self(opened))
    }

    #[getter]
    fn info(&self) -> Info {
        let info = self.0.info();
        Info {
            architecture: info.architecture.clone(),
            name: info.name.clone(),
            context_length: info.context_length,
            trained_context: info.trained_context,
            parallel: info.parallel,
            threads: info.threads,
            vocab_size: info.vocab_size,
            size_bytes: info.size_bytes,
            has_chat_template: info.has_chat_template,
            runtime: info.runtime.clone(),
        }
    }

    #[pyo3(signature = (request_id, prompt, *, credit, messages=None, max_tokens=None, stop=Vec::new(), logprobs=None,
        principal="", temperature=None, top_k=None, top_p=None, min_p=None, repeat_penalty=None,
        presence_penalty=None, frequency_penalty=None, seed=None, logit_bias=None, ignore_eos=false, truncate=false))]
    fn submit(
        &self,
        request_id: u64,
        prompt: Option<PromptArgument>,
        credit: u32,
        messages: Option<&str>,
        max_tokens: Option<u32>,
        stop: Vec<String>,
        logprobs: Option<u32>,
        principal: &str,
        temperature: Option<f32>,
        top_k: Option<u32>,
        top_p: Option<f32>,
        min_p: Option<f32>,
        repeat_penalty: Option<f32>,
        presence_penalty: Option<f32>,
        frequency_penalty: Option<f32>,
        seed: Option<u64>,
        logit_bias: Option<HashMap<i32, f32>>,
        ignore_eos: bool,
        truncate: bool,
    ) -> PyResult<()> {
        let prompt = match (prompt, messages) {
            (Some(PromptArgument::Text(text)), None) => Prompt::Text(text),
            (Some(PromptArgument::Tokens(tokens)), None) => Prompt::Tokens(tokens),
            (None, Some(messages)) => Prompt::Messages(parse_messages(messages)?),
            _ => return Err(invalid("prompt", "give either a prompt or messages").into()),
        };
        let sampling = SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            seed,
            logit_bias: logit_bias.into_iter().flatten().collect(),
            ignore_eos,
        };
        Ok(self.0.submit(
            request_id,
            Request { prompt, truncate, max_tokens, stop, sampling, logprobs, credit, principal: principal.to_owned() },
        )?)
    }

    fn cancel(&self, request_id: u64) {
        self.0.cancel(request_id);
    }

    fn grant(&self, request_id: u64, tokens: u32) {
        self.0.grant(request_id, tokens);
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.0.drain().into_iter().map(|event| event_tuple(py, event)).collect()
    }

    #[pyo3(signature = (text, add_special=true))]
    fn tokenize(&self, py: Python<'_>, text: &str, add_special: bool) -> PyResult<Vec<i32>> {
        Ok(py.detach(|| self.0.tokenize(text, add_special))?)
    }

    fn detokenize(&self, py: Python<'_>, tokens: Vec<i32>) -> PyResult<String> {
        Ok(py.detach(|| self.0.detokenize(&tokens))?)
    }

    fn render_chat(&self, py: Python<'_>, messages: &str) -> PyResult<String> {
        Ok(py.detach(|| self.0.render_chat(&parse_messages(messages)?))?)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

#[derive(IntoPyObject)]
struct Info {
    architecture: String,
    name: Option<String>,
    context_length: u32,
    trained_context: u32,
    parallel: u32,
    threads: u32,
    vocab_size: u32,
    size_bytes: u64,
    has_chat_template: bool,
    runtime: String,
}

fn parse_messages(messages: &str) -> Result<serde_json::Value> {
    serde_json::from_str(messages).map_err(|error| invalid("messages", format!("messages are no JSON: {error}")))
}

fn event_tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Queued { id, position } => ("queued", id, position).into_pyobject(py),
        Event::Started { id, prompt_tokens, cached_tokens, seed } => {
            ("started", id, prompt_tokens, cached_tokens, seed).into_pyobject(py)
        }
        Event::PromptProgress { id, done, total } => ("progress", id, done, total).into_pyobject(py),
        Event::Delta { id, text, tokens, logprobs } => {
            let logprobs = (!logprobs.is_empty()).then(|| logprobs.into_iter().map(logprob_tuple).collect::<Vec<_>>());
            ("delta", id, text, tokens, logprobs).into_pyobject(py)
        }
        Event::Finished { id, reason, usage, timings } => (
            "finished",
            id,
            reason.as_str(),
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            timings.queued_ms,
            timings.prompt_ms,
            timings.decode_ms,
        )
            .into_pyobject(py),
        Event::Failed { id, error } => ("failed", id, error.code(), error.to_string(), error.param()).into_pyobject(py),
    }
}

type LogprobTuple = (i32, Vec<u8>, f32);

fn logprob_tuple(entry: TokenLogprob) -> (LogprobTuple, Vec<LogprobTuple>) {
    let tuple = |one: engine::Logprob| (one.token, one.bytes, one.logprob);
    (tuple(entry.chosen), entry.top.into_iter().map(tuple).collect())
}

/// The folders come from Python, which alone knows its packages and the user's directories.
fn runtime_folders(py: Python<'_>, runtime: Option<&str>) -> PyResult<Vec<RuntimeFolder>> {
    let found = py.import("tabagent_engine.runtimes")?.call_method1("folders", (runtime,))?;
    let found: Vec<(String, String, Vec<PathBuf>, String)> = found.extract()?;
    let folders = found
        .into_iter()
        .map(|(id, origin, folders, version)| Ok(RuntimeFolder { id, origin: origin.parse()?, folders, version }));
    Ok(folders.collect::<Result<_>>()?)
}

/// Opens the best runtime. Who names none gets the one that is open already: a process has but one.
fn open_runtime(wanted: Option<&str>, folders: &[RuntimeFolder]) -> Result<Arc<Runtime>> {
    match Runtime::opened() {
        Some(runtime) if wanted.is_none() => Ok(runtime),
        _ => Runtime::open(&hardware::choose(&judge(folders))?),
    }
}

fn judge(folders: &[RuntimeFolder]) -> Vec<Candidate> {
    hardware::judge(folders, &hardware::detect().cpu.flags)
}

#[derive(IntoPyObject)]
struct Runnable {
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
fn list_runtimes(py: Python<'_>, runtime: Option<&str>) -> PyResult<Vec<Runnable>> {
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
fn detect_hardware(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
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

#[derive(IntoPyObject)]
struct TensorTotal {
    name: String,
    tensors: u64,
    bytes: u64,
}

#[derive(IntoPyObject)]
struct Summary<'py> {
    version: u32,
    file_bytes: u64,
    architecture: String,
    name: Option<String>,
    tensor_types: Vec<TensorTotal>,
    tensor_count: u64,
    parameters: u64,
    weight_bytes: u64,
    context_length: u32,
    embedding_length: u32,
    block_count: u32,
    head_count: u32,
    head_count_kv: u32,
    kv_bytes_per_token: u64,
    vocab_size: u32,
    problem: Option<String>,
    metadata: Bound<'py, PyDict>,
}

#[pyfunction]
fn inspect_gguf(py: Python<'_>, path: PathBuf) -> PyResult<Summary<'_>> {
    let summary = py.detach(|| gguf::inspect(&path))?;
    let metadata = PyDict::new(py);
    for (key, value) in summary.metadata.iter() {
        metadata.set_item(key, metadata_value(py, value)?)?;
    }
    let total = |total: gguf::TensorTotal| TensorTotal { name: total.name, tensors: total.tensors, bytes: total.bytes };
    Ok(Summary {
        version: summary.version,
        file_bytes: summary.file_bytes,
        architecture: summary.architecture,
        name: summary.name,
        tensor_types: summary.tensor_types.into_iter().map(total).collect(),
        tensor_count: summary.tensor_count,
        parameters: summary.parameters,
        weight_bytes: summary.weight_bytes,
        context_length: summary.dimensions.context_length,
        embedding_length: summary.dimensions.embedding_length,
        block_count: summary.dimensions.block_count,
        head_count: summary.dimensions.head_count,
        head_count_kv: summary.dimensions.head_count_kv,
        kv_bytes_per_token: summary.dimensions.kv_bytes_per_token,
        vocab_size: summary.vocab_size,
        problem: summary.problem,
        metadata,
    })
}

/// Arrays appear as what the header says of them: type and length, and their items where these are kept.
fn metadata_value<'py>(py: Python<'py>, value: &MetaValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        MetaValue::Unsigned(number) => number.into_bound_py_any(py),
        MetaValue::Signed(number) => number.into_bound_py_any(py),
        MetaValue::Float(number) => number.into_bound_py_any(py),
        MetaValue::Bool(truth) => truth.into_bound_py_any(py),
        MetaValue::Text(text) => text.into_bound_py_any(py),
        MetaValue::Array { integers, .. } if !integers.is_empty() => integers.into_bound_py_any(py),
        MetaValue::Array { item, len, .. } => format!("{item}[{len}]").into_bound_py_any(py),
    }
}

#[pyfunction]
#[pyo3(signature = (template, messages, **context))]
fn render_template(
    py: Python<'_>,
    template: &str,
    messages: &Bound<'_, PyAny>,
    context: Option<&Bound<'_, PyDict>>,
) -> PyResult<String> {
    let variables = context.map_or_else(|| Ok(PyDict::new(py)), Bound::copy)?;
    variables.set_item("messages", messages)?;
    let variables = to_json(&variables)?;
    Ok(py.detach(|| template::render(template, &variables, Limits::default()))?)
}

fn to_json(value: &Bound<'_, PyAny>) -> PyResult<serde_json::Value> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| invalid("messages", error.to_string()).into())
}
