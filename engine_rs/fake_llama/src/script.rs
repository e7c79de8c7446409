//! What a model answers, and how it misbehaves.

use serde::{Deserialize, Serialize};

use crate::vocabulary::Vocabulary;

/// The key under which a GGUF carries its script, as JSON.
pub(crate) const SCRIPT_KEY: &str = "fake_llama.script";

/// Describes a model. A reply is a list of pieces, and each piece is one token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Script {
    pub(crate) replies: Vec<Reply>,
    pub(crate) words: Vec<String>,
    pub(crate) context_length: u32,
    pub(crate) chat_template: Option<String>,
    pub(crate) cells: Option<u32>,
    pub(crate) failing_text: Option<String>,
    pub(crate) load_error: Option<String>,
    pub(crate) split_cache: bool,
}

/// What follows a text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reply {
    after: String,
    pieces: Vec<Piece>,
    endless: bool,
}

/// One token of a reply.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Piece {
    Text(String),
    Byte(u8),
}

impl Default for Script {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            words: Vec::new(),
            context_length: 512,
            chat_template: None,
            cells: None,
            failing_text: None,
            load_error: None,
            split_cache: false,
        }
    }
}

impl Script {
    /// A model that answers everything with nothing but an end token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers a prompt with these pieces, then an end token. The reply whose `after` comes last in the prompt is
    /// taken; an empty `after` is the answer to all other prompts.
    pub fn reply(mut self, after: &str, pieces: &[&str]) -> Self {
        let pieces = pieces.iter().map(|&piece| Piece::Text(piece.into())).collect();
        self.replies.push(Reply { after: after.into(), pieces, endless: false });
        self
    }

    /// Like [`reply`](Self::reply), with one token for each byte of the text.
    pub fn reply_bytewise(mut self, after: &str, text: &str) -> Self {
        let pieces = text.bytes().map(Piece::Byte).collect();
        self.replies.push(Reply { after: after.into(), pieces, endless: false });
        self
    }

    /// Like [`reply`](Self::reply), repeated for ever.
    pub fn endless(mut self, after: &str, pieces: &[&str]) -> Self {
        self = self.reply(after, pieces);
        self.replies.iter_mut().for_each(|reply| reply.endless |= reply.after == after);
        self
    }

    /// More tokens, so that prompts need not be spelled in bytes.
    pub fn words(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|&word| word.into()));
        self
    }

    /// The trained context; 512 if not said.
    pub fn context_length(mut self, tokens: u32) -> Self {
        self.context_length = tokens;
        self
    }

    /// The Jinja template in the file.
    pub fn chat_template(mut self, template: &str) -> Self {
        self.chat_template = Some(template.into());
        self
    }

    /// Has fewer KV cells than asked for, so that decodes find no space.
    pub fn cells(mut self, cells: u32) -> Self {
        self.cells = Some(cells);
        self
    }

    /// Fails a decode that completes this text in any sequence.
    pub fn fail_on(mut self, text: &str) -> Self {
        self.failing_text = Some(text.into());
        self
    }

    /// Refuses to load, and logs this.
    pub fn refuse_load(mut self, reason: &str) -> Self {
        self.load_error = Some(reason.into());
        self
    }

    /// Ignores `kv_unified`, as a library does whose layout was guessed wrong.
    pub fn split_cache(mut self) -> Self {
        self.split_cache = true;
        self
    }

    /// All pieces that need a token, replies first.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let replies = self.replies.iter().flat_map(|reply| &reply.pieces).filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Byte(_) => None,
        });
        replies.chain(self.words.iter().map(String::as_str))
    }

    /// The token that follows what a sequence holds.
    pub(crate) fn next(&self, vocabulary: &Vocabulary, history: &[i32]) -> i32 {
        let text = vocabulary.spell(history);
        let chosen = self.replies.iter().filter_map(|reply| Some((find_last(&text, reply.after.as_bytes())?, reply)));
        let Some((_, reply)) = chosen.max_by_key(|(end, reply)| (*end, reply.after.len())) else {
            return Vocabulary::EOS;
        };
        let answer: Vec<i32> = reply.pieces.iter().map(|piece| vocabulary.token(piece)).collect();
        // As far as the history ends with the beginning of the answer, that much has been said.
        let said = (0..=answer.len()).rev().find(|&said| history.ends_with(&answer[..said])).unwrap_or(0);
        let next = if reply.endless && !answer.is_empty() { said % answer.len() } else { said };
        answer.get(next).copied().unwrap_or(Vocabulary::EOS)
    }

    /// Whether a decode that adds `added` tokens to a sequence is one that fails.
    pub(crate) fn fails(&self, vocabulary: &Vocabulary, history: &[i32], added: usize) -> bool {
        let Some(failing) = &self.failing_text else { return false };
        let before = vocabulary.spell(&history[..history.len() - added]);
        find_last(&vocabulary.spell(history), failing.as_bytes()).is_some_and(|end| end > before.len())
    }
}

/// Where the last occurrence of `part` ends; an empty part comes before everything.
fn find_last(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).rposition(|window| window == part).map(|start| start + part.len())
}
