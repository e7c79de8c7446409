//! What goes into a [`GgufEngine`](super) and what comes out of it.

use std::time::Duration;

use super::footprint::Footprint;
use crate::error::EngineError;
use crate::sampler::SamplingParams;

/// Names one request; chosen by the caller, unique while the request lives.
pub type RequestId = u64;

/// How a model is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Tokens one request may use; `None`: the smaller of trained, 8192 and what fits in memory.
    pub ctx_size: Option<u32>,
    /// Sequences decoded together.
    pub parallel: u32,
    /// Most compute threads; `None`: by the cores this process may use.
    pub threads: Option<u32>,
    /// Layers offloaded to a GPU.
    pub gpu_layers: GpuLayers,
    /// Map the file instead of reading it.
    pub mmap: bool,
    /// A sequence without credit for this long is cancelled.
    pub stall_timeout: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            ctx_size: None,
            parallel: 4,
            threads: None,
            gpu_layers: GpuLayers::Count(0),
            mmap: true,
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// How many layers go to a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit, none without a GPU.
    Auto,
    /// So many; 0 keeps everything on the CPU, and more than there are means all.
    Count(u32),
}

/// Facts of an opened model.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, if the file has one.
    pub name: Option<String>,
    /// Tokens one request may use, prompt and answer together.
    pub context_length: u32,
    /// Tokens the model was trained with.
    pub trained_context: u32,
    /// Sequences decoded together.
    pub parallel: u32,
    /// Most compute threads; fewer while others need the processors.
    pub threads: u32,
    /// Layers that are on a GPU, the one that makes the logits included.
    pub gpu_layers: u32,
    /// Entries of the vocabulary.
    pub vocab_size: u32,
    /// Bytes of all tensors.
    pub size_bytes: u64,
    /// Main memory it was expected to take.
    pub footprint: Footprint,
    /// Whether the file carries a chat template.
    pub has_chat_template: bool,
    /// Id of the runtime that runs it.
    pub runtime: String,
}

/// What the model continues.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Plain text, tokenised with special tokens allowed.
    Text(String),
    /// Token ids as they are.
    Tokens(Vec<i32>),
    /// Chat messages (a JSON array of `{role, content, …}`), rendered by the model's template.
    Messages(serde_json::Value),
}

/// One request. Absent sampling fields take the model's defaults.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the model continues.
    pub prompt: Prompt,
    /// Drop the oldest turns of [`Prompt::Messages`] until they leave room for an answer; system messages stay.
    pub truncate: bool,
    /// Most tokens to produce; `None`: to the end of the context, 0: the prompt is read only.
    pub max_tokens: Option<u32>,
    /// Strings that end the answer; none of them is part of it.
    pub stop: Vec<String>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Report each token's log-probability and those of this many alternatives.
    pub logprobs: Option<u32>,
    /// Report the tokens of the prompt.
    pub return_prompt: bool,
    /// Tokens that may be produced before [`grant`](super) gives more.
    pub credit: u32,
    /// Whose request this is; caches are private to a principal.
    pub principal: String,
}

/// Why a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token or a stop string.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// Cancelled by the caller, or stalled without credit.
    Cancelled,
}

impl FinishReason {
    /// The word of the public contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Tokens a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens taken from a cache.
    pub cached_tokens: u32,
    /// Tokens produced, the end token included.
    pub completion_tokens: u32,
}

/// Where a request's time went, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// From submission to the first prompt chunk.
    pub queued_ms: f64,
    /// Reading the prompt.
    pub prompt_ms: f64,
    /// From the first token to the last.
    pub decode_ms: f64,
}

/// One candidate and its log-probability (natural logarithm).
#[derive(Debug, Clone, PartialEq)]
pub struct Logprob {
    /// Token id.
    pub token: i32,
    /// The token's bytes; not always whole UTF-8.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability before any sampling filter.
    pub logprob: f32,
}

/// The log-probability of a produced token and of the likeliest alternatives, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token produced.
    pub chosen: Logprob,
    /// The likeliest tokens at that place, best first.
    pub top: Vec<Logprob>,
}

/// What happened to a request. Exactly one of `Finished` and `Failed` ends each request; nothing follows it.
#[derive(Debug, Clone)]
pub enum Event {
    /// Waits for a slot behind `position` others.
    Queued {
        /// The request.
        id: RequestId,
        /// Requests ahead of it.
        position: u32,
    },
    /// Has a slot; its prompt is being read.
    Started {
        /// The request.
        id: RequestId,
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// Of these, tokens taken from a cache.
        cached_tokens: u32,
        /// The seed in force, given or drawn.
        seed: u64,
        /// The tokens of the prompt, when asked for.
        prompt: Option<Vec<i32>>,
    },
    /// `done` of `total` prompt tokens are read.
    PromptProgress {
        /// The request.
        id: RequestId,
        /// Prompt tokens read.
        done: u32,
        /// Prompt tokens in all.
        total: u32,
    },
    /// More of the answer: whole UTF-8, possibly empty while characters or stop strings are held back.
    Delta {
        /// The request.
        id: RequestId,
        /// New text.
        text: String,
        /// The tokens produced since the last delta.
        tokens: Vec<i32>,
        /// One entry per token, when asked for.
        logprobs: Vec<TokenLogprob>,
    },
    /// The request is over.
    Finished {
        /// The request.
        id: RequestId,
        /// Why.
        reason: FinishReason,
        /// Tokens used.
        usage: Usage,
        /// Time used.
        timings: Timings,
    },
    /// The request failed.
    Failed {
        /// The request.
        id: RequestId,
        /// The cause.
        error: EngineError,
    },
}

/// Tells the consumer that [`drain`](super) has something. Called from the decode thread; must not block.
/// It is not called again until `drain` has been called.
pub trait Wake: Send + Sync {
    /// Wakes the consumer.
    fn wake(&self);
}
