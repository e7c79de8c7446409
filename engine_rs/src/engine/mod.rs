//! One loaded GGUF with its scheduler, its decode thread and its event queue.
//!
//! Callers post and never wait: [`GgufEngine::submit`], [`GgufEngine::cancel`] and [`GgufEngine::grant`] leave a
//! message, [`GgufEngine::drain`] takes what has happened. A prompt thread renders and tokenises, a decode thread
//! owns the context. Every request ends with exactly one `Finished` or `Failed`, whatever becomes of the threads.

mod decode;
mod footprint;
mod inbox;
mod offload;
mod outbox;
mod pace;
mod permit;
mod prompt;
mod sizing;
mod slots;
mod step;
mod types;

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use footprint::Footprint;
pub use types::{
    EngineInfo, EngineOptions, Event, FinishReason, GpuLayers, Logprob, Prompt, Request, RequestId, Timings,
    TokenLogprob, Usage, Wake,
};

use crate::compatibility;
use crate::context::{Context, ContextParams};
use crate::error::{EngineError, Result};
use crate::ffi::Runtime;
use crate::gguf;
use crate::hardware::{Cpu, Memory, compute_threads};
use crate::model::{Model, ModelParams};
use crate::sampler::SamplingParams;
use crate::vocab::Vocab;
use decode::{DecodeLoop, ModelFacts};
use inbox::Inbox;
use outbox::Outbox;
use prompt::{Submission, Writer};

/// Most alternatives that are reported per token of any answer.
const MAX_LOGPROBS: u32 = 20;
/// Most alternatives of a whole answer that reports more per token, up to the whole vocabulary.
const MAX_ALTERNATIVES: u64 = 1 << 20;
/// Limits on what every produced token is searched for.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 1024;

/// One loaded GGUF. All methods may be called from any thread.
pub struct GgufEngine {
    info: EngineInfo,
    vocab: Vocab,
    writer: Arc<Writer>,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    workers: Mutex<Option<Workers>>,
}

struct Workers {
    submissions: Sender<Submission>,
    threads: [JoinHandle<()>; 2],
}

impl GgufEngine {
    /// Judges and loads the file at `path` and starts its threads. Blocks as long as that takes. Ternary files go
    /// through [`crate::bitnet::prepare`] first.
    ///
    /// # Errors
    /// Any code of the loading family, from `gguf_invalid` to `out_of_memory`; `invalid_parameter` for `options`.
    pub fn open(runtime: &Arc<Runtime>, path: &Path, options: &EngineOptions, waker: Box<dyn Wake>) -> Result<Self> {
        sizing::check(options)?;
        let summary = gguf::inspect(path)?;
        summary.require_loadable()?;
        compatibility::require(runtime, &summary)?;
        let memory = Memory::detect();
        let size = sizing::context_size(options, &summary, &memory);
        let cells = u64::from(size) * u64::from(options.parallel);
        let gpu_layers = offload::layers(runtime, &summary, options, cells)?;
        let footprint = Footprint::estimate(&summary, gpu_layers, cells, u64::from(sizing::BATCH));
        footprint.require(&memory)?;
        let params = ModelParams { gpu_layers: gpu_layers as i32, mmap: options.mmap };
        let model = Model::load(runtime, path, &params)?;
        let threads = options.threads.unwrap_or_else(|| compute_threads(&Cpu::detect()).count);
        let context = create_context(&model, size, options.parallel, threads)?;
        let vocab = model.vocab();
        let info = EngineInfo {
            architecture: summary.architecture.clone(),
            name: summary.name.clone(),
            context_length: size,
            trained_context: summary.dimensions.context_length,
            parallel: context.n_seq_max(),
            threads,
            gpu_layers,
            vocab_size: vocab.n_tokens() as u32,
            size_bytes: summary.weight_bytes,
            footprint,
            has_chat_template: summary.chat_template().is_some(),
            runtime: runtime.spec().id.clone(),
        };
        let writer = Arc::new(Writer::new(vocab.clone(), summary.chat_template(), size));
        let inbox = Arc::new(Inbox::new(context.abort_handle()));
        let outbox = Arc::new(Outbox::new(waker));
        let facts = ModelFacts {
            end_tokens: (0..vocab.n_tokens() as i32).filter(|token| vocab.is_eog(*token)).collect(),
            recommended: SamplingParams::recommended(&summary.metadata),
            stall_timeout: options.stall_timeout,
            threads,
            vocab: vocab.clone(),
        };
        let decode_loop = DecodeLoop::new(context, facts, Arc::clone(&inbox), Arc::clone(&outbox));
        let workers = Mutex::new(Some(start(decode_loop, &writer, &inbox)?));
        Ok(Self { info, vocab, writer, inbox, outbox, workers })
    }

    /// Facts of the opened model.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Posts a request; what becomes of it comes out of [`drain`](Self::drain).
    ///
    /// # Errors
    /// `invalid_parameter` for numbers out of range and for an `id` in use, `shutting_down` after
    /// [`close`](Self::close).
    pub fn submit(&self, id: RequestId, request: Request) -> Result<()> {
        self.check(&request)?;
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = workers.as_ref().ok_or(EngineError::ShuttingDown)?;
        let ticket = self.inbox.register(id, request.credit)?;
        let submission = Submission { id, ticket, request, submitted: Instant::now() };
        workers.submissions.send(submission).map_err(|_| {
            self.inbox.settle(id);
            EngineError::ShuttingDown
        })
    }

    fn check(&self, request: &Request) -> Result<()> {
        let refuse = |param: &'static str, message: String| Err(EngineError::InvalidParameter { param, message });
        request.sampling.validate(self.info.vocab_size)?;
        let alternatives = |count: u32| u64::from(count) * request.max_tokens.map_or(u64::MAX >> 32, u64::from);
        if request.logprobs.is_some_and(|count| count > MAX_LOGPROBS && alternatives(count) > MAX_ALTERNATIVES) {
            let limits = format!("at most {MAX_LOGPROBS} alternatives per token, or {MAX_ALTERNATIVES} in all");
            return refuse("logprobs", limits);
        }
        if request.stop.len() > MAX_STOPS || request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            return refuse("stop", format!("at most {MAX_STOPS} stop strings of {MAX_STOP_BYTES} bytes"));
        }
        if let Prompt::Tokens(tokens) = &request.prompt
            && let Some(token) = tokens.iter().find(|token| !(0..self.info.vocab_size as i32).contains(token))
        {
            return refuse("prompt", format!("there is no token {token}"));
        }
        Ok(())
    }

    /// Ends a request with `Finished(cancelled)`, even while its prompt is being read. Unknown ids are ignored.
    pub fn cancel(&self, id: RequestId) {
        self.inbox.cancel(id);
    }

    /// Lets a request produce that many more tokens. Unknown ids are ignored.
    pub fn grant(&self, id: RequestId, tokens: u32) {
        self.inbox.grant(id, tokens);
    }

    /// Takes all events since the last call, oldest first; deltas of one request that were not taken are one.
    #[must_use]
    pub fn drain(&self) -> Vec<Event> {
        self.outbox.drain()
    }

    /// Token ids of a text; special tokens in it are recognised, `add_special` adds what the model wants around it.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<i32>> {
        self.vocab.tokenize(text, add_special, true)
    }

    /// The text of some tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn detokenize(&self, tokens: &[i32]) -> Result<String> {
        self.vocab.detokenize(tokens)
    }

    /// The prompt that the model's chat template makes of a JSON array of messages. A file without a template gets
    /// `ChatML` if its vocabulary has `<|im_start|>`, else one `role: content` line per message.
    pub fn render_chat(&self, messages: &serde_json::Value) -> Result<String> {
        self.writer.render(messages)
    }

    /// Ends all requests as cancelled and joins the threads. Their last events can still be drained. Repeatable.
    pub fn close(&self) {
        self.inbox.close();
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Workers { submissions, threads }) = workers else { return };
        drop(submissions);
        for thread in threads {
            // A panic was turned into events where it happened.
            _ = thread.join();
        }
    }
}

impl Drop for GgufEngine {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for GgufEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GgufEngine").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A context for `parallel` sequences of `size` tokens each.
fn create_context(model: &Arc<Model>, size: u32, parallel: u32, threads: u32) -> Result<Context> {
    let params = |parallel: u32| ContextParams {
        n_ctx: size * parallel,
        // The library would cut a batch to the context by itself, and the context would take that for a wrong layout.
        n_batch: sizing::BATCH.min(size * parallel),
        n_ubatch: sizing::BATCH,
        n_seq_max: parallel,
        n_threads: threads,
        n_threads_batch: threads,
        embeddings: false,
    };
    let context = Context::new(model, &params(parallel))?;
    if context.n_seq_max() == parallel {
        return Ok(context);
    }
    // Several sequences could not be proved to work: one gets a context of its own size.
    drop(context);
    Context::new(model, &params(1))
}

fn start(decode_loop: DecodeLoop, writer: &Arc<Writer>, inbox: &Arc<Inbox>) -> Result<Workers> {
    let failed = |error: std::io::Error| EngineError::ModelLoadFailed(format!("no thread could be started: {error}"));
    let (submissions, received) = mpsc::channel();
    let (prompt_writer, prompt_inbox) = (Arc::clone(writer), Arc::clone(inbox));
    let prompts = thread::Builder::new()
        .name("prompt".into())
        .spawn(move || prompt::run(&prompt_writer, &received, &prompt_inbox))
        .map_err(failed)?;
    let decoder = thread::Builder::new().name("decode".into()).spawn(move || decode::run(decode_loop));
    Ok(Workers { submissions, threads: [prompts, decoder.map_err(failed)?] })
}
