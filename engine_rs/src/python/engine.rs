//! `GgufEngine` in Python: requests go in by name, events come out as tuples.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::bitnet::{cache, prepare};
use super::hardware::{open_runtime, runtime_folders};
use super::invalid;
use crate::compatibility;
use crate::engine::{self, EngineOptions, Event, GpuLayers, Prompt, Request, TokenLogprob};
use crate::error::{EngineError, Result};
use crate::gguf;
use crate::sampler::SamplingParams;
use crate::waker::SocketWaker;

/// One loaded GGUF with its scheduler. All methods may be called from any thread.
#[pyclass(frozen, module = "tabagent_engine._native")]
pub struct GgufEngine(engine::GgufEngine);

#[derive(FromPyObject)]
enum PromptArgument {
    Text(String),
    Tokens(Vec<i32>),
}

#[derive(FromPyObject)]
enum GpuLayersArgument {
    Count(u32),
    Word(String),
}

impl TryFrom<GpuLayersArgument> for GpuLayers {
    type Error = EngineError;

    fn try_from(argument: GpuLayersArgument) -> Result<Self> {
        match argument {
            GpuLayersArgument::Count(count) => Ok(Self::Count(count)),
            GpuLayersArgument::Word(word) if word == "auto" => Ok(Self::Auto),
            GpuLayersArgument::Word(word) => Err(invalid("gpu_layers", format!("{word:?} is no number of layers"))),
        }
    }
}

#[pymethods]
impl GgufEngine {
    #[staticmethod]
    #[pyo3(signature = (model_path, *, wake_fd, runtime=None, ctx_size=None, parallel=4, threads=None,
        gpu_layers=GpuLayersArgument::Count(0), mmap=true, stall_timeout=30.0, progress=None))]
    fn open(
        py: Python<'_>,
        model_path: PathBuf,
        wake_fd: i64,
        runtime: Option<&str>,
        ctx_size: Option<u32>,
        parallel: u32,
        threads: Option<u32>,
        gpu_layers: GpuLayersArgument,
        mmap: bool,
        stall_timeout: f64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let stall_timeout =
            Duration::try_from_secs_f64(stall_timeout).map_err(|error| invalid("stall_timeout", error.to_string()))?;
        let waker = SocketWaker::new(wake_fd).map_err(|error| invalid("wake_fd", error.to_string()))?;
        let gpu_layers = gpu_layers.try_into()?;
        let options = EngineOptions { ctx_size, parallel, threads, gpu_layers, mmap, stall_timeout };
        let folders = runtime_folders(py, runtime)?;
        let cache = cache(py)?;
        py.detach(|| {
            let runtime = open_runtime(runtime, &folders, gpu_layers)?;
            compatibility::require_for_source(&runtime, &gguf::inspect(&model_path)?)?;
            let prepared = prepare(&model_path, &cache, progress)?;
            Ok(Self(engine::GgufEngine::open(&runtime, prepared.path(), &options, Box::new(waker))?))
        })
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
            gpu_layers: info.gpu_layers,
            vocab_size: info.vocab_size,
            size_bytes: info.size_bytes,
            expected_bytes: info.footprint.total(),
            has_chat_template: info.has_chat_template,
            runtime: info.runtime.clone(),
        }
    }

    #[pyo3(signature = (request_id, prompt, *, credit, messages=None, max_tokens=None, stop=Vec::new(), logprobs=None,
        principal="", temperature=None, top_k=None, top_p=None, min_p=None, repeat_penalty=None,
        presence_penalty=None, frequency_penalty=None, seed=None, logit_bias=None, ignore_eos=false, truncate=false,
        return_prompt=false))]
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
        return_prompt: bool,
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
            Request {
                prompt,
                truncate,
                max_tokens,
                stop,
                sampling,
                logprobs,
                return_prompt,
                credit,
                principal: principal.to_owned(),
            },
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
    gpu_layers: u32,
    vocab_size: u32,
    size_bytes: u64,
    expected_bytes: u64,
    has_chat_template: bool,
    runtime: String,
}

fn parse_messages(messages: &str) -> Result<serde_json::Value> {
    serde_json::from_str(messages).map_err(|error| invalid("messages", format!("messages are no JSON: {error}")))
}

fn event_tuple(py: Python<'_>, event: Event) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        Event::Queued { id, position } => ("queued", id, position).into_pyobject(py),
        Event::Started { id, prompt_tokens, cached_tokens, seed, prompt } => {
            ("started", id, prompt_tokens, cached_tokens, seed, prompt).into_pyobject(py)
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
