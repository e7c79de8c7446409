//! The key-value part of a GGUF header; long arrays are measured, not kept.

use std::collections::HashSet;
use std::io::{Read, Seek};
use std::ops::Range;

use super::reader::{Reader, invalid};
use super::vocabulary::{Texts, VocabularyArrays};
use crate::error::Result;

/// Integer arrays up to this length are kept: they hold one number per layer.
const MAX_KEPT_ITEMS: u64 = 512;
/// The format's own limit.
const MAX_KEY: usize = (1 << 16) - 1;

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// A 32 or 64 bit float.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array: the name of its item type and its length.
    Array {
        /// Type of the items, e.g. `string` or `f32`.
        item: &'static str,
        /// Number of items.
        len: u64,
        /// The items themselves when they are integers and few.
        integers: Vec<i64>,
    },
}

/// All key-value pairs in file order.
#[derive(Debug, Clone, Default)]
pub struct Metadata(Vec<(String, MetaValue)>);

impl Metadata {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The text under `key`, if there is one.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetaValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number under `key`, if there is one.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            MetaValue::Unsigned(value) => Some(*value as f64),
            MetaValue::Signed(value) => Some(*value as f64),
            MetaValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// All pairs in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetaValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

/// What the key-value part says.
pub(super) struct Pairs {
    pub metadata: Metadata,
    /// Where each pair's value lies in the file, its type number included.
    pub spans: Vec<Range<u64>>,
    pub vocabulary: VocabularyArrays,
}

pub(super) fn read_pairs<R: Read + Seek>(reader: &mut Reader<R>, count: u64) -> Result<Pairs> {
    let mut metadata = Metadata::default();
    let mut spans = Vec::new();
    let mut vocabulary = VocabularyArrays::default();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let key = reader.name("a key", MAX_KEY)?;
        if !seen.insert(key.clone()) {
            return Err(invalid(format!("the key {key:?} appears twice")));
        }
        let start = reader.position();
        let type_id = reader.u32()?;
        let value = match (key.as_str(), type_id) {
            ("tokenizer.ggml.tokens", ARRAY) => read_texts(reader, &key, &mut vocabulary.tokens)?,
            ("tokenizer.ggml.merges", ARRAY) => read_texts(reader, &key, &mut vocabulary.merges)?,
            ("tokenizer.ggml.token_type", ARRAY) => read_token_types(reader, &mut vocabulary.byte_tokens)?,
            _ => read_value(reader, type_id)?,
        };
        spans.push(start..reader.position());
        metadata.0.push((key, value));
    }
    Ok(Pairs { metadata, spans, vocabulary })
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// The type of tokens that stand for a single byte.
const BYTE_TOKEN: u32 = 6;

/// Name and bytes of a scalar type.
fn scalar(type_id: u32) -> Option<(&'static str, u64)> {
    Some(match type_id {
        0 => ("u8", 1),
        1 => ("i8", 1),
        2 => ("u16", 2),
        3 => ("i16", 2),
        4 => ("u32", 4),
        5 => ("i32", 4),
        6 => ("f32", 4),
        7 => ("bool", 1),
        10 => ("u64", 8),
        11 => ("i64", 8),
        12 => ("f64", 8),
        _ => return None,
    })
}

fn read_value<R: Read + Seek>(reader: &mut Reader<R>, type_id: u32) -> Result<MetaValue> {
    Ok(match type_id {
        0 => MetaValue::Unsigned(u64::from(u8::from_le_bytes(reader.bytes()?))),
        1 => MetaValue::Signed(i64::from(i8::from_le_bytes(reader.bytes()?))),
        2 => MetaValue::Unsigned(u64::from(u16::from_le_bytes(reader.bytes()?))),
        3 => MetaValue::Signed(i64::from(i16::from_le_bytes(reader.bytes()?))),
        4 => MetaValue::Unsigned(u64::from(reader.u32()?)),
        5 => MetaValue::Signed(i64::from(i32::from_le_bytes(reader.bytes()?))),
        6 => MetaValue::Float(f64::from(f32::from_le_bytes(reader.bytes()?))),
        7 => match u8::from_le_bytes(reader.bytes()?) {
            0 => MetaValue::Bool(false),
            1 => MetaValue::Bool(true),
            other => return Err(invalid(format!("{other} is not a truth value"))),
        },
        STRING => MetaValue::Text(reader.string()?),
        ARRAY => read_array(reader)?,
        10 => MetaValue::Unsigned(reader.u64()?),
        11 => MetaValue::Signed(i64::from_le_bytes(reader.bytes()?)),
        12 => MetaValue::Float(f64::from_le_bytes(reader.bytes()?)),
        other => return Err(invalid(format!("{other} is not a value type"))),
    })
}

fn read_array<R: Read + Seek>(reader: &mut Reader<R>) -> Result<MetaValue> {
    let type_id = reader.u32()?;
    if type_id == STRING {
        let len = reader.count(8, "strings")?;
        for _ in 0..len {
            reader.skip_string()?;
        }
        return Ok(MetaValue::Array { item: "string", len, integers: Vec::new() });
    }
    let Some((item, item_bytes)) = scalar(type_id) else {
        return Err(invalid(format!("an array of type {type_id}")));
    };
    let len = reader.count(item_bytes, "array items")?;
    let mut integers = Vec::new();
    if len <= MAX_KEPT_ITEMS && !item.starts_with('f') {
        for _ in 0..len {
            integers.push(match read_value(reader, type_id)? {
                MetaValue::Unsigned(value) => i64::try_from(value).unwrap_or(i64::MAX),
                MetaValue::Signed(value) => value,
                other => i64::from(other == MetaValue::Bool(true)),
            });
        }
    } else {
        // `count` proved that the product fits into the file.
        reader.skip(len * item_bytes)?;
    }
    Ok(MetaValue::Array { item, len, integers })
}

/// Reads texts of the vocabulary, to be judged once all pairs are known.
fn read_texts<R: Read + Seek>(reader: &mut Reader<R>, key: &str, into: &mut Option<Texts>) -> Result<MetaValue> {
    if reader.u32()? != STRING {
        return Err(invalid(format!("{key} is not an array of texts")));
    }
    let len = reader.count(8, key)?;
    let mut texts = Texts::default();
    let mut text = Vec::new();
    for _ in 0..len {
        reader.string_bytes(&mut text)?;
        texts.push(&text)?;
    }
    *into = Some(texts);
    Ok(MetaValue::Array { item: "string", len, integers: Vec::new() })
}

/// Reads the types of the tokens, of which only those that stand for a byte matter here.
fn read_token_types<R: Read + Seek>(reader: &mut Reader<R>, byte_tokens: &mut Vec<u64>) -> Result<MetaValue> {
    let item = match reader.u32()? {
        4 => "u32",
        5 => "i32",
        other => return Err(invalid(format!("tokenizer.ggml.token_type is an array of type {other}"))),
    };
    let len = reader.count(4, "token types")?;
    for index in 0..len {
        if reader.u32()? == BYTE_TOKEN {
            byte_tokens.push(index);
        }
    }
    Ok(MetaValue::Array { item, len, integers: Vec::new() })
}
