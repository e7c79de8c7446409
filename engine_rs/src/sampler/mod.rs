//! Chooses the next token from raw logits, the same way on every version of `libllama`.
//!
//! The order is llama-server's: bias, penalties, top-k, top-p, min-p, temperature, draw.

mod params;
mod select;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

pub use params::SamplingParams;
use params::Settings;
use select::{Candidate, argmax, exp_sum, likeliest};

use crate::error::{EngineError, Result};

/// Tokens that penalties look back at, the prompt's last ones included.
const PENALTY_WINDOW: usize = 64;
/// Candidates that top-p looks at before it widens its view.
const FIRST_VIEW: usize = 256;
/// Factor by which the view widens.
const WIDENING: usize = 8;

/// The sampling state of one sequence.
pub struct Sampler {
    settings: Settings,
    seed: u64,
    rng: Xoshiro256PlusPlus,
    bias: Vec<(i32, f32)>,
    recent: VecDeque<i32>,
    /// What bias and penalties have changed, as it was, in the order of the changes.
    originals: Vec<(usize, f32)>,
    candidates: Vec<Candidate>,
}

/// The natural logarithms of the probabilities at one place, before any filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The likeliest tokens and theirs, best first.
    pub top: Vec<(i32, f32)>,
}

impl Sampler {
    /// `params` over `defaults` over the contract's values. `end_tokens` are what `ignore_eos` forbids; `history` is
    /// the prompt. Expects `params` to have passed [`SamplingParams::validate`].
    #[must_use]
    pub fn new(params: &SamplingParams, defaults: &SamplingParams, end_tokens: &[i32], history: &[i32]) -> Self {
        // A drawn seed is small enough to survive JSON numbers.
        let seed = params.seed.or(defaults.seed).unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let mut bias = params.logit_bias.clone();
        if params.ignore_eos {
            bias.extend(end_tokens.iter().map(|token| (*token, f32::NEG_INFINITY)));
        }
        let mut sampler = Self {
            settings: Settings::resolve(params, defaults),
            seed,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            bias,
            recent: VecDeque::with_capacity(PENALTY_WINDOW),
            originals: Vec::new(),
            candidates: Vec::new(),
        };
        for token in &history[history.len().saturating_sub(PENALTY_WINDOW)..] {
            sampler.remember(*token);
        }
        sampler
    }

    /// The seed in force, given or drawn.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Chooses a token and remembers it. Fails with `decode_failed` when the logits hold no usable number. They are
    /// changed on the way only: a copy of a large vocabulary would take a per cent of a small model's time.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<i32> {
        self.change(logits);
        let token = self.choose(logits);
        for (index, original) in self.originals.drain(..).rev() {
            logits[index] = original;
        }
        let token = token?;
        self.remember(token);
        Ok(token)
    }

    /// The log-probabilities of `token` and the `count` likeliest tokens under `logits`.
    pub fn logprobs(&mut self, logits: &[f32], token: i32, count: usize) -> Result<Logprobs> {
        let (_, max) = argmax(logits).ok_or_else(unusable)?;
        let log_sum = max + exp_sum(logits, max).ln();
        likeliest(logits, count, &mut self.candidates).ok_or_else(unusable)?;
        let top = self.candidates.iter().map(|candidate| (candidate.token, candidate.logit - log_sum)).collect();
        let chosen = logits.get(token as usize).ok_or_else(unusable)? - log_sum;
        Ok(Logprobs { chosen, top })
    }

    fn remember(&mut self, token: i32) {
        if self.settings.penalises() {
            if self.recent.len() == PENALTY_WINDOW {
                self.recent.pop_front();
            }
            self.recent.push_back(token);
        }
    }

    /// Applies bias and penalties.
    fn change(&mut self, logits: &mut [f32]) {
        for (token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                self.originals.push((*token as usize, *logit));
                *logit += bias;
            }
        }
        if !self.settings.penalises() {
            return;
        }
        for (index, token) in self.recent.iter().enumerate() {
            // The window is short, so counting beats keeping a map.
            if self.recent.iter().take(index).any(|earlier| earlier == token) {
                continue;
            }
            let count = self.recent.iter().filter(|other| *other == token).count();
            if let Some(logit) = logits.get_mut(*token as usize) {
                self.originals.push((*token as usize, *logit));
                *logit = self.settings.penalise(*logit, count as f32);
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<i32> {
        if self.settings.temperature == 0.0 || self.settings.top_k == 1 {
            return argmax(logits).map(|(token, _)| token).ok_or_else(unusable);
        }
        self.filter(logits)?;
        Ok(self.draw())
    }

    /// Leaves in `candidates` what top-k, top-p and min-p let through, best first.
    fn filter(&mut self, logits: &[f32]) -> Result<()> {
        let Settings { top_k, top_p, min_p, .. } = self.settings;
        if top_k > 0 && top_k < logits.len() {
            likeliest(logits, top_k, &mut self.candidates).ok_or_else(unusable)?;
            if top_p < 1.0 {
                let max = self.candidates[0].logit;
                let sum = self.candidates.iter().map(|candidate| (candidate.logit - max).exp()).sum();
                self.keep_nucleus(top_p, sum);
            }
        } else {
            let (_, max) = argmax(logits).ok_or_else(unusable)?;
            if top_p < 1.0 {
                self.take_nucleus(logits, top_p, max)?;
            } else {
                let floor = if min_p > 0.0 { max + min_p.ln() } else { f32::NEG_INFINITY };
                self.candidates.clear();
                self.candidates.extend(select::at_least(logits, floor));
                return Ok(());
            }
        }
        if min_p > 0.0 {
            let floor = self.candidates[0].logit + min_p.ln();
            self.candidates.retain(|candidate| candidate.logit >= floor);
        }
        Ok(())
    }

    /// Top-p over the whole vocabulary: looks at ever more of the likeliest tokens until they suffice.
    fn take_nucleus(&mut self, logits: &[f32], top_p: f32, max: f32) -> Result<()> {
        let sum = exp_sum(logits, max);
        let mut view = FIRST_VIEW;
        loop {
            likeliest(logits, view, &mut self.candidates).ok_or_else(unusable)?;
            if self.keep_nucleus(top_p, sum) || view >= logits.len() {
                return Ok(());
            }
            view = view.saturating_mul(WIDENING);
        }
    }

    /// Cuts the sorted candidates after the one that reaches `top_p` of `sum`; says whether one did.
    fn keep_nucleus(&mut self, top_p: f32, sum: f32) -> bool {
        let max = self.candidates[0].logit;
        let mut reached = 0.0;
        let place = self.candidates.iter().position(|candidate| {
            reached += (candidate.logit - max).exp() / sum;
            reached >= top_p
        });
        self.candidates.truncate(place.map_or(usize::MAX, |place| place + 1));
        place.is_some()
    }

    /// Draws one of the candidates at the temperature in force.
    fn draw(&mut self) -> i32 {
        let max = self.candidates.iter().fold(f32::NEG_INFINITY, |max, candidate| max.max(candidate.logit));
        let mut sum = 0.0;
        for candidate in &mut self.candidates {
            candidate.weight = f64::from(((candidate.logit - max) / self.settings.temperature).exp());
            sum += candidate.weight;
        }
        // 53 random bits make a uniform number in 0..1.
        let mut left = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
        for candidate in &self.candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding may leave a crumb; it belongs to the last candidate that can be drawn at all.
        self.candidates.iter().rfind(|candidate| candidate.weight > 0.0).map_or(0, |candidate| candidate.token)
    }
}

fn unusable() -> EngineError {
    EngineError::DecodeFailed("the logits are not numbers".into())
}
