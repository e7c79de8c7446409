//! Tokenising through the wrappers, over `fake_llama`.

mod support;

use fake_llama::Script;
use support::Fixture;

fn fixture() -> Fixture {
    Fixture::load(&Script::new().words(&["Hello", " world", "é"]))
}

#[test]
fn text_becomes_tokens_and_text_again() {
    let vocab = fixture().model.vocab();
    for text in ["Hello world", "", "Héllo 😀\n", "no such words"] {
        let tokens = vocab.tokenize(text, true, false).unwrap();
        assert_eq!(tokens[0], vocab.bos().unwrap());
        assert_eq!(vocab.detokenize(&tokens).unwrap(), text);
    }
}

#[test]
fn a_long_text_overflows_no_stack() {
    let vocab = fixture().model.vocab();
    for length in [1, 1000, 1024, 1025, 100_000] {
        assert_eq!(vocab.tokenize(&"x".repeat(length), false, false).unwrap().len(), length);
    }
}

#[test]
fn a_text_beyond_every_context_is_refused() {
    let vocab = fixture().model.vocab();
    let error = vocab.tokenize(&"x".repeat((4 << 20) + 1), false, false).unwrap_err();
    assert_eq!((error.code(), error.param()), ("invalid_parameter", Some("prompt")));
}

#[test]
fn control_tokens_are_parsed_only_on_demand() {
    let vocab = fixture().model.vocab();
    let parsed = vocab.tokenize("<|im_end|>", false, true).unwrap();
    assert_eq!(parsed.len(), 1);
    assert!(vocab.is_eog(parsed[0]));
    assert_eq!(vocab.tokenize("<|im_end|>", false, false).unwrap().len(), "<|im_end|>".len());
}

#[test]
fn control_tokens_are_spelled_only_on_demand() {
    let vocab = fixture().model.vocab();
    let mut bytes = Vec::new();
    vocab.piece(vocab.eos().unwrap(), false, &mut bytes);
    assert_eq!(bytes, b"");
    vocab.piece(vocab.eos().unwrap(), true, &mut bytes);
    assert_eq!(bytes, b"</s>");
}

#[test]
fn a_piece_longer_than_expected_is_whole() {
    let long = "abc".repeat(30);
    let vocab = Fixture::load(&Script::new().words(&[&long])).model.vocab();
    let tokens = vocab.tokenize(&long, false, false).unwrap();
    let mut bytes = b"before ".to_vec();
    vocab.piece(tokens[0], false, &mut bytes);
    assert_eq!(bytes, format!("before {long}").as_bytes());
}

#[test]
fn the_entry_of_a_token_is_spelled_as_in_the_file() {
    let vocab = fixture().model.vocab();
    let tokens = vocab.tokenize(" world\n", false, false).unwrap();
    let entries: Vec<_> = tokens.iter().map(|&token| vocab.text(token).unwrap()).collect();
    assert_eq!(entries, ["\u{2581}world", "<0x0A>"]);
}

#[test]
fn ids_outside_the_vocabulary_are_refused_or_empty() {
    let vocab = fixture().model.vocab();
    let beyond = vocab.n_tokens() as i32;
    for id in [-1, beyond, i32::MAX, i32::MIN] {
        let mut bytes = Vec::new();
        vocab.piece(id, true, &mut bytes);
        assert!(bytes.is_empty() && !vocab.is_eog(id) && vocab.text(id).is_none());
        assert_eq!(vocab.detokenize(&[id]).unwrap_err().code(), "invalid_parameter");
    }
}

#[test]
fn a_vocabulary_keeps_its_model_loaded() {
    let fixture = fixture();
    let vocab = fixture.model.vocab();
    let control = fixture.control();
    drop(fixture.model);
    assert_eq!(control.counts().models, 1);
    assert!(vocab.adds_bos());
    drop(vocab);
    assert_eq!(control.counts().models, 0);
}
