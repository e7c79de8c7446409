//! Chooses the next token from raw logits.

/// How tokens are chosen; an absent field takes the model's default, else the contract's.
#[derive(Debug, Clone, Default)]
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
