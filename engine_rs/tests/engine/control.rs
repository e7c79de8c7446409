//! Cancelling, credit, stalling and closing.

use std::time::Duration;

use fake_llama::Script;
use tabagent_engine::engine::{EngineOptions, Event, FinishReason, Request};

use crate::rig::{Rig, outcome, request};

fn script() -> Script {
    Script::new()
        .endless("run", &["on ", "and "])
        .reply("count", &["1 ", "2 ", "3 ", "4 ", "5 ", "6"])
        .reply("Hi", &["Hello", " there"])
}

fn one_slot() -> EngineOptions {
    EngineOptions { parallel: 1, ..EngineOptions::default() }
}

#[test]
fn a_running_request_can_be_cancelled_and_keeps_what_it_said() {
    let mut rig = Rig::new(&script());
    rig.ask(1, "run");
    rig.wait_for_tokens(1, 5);
    rig.engine.cancel(1);
    let outcome = rig.outcome(1);
    assert_eq!(outcome.reason(), FinishReason::Cancelled);
    assert!(outcome.text.starts_with("on and on and on "));
}

#[test]
fn a_prompt_can_be_cancelled_while_it_is_being_read() {
    let mut rig = Rig::new(&script());
    rig.control.hold();
    rig.ask(1, "run");
    rig.control.wait_until_held();
    rig.engine.cancel(1);
    // Still held: only the abort can end this decode.
    assert_eq!(rig.outcome(1).reason(), FinishReason::Cancelled);
    rig.control.release();
    rig.ask(2, "Hi");
    assert_eq!(rig.text(2), "Hello there");
}

#[test]
fn an_aborted_decode_is_done_again_for_the_others() {
    let mut rig = Rig::new(&script().context_length(2048));
    rig.submit(1, Request { credit: 2, ..request("count") });
    rig.submit(2, Request { credit: 3, ..request("run") });
    rig.wait_for_tokens(1, 2);
    rig.wait_for_tokens(2, 3);
    rig.control.hold();
    rig.ask(3, &"x".repeat(1000));
    rig.control.wait_until_held();
    rig.engine.grant(1, 100);
    rig.engine.grant(2, 100);
    rig.control.step();
    rig.control.wait_until_held();
    // The decode that waits now holds a token of each answer and a part of the prompt.
    rig.engine.cancel(3);
    assert_eq!(rig.outcome(3).reason(), FinishReason::Cancelled);
    rig.control.release();
    assert_eq!(rig.text(1), "1 2 3 4 5 6");
    rig.wait_for_tokens(2, 6);
    rig.engine.cancel(2);
    assert!(rig.text(2).starts_with("on and on and on and "));
}

#[test]
fn a_waiting_request_can_be_cancelled() {
    let mut rig = Rig::with(&script(), &one_slot());
    rig.ask(1, "run");
    rig.wait_for_start(1);
    rig.ask(2, "Hi");
    rig.wait_for(|seen| seen.iter().any(|event| matches!(event, Event::Queued { id: 2, .. })));
    rig.engine.cancel(2);
    let outcome = rig.outcome(2);
    assert_eq!((outcome.reason(), outcome.usage().completion_tokens), (FinishReason::Cancelled, 0));
    assert!(!rig.seen().iter().any(|event| matches!(event, Event::Started { id: 2, .. })));
}

#[test]
fn cancelling_nobody_does_nothing() {
    let mut rig = Rig::new(&script());
    rig.engine.cancel(99);
    rig.engine.grant(99, 5);
    rig.ask(1, "Hi");
    assert_eq!(rig.text(1), "Hello there");
    rig.engine.cancel(1);
    rig.ask(2, "Hi");
    assert_eq!(rig.text(2), "Hello there");
}

#[test]
fn without_credit_a_request_pauses_and_with_credit_it_goes_on() {
    let mut rig = Rig::new(&script());
    rig.submit(1, Request { credit: 3, ..request("count") });
    rig.wait_for_tokens(1, 3);
    // Had the first one credit, it would move along with every decode of the second.
    rig.ask(2, "count");
    assert_eq!(rig.text(2), "1 2 3 4 5 6");
    rig.seen();
    rig.engine.grant(1, 1);
    rig.wait_for_tokens(1, 4);
    rig.ask(3, "count");
    rig.outcome(3);
    rig.engine.cancel(1);
    let paused = rig.outcome(1);
    assert_eq!((paused.text.as_str(), paused.tokens.len()), ("1 2 3 4 ", 4));
}

#[test]
fn a_request_without_any_credit_reads_its_prompt_and_waits() {
    let mut rig = Rig::new(&script());
    rig.submit(1, Request { credit: 0, ..request("Hi") });
    rig.wait_for_start(1);
    rig.engine.grant(1, 100);
    assert_eq!(rig.text(1), "Hello there");
}

#[test]
fn a_request_that_gets_no_credit_for_too_long_is_cancelled() {
    let options = EngineOptions { stall_timeout: Duration::from_millis(1), ..EngineOptions::default() };
    let mut rig = Rig::with(&script(), &options);
    rig.submit(1, Request { credit: 2, ..request("count") });
    let outcome = rig.outcome(1);
    assert_eq!((outcome.text.as_str(), outcome.reason()), ("1 2 ", FinishReason::Cancelled));
}

#[test]
fn closing_ends_the_running_and_the_waiting() {
    let mut rig = Rig::with(&script(), &one_slot());
    rig.ask(1, "run");
    rig.wait_for_start(1);
    rig.ask(2, "Hi");
    rig.wait_for(|seen| seen.iter().any(|event| matches!(event, Event::Queued { id: 2, .. })));
    rig.engine.close();
    rig.engine.close();
    assert_eq!(rig.outcome(1).reason(), FinishReason::Cancelled);
    assert_eq!(rig.outcome(2).reason(), FinishReason::Cancelled);
    assert_eq!(rig.engine.submit(3, request("Hi")).unwrap_err().code(), "shutting_down");
}

#[test]
fn closing_does_not_wait_for_a_prompt_to_be_read() {
    let mut rig = Rig::new(&script());
    rig.control.hold();
    rig.ask(1, "run");
    rig.control.wait_until_held();
    rig.engine.close();
    assert_eq!(rig.outcome(1).reason(), FinishReason::Cancelled);
}

#[test]
fn dropping_an_engine_frees_its_model() {
    let rig = Rig::new(&script());
    rig.ask(1, "run");
    let Rig { engine, control, .. } = rig;
    drop(engine);
    let counts = control.counts();
    assert_eq!((counts.models, counts.contexts), (0, 0));
}

#[test]
fn whatever_callers_do_every_request_ends_once() {
    let mut rig = Rig::with(&script(), &EngineOptions { parallel: 3, ..EngineOptions::default() });
    let prompts = ["run", "count", "Hi", "nothing known"];
    for id in 0..60_u64 {
        let credit = [0, 1, 4, 1000][(id * 7 % 4) as usize];
        let max_tokens = Some(50);
        rig.submit(id, Request { credit, max_tokens, ..request(prompts[(id * 5 % 4) as usize]) });
        rig.engine.grant(id / 2, 3);
        if id % 3 == 0 {
            rig.engine.cancel(id * 11 % (id + 1));
        }
    }
    for id in 0..60 {
        rig.engine.grant(id, 1000);
    }
    for id in 0..60 {
        rig.outcome(id);
    }
    rig.engine.close();
    let seen = rig.seen().to_vec();
    for id in 0..60 {
        outcome(&seen, id);
    }
}
