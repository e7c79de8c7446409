//! One loaded GGUF with its scheduler, its decode thread and its event queue.

mod types;

pub use types::{
    EngineInfo, EngineOptions, Event, FinishReason, Logprob, Prompt, Request, RequestId, Timings, TokenLogprob, Usage,
    Wake,
};
