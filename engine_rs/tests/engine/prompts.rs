//! From text, tokens and messages to what the model reads.

use fake_llama::Script;
use serde_json::json;
use tabagent_engine::engine::{FinishReason, Prompt, Request};

use crate::rig::{Rig, request};

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
