//! Decoding and the KV cache through the wrappers, over `fake_llama`.

mod support;

use std::thread;

use fake_llama::Script;
use support::{Fixture, batch, likeliest, params};
use tabagent_engine::context::{Batch, Context, ContextParams, Decoded};

/// Decodes a prompt, then the likeliest tokens until one ends the answer.
fn answer(fixture: &Fixture, context: &mut Context, prompt: &[i32], start: i32, sequence: i32) -> String {
    let (mut tokens, mut position) = (prompt.to_vec(), start);
    let mut said = Vec::new();
    loop {
        assert_eq!(context.decode(&batch(&tokens, position, sequence)).unwrap(), Decoded::Done);
        let next = likeliest(context.logits(tokens.len() as i32 - 1).unwrap());
        if fixture.model.vocab().is_eog(next) {
            return fixture.spelled(&said);
        }
        position += tokens.len() as i32;
        said.push(next);
        tokens = vec![next];
    }
}

#[test]
fn the_likeliest_tokens_spell_the_answer() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello", ", ", "world"]));
    let mut context = fixture.context(64, 1);
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 0), "Hello, world");
}

#[test]
fn sequences_of_unequal_length_share_a_decode_and_keep_apart() {
    let script =
        Script::new().reply("A", &["one"]).reply("BB", &["two"]).reply("CCC", &["three"]).reply("D", &["four"]);
    let fixture = Fixture::load(&script);
    let mut context = fixture.context(64, 4);
    assert!(context.kv_unified());
    let mut together = Batch::with_capacity(16);
    let mut ends = Vec::new();
    for (sequence, prompt) in ["A", "BB", "CCC", "D"].iter().enumerate() {
        let tokens = fixture.tokens(prompt);
        for (position, &token) in tokens.iter().enumerate() {
            together.push(token, position as i32, sequence as i32, position + 1 == tokens.len());
        }
        ends.push(together.len() as i32 - 1);
    }
    assert_eq!(context.decode(&together).unwrap(), Decoded::Done);
    let said: Vec<_> = ends.iter().map(|&end| fixture.spelled(&[likeliest(context.logits(end).unwrap())])).collect();
    assert_eq!(said, ["one", "two", "three", "four"]);
    assert_eq!(fixture.control().counts().widest_decode, 4);
}

#[test]
fn a_sequence_can_be_cut_and_continued_otherwise() {
    let fixture = Fixture::load(&Script::new().reply("left", &["L"]).reply("right", &["R"]).words(&["left", "right"]));
    let mut context = fixture.context(64, 1);
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("go left"), 0, 0), "L");
    let kept = fixture.tokens("go ").len() as i32;
    assert!(context.memory_seq_rm(0, kept, -1));
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("right")[1..], kept, 0), "R");
}

#[test]
fn a_prefix_can_be_shared_by_another_sequence() {
    let fixture = Fixture::load(&Script::new().reply("secret", &["found"]).words(&["secret"]));
    let mut context = fixture.context(64, 2);
    let prefix = fixture.tokens("secret!");
    context.decode(&batch(&prefix, 0, 0)).unwrap();
    let shared = prefix.len() as i32 - 1;
    context.memory_seq_cp(0, 1, 0, shared).unwrap();
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("?")[1..], shared, 1), "found");
}

#[test]
fn a_cleared_context_starts_anew() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello"]));
    let mut context = fixture.context(64, 1);
    for _ in 0..2 {
        assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 0), "Hello");
        context.memory_clear();
    }
}

#[test]
fn a_prefill_is_aborted_from_another_thread() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello"]));
    let control = fixture.control();
    let mut context = fixture.context(256, 1);
    let abort = context.abort_handle();
    let prompt = fixture.tokens(&"x".repeat(100));
    control.hold();
    let running = thread::spawn(move || (context.decode(&batch(&prompt, 0, 0)), context));
    control.wait_until_held();
    control.step();
    control.wait_until_held();
    abort.abort();
    let (ended, mut context) = running.join().unwrap();
    assert_eq!(ended.unwrap(), Decoded::Aborted);
    assert!(context.logits(0).is_err());

    control.release();
    abort.clear();
    assert!(context.memory_seq_rm(0, 0, -1));
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 0), "Hello");
}

#[test]
fn an_abort_before_a_decode_keeps_it_from_starting() {
    let fixture = Fixture::load(&Script::new());
    let mut context = fixture.context(64, 1);
    context.abort_handle().abort();
    assert_eq!(context.decode(&batch(&[1], 0, 0)).unwrap(), Decoded::Aborted);
    assert_eq!(fixture.control().counts().decodes, 0);
}

#[test]
fn a_batch_without_room_changes_nothing() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello"]).cells(8));
    let mut context = fixture.context(64, 1);
    let long = fixture.tokens("too long for eight");
    assert_eq!(context.decode(&batch(&long, 0, 0)).unwrap(), Decoded::NoSpace);
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 0), "Hello");
}

#[test]
fn a_failed_decode_quotes_the_library_and_leaves_the_context_usable() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello"]).fail_on("boom"));
    let mut context = fixture.context(64, 2);
    let error = context.decode(&batch(&fixture.tokens("boom"), 0, 0)).unwrap_err();
    assert_eq!(error.code(), "decode_failed");
    assert!(error.to_string().contains("failed to compute graph"), "{error}");
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 1), "Hello");
}

#[test]
fn a_batch_the_library_would_abort_on_is_refused() {
    let fixture = Fixture::load(&Script::new());
    let mut context = fixture.context(1024, 2);
    let n_vocab = fixture.model.n_vocab() as i32;
    let too_long = batch(&vec![1; context.n_batch() as usize + 1], 0, 0);
    let wrong = [batch(&[], 0, 0), batch(&[-1], 0, 0), batch(&[n_vocab], 0, 0), batch(&[1], -1, 0), too_long];
    for wrong in wrong.iter().chain(&[batch(&[1], 0, 2), batch(&[1], 0, -1)]) {
        assert_eq!(context.decode(wrong).unwrap_err().code(), "decode_failed");
    }
    assert_eq!(fixture.control().counts().decodes, 0);
}

#[test]
fn a_token_without_output_has_no_logits() {
    let fixture = Fixture::load(&Script::new());
    let mut context = fixture.context(64, 1);
    assert!(context.logits(0).is_err());
    context.decode(&batch(&[1, 3], 0, 0)).unwrap();
    assert!(context.logits(1).is_ok());
    for index in [-1, 0, 2] {
        assert_eq!(context.logits(index).unwrap_err().code(), "decode_failed");
    }
}

#[test]
fn sequences_that_do_not_exist_are_not_edited() {
    let fixture = Fixture::load(&Script::new());
    let mut context = fixture.context(64, 2);
    assert!(!context.memory_seq_rm(2, -1, -1));
    assert_eq!(context.memory_seq_cp(0, 2, -1, -1).unwrap_err().code(), "decode_failed");
    assert_eq!(context.memory_seq_cp(-1, 0, -1, -1).unwrap_err().code(), "decode_failed");
}

#[test]
fn a_cache_that_is_not_unified_holds_one_sequence() {
    let fixture = Fixture::load(&Script::new().reply("Hi", &["Hello"]).split_cache());
    let mut context = fixture.context(64, 4);
    assert_eq!((context.n_seq_max(), context.n_ctx_seq()), (1, 64));
    assert_eq!(fixture.control().counts().contexts, 1);
    assert_eq!(context.decode(&batch(&[1], 0, 1)).unwrap_err().code(), "decode_failed");
    assert_eq!(answer(&fixture, &mut context, &fixture.tokens("Hi"), 0, 0), "Hello");
}

#[test]
fn sizes_of_zero_are_refused() {
    let fixture = Fixture::load(&Script::new());
    for wrong in [params(0, 1), params(64, 0), ContextParams { n_batch: 0, ..params(64, 1) }] {
        assert_eq!(Context::new(&fixture.model, &wrong).unwrap_err().code(), "invalid_parameter");
    }
}

#[test]
fn an_embedding_context_gives_embeddings() {
    let fixture = Fixture::load(&Script::new());
    let embeddings = ContextParams { embeddings: true, ..params(64, 1) };
    let mut context = Context::new(&fixture.model, &embeddings).unwrap();
    let tokens = fixture.tokens("abc");
    context.decode(&batch(&tokens, 0, 0)).unwrap();
    let embedding = context.token_embedding(tokens.len() as i32 - 1).unwrap();
    assert_eq!(embedding.len(), fixture.model.n_embd());
    assert!(embedding.iter().any(|&value| value != 0.0));
    assert!(context.sequence_embedding(0).is_none(), "this model does not pool");
}

#[test]
fn contexts_keep_their_model_and_nothing_is_left_behind() {
    let fixture = Fixture::load(&Script::new());
    let control = fixture.control();
    let contexts = [fixture.context(64, 1), fixture.context(64, 2)];
    drop(fixture.model);
    assert_eq!((control.counts().models, control.counts().contexts), (1, 2));
    drop(contexts);
    assert_eq!((control.counts().models, control.counts().contexts), (0, 0));
}
