//! How tokens are chosen: what a request may say, what a model recommends, what applies otherwise.

use crate::error::{EngineError, Result};
use crate::gguf::Metadata;

/// How tokens are chosen; an absent field takes the model's default, else the contract's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: Option<u32>,
    /// Keep the smallest set whose probability reaches this; 1 keeps all.
    pub top_p: Option<f32>,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of recent tokens; 1 is off.
    pub repeat_penalty: Option<f32>,
    /// Subtracted from the logit of every recent token; 0 is off.
    pub presence_penalty: Option<f32>,
    /// Subtracted per recent occurrence; 0 is off.
    pub frequency_penalty: Option<f32>,
    /// Absent: drawn at random and reported.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(i32, f32)>,
    /// Never produce an end-of-generation token.
    pub ignore_eos: bool,
}

impl SamplingParams {
    /// What a model recommends under `general.sampling.*`. Values that no request could carry are ignored.
    #[must_use]
    pub fn recommended(metadata: &Metadata) -> Self {
        let number = |key: &str| metadata.number(&format!("general.sampling.{key}")).map(|value| value as f32);
        let mut params = Self {
            temperature: number("temp"),
            top_k: number("top_k").filter(|k| *k >= 0.0).map(|k| k as u32),
            top_p: number("top_p"),
            min_p: number("min_p"),
            repeat_penalty: number("penalty_repeat"),
            ..Self::default()
        };
        for value in [&mut params.temperature, &mut params.top_p, &mut params.min_p, &mut params.repeat_penalty] {
            *value = value.filter(|value| value.is_finite());
        }
        params.temperature = params.temperature.filter(|value| *value >= 0.0);
        params.top_p = params.top_p.filter(|value| is_fraction(*value));
        params.min_p = params.min_p.filter(|value| is_fraction(*value));
        params.repeat_penalty = params.repeat_penalty.filter(|value| *value > 0.0);
        params
    }

    /// Refuses what is out of range with `invalid_parameter`; `vocab_size` bounds the tokens of `logit_bias`.
    pub fn validate(&self, vocab_size: u32) -> Result<()> {
        let any = |_: f32| true;
        check("temperature", self.temperature, |value| value >= 0.0, "a number from 0")?;
        check("top_p", self.top_p, is_fraction, "a number from 0 to 1")?;
        check("min_p", self.min_p, is_fraction, "a number from 0 to 1")?;
        check("repeat_penalty", self.repeat_penalty, |value| value > 0.0, "a number above 0")?;
        check("presence_penalty", self.presence_penalty, any, "a number")?;
        check("frequency_penalty", self.frequency_penalty, any, "a number")?;
        for (token, bias) in &self.logit_bias {
            let known = u32::try_from(*token).is_ok_and(|token| token < vocab_size);
            if !known || bias.is_nan() || *bias == f32::INFINITY {
                let message = format!("logit_bias must map tokens below {vocab_size} to numbers, got {token}: {bias}");
                return Err(EngineError::InvalidParameter { param: "logit_bias", message });
            }
        }
        Ok(())
    }
}

fn is_fraction(value: f32) -> bool {
    (0.0..=1.0).contains(&value)
}

fn check(param: &'static str, value: Option<f32>, holds: impl Fn(f32) -> bool, wanted: &str) -> Result<()> {
    match value {
        Some(value) if !value.is_finite() || !holds(value) => {
            Err(EngineError::InvalidParameter { param, message: format!("{param} must be {wanted}, got {value}") })
        }
        _ => Ok(()),
    }
}

/// All choices made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
}

impl Settings {
    pub(super) fn resolve(params: &SamplingParams, defaults: &SamplingParams) -> Self {
        Self {
            temperature: params.temperature.or(defaults.temperature).unwrap_or(0.8),
            top_k: params.top_k.or(defaults.top_k).unwrap_or(40) as usize,
            top_p: params.top_p.or(defaults.top_p).unwrap_or(0.95),
            min_p: params.min_p.or(defaults.min_p).unwrap_or(0.05),
            repeat_penalty: params.repeat_penalty.or(defaults.repeat_penalty).unwrap_or(1.0),
            presence_penalty: params.presence_penalty.or(defaults.presence_penalty).unwrap_or(0.0),
            frequency_penalty: params.frequency_penalty.or(defaults.frequency_penalty).unwrap_or(0.0),
        }
    }

    #[allow(clippy::float_cmp, reason = "exactly these values switch a penalty off")]
    pub(super) fn penalises(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// The logit of a token that occurred `count` times lately.
    pub(super) fn penalise(&self, logit: f32, count: f32) -> f32 {
        let repeated = if logit > 0.0 { logit / self.repeat_penalty } else { logit * self.repeat_penalty };
        repeated - self.presence_penalty - count * self.frequency_penalty
    }
}
