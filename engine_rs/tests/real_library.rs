//! The wrappers over a real `libllama`, on a model with arbitrary weights.
//!
//! ```text
//! TABAGENT_TEST_LIBLLAMA=… TABAGENT_TEST_CPU_MODULE=… cargo test --test real_library -- --ignored
//! ```

mod support;

use std::path::PathBuf;

use fake_llama::{Script, write_model};
use support::{batch, likeliest, params};
use tabagent_engine::context::{Batch, Context, ContextParams, Decoded};
use tabagent_engine::ffi::{Runtime, RuntimeSpec};
use tabagent_engine::model::{Model, ModelParams};

const PROMPTS: [&str; 4] = ["one", "two and two", "three, or so many", "four"];

fn load(params: ModelParams) -> std::sync::Arc<Model> {
    let file = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let spec = RuntimeSpec {
        libllama: file("TABAGENT_TEST_LIBLLAMA").expect("TABAGENT_TEST_LIBLLAMA names a libllama"),
        cpu_module: file("TABAGENT_TEST_CPU_MODULE"),
        ..support::spec()
    };
    let runtime = Runtime::open(&spec).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, &Script::new().words(&["Hello", " world"])).unwrap();
    Model::load(&runtime, &path, &params).unwrap()
}

fn context(n_seq_max: u32) -> Context {
    Context::new(&load(ModelParams::default()), &params(1024, n_seq_max)).unwrap()
}

fn tokens(context: &Context, text: &str) -> Vec<i32> {
    context.model().vocab().tokenize(text, true, true).unwrap()
}

/// The likeliest tokens after a prompt, in a sequence of its own.
fn continued(context: &mut Context, prompt: &[i32], start: i32, sequence: i32, count: usize) -> Vec<i32> {
    let (mut next, mut position, mut said) = (prompt.to_vec(), start, Vec::new());
    while said.len() < count {
        assert_eq!(context.decode(&batch(&next, position, sequence)).unwrap(), Decoded::Done);
        position += next.len() as i32;
        let token = likeliest(context.logits(next.len() as i32 - 1).unwrap());
        said.push(token);
        next = vec![token];
    }
    said
}

#[test]
#[ignore = "needs a libllama"]
fn four_sequences_in_one_decode_continue_as_they_do_alone() {
    let mut context = context(4);
    assert!(context.kv_unified() && context.n_seq_max() == 4);
    let prompts = PROMPTS.map(|prompt| tokens(&context, prompt));
    let alone = prompts.clone().map(|prompt| {
        context.memory_clear();
        continued(&mut context, &prompt, 0, 0, 16)
    });
    context.memory_clear();
    let mut said = vec![Vec::new(); 4];
    let mut next = prompts;
    let mut positions = [0; 4];
    while said[0].len() < 16 {
        let mut together = Batch::with_capacity(256);
        let mut ends = Vec::new();
        for (sequence, tokens) in next.iter().enumerate() {
            for (index, &token) in tokens.iter().enumerate() {
                together.push(token, positions[sequence], sequence as i32, index + 1 == tokens.len());
                positions[sequence] += 1;
            }
            ends.push(together.len() as i32 - 1);
        }
        assert_eq!(context.decode(&together).unwrap(), Decoded::Done);
        for (sequence, end) in ends.into_iter().enumerate() {
            let token = likeliest(context.logits(end).unwrap());
            said[sequence].push(token);
            next[sequence] = vec![token];
        }
    }
    assert_eq!(said, alone);
}

#[test]
#[ignore = "needs a libllama"]
fn a_sequence_cut_in_the_middle_continues_as_if_never_longer() {
    let mut context = context(2);
    let prompt = tokens(&context, "the beginning that stays");
    let straight = continued(&mut context, &prompt, 0, 0, 16);
    continued(&mut context, &prompt, 0, 1, 4);
    let kept = prompt.len() as i32 - 3;
    assert!(context.memory_seq_rm(1, kept, -1));
    assert_eq!(continued(&mut context, &prompt[kept as usize..], kept, 1, 16), straight);
}

#[test]
#[ignore = "needs a libllama"]
fn a_shared_prefix_continues_as_if_read_twice() {
    let mut context = context(2);
    let prompt = tokens(&context, "a prefix for both of them");
    let straight = continued(&mut context, &prompt, 0, 0, 16);
    let shared = prompt.len() as i32 - 5;
    context.memory_seq_cp(0, 1, 0, shared).unwrap();
    assert_eq!(continued(&mut context, &prompt[shared as usize..], shared, 1, 16), straight);
}

#[test]
#[ignore = "needs a libllama"]
fn one_sequence_may_use_all_cells() {
    let mut context = context(4);
    let long = vec![3; 200];
    for start in (0..1000).step_by(200) {
        assert_eq!(context.decode(&batch(&long, start, 0)).unwrap(), Decoded::Done);
    }
    // Builds of March 2025 call it a failure.
    assert!(!matches!(context.decode(&batch(&long, 1000, 0)), Ok(Decoded::Done)));
}

#[test]
#[ignore = "needs a libllama"]
fn threads_may_change_between_decodes() {
    let mut context = context(1);
    let prompt = tokens(&context, "with one thread or with two");
    let single = continued(&mut context, &prompt, 0, 0, 8);
    for (threads, batch_threads) in [(2, 2), (1, 2), (3, 1), (1, 1)] {
        context.memory_clear();
        context.set_threads(threads, batch_threads);
        assert_eq!(continued(&mut context, &prompt, 0, 0, 8), single);
    }
}

#[test]
#[ignore = "needs a libllama"]
fn a_model_read_without_mapping_answers_the_same() {
    let mapped = load(ModelParams::default());
    let read = load(ModelParams { mmap: false, ..ModelParams::default() });
    let said = [mapped, read].map(|model| {
        let mut context = Context::new(&model, &params(256, 1)).unwrap();
        continued(&mut context, &[1, 70, 80], 0, 0, 16)
    });
    assert_eq!(said[0], said[1]);
}

#[test]
#[ignore = "needs a libllama"]
fn text_becomes_tokens_and_text_again() {
    let vocab = load(ModelParams::default()).vocab();
    for text in ["Hello world", "", " leading", "Héllo 😀\n", "<s> is no token here"] {
        let tokens = vocab.tokenize(text, true, false).unwrap();
        assert_eq!(vocab.bos(), tokens.first().copied());
        assert_eq!(vocab.detokenize(&tokens).unwrap(), text);
    }
    let end = vocab.tokenize("<|im_end|>", false, true).unwrap();
    assert!(end.len() == 1 && vocab.is_eog(end[0]) && vocab.is_eog(vocab.eos().unwrap()));
}

#[test]
#[ignore = "needs a libllama"]
fn every_token_has_an_embedding_when_asked_for() {
    let model = load(ModelParams::default());
    let mut context = Context::new(&model, &ContextParams { embeddings: true, ..params(256, 1) }).unwrap();
    let mut all = Batch::with_capacity(20);
    (0..20).for_each(|position| _ = all.push(position + 70, position, 0, true));
    context.decode(&all).unwrap();
    for index in 0..20 {
        let embedding = context.token_embedding(index).unwrap();
        assert!(embedding.len() == model.n_embd() && embedding.iter().any(|&value| value != 0.0));
    }
}
