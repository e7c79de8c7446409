//! From text, tokens and messages to what the model reads.

use fake_llama::Script;
use serde_json::json;
use tabagent_engine::engine::{EngineOptions, FinishReason, Prompt, Request};

use crate::rig::{self, Rig, request};

#[test]
fn token_ids_are_read_as_they_are() {
    let mut rig = Rig::new(&Script::new().reply("Hi", &["Hello"]));
    let tokens = rig.engine.tokenize("Hi", false).unwrap();
    rig.submit(1, Request { prompt: Prompt::Tokens(tokens), ..request("") });
    let outcome = rig.outcome(1);
    assert_eq!((outcome.text.as_str(), outcome.usage().prompt_tokens), ("Hello", 2));
}

#[test]
fn text_and_tokens_convert_both_ways() {
    let rig = Rig::new(&Script::new().words(&["Hello", " world"]));
    let tokens = rig.engine.tokenize("Hello world", false).unwrap();
    assert_eq!(tokens.len(), 2);
    assert_eq!(rig.engine.detokenize(&tokens).unwrap(), "Hello world");
}

#[test]
fn messages_are_rendered_by_the_models_template() {
    let template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}\
                    {% if add_generation_prompt %}>{% endif %}";
    let mut rig = Rig::new(&Script::new().chat_template(template).reply("[user]Hi>", &["Hello"]));
    let messages = json!([{"role": "user", "content": "Hi"}]);
    assert_eq!(rig.engine.render_chat(&messages).unwrap(), "<s>[user]Hi>");
    rig.submit(1, Request { prompt: Prompt::Messages(messages), ..request("") });
    let outcome = rig.outcome(1);
    // One start token, though template and tokenizer both want one.
    assert_eq!((outcome.text.as_str(), outcome.usage().prompt_tokens), ("Hello", 10));
}

#[test]
fn without_a_template_a_vocabulary_with_chat_marks_gets_chatml() {
    let rig = Rig::new(&Script::new());
    assert!(!rig.engine.info().has_chat_template);
    let text = rig.engine.render_chat(&json!([{"role": "user", "content": "Hi"}])).unwrap();
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn messages_the_template_refuses_fail_the_request() {
    let template = "{{ raise_exception('no system turn, please') }}";
    let mut rig = Rig::new(&Script::new().chat_template(template).reply("Hi", &["Hello"]));
    for messages in [json!([{"role": "user", "content": "Hi"}]), json!([]), json!({}), json!(["Hi"])] {
        rig.submit(1, Request { prompt: Prompt::Messages(messages), ..request("") });
        let outcome = rig.outcome(1);
        assert_eq!((outcome.error().code(), outcome.error().param()), ("invalid_parameter", Some("messages")));
        rig = Rig::new(&Script::new().chat_template(template).reply("Hi", &["Hello"]));
    }
    rig.ask(2, "Hi");
    assert_eq!(rig.outcome(2).reason(), FinishReason::Stop);
}

#[test]
fn a_broken_template_harms_only_requests_with_messages() {
    let mut rig = Rig::new(&Script::new().chat_template("{% if %}").reply("Hi", &["Hello"]));
    rig.submit(1, Request { prompt: Prompt::Messages(json!([{"role": "user", "content": "Hi"}])), ..request("") });
    assert_eq!(rig.outcome(1).error().code(), "gguf_unsupported");
    rig.ask(2, "Hi");
    assert_eq!(rig.text(2), "Hello");
}

#[test]
fn the_info_tells_what_the_file_says() {
    let rig = Rig::new(&Script::new().context_length(300));
    let info = rig.engine.info();
    assert_eq!((info.architecture.as_str(), info.name.as_deref()), ("llama", Some("scripted")));
    assert_eq!((info.context_length, info.trained_context, info.parallel), (300, 300, 4));
    assert_eq!((info.runtime.as_str(), info.vocab_size), ("fake", 262));
    assert!(info.size_bytes > 0 && info.threads > 0);
}

/// Five questions with their answers, and a last question.
fn long_conversation() -> serde_json::Value {
    let mut messages = vec![json!({"role": "system", "content": "Be kind."})];
    for turn in 0..5 {
        messages.push(json!({"role": "user", "content": format!("question {turn}")}));
        messages.push(json!({"role": "assistant", "content": "yes"}));
    }
    messages.push(json!({"role": "user", "content": "last"}));
    json!(messages)
}

const TURNS: &str = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}";

fn truncated(context: u32, max_tokens: Option<u32>) -> rig::Outcome {
    let script = Script::new().chat_template(TURNS);
    let mut rig = Rig::with(&script, &EngineOptions { ctx_size: Some(context), ..EngineOptions::default() });
    let prompt = Prompt::Messages(long_conversation());
    rig.submit(1, Request { prompt, truncate: true, max_tokens, ..request("") });
    rig.outcome(1)
}

/// What the model reads when the turns before `first` are dropped: a start token and a byte per token.
fn prompt_tokens(first: usize) -> u32 {
    let turns = "[u]question 0[a]yes".len() * (5 - first);
    (1 + "[s]Be kind.".len() + turns + "[u]last".len()) as u32
}

#[test]
fn a_conversation_that_fits_is_left_alone() {
    assert_eq!(truncated(256, Some(8)).usage().prompt_tokens, prompt_tokens(0));
}

#[test]
fn the_oldest_turns_go_until_the_answer_has_room() {
    for first in 1..=5 {
        let tight = prompt_tokens(first) + 8;
        assert_eq!(truncated(tight, Some(8)).usage().prompt_tokens, prompt_tokens(first));
        assert_eq!(truncated(tight + 1, Some(8)).usage().prompt_tokens, prompt_tokens(first));
    }
}

#[test]
fn an_unbounded_answer_gets_a_quarter_of_the_context() {
    let context = prompt_tokens(3) / 3 * 4 + 4;
    assert_eq!(truncated(context, None).usage().prompt_tokens, prompt_tokens(3));
}

#[test]
fn a_last_turn_beyond_the_context_is_refused_all_the_same() {
    assert_eq!(truncated(prompt_tokens(5), Some(8)).error().code(), "context_length_exceeded");
}

#[test]
fn a_last_turn_that_leaves_less_room_than_wished_is_answered() {
    assert_eq!(truncated(prompt_tokens(5) + 2, Some(8)).usage().prompt_tokens, prompt_tokens(5));
}
