//! Requests and files that cannot be served, and a library that fails.

use std::sync::atomic::{AtomicBool, Ordering};

use fake_llama::Script;
use tabagent_engine::engine::{EngineOptions, FinishReason, GgufEngine, Prompt, Request, Wake};
use tabagent_engine::error::EngineError;
use tabagent_engine::sampler::SamplingParams;

use crate::rig::{Rig, outcome, request, runtime, write};

#[test]
fn a_failed_decode_harms_only_the_requests_in_it() {
    let script = Script::new().reply("count", &["1 ", "2 ", "3"]).reply("boom", &["never"]).fail_on("boom");
    let mut rig = Rig::new(&script);
    rig.submit(1, Request { credit: 1, ..request("count") });
    rig.wait_for_tokens(1, 1);
    rig.ask(2, "boom");
    assert_eq!(rig.outcome(2).error().code(), "decode_failed");
    rig.engine.grant(1, 100);
    assert_eq!(rig.text(1), "1 2 3");
    rig.ask(3, "count");
    assert_eq!(rig.text(3), "1 2 3");
}

#[test]
fn when_cells_run_out_the_youngest_gives_way() {
    let script = Script::new().reply("first", &["a", "b", "c", "d", "e", "f"]).endless("second", &["x"]).cells(40);
    let mut rig = Rig::new(&script);
    rig.submit(1, Request { credit: 1, ..request("first") });
    rig.wait_for_tokens(1, 1);
    rig.ask(2, "second");
    assert_eq!(rig.outcome(2).error().code(), "decode_failed");
    rig.engine.grant(1, 100);
    assert_eq!(rig.text(1), "abcdef");
}

#[test]
fn a_prompt_as_long_as_the_context_is_refused() {
    let options = EngineOptions { ctx_size: Some(16), ..EngineOptions::default() };
    let mut rig = Rig::with(&Script::new(), &options);
    rig.ask(1, &"x".repeat(15));
    assert!(matches!(rig.outcome(1).error(), EngineError::ContextLengthExceeded { prompt_tokens: 16, context: 16 }));
    rig.ask(2, &"x".repeat(14));
    rig.outcome(2).end.unwrap();
}

#[test]
fn an_empty_prompt_is_refused() {
    let mut rig = Rig::new(&Script::new());
    rig.submit(1, Request { prompt: Prompt::Tokens(Vec::new()), ..request("") });
    assert_eq!(rig.outcome(1).error().param(), Some("prompt"));
}

#[test]
fn values_out_of_range_are_refused_at_once() {
    let rig = Rig::new(&Script::new());
    let sampling = |sampling: SamplingParams| Request { sampling, ..request("?") };
    let bad = [
        ("temperature", sampling(SamplingParams { temperature: Some(-1.0), ..SamplingParams::default() })),
        ("top_p", sampling(SamplingParams { top_p: Some(f32::NAN), ..SamplingParams::default() })),
        ("logit_bias", sampling(SamplingParams { logit_bias: vec![(1 << 20, 1.0)], ..SamplingParams::default() })),
        ("logprobs", Request { logprobs: Some(21), ..request("?") }),
        ("stop", Request { stop: vec!["x".repeat(2000)], ..request("?") }),
        ("prompt", Request { prompt: Prompt::Tokens(vec![1, -1]), ..request("?") }),
        ("prompt", Request { prompt: Prompt::Tokens(vec![1 << 20]), ..request("?") }),
    ];
    for (param, request) in bad {
        let error = rig.engine.submit(1, request).unwrap_err();
        assert_eq!((error.code(), error.param()), ("invalid_parameter", Some(param)));
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

fn refused(script: &Script, damage: impl FnOnce(&mut Vec<u8>)) -> EngineError {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, script);
    let mut file = std::fs::read(&path).unwrap();
    damage(&mut file);
    std::fs::write(&path, file).unwrap();
    GgufEngine::open(&runtime(), &path, &EngineOptions::default(), Box::new(Silent)).unwrap_err()
}

#[test]
fn files_that_cannot_run_are_refused_by_code() {
    assert_eq!(refused(&Script::new(), |file| file.truncate(1000)).code(), "gguf_invalid");
    assert_eq!(refused(&Script::new(), |file| file[0] = b'X').code(), "gguf_invalid");
    assert_eq!(refused(&Script::new(), |file| file[4] = 1).code(), "gguf_unsupported");
    assert_eq!(refused(&Script::new().refuse_load("no such thing"), |_| ()).code(), "model_load_failed");
    let nowhere = std::path::Path::new("/nonexistent.gguf");
    let error = GgufEngine::open(&runtime(), nowhere, &EngineOptions::default(), Box::new(Silent)).unwrap_err();
    assert_eq!(error.code(), "model_not_found");
}

/// Panics on the decode thread, once.
struct Mine(AtomicBool);

impl Wake for Mine {
    fn wake(&self) {
        assert!(self.0.swap(true, Ordering::SeqCst), "a mine on the decode thread");
    }
}

#[test]
fn a_panic_on_the_decode_thread_ends_all_requests_and_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, &Script::new().reply("Hi", &["Hello"]));
    let mine = Box::new(Mine(AtomicBool::new(false)));
    let engine = GgufEngine::open(&runtime(), &path, &EngineOptions::default(), mine).unwrap();
    engine.submit(1, request("Hi")).unwrap();
    // The second may come too late to be accepted; it must not be lost either way.
    let second = engine.submit(2, request("Hi"));
    engine.close();
    let seen = engine.drain();
    match outcome(&seen, 1).end {
        Ok((reason, ..)) => assert_eq!(reason, FinishReason::Cancelled, "it was closed before it was decoded"),
        Err(error) => assert_eq!(error.code(), "decode_failed"),
    }
    match second {
        Ok(()) => _ = outcome(&seen, 2),
        Err(error) => assert_eq!(error.code(), "shutting_down"),
    }
    assert_eq!(engine.submit(3, request("Hi")).unwrap_err().code(), "shutting_down");
}
