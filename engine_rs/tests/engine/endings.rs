//! What ends an answer, and which text it has then.

use fake_llama::Script;
use tabagent_engine::engine::{EngineOptions, Event, FinishReason, Request};
use tabagent_engine::sampler::SamplingParams;

use crate::rig::{Rig, request};

fn stopped(pieces: &[&str], stop: &[&str]) -> (String, FinishReason) {
    let mut rig = Rig::new(&Script::new().reply("?", pieces));
    let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
    rig.submit(1, Request { stop, ..request("?") });
    let outcome = rig.outcome(1);
    (outcome.text.clone(), outcome.reason())
}

#[test]
fn a_stop_string_across_tokens_ends_the_answer_before_it() {
    let answer = stopped(&["Hi", "\n", "Us", "er", ": more"], &["\nUser:"]);
    assert_eq!(answer, ("Hi".into(), FinishReason::Stop));
}

#[test]
fn what_only_began_like_a_stop_string_is_part_of_the_answer() {
    assert_eq!(stopped(&["one ", "ST", "ART"], &["STOP"]), ("one START".into(), FinishReason::Stop));
    assert_eq!(stopped(&["one ", "ST"], &["STOP"]), ("one ST".into(), FinishReason::Stop));
}

#[test]
fn characters_split_over_tokens_come_whole() {
    let text = "Grüße, 世界! 👋🏽";
    let mut rig = Rig::new(&Script::new().reply_bytewise("?", text));
    rig.ask(1, "?");
    let outcome = rig.outcome(1);
    assert_eq!(outcome.text, text);
    assert_eq!(outcome.tokens.len(), text.len());
}

#[test]
fn max_tokens_ends_the_answer() {
    let mut rig = Rig::new(&Script::new().reply("?", &["a", "b", "c"]));
    rig.submit(1, Request { max_tokens: Some(2), ..request("?") });
    let outcome = rig.outcome(1);
    assert_eq!((outcome.text.as_str(), outcome.reason()), ("ab", FinishReason::Length));
    assert_eq!(outcome.usage().completion_tokens, 2);
}

#[test]
fn no_max_tokens_at_all_reads_the_prompt_only() {
    let mut rig = Rig::new(&Script::new().reply("?", &["a"]));
    rig.submit(1, Request { max_tokens: Some(0), ..request("what?") });
    let outcome = rig.outcome(1);
    assert_eq!((outcome.text.as_str(), outcome.reason()), ("", FinishReason::Length));
    assert_eq!(outcome.usage().completion_tokens, 0);
    assert!(outcome.usage().prompt_tokens > 1);
}

#[test]
fn a_character_cut_by_max_tokens_is_one_replacement() {
    let mut rig = Rig::new(&Script::new().reply_bytewise("?", "a世"));
    rig.submit(1, Request { max_tokens: Some(3), ..request("?") });
    assert_eq!(rig.text(1), "a\u{fffd}");
}

#[test]
fn the_end_of_the_context_ends_the_answer() {
    let options = EngineOptions { ctx_size: Some(20), ..EngineOptions::default() };
    let mut rig = Rig::with(&Script::new().endless("?", &["a"]), &options);
    for id in 0..4 {
        rig.ask(id, "abc?");
    }
    for id in 0..4 {
        let outcome = rig.outcome(id);
        assert_eq!((outcome.text.len(), outcome.reason()), (15, FinishReason::Length));
        let usage = outcome.usage();
        assert_eq!(usage.prompt_tokens + usage.completion_tokens, 20);
    }
}

#[test]
fn ignore_eos_goes_on_after_the_end() {
    let mut rig = Rig::new(&Script::new().reply("?", &["a"]));
    let sampling = SamplingParams { ignore_eos: true, ..request("").sampling };
    rig.submit(1, Request { sampling, max_tokens: Some(5), ..request("?") });
    let outcome = rig.outcome(1);
    assert_eq!((outcome.reason(), outcome.tokens.len()), (FinishReason::Length, 5));
}

#[test]
fn the_end_token_has_neither_text_nor_id() {
    let mut rig = Rig::new(&Script::new());
    rig.ask(1, "anything");
    let outcome = rig.outcome(1);
    assert_eq!((outcome.text.as_str(), outcome.tokens.as_slice()), ("", [].as_slice()));
    assert_eq!(outcome.usage().completion_tokens, 1);
}

#[test]
fn each_token_has_its_logprobs_when_asked_for() {
    let mut rig = Rig::new(&Script::new().reply("?", &["yes", "!"]));
    rig.submit(1, Request { logprobs: Some(3), ..request("?") });
    rig.outcome(1);
    let of = |event: &Event| if let Event::Delta { logprobs, .. } = event { logprobs.clone() } else { Vec::new() };
    let logprobs: Vec<_> = rig.seen().iter().flat_map(of).collect();
    assert_eq!(
        logprobs.iter().map(|entry| entry.chosen.bytes.as_slice()).collect::<Vec<_>>(),
        [b"yes".as_slice(), b"!"]
    );
    for entry in logprobs {
        assert_eq!(entry.top.len(), 3);
        assert_eq!(entry.top[0], entry.chosen);
        // One logit of 16 among some 260 at about 0.
        assert!(entry.chosen.logprob > -0.01 && entry.top[1].logprob < -15.0);
    }
}

#[test]
fn the_seed_in_force_is_reported() {
    let mut rig = Rig::new(&Script::new());
    let sampling = SamplingParams { seed: Some(42), ..SamplingParams::default() };
    rig.submit(1, Request { sampling, ..request("?") });
    rig.outcome(1);
    assert!(matches!(rig.seen()[0], Event::Started { seed: 42, .. }));
}
