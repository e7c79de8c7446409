use super::super::fixture::Fixture;
use super::{code, refusal};

#[test]
fn a_file_without_vocabulary_is_unsupported() {
    assert_eq!(code(|f| _ = f.set_text("tokenizer.ggml.model", "no_vocab")), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.remove("tokenizer.ggml.model")), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.remove("tokenizer.ggml.tokens")), "gguf_unsupported");
}

#[test]
fn a_vocabulary_must_be_consistent() {
    assert_eq!(code(|f| _ = f.set_u32s("tokenizer.ggml.token_type", &[1, 2])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_texts("tokenizer.ggml.scores", &["1"])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_texts("tokenizer.ggml.tokens", &["a", "a"])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_u32s("tokenizer.ggml.tokens", &[1])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_u32("tokenizer.chat_template", 1)), "gguf_invalid");
}

#[test]
fn a_sentencepiece_vocabulary_needs_all_byte_tokens() {
    assert_eq!(code(|f| _ = f.set_texts("tokenizer.ggml.tokens", &["<0x00>", "a"])), "gguf_unsupported");
}

/// A byte-level vocabulary: the 256 characters that stand for bytes, then `words`.
fn byte_level(fixture: &mut Fixture, words: &[&str], merges: &[&str]) {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..256).filter(|byte| !printable(byte)).zip(0x100..).map(|(_, code)| code);
    let characters: Vec<String> =
        (0..256).filter(printable).chain(others).map(|code| char::from_u32(code).unwrap().to_string()).collect();
    // As many as the fixture's embeddings.
    let tokens: Vec<&str> = characters.iter().map(String::as_str).chain(words.iter().copied()).collect();
    fixture.set_text("tokenizer.ggml.model", "gpt2").set_texts("tokenizer.ggml.tokens", &tokens);
    fixture.set_texts("tokenizer.ggml.merges", merges).remove("tokenizer.ggml.scores");
    fixture.remove("tokenizer.ggml.token_type");
}

#[test]
fn a_byte_level_vocabulary_needs_merges_of_its_own_tokens() {
    let words = ["th", "the", "e ", "x y", "zz"];
    assert_eq!(code(|f| byte_level(f, &words, &["t h", "th e"])), "ok");
    for merge in ["th", "t hh", "", " ", "t ", "th e x"] {
        let said = refusal(|f| byte_level(f, &words, &["t h", merge]));
        assert!(said.contains("merge 1 of the vocabulary"), "{merge:?}: {said}");
    }
    assert_eq!(
        code(|f| {
            byte_level(f, &words, &[]);
            f.remove("tokenizer.ggml.merges");
        }),
        "gguf_unsupported"
    );
    assert_eq!(
        code(|f| {
            byte_level(f, &words, &[]);
            f.set_u32("tokenizer.ggml.merges", 1);
        }),
        "gguf_invalid"
    );
}

#[test]
fn a_byte_level_vocabulary_needs_all_bytes() {
    let change = |f: &mut Fixture| {
        f.set_text("tokenizer.ggml.model", "gpt2").set_texts("tokenizer.ggml.tokens", &["a", "b"]);
        f.set_texts("tokenizer.ggml.merges", &["a b"]);
    };
    assert!(refusal(change).contains("lacks byte tokens"));
}

#[test]
fn tokens_are_compared_as_the_library_reads_them() {
    for twin in ["hello", "hello\0x", "[EMPTY_260]"] {
        let said = super::judge_words(&[twin, if twin.starts_with('[') { "" } else { "hello" }]);
        assert!(said.contains("two tokens read"), "{twin:?}: {said}");
    }
}

#[test]
fn a_token_of_the_type_of_bytes_must_name_one() {
    let types = |id: usize| {
        let mut types = [1_u32; 261];
        types[id] = 6;
        types
    };
    assert_eq!(code(|f| _ = f.set_u32s("tokenizer.ggml.token_type", &types(3))), "ok");
    let said = refusal(|f| _ = f.set_u32s("tokenizer.ggml.token_type", &types(260)));
    assert!(said.contains("token 260"), "{said}");
    let change = |f: &mut Fixture| {
        f.set_u32s("tokenizer.ggml.token_type", &types(3)).set_text("tokenizer.ggml.model", "rwkv");
    };
    assert_eq!(code(change), "gguf_unsupported");
}

#[test]
fn start_and_end_tokens_must_exist() {
    for name in ["bos", "eos", "eot"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        assert_eq!(code(|f| _ = f.set_u32(&key, 260)), "ok");
        assert!(refusal(|f| _ = f.set_u32(&key, 261)).contains(&key));
    }
    assert_eq!(code(|f| _ = f.set_u32("tokenizer.ggml.padding_token_id", u32::MAX)), "ok");
    let change = |f: &mut Fixture| {
        f.set_text("tokenizer.ggml.model", "rwkv").set_bool("tokenizer.ggml.add_bos_token", true);
    };
    assert_eq!(code(change), "gguf_invalid");
}

#[test]
fn tokenizers_of_encoders_are_unsupported() {
    for model in ["bert", "t5", "no_vocab", "none"] {
        assert_eq!(code(|f| _ = f.set_text("tokenizer.ggml.model", model)), "gguf_unsupported", "{model}");
    }
}
