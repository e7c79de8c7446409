//! Several requests at once, the queue, and the cache between requests.

use fake_llama::Script;
use tabagent_engine::engine::{EngineOptions, Event, FinishReason};

use crate::rig::{Rig, id_of, request};

fn four_answers() -> Script {
    Script::new()
        .reply("one", &["The ", "first ", "answer", "."])
        .reply("two", &["Another", " word", "."])
        .reply("three", &["Number ", "three ", "is ", "longer ", "than ", "the ", "others."])
        .reply("four", &["Last."])
}

const FOUR: [(&str, &str); 4] = [
    ("one", "The first answer."),
    ("two", "Another word."),
    ("three", "Number three is longer than the others."),
    ("four", "Last."),
];

#[test]
fn a_request_starts_tells_its_text_and_finishes() {
    let mut rig = Rig::new(&Script::new().reply("Hi", &["Hello", " there"]));
    rig.ask(7, "Hi");
    let outcome = rig.outcome(7);
    assert_eq!((outcome.text.as_str(), outcome.reason()), ("Hello there", FinishReason::Stop));
    assert_eq!(outcome.tokens.len(), 2);
    let usage = outcome.usage();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), (3, 0, 3));
    assert!(matches!(rig.seen()[0], Event::Started { id: 7, prompt_tokens: 3, cached_tokens: 0, .. }));
}

#[test]
fn requests_share_decodes_and_each_gets_its_own_text() {
    let mut rig = Rig::new(&four_answers());
    rig.control.hold();
    rig.ask(0, FOUR[0].0);
    rig.control.wait_until_held();
    for (id, (prompt, _)) in FOUR.iter().enumerate().skip(1) {
        rig.ask(id as u64, prompt);
    }
    rig.control.release();
    for (id, (_, answer)) in FOUR.iter().enumerate() {
        assert_eq!(rig.text(id as u64), *answer);
    }
    assert!(rig.control.counts().widest_decode > 1);
}

#[test]
fn more_requests_than_slots_are_all_answered() {
    let mut rig = Rig::with(&four_answers(), &EngineOptions { parallel: 2, ..EngineOptions::default() });
    for round in 0..5 {
        for (index, (prompt, _)) in FOUR.iter().enumerate() {
            rig.ask(round * 4 + index as u64, prompt);
        }
    }
    for id in 0..20 {
        assert_eq!(rig.text(id), FOUR[id as usize % 4].1);
    }
    assert!(rig.control.counts().widest_decode <= 2);
}

#[test]
fn who_waits_is_told_how_many_are_ahead() {
    let script = Script::new().endless("run", &["on "]).reply("next", &["done"]);
    let mut rig = Rig::with(&script, &EngineOptions { parallel: 1, ..EngineOptions::default() });
    rig.ask(1, "run");
    rig.wait_for_start(1);
    rig.ask(2, "next");
    rig.ask(3, "next");
    let queued = |of: u64, at: u32| {
        move |seen: &[Event]| {
            seen.iter().any(|event| matches!(event, Event::Queued { id, position } if *id == of && *position == at))
        }
    };
    rig.wait_for(queued(2, 0));
    rig.wait_for(queued(3, 1));
    rig.engine.cancel(1);
    rig.wait_for(queued(3, 0));
    assert_eq!((rig.text(2), rig.text(3)), ("done".into(), "done".into()));
}

#[test]
fn a_library_whose_cache_cannot_be_shared_runs_one_sequence() {
    let mut rig = Rig::new(&four_answers().split_cache());
    assert_eq!(rig.engine.info().parallel, 1);
    for (id, (prompt, answer)) in FOUR.iter().enumerate() {
        rig.ask(id as u64, prompt);
        assert_eq!(rig.text(id as u64), *answer);
    }
}

/// A prompt of 1 start token and `length` - 1 one-byte tokens, ending in `end`.
fn long_prompt(length: usize, end: &str) -> String {
    format!("{}{end}", "x".repeat(length - 1 - end.len()))
}

#[test]
fn a_long_prompt_reports_its_progress() {
    let mut rig = Rig::new(&Script::new().reply("?", &["yes"]).context_length(2048));
    rig.ask(1, &long_prompt(1100, "?"));
    assert_eq!(rig.text(1), "yes");
    let progress = |event: &Event| match event {
        Event::PromptProgress { done, total, .. } => Some((*done, *total)),
        _ => None,
    };
    let progress: Vec<_> = rig.seen().iter().filter_map(progress).collect();
    assert_eq!(progress, [(512, 1100), (1024, 1100), (1100, 1100)]);
}

#[test]
fn a_short_prompt_reports_no_progress() {
    let mut rig = Rig::new(&Script::new().reply("?", &["yes"]));
    rig.ask(1, "well?");
    rig.outcome(1);
    assert!(!rig.seen().iter().any(|event| matches!(event, Event::PromptProgress { .. })));
}

#[test]
fn the_beginning_of_a_prompt_is_cached_for_its_principal_only() {
    let script = Script::new().reply("?", &["yes"]).reply("!", &["no"]).context_length(2048);
    let mut rig = Rig::new(&script);
    let mut ask = |id: u64, end: &str, principal: &str| {
        rig.submit(
            id,
            tabagent_engine::engine::Request { principal: principal.into(), ..request(&long_prompt(600, end)) },
        );
        let outcome = rig.outcome(id);
        (outcome.text.clone(), outcome.usage().cached_tokens)
    };
    assert_eq!(ask(1, "?", "ann"), ("yes".into(), 0));
    assert_eq!(ask(2, "!", "ann"), ("no".into(), 512));
    assert_eq!(ask(3, "?", "bob"), ("yes".into(), 0));
    assert_eq!(ask(4, "?", "ann"), ("yes".into(), 512));
}

#[test]
fn two_engines_answer_side_by_side() {
    let mut first = Rig::new(&four_answers());
    let mut second = Rig::new(&four_answers());
    for (id, (prompt, _)) in FOUR.iter().enumerate() {
        first.ask(id as u64, prompt);
        second.ask(id as u64, prompt);
    }
    for (id, (_, answer)) in FOUR.iter().enumerate() {
        assert_eq!((first.text(id as u64), second.text(id as u64)), ((*answer).into(), (*answer).into()));
    }
}

#[test]
fn an_id_is_free_again_once_its_request_is_over() {
    let mut rig = Rig::new(&Script::new().endless("run", &["on "]).reply("Hi", &["Hello"]));
    rig.ask(1, "run");
    let error = rig.engine.submit(1, request("Hi")).unwrap_err();
    assert_eq!((error.code(), error.param()), ("invalid_parameter", Some("request_id")));
    rig.engine.cancel(1);
    rig.outcome(1);
    let before = rig.seen().len();
    rig.ask(1, "Hi");
    rig.wait_for(|seen| seen[before..].iter().any(|event| matches!(event, Event::Finished { .. })));
    assert!(rig.seen()[before..].iter().all(|event| id_of(event) == 1));
}
