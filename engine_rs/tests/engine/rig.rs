//! An engine over a scripted model, and what its requests have seen.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use fake_llama::{Control, Script, library_path, write_model};
use tabagent_engine::engine::{
    EngineOptions, Event, FinishReason, GgufEngine, Prompt, Request, RequestId, Timings, Usage, Wake,
};
use tabagent_engine::error::{EngineError, Result};
use tabagent_engine::ffi::{Runtime, RuntimeSpec};
use tabagent_engine::sampler::SamplingParams;

/// Long enough for any machine; only a bug makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub engine: GgufEngine,
    pub control: Control,
    wakes: Receiver<()>,
    seen: Vec<Event>,
    _folder: tempfile::TempDir,
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome {
    pub text: String,
    pub tokens: Vec<i32>,
    pub end: Result<(FinishReason, Usage, Timings)>,
}

impl Outcome {
    pub fn reason(&self) -> FinishReason {
        self.end.as_ref().unwrap_or_else(|error| panic!("{error}")).0
    }

    pub fn usage(&self) -> Usage {
        self.end.as_ref().unwrap_or_else(|error| panic!("{error}")).1
    }

    pub fn error(&self) -> &EngineError {
        self.end.as_ref().expect_err("the request should have failed")
    }
}

struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        // The test may be over.
        _ = self.0.send(());
    }
}

pub fn runtime() -> std::sync::Arc<Runtime> {
    let spec = RuntimeSpec {
        id: "fake".into(),
        libllama: library_path(),
        cpu_module: None,
        variant: "scripted".into(),
        version: "0".into(),
        reason: "for tests".into(),
    };
    Runtime::open(&spec).unwrap()
}

/// A greedy request with credit to spare.
pub fn request(prompt: &str) -> Request {
    Request {
        prompt: Prompt::Text(prompt.into()),
        truncate: false,
        max_tokens: None,
        stop: Vec::new(),
        sampling: SamplingParams { temperature: Some(0.0), ..SamplingParams::default() },
        logprobs: None,
        return_prompt: false,
        credit: 1_000_000,
        principal: "test".into(),
    }
}

pub fn write(folder: &tempfile::TempDir, script: &Script) -> PathBuf {
    let path = folder.path().join("model.gguf");
    write_model(&path, script).unwrap();
    path
}

pub fn id_of(event: &Event) -> RequestId {
    match event {
        Event::Queued { id, .. }
        | Event::Started { id, .. }
        | Event::PromptProgress { id, .. }
        | Event::Delta { id, .. }
        | Event::Finished { id, .. }
        | Event::Failed { id, .. } => *id,
    }
}

impl Rig {
    pub fn new(script: &Script) -> Self {
        Self::with(script, &EngineOptions::default())
    }

    pub fn with(script: &Script, options: &EngineOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = write(&folder, script);
        let (bell, wakes) = mpsc::channel();
        let engine = GgufEngine::open(&runtime(), &path, options, Box::new(Bell(bell))).unwrap();
        Self { engine, control: Control::of(&path), wakes, seen: Vec::new(), _folder: folder }
    }

    pub fn submit(&self, id: RequestId, request: Request) {
        self.engine.submit(id, request).unwrap();
    }

    pub fn ask(&self, id: RequestId, prompt: &str) {
        self.submit(id, request(prompt));
    }

    /// Everything seen so far.
    pub fn seen(&mut self) -> &[Event] {
        self.seen.extend(self.engine.drain());
        &self.seen
    }

    /// Waits until what was seen fulfils `done`.
    pub fn wait_for(&mut self, done: impl Fn(&[Event]) -> bool) {
        while !done(self.seen()) {
            self.wakes.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{error}; seen: {:?}", self.seen));
        }
    }

    pub fn wait_for_start(&mut self, id: RequestId) {
        self.wait_for(|seen| seen.iter().any(|event| matches!(event, Event::Started { id: of, .. } if *of == id)));
    }

    /// Waits until a request has produced `count` tokens.
    pub fn wait_for_tokens(&mut self, id: RequestId, count: usize) {
        self.wait_for(|seen| tokens(seen, id).len() >= count);
    }

    /// Waits for the end of a request; asserts that it has one end and that nothing follows it.
    pub fn outcome(&mut self, id: RequestId) -> Outcome {
        self.wait_for(|seen| seen.iter().any(|event| id_of(event) == id && is_end(event)));
        outcome(&self.seen, id)
    }

    pub fn text(&mut self, id: RequestId) -> String {
        self.outcome(id).text
    }
}

pub fn is_end(event: &Event) -> bool {
    matches!(event, Event::Finished { .. } | Event::Failed { .. })
}

fn tokens(seen: &[Event], id: RequestId) -> Vec<i32> {
    let of = |event: &Event| match event {
        Event::Delta { id: of, tokens, .. } if *of == id => tokens.clone(),
        _ => Vec::new(),
    };
    seen.iter().flat_map(of).collect()
}

pub fn outcome(seen: &[Event], id: RequestId) -> Outcome {
    let own: Vec<&Event> = seen.iter().filter(|event| id_of(event) == id).collect();
    let ends = own.iter().filter(|event| is_end(event)).count();
    assert!(ends == 1 && is_end(own[own.len() - 1]), "one end, and nothing after it: {own:?}");
    let text = own.iter().map(|event| if let Event::Delta { text, .. } = event { text.as_str() } else { "" }).collect();
    let end = match own[own.len() - 1] {
        Event::Finished { reason, usage, timings, .. } => Ok((*reason, *usage, *timings)),
        Event::Failed { error, .. } => Err(error.clone()),
        other => unreachable!("{other:?} is no end"),
    };
    Outcome { text, tokens: tokens(seen, id), end }
}
