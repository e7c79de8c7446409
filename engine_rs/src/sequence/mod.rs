//! The state of one running request: its tokens, its text, its limits and its times.

mod stop;

use std::time::{Duration, Instant};

pub use stop::StopStrings;

use crate::engine::{FinishReason, Timings, TokenLogprob, Usage};
use crate::sampler::Sampler;
use crate::vocab::Detokenizer;

/// What a sequence is made of.
pub struct SequenceParams {
    /// Tokens of the prompt; at least one.
    pub prompt: Vec<i32>,
    /// Of these, tokens whose cells are already in the cache; fewer than the prompt has.
    pub cached: usize,
    /// Most tokens to produce, already cut to the end of the context; 0 reads the prompt only.
    pub max_tokens: u32,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// Chooses its tokens.
    pub sampler: Sampler,
    /// Likeliest alternatives to report per token; `None`: no log-probabilities.
    pub logprobs: Option<u32>,
    /// When the request was submitted.
    pub submitted: Instant,
    /// When it got its slot.
    pub started: Instant,
}

/// Text and tokens that were produced and not yet reported.
#[derive(Debug, Default)]
pub struct Unsent {
    /// Whole UTF-8.
    pub text: String,
    /// Tokens behind it and behind what is held back.
    pub tokens: Vec<i32>,
    /// One entry per token, when asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// A running request. Knows nothing of slots, batches or the library.
pub struct Sequence {
    /// Prompt and answer.
    tokens: Vec<i32>,
    prompt_len: usize,
    cached: usize,
    /// Tokens whose cells are in the cache.
    in_cache: usize,
    max_tokens: u32,
    produced: u32,
    /// Chooses its tokens.
    pub sampler: Sampler,
    /// Likeliest alternatives to report per token; `None`: no log-probabilities.
    pub logprobs: Option<u32>,
    /// What the next report will carry.
    pub unsent: Unsent,
    detokenizer: Detokenizer,
    stops: StopStrings,
    whole: String,
    times: Times,
    starving_since: Option<Instant>,
}

struct Times {
    submitted: Instant,
    started: Instant,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Sequence {
    /// A sequence that has its slot and has decoded nothing yet.
    #[must_use]
    pub fn new(params: SequenceParams) -> Self {
        Self {
            prompt_len: params.prompt.len(),
            cached: params.cached,
            in_cache: params.cached,
            tokens: params.prompt,
            max_tokens: params.max_tokens,
            produced: 0,
            sampler: params.sampler,
            logprobs: params.logprobs,
            unsent: Unsent::default(),
            detokenizer: Detokenizer::default(),
            stops: StopStrings::new(params.stop),
            whole: String::new(),
            times: Times { submitted: params.submitted, started: params.started, first_token: None, last_token: None },
            starving_since: None,
        }
    }

    /// Tokens whose cells are not in the cache yet, in order; never empty.
    #[must_use]
    pub fn pending(&self) -> &[i32] {
        &self.tokens[self.in_cache..]
    }

    /// Tokens whose cells are in the cache; the position of the first pending one.
    #[must_use]
    pub fn in_cache(&self) -> usize {
        self.in_cache
    }

    /// Prompt and answer so far.
    #[must_use]
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// Whether the prompt has been read and the answer has begun.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.produced > 0
    }

    /// Whether another token may be produced.
    #[must_use]
    pub fn wants_tokens(&self) -> bool {
        self.produced < self.max_tokens
    }

    /// Tokens of the prompt.
    #[must_use]
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// The first `count` pending tokens are in the cache now.
    pub fn advance(&mut self, count: usize) {
        self.in_cache += count;
    }

    /// The cache lost this sequence from position `place` on.
    pub fn rewind(&mut self, place: usize) {
        self.in_cache = self.in_cache.min(place);
    }

    /// Takes a produced token, `bytes` being its text and `ends` telling that it is an end-of-generation token.
    /// What can be reported goes to [`unsent`](Self::unsent); the reason comes back when this was the last token.
    pub fn accept(&mut self, token: i32, bytes: &[u8], ends: bool, now: Instant) -> Option<FinishReason> {
        self.tokens.push(token);
        self.produced += 1;
        self.times.first_token.get_or_insert(now);
        self.times.last_token = Some(now);
        if ends {
            self.flush();
            return Some(FinishReason::Stop);
        }
        self.unsent.tokens.push(token);
        self.whole.clear();
        self.detokenizer.push(bytes, &mut self.whole);
        if self.stops.push(&self.whole, &mut self.unsent.text) {
            return Some(FinishReason::Stop);
        }
        if !self.wants_tokens() {
            self.flush();
            return Some(FinishReason::Length);
        }
        None
    }

    /// Releases the whole characters that were held back for a stop string: all that a cancelled answer still has.
    pub fn release(&mut self) {
        self.stops.flush(&mut self.unsent.text);
    }

    /// Releases all text that was held back; a character that will not be finished is one replacement character.
    fn flush(&mut self) {
        self.whole.clear();
        self.detokenizer.flush(&mut self.whole);
        if !self.stops.push(&self.whole, &mut self.unsent.text) {
            self.release();
        }
    }

    /// Notes whether the sequence may go on; without credit, the time since then counts.
    pub fn note_credit(&mut self, has_credit: bool, now: Instant) {
        if has_credit {
            self.starving_since = None;
        } else {
            self.starving_since.get_or_insert(now);
        }
    }

    /// When a sequence without credit will have waited for `timeout`.
    #[must_use]
    pub fn stalls_at(&self, timeout: Duration) -> Option<Instant> {
        self.starving_since?.checked_add(timeout)
    }

    /// Tokens used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_len as u32,
            cached_tokens: self.cached as u32,
            completion_tokens: self.produced,
        }
    }

    /// Time used until `now`.
    #[must_use]
    pub fn timings(&self, now: Instant) -> Timings {
        let times = &self.times;
        let millis = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        Timings {
            queued_ms: millis(times.submitted, times.started),
            prompt_ms: millis(times.started, times.first_token.unwrap_or(now)),
            decode_ms: times.first_token.zip(times.last_token).map_or(0.0, |(first, last)| millis(first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Sequence, SequenceParams};
    use crate::engine::FinishReason;
    use crate::sampler::{Sampler, SamplingParams};

    fn sequence(max_tokens: u32, stop: &[&str]) -> Sequence {
        let now = Instant::now();
        Sequence::new(SequenceParams {
            prompt: vec![1, 2, 3],
            cached: 1,
            max_tokens,
            stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
            sampler: Sampler::new(&SamplingParams::default(), &SamplingParams::default(), &[], &[]),
            logprobs: None,
            submitted: now,
            started: now,
        })
    }

    fn accept_all(sequence: &mut Sequence, pieces: &[&[u8]]) -> Option<FinishReason> {
        let mut reason = None;
        for (token, piece) in pieces.iter().enumerate() {
            assert_eq!(reason, None, "nothing follows the end");
            reason = sequence.accept(token as i32, piece, false, Instant::now());
        }
        reason
    }

    #[test]
    fn a_character_split_over_tokens_appears_whole() {
        let mut sequence = sequence(10, &[]);
        assert_eq!(accept_all(&mut sequence, &[b"\xc3"]), None);
        assert_eq!(sequence.unsent.text, "");
        assert_eq!(accept_all(&mut sequence, &[b"\xa9!"]), None);
        assert_eq!(sequence.unsent.text, "é!");
    }

    #[test]
    fn the_last_token_releases_what_was_held_back() {
        let mut sequence = sequence(2, &["never"]);
        assert_eq!(accept_all(&mut sequence, &[b"ne", b"\xc3"]), Some(FinishReason::Length));
        assert_eq!(sequence.unsent.text, "ne\u{fffd}");
    }

    #[test]
    fn a_cancel_releases_whole_characters_only() {
        let mut sequence = sequence(10, &["never"]);
        assert_eq!(accept_all(&mut sequence, &[b"ne", b"\xc3"]), None);
        sequence.release();
        assert_eq!(sequence.unsent.text, "ne");
    }

    #[test]
    fn an_end_token_stops_without_text() {
        let mut sequence = sequence(10, &["never"]);
        accept_all(&mut sequence, &[b"ne"]);
        assert_eq!(sequence.accept(9, b"</s>", true, Instant::now()), Some(FinishReason::Stop));
        assert_eq!(sequence.unsent.text, "ne");
        assert_eq!(sequence.unsent.tokens, [0]);
        assert_eq!(sequence.usage().completion_tokens, 2);
    }

    #[test]
    fn a_stop_string_at_the_limit_is_a_stop() {
        let mut sequence = sequence(2, &["xy"]);
        assert_eq!(accept_all(&mut sequence, &[b"ax", b"yb"]), Some(FinishReason::Stop));
        assert_eq!(sequence.unsent.text, "a");
    }

    #[test]
    fn pending_tokens_follow_the_cache() {
        let mut sequence = sequence(10, &[]);
        assert_eq!(sequence.pending(), [2, 3]);
        sequence.advance(2);
        accept_all(&mut sequence, &[b"a"]);
        assert_eq!((sequence.pending(), sequence.in_cache()), (&[0][..], 3));
        sequence.rewind(1);
        assert_eq!(sequence.pending(), [2, 3, 0]);
    }

    #[test]
    fn only_an_unbroken_wait_for_credit_stalls() {
        let mut sequence = sequence(10, &[]);
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        assert_eq!(sequence.stalls_at(Duration::from_secs(1)), None);
        sequence.note_credit(false, start);
        sequence.note_credit(false, later);
        assert_eq!(sequence.stalls_at(Duration::from_secs(1)), Some(start + Duration::from_secs(1)));
        sequence.note_credit(true, later);
        assert_eq!(sequence.stalls_at(Duration::from_secs(1)), None);
    }
}
