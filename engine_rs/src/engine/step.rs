//! One step: a batch, one `llama_decode`, and a token for every sequence whose turn it was.

use std::time::Instant;

use super::decode::{Active, DecodeLoop, ModelFacts};
use super::permit::COMPUTE;
use super::types::{Event, FinishReason, Logprob, TokenLogprob};
use crate::context::{Context, Decoded};
use crate::error::{EngineError, Result};

/// A step with fewer prompt tokens says little about how fast prompts are read.
const TELLING_CHUNK: usize = 16;
/// Weight of the newest measurement in the moving average.
const NEWEST: f64 = 0.3;

/// What one sequence contributes to the batch.
pub(super) struct Entry {
    /// Its place among the running.
    index: usize,
    tokens: usize,
    /// Index in the batch of the token whose logits choose the next one.
    output: Option<i32>,
    is_prompt: bool,
}

impl DecodeLoop {
    /// Decodes the plan. What it ends is marked, what it produces lies in the sequences.
    pub(super) fn step(&mut self) {
        self.fill_batch();
        if self.set_reading() {
            let started = Instant::now();
            if let Some(threads) = self.pace.adjust(started) {
                self.context.set_threads(threads, threads);
            }
            let outcome = {
                let _permit = COMPUTE.acquire(&mut self.account);
                self.context.decode(&self.batch)
            };
            match outcome {
                Ok(Decoded::Done) => {
                    self.measure(started);
                    self.collect();
                }
                Ok(Decoded::Aborted) => {
                    self.context.abort_handle().clear();
                    self.undo();
                }
                Ok(Decoded::NoSpace) => self.make_space(),
                Err(error) => self.fail(&error),
            }
        }
        for entry in self.entries.iter().filter(|entry| entry.is_prompt) {
            self.running[entry.index].ticket.set_reading(false);
        }
    }

    fn fill_batch(&mut self) {
        self.batch.clear();
        self.entries.clear();
        let answering = self.plan.answering.iter().map(|slot| (*slot, 1, false));
        let prompts = self.plan.prompts.iter().map(|chunk| (chunk.slot, chunk.tokens, true));
        for (slot, tokens, is_prompt) in answering.chain(prompts) {
            let Some(index) = self.running.iter().position(|active| active.slot == slot) else { continue };
            let sequence = &self.running[index].sequence;
            let pending = sequence.pending();
            let mut output = None;
            for (offset, token) in pending.iter().take(tokens).enumerate() {
                let last = offset + 1 == pending.len();
                let position = (sequence.in_cache() + offset) as i32;
                let place = self.batch.push(*token, position, slot as i32, last);
                output = last.then_some(place);
            }
            self.entries.push(Entry { index, tokens, output, is_prompt });
        }
    }

    /// Announces whose prompts are being read; false if one of them was cancelled just now.
    fn set_reading(&self) -> bool {
        let mut prompts = self.entries.iter().filter(|entry| entry.is_prompt);
        prompts.all(|entry| {
            let ticket = &self.running[entry.index].ticket;
            ticket.set_reading(true);
            !ticket.is_cancelled()
        })
    }

    fn measure(&mut self, started: Instant) {
        let tokens = self.plan.prompt_tokens();
        if tokens >= TELLING_CHUNK {
            let rate = tokens as f64 / started.elapsed().as_secs_f64().max(1e-6);
            let known = if self.prompt_rate > 0.0 { self.prompt_rate } else { rate };
            self.prompt_rate = known + NEWEST * (rate - known);
        }
    }

    /// Chooses a token for every sequence that has logits now.
    fn collect(&mut self) {
        let now = Instant::now();
        let alone = self.entries.len() == 1;
        for entry in &self.entries {
            let active = &mut self.running[entry.index];
            let whole = alone && entry.tokens == self.batch_size && active.sequence.in_cache() == active.repeatable;
            active.sequence.advance(entry.tokens);
            if whole {
                active.repeatable += entry.tokens;
            }
            if entry.is_prompt && !active.sequence.is_answering() {
                active.in_chunks |= entry.output.is_none();
                if active.in_chunks {
                    let (id, done) = (active.id, active.sequence.in_cache() as u32);
                    let total = active.sequence.prompt_len() as u32;
                    self.outbox.write(|queue| queue.push(Event::PromptProgress { id, done, total }));
                }
            }
            let Some(output) = entry.output else { continue };
            active.ended = if active.sequence.wants_tokens() {
                choose(active, &mut self.context, &self.facts, output, &mut self.piece, now).transpose()
            } else {
                Some(Ok(FinishReason::Length))
            };
        }
    }

    /// Forgets what a decode that was stopped may have left in the cache, so that it can be done again.
    fn undo(&mut self) {
        for place in 0..self.entries.len() {
            let index = self.entries[place].index;
            let (slot, len) = (self.running[index].slot, self.running[index].sequence.in_cache());
            let len = if self.cut(slot, len) { len } else { 0 };
            let active = &mut self.running[index];
            active.sequence.rewind(len);
            active.repeatable = active.repeatable.min(len);
        }
    }

    /// The cache is full though everyone has what was reserved: first kept beginnings go, then the youngest request.
    fn make_space(&mut self) {
        self.undo();
        let kept: Vec<usize> = self.slots.filled().collect();
        for slot in &kept {
            self.cut(*slot, 0);
            self.slots.forget(*slot);
        }
        if kept.is_empty()
            && let Some(youngest) = self.entries.iter().map(|entry| entry.index).max()
        {
            let error = EngineError::DecodeFailed("the KV cache has no room left".into());
            self.running[youngest].ended = Some(Err(error));
        }
    }

    fn fail(&mut self, error: &EngineError) {
        for entry in &self.entries {
            self.running[entry.index].ended = Some(Err(error.clone()));
        }
    }
}

/// Chooses the next token of one sequence; the reason comes back when it was the last.
fn choose(
    active: &mut Active,
    context: &mut Context,
    facts: &ModelFacts,
    output: i32,
    piece: &mut Vec<u8>,
    now: Instant,
) -> Result<Option<FinishReason>> {
    let logits = context.logits_mut(output)?;
    let sequence = &mut active.sequence;
    let token = sequence.sampler.sample(logits)?;
    active.ticket.debit();
    let ends = facts.end_tokens.contains(&token);
    let logprobs = match sequence.logprobs {
        Some(count) if !ends => Some(sequence.sampler.logprobs(logits, token, count as usize)?),
        _ => None,
    };
    piece.clear();
    facts.vocab.piece(token, false, piece);
    let reason = sequence.accept(token, piece, ends, now);
    if let Some(logprobs) = logprobs {
        let entry = |token: i32, logprob: f32| {
            let mut bytes = Vec::new();
            facts.vocab.piece(token, false, &mut bytes);
            Logprob { token, bytes, logprob }
        };
        let top = logprobs.top.iter().map(|(token, logprob)| entry(*token, *logprob)).collect();
        sequence.unsent.logprobs.push(TokenLogprob { chosen: entry(token, logprobs.chosen), top });
    }
    Ok(reason)
}
