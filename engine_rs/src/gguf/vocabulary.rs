//! Judges the vocabulary a GGUF carries: what is wrong with it makes `libllama` abort, not fail.

use std::collections::HashSet;

use super::metadata::{MetaValue, Metadata};
use super::reader::invalid;
use crate::error::{EngineError, Result};

/// Tokens or merges, and the bytes of all of them: ten times what the largest vocabularies have.
const MAX_TEXTS: usize = 1 << 22;
const MAX_BYTES: usize = 64 << 20;
/// A longer token is no word.
const MAX_TOKEN: usize = 1 << 16;
/// Tokenizers of encoders, of tests and of nothing.
const NOT_GENERATIVE: [&str; 5] = ["bert", "t5", "test", "no_vocab", "none"];

/// Many short texts in one block of memory.
#[derive(Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    /// Appends a text up to its first zero byte: what follows does not exist for the library.
    pub(super) fn push(&mut self, text: &[u8]) -> Result<()> {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        if self.ends.len() == MAX_TEXTS || self.bytes.len() + text.len() > MAX_BYTES || text.len() > MAX_TOKEN {
            return Err(invalid("the vocabulary is absurdly large"));
        }
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// The long arrays of the vocabulary, as far as they are judged.
#[derive(Default)]
pub(super) struct VocabularyArrays {
    pub tokens: Option<Texts>,
    pub merges: Option<Texts>,
    /// Ids of the tokens whose type says that they stand for a byte.
    pub byte_tokens: Vec<u64>,
}

/// Checks the tokenizer's keys; returns the size of the vocabulary.
pub(super) fn judge(metadata: &Metadata, arrays: &VocabularyArrays) -> Result<u32> {
    let missing = || EngineError::GgufUnsupported("the file carries no vocabulary".into());
    let model = metadata.text("tokenizer.ggml.model").ok_or_else(missing)?;
    let tokens = arrays.tokens.as_ref().filter(|tokens| tokens.len() > 0).ok_or_else(missing)?;
    if NOT_GENERATIVE.contains(&model) {
        return Err(EngineError::GgufUnsupported(format!("the tokenizer {model:?} is not one of text generation")));
    }
    let known = distinct(tokens)?;
    judge_bytes(model, tokens, &arrays.byte_tokens)?;
    judge_merges(metadata, model, arrays.merges.as_ref(), &known)?;
    judge_special(metadata, model, tokens.len())?;
    array(metadata, "tokenizer.ggml.scores", &["f32", "i32"], tokens.len())?;
    array(metadata, "tokenizer.ggml.token_type", &["i32", "u32"], tokens.len())?;
    for key in ["tokenizer.ggml.pre", "tokenizer.chat_template"] {
        if metadata.get(key).is_some() && metadata.text(key).is_none() {
            return Err(invalid(format!("{key} is not a text")));
        }
    }
    Ok(tokens.len() as u32)
}

/// All token texts. Two equal ones trip an assertion, the names that the library gives to empty ones included.
fn distinct(tokens: &Texts) -> Result<HashSet<&[u8]>> {
    let mut known = HashSet::with_capacity(tokens.len());
    let mut unnamed = HashSet::new();
    for (index, text) in tokens.iter().enumerate() {
        if text.is_empty() {
            unnamed.insert(format!("[EMPTY_{index}]").into_bytes());
        } else if !known.insert(text) {
            return Err(invalid(format!("two tokens read {:?}", String::from_utf8_lossy(text))));
        }
    }
    match unnamed.iter().find(|name| known.contains(name.as_slice())) {
        Some(name) => Err(invalid(format!("two tokens read {:?}", String::from_utf8_lossy(name)))),
        None => Ok(known),
    }
}

/// Every text must have tokens, and what claims to stand for a byte must say for which.
fn judge_bytes(model: &str, tokens: &Texts, byte_tokens: &[u64]) -> Result<()> {
    let mut spelt = [false; 256];
    for text in tokens.iter() {
        let byte = byte_of(text).or_else(|| if model == "gpt2" { stands_for(text) } else { None });
        if let Some(byte) = byte {
            spelt[usize::from(byte)] = true;
        }
    }
    // Some bytes occur in no UTF-8.
    let lacking = spelt.iter().zip(0..=u8::MAX).any(|(spelt, byte)| !spelt && !matches!(byte, 0xC0 | 0xC1 | 0xF5..));
    if lacking && matches!(model, "llama" | "gpt2") {
        return Err(EngineError::GgufUnsupported(
            "the vocabulary lacks byte tokens, so some text has no tokens".into(),
        ));
    }
    for id in byte_tokens {
        let text = usize::try_from(*id).ok().filter(|id| *id < tokens.len()).map(|id| tokens.get(id));
        if !text.is_some_and(|text| text.len() == 6 && byte_of(text).is_some()) {
            return Err(invalid(format!("token {id} is of the type of bytes but does not read like <0x0A>")));
        }
    }
    if byte_tokens.is_empty() || matches!(model, "llama" | "gpt2" | "gemma4") {
        return Ok(());
    }
    Err(EngineError::GgufUnsupported(format!("the tokenizer {model:?} has no tokens of the type of bytes")))
}

/// The byte that a text spells as `<0xNN>` or is.
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

/// The byte that a character stands for in byte-level BPE: itself where it prints, else counted up from U+0100.
fn stands_for(text: &[u8]) -> Option<u8> {
    let mut characters = std::str::from_utf8(text).ok()?.chars();
    let code = u32::from(characters.next().filter(|_| characters.as_str().is_empty())?);
    Some(match code {
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => u32::from(u8::try_from(code).ok()?),
    } as u8)
}

/// Each merge joins two tokens that exist.
fn judge_merges(metadata: &Metadata, model: &str, merges: Option<&Texts>, known: &HashSet<&[u8]>) -> Result<()> {
    let Some(merges) = merges else {
        let needed = matches!(model, "gpt2" | "gemma4") && metadata.text("tokenizer.ggml.pre") != Some("kimi-k2");
        return match (needed, metadata.get("tokenizer.ggml.merges")) {
            (_, Some(_)) => Err(invalid("tokenizer.ggml.merges is not an array of texts")),
            (true, None) => Err(EngineError::GgufUnsupported("the vocabulary has no merges".into())),
            (false, None) => Ok(()),
        };
    };
    for (index, merge) in merges.iter().enumerate() {
        // The first part is never empty, so a space in first place belongs to it.
        let space = merge.iter().skip(1).position(|byte| *byte == b' ').map(|place| place + 1);
        let parts = space.map(|space| (&merge[..space], &merge[space + 1..]));
        if !parts.is_some_and(|(first, second)| is_token(first, known) && is_token(second, known)) {
            let merge = String::from_utf8_lossy(merge);
            return Err(invalid(format!("merge {index} of the vocabulary, {merge:?}, does not join two tokens")));
        }
    }
    Ok(())
}

/// Whether there is such a token. Merges write a space inside of one as `Ġ`.
fn is_token(part: &[u8], known: &HashSet<&[u8]>) -> bool {
    known.contains(part)
        || std::str::from_utf8(part).is_ok_and(|part| known.contains(part.replace('\u{120}', " ").as_bytes()))
}

/// What a tokenizer puts around each text must exist, or tokenising ends the process.
fn judge_special(metadata: &Metadata, model: &str, len: usize) -> Result<()> {
    let exists = |id: u64| id < len as u64;
    let id = |name: &str| match metadata.get(&format!("tokenizer.ggml.{name}_token_id")) {
        None => Ok(None),
        Some(MetaValue::Unsigned(id)) if exists(*id) => Ok(Some(*id)),
        Some(_) => Err(invalid(format!("tokenizer.ggml.{name}_token_id is none of the {len} tokens"))),
    };
    let flag = |name: &str| match metadata.get(&format!("tokenizer.ggml.{name}")) {
        None => Ok(None),
        Some(MetaValue::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(invalid(format!("tokenizer.ggml.{name} is not a truth value"))),
    };
    let (default_start, default_end) = match model {
        "llama" | "plamo2" => (Some(1), Some(2)),
        "rwkv" => (None, None),
        _ => (Some(11), Some(11)),
    };
    id("eot")?;
    let bos = id("bos")?.or(default_start.filter(|id| exists(*id)));
    let eos = id("eos")?.or(default_end.filter(|id| exists(*id)));
    // Without a word about it, most tokenizers add a start token and none an end token.
    if bos.is_none() && flag("add_bos_token")?.unwrap_or(model != "rwkv") {
        return Err(invalid("the tokenizer adds a start token that does not exist"));
    }
    if eos.is_none() && flag("add_eos_token")?.unwrap_or(false) {
        return Err(invalid("the tokenizer adds an end token that does not exist"));
    }
    Ok(())
}

/// An optional array must have one of these item types and one item per token.
fn array(metadata: &Metadata, key: &str, items: &[&str], tokens: usize) -> Result<()> {
    match metadata.get(key) {
        None => Ok(()),
        Some(MetaValue::Array { item, len, .. }) if items.contains(item) && *len == tokens as u64 => Ok(()),
        Some(MetaValue::Array { item, len, .. }) => {
            Err(invalid(format!("{key} has {len} items of type {item} for {tokens} tokens")))
        }
        Some(_) => Err(invalid(format!("{key} is not an array"))),
    }
}
