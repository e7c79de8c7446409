//! Judges the numbers under an architecture's keys: one out of its range becomes an assertion, or noise for text.

use std::ops::RangeInclusive;

use super::metadata::{MetaValue, Metadata};
use super::reader::invalid;
use crate::error::{EngineError, Result};

/// Floats by the end of their key, and what they may be; the others must be finite.
const RANGES: [(&str, RangeInclusive<f64>); 6] = [
    ("epsilon", 0.0..=1.0),
    ("rope.freq_base", 1.0..=1e15),
    ("rope.freq_base_swa", 1.0..=1e15),
    // 0 means none.
    ("rope.scaling.factor", 0.0..=1e6),
    ("rope.scale_linear", 0.0..=1e6),
    ("attention.max_alibi_bias", 0.0..=1e6),
];
/// Architectures that must say how they share out the rotated dimensions.
const SHARED_OUT: [&str; 8] =
    ["paddleocr", "qwen2vl", "qwen35", "qwen35moe", "qwen3tts", "qwen3vl", "qwen3vlmoe", "qwen4exp"];
/// Keys without which an architecture is none, and the least they may be.
const REQUIRED: [(&str, &str, u64); 15] = [
    ("bailingmoe2", "expert_count", 1),
    ("ernie4_5-moe", "expert_count", 1),
    ("ernie4_5-moe", "interleave_moe_layer_step", 1),
    ("glm4moe", "expert_count", 1),
    ("grovemoe", "expert_count", 1),
    ("grovemoe", "experts_per_group", 1),
    ("hrm_text", "hrm.h_cycles", 1),
    ("hrm_text", "hrm.l_cycles", 1),
    ("hrm_text", "hrm.layers_per_stack", 1),
    ("lfm2", "shortconv.l_cache", 2),
    ("lfm2moe", "expert_count", 1),
    ("lfm2moe", "shortconv.l_cache", 2),
    ("llada-moe", "expert_count", 1),
    ("minimax-m3", "attention.indexer.block_size", 1),
    ("smallthinker", "expert_count", 1),
];
const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];

pub(super) fn judge(metadata: &Metadata, architecture: &str) -> Result<()> {
    for (key, value) in metadata.iter() {
        let Some(name) = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.')) else { continue };
        if !in_range(name, value) {
            return Err(invalid(format!("{key} is {}", shown(value))));
        }
    }
    for (_, key, least) in REQUIRED.iter().filter(|(name, ..)| *name == architecture) {
        let key = format!("{architecture}.{key}");
        if metadata.number(&key).is_none_or(|number| number < *least as f64) {
            return Err(invalid(format!("{key} must be {least} at least")));
        }
    }
    judge_sections(metadata, architecture)?;
    judge_windows(metadata, architecture)
}

fn in_range(name: &str, value: &MetaValue) -> bool {
    match value {
        MetaValue::Float(float) => {
            let range = RANGES.iter().find(|(end, _)| name.ends_with(end)).map(|(_, range)| range);
            // Beyond this, a product of two is infinite.
            float.abs() <= 1e18 && range.is_none_or(|range| range.contains(float))
        }
        MetaValue::Unsigned(number) => i32::try_from(*number).is_ok(),
        MetaValue::Signed(number) => i32::try_from(*number).is_ok(),
        MetaValue::Text(text) if name == "rope.scaling.type" => ROPE_SCALINGS.contains(&text.as_str()),
        MetaValue::Bool(_) | MetaValue::Text(_) | MetaValue::Array { .. } => true,
    }
}

fn shown(value: &MetaValue) -> String {
    match value {
        MetaValue::Unsigned(number) => number.to_string(),
        MetaValue::Signed(number) => number.to_string(),
        MetaValue::Float(number) => number.to_string(),
        MetaValue::Bool(truth) => truth.to_string(),
        MetaValue::Text(text) => format!("{text:?}"),
        MetaValue::Array { item, len, .. } => format!("an array of {len} {item}"),
    }
}

/// How multimodal models share the rotated dimensions out among time, height and width.
fn judge_sections(metadata: &Metadata, architecture: &str) -> Result<()> {
    let key = format!("{architecture}.rope.dimension_sections");
    match metadata.get(&key) {
        None if !SHARED_OUT.contains(&architecture) => Ok(()),
        Some(MetaValue::Array { integers, .. })
            if (3..=4).contains(&integers.len())
                && integers.iter().all(|size| (0..=1 << 16).contains(size))
                && integers[..3].iter().any(|size| *size > 0) =>
        {
            Ok(())
        }
        _ => Err(invalid(format!("{key} does not share out the dimensions"))),
    }
}

/// An architecture of sliding windows whose layers all see everything trips an assertion.
fn judge_windows(metadata: &Metadata, architecture: &str) -> Result<()> {
    let key = format!("{architecture}.attention.sliding_window_pattern");
    let slides = match metadata.get(&key) {
        Some(MetaValue::Unsigned(period)) => *period != 1,
        Some(MetaValue::Array { integers, len, .. }) if *len as usize == integers.len() => {
            integers.iter().any(|slides| *slides != 0)
        }
        _ => true,
    };
    let has_window = metadata.number(&format!("{architecture}.attention.sliding_window")).is_some_and(|n| n > 0.0);
    if slides || !has_window {
        return Ok(());
    }
    Err(EngineError::GgufUnsupported(format!("{key} gives no layer a sliding window")))
}
