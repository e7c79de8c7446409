//! The tokens of a scripted model: special ones, one for each byte, one for each piece of the script.

use std::ffi::CString;

use crate::script::{Piece, Script};

/// Control tokens behind `<unk>`, `<s>`, `</s>` and the bytes.
const CHAT_MARKS: [&str; 2] = ["<|im_start|>", "<|im_end|>"];
const FIRST_BYTE: i32 = 3;
const FIRST_MARK: i32 = FIRST_BYTE + 256;
const FIRST_PIECE: i32 = FIRST_MARK + CHAT_MARKS.len() as i32;

/// Token types of a GGUF.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

pub(crate) struct Vocabulary {
    /// The bytes each token stands for; control tokens have the text that is parsed as them.
    bytes: Vec<Vec<u8>>,
    /// The entries as a GGUF has them.
    entries: Vec<CString>,
}

impl Vocabulary {
    pub(crate) const BOS: i32 = 1;
    pub(crate) const EOS: i32 = 2;

    pub(crate) fn of(script: &Script) -> Self {
        let mut bytes: Vec<Vec<u8>> = ["<unk>", "<s>", "</s>"].map(|text| text.into()).into();
        let mut entries: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
        bytes.extend((0..=u8::MAX).map(|byte| vec![byte]));
        entries.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
        // Real tokenizers want a token for the space, or spell it as the bytes of its mark.
        for text in CHAT_MARKS.into_iter().chain([" "]).chain(script.texts()) {
            let entry = text.replace(' ', "\u{2581}");
            if !entries.contains(&entry) {
                bytes.push(text.into());
                entries.push(entry);
            }
        }
        let entries = entries.into_iter().map(|entry| CString::new(entry).expect("a piece without NUL")).collect();
        Self { bytes, entries }
    }

    pub(crate) fn len(&self) -> i32 {
        self.bytes.len() as i32
    }

    pub(crate) fn has(&self, token: i32) -> bool {
        (0..self.len()).contains(&token)
    }

    pub(crate) fn entry(&self, token: i32) -> &CString {
        &self.entries[token as usize]
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.to_str().expect("entries are UTF-8"))
    }

    /// The GGUF's `token_type` of a token.
    pub(crate) fn kind(token: i32) -> i32 {
        match token {
            0 => UNKNOWN,
            _ if Self::is_control(token) => CONTROL,
            FIRST_BYTE..FIRST_MARK => BYTE,
            _ => NORMAL,
        }
    }

    pub(crate) fn is_control(token: i32) -> bool {
        matches!(token, Self::BOS | Self::EOS | FIRST_MARK..FIRST_PIECE)
    }

    pub(crate) fn is_end(token: i32) -> bool {
        token == Self::EOS || token == FIRST_MARK + 1
    }

    pub(crate) fn token(&self, piece: &Piece) -> i32 {
        match piece {
            Piece::Byte(byte) => FIRST_BYTE + i32::from(*byte),
            Piece::Text(text) => {
                let found = self.bytes[FIRST_MARK as usize..].iter().position(|bytes| bytes == text.as_bytes());
                FIRST_MARK + found.expect("every piece of the script is in the vocabulary") as i32
            }
        }
    }

    /// The bytes of a token; control tokens have some only with `special`.
    pub(crate) fn piece(&self, token: i32, special: bool) -> &[u8] {
        if Self::is_control(token) && !special { &[] } else { &self.bytes[token as usize] }
    }

    /// All bytes of a sequence of tokens, control tokens spelled out.
    pub(crate) fn spell(&self, tokens: &[i32]) -> Vec<u8> {
        tokens.iter().flat_map(|&token| self.piece(token, true)).copied().collect()
    }

    /// The longest piece at each place, else single bytes; control tokens only with `parse_special`.
    pub(crate) fn tokenize(&self, mut text: &[u8], add_special: bool, parse_special: bool) -> Vec<i32> {
        let mut tokens = Vec::new();
        if add_special {
            tokens.push(Self::BOS);
        }
        while let Some(&byte) = text.first() {
            let fits = |token: &i32| {
                text.starts_with(&self.bytes[*token as usize]) && (parse_special || !Self::is_control(*token))
            };
            let candidates = (1..FIRST_BYTE).chain(FIRST_MARK..self.len()).filter(fits);
            let token = candidates
                .max_by_key(|token| self.bytes[*token as usize].len())
                .unwrap_or(FIRST_BYTE + i32::from(byte));
            text = &text[self.bytes[token as usize].len()..];
            tokens.push(token);
        }
        tokens
    }
}
