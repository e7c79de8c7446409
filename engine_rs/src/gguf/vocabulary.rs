//! Judges the vocabulary a GGUF carries: what is wrong with it makes `libllama` abort, not fail.

use std::collections::HashSet;

use super::metadata::{MetaValue, Metadata};
use super::reader::invalid;
use crate::error::{EngineError, Result};

/// What matters of `tokenizer.ggml.tokens`.
#[derive(Default)]
pub(super) struct TokenList {
    seen: HashSet<Box<[u8]>>,
    len: u64,
    /// Bytes that have a token of their own, spelt `<0xNN>` or as they are.
    bytes: [u64; 4],
}

impl TokenList {
    pub(super) fn push(&mut self, text: &[u8]) -> Result<()> {
        self.len += 1;
        // The library gives empty texts names of their own; two equal ones trip an assertion.
        if !text.is_empty() && !self.seen.insert(text.into()) {
            return Err(invalid(format!("two tokens read {:?}", String::from_utf8_lossy(text))));
        }
        if let Some(byte) = byte_of(text) {
            self.bytes[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        Ok(())
    }

    /// Whether every text has tokens. Bytes that occur in no UTF-8 need none.
    fn spells_any_text(&self) -> bool {
        let has = |byte: u8| self.bytes[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1;
        (0..=u8::MAX).all(|byte| has(byte) || matches!(byte, 0xC0 | 0xC1 | 0xF5..))
    }
}

fn byte_of(text: &[u8]) -> Option<u8> {
    match text {
        [byte] => Some(*byte),
        [b'<', b'0', b'x', high, low, b'>'] => {
            let digit = |c: u8| (c as char).to_digit(16).filter(|_| !c.is_ascii_lowercase());
            Some((digit(*high)? * 16 + digit(*low)?) as u8)
        }
        _ => None,
    }
}

/// Checks the tokenizer's keys; returns the size of the vocabulary.
pub(super) fn judge(metadata: &Metadata, tokens: Option<&TokenList>) -> Result<u32> {
    let missing = || EngineError::GgufUnsupported("the file carries no vocabulary".into());
    let model = metadata.text("tokenizer.ggml.model").ok_or_else(missing)?;
    if matches!(model, "no_vocab" | "none") {
        return Err(missing());
    }
    let tokens = tokens.filter(|tokens| tokens.len > 0).ok_or_else(missing)?;
    if model == "llama" && !tokens.spells_any_text() {
        return Err(EngineError::GgufUnsupported(
            "the vocabulary lacks byte tokens, so some text has no tokens".into(),
        ));
    }
    if model == "gpt2" && metadata.get("tokenizer.ggml.merges").is_none() {
        return Err(EngineError::GgufUnsupported("the vocabulary has no merges".into()));
    }
    array(metadata, "tokenizer.ggml.scores", &["f32"], Some(tokens.len))?;
    array(metadata, "tokenizer.ggml.token_type", &["i32", "u32"], Some(tokens.len))?;
    array(metadata, "tokenizer.ggml.merges", &["string"], None)?;
    for key in ["tokenizer.ggml.pre", "tokenizer.chat_template"] {
        if metadata.get(key).is_some() && metadata.text(key).is_none() {
            return Err(invalid(format!("{key} is not a text")));
        }
    }
    i32::try_from(tokens.len).map(|len| len as u32).map_err(|_| invalid("the vocabulary is too large"))
}

/// An optional array must have one of these item types and, where one is given, this length.
fn array(metadata: &Metadata, key: &str, items: &[&str], expected: Option<u64>) -> Result<()> {
    let fits = match metadata.get(key) {
        None => true,
        Some(MetaValue::Array { item, len, .. }) => items.contains(item) && expected.is_none_or(|n| n == *len),
        Some(_) => false,
    };
    if fits { Ok(()) } else { Err(invalid(format!("{key} does not fit the vocabulary"))) }
}
