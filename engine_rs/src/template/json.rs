//! The `tojson` filter as `transformers` defines it: Python's `json.dumps`, which escapes nothing for HTML.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::expansion::charge;

type Result<T> = std::result::Result<T, Error>;

/// Deeper values are refused; Python refuses them too, at about a thousand.
const MAX_DEPTH: usize = 200;
/// Bytes of a prompt that would fit into no context there is.
const MAX_BYTES: usize = 16 << 20;

struct Writer {
    out: String,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

/// Takes `indent`, `separators`, `ensure_ascii` and `sort_keys` by name, as Python does.
#[allow(clippy::needless_pass_by_value, reason = "the template engine hands it over by value")]
pub(super) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value> {
    charge(state, std::slice::from_ref(value), 0)?;
    let indent = options.get::<Option<usize>>("indent")?;
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item_separator, key_separator) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators must be a pair")),
    };
    let mut writer = Writer { out: String::new(), indent, item_separator, key_separator, ensure_ascii, sort_keys };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::BadSerialization, "the value is nested too deeply"));
        }
        if self.out.len() > MAX_BYTES {
            return Err(Error::new(ErrorKind::BadSerialization, "the value is too large"));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => _ = write!(self.out, "{value}"),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items, depth, |writer, item| writer.value(&item, depth + 1))?;
            }
            ValueKind::Map => self.map(value, depth)?,
            kind => return Err(Error::new(ErrorKind::BadSerialization, format!("{kind} is not JSON"))),
        }
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<()> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.container('{', '}', keys, depth, |writer, key| {
            match key.as_str() {
                Some(text) => writer.text(text),
                None => writer.text(&key.to_string()),
            }
            let separator = std::mem::take(&mut writer.key_separator);
            writer.out.push_str(&separator);
            writer.key_separator = separator;
            writer.value(&map.get_item(&key)?, depth + 1)
        })
    }

    fn container(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        depth: usize,
        mut write: impl FnMut(&mut Self, Value) -> Result<()>,
    ) -> Result<()> {
        self.out.push(open);
        let empty = items.is_empty();
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                let separator = std::mem::take(&mut self.item_separator);
                self.out.push_str(&separator);
                self.item_separator = separator;
            }
            self.new_line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent.min(64) * depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..'\u{20}' => _ = write!(self.out, "\\u{:04x}", character as u32),
                '\u{7f}'.. if self.ensure_ascii && !character.is_ascii() => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}
