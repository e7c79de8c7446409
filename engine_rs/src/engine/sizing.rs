//! How large the context of an engine is.

use super::types::EngineOptions;
use crate::error::{EngineError, Result};
use crate::gguf::GgufSummary;
use crate::hardware::Memory;

/// Tokens per request nobody asked for more than.
const DEFAULT_CONTEXT: u32 = 8192;
/// Halving stops here; a model that does not fit then is refused by the library.
const LEAST_CONTEXT: u32 = 512;
/// More sequences than any library version holds.
const MAX_PARALLEL: u32 = 64;
/// Prompt tokens read in one step. It equals what the library computes at once, so that a step is one piece of work.
pub(super) const BATCH: u32 = 512;

/// Refuses options that no context could be made of.
pub(super) fn check(options: &EngineOptions) -> Result<()> {
    let refuse = |param: &'static str, message: String| Err(EngineError::InvalidParameter { param, message });
    if options.parallel == 0 || options.parallel > MAX_PARALLEL {
        return refuse("parallel", format!("parallel must be from 1 to {MAX_PARALLEL}, got {}", options.parallel));
    }
    if options.threads == Some(0) {
        return refuse("threads", "threads must be at least 1".into());
    }
    let cells = u64::from(options.ctx_size.unwrap_or(1)) * u64::from(options.parallel);
    if cells == 0 || i32::try_from(cells).is_err() {
        return refuse("ctx_size", format!("a ctx_size of {:?} cannot be had", options.ctx_size));
    }
    Ok(())
}

/// Tokens one request may use. Without a wish, the cache of all sequences takes half at most of what the weights leave.
pub(super) fn context_size(options: &EngineOptions, summary: &GgufSummary, memory: &Memory) -> u32 {
    let sizes = &summary.dimensions;
    // Where the system does not tell, there is enough.
    let left = if memory.total == 0 { u64::MAX } else { memory.available.saturating_sub(summary.weight_bytes) };
    options.ctx_size.unwrap_or_else(|| fitting(sizes.context_length, sizes.kv_bytes_per_token, options.parallel, left))
}

fn fitting(trained: u32, kv_bytes_per_token: u64, parallel: u32, left: u64) -> u32 {
    let mut size = trained.min(DEFAULT_CONTEXT);
    let bytes = |size: u32| kv_bytes_per_token.saturating_mul(u64::from(size) * u64::from(parallel));
    while size > LEAST_CONTEXT && bytes(size) > left / 2 {
        size /= 2;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::{check, fitting};
    use crate::engine::EngineOptions;

    #[test]
    fn without_a_wish_the_context_is_what_was_trained_up_to_a_limit() {
        assert_eq!(fitting(2048, 1, 4, u64::MAX), 2048);
        assert_eq!(fitting(131_072, 1, 4, u64::MAX), 8192);
    }

    #[test]
    fn without_a_wish_the_cache_takes_half_of_the_memory_at_most() {
        // 4 × 8192 × 1000 bytes are 32 MB.
        assert_eq!(fitting(8192, 1000, 4, 70_000_000), 8192);
        assert_eq!(fitting(8192, 1000, 4, 60_000_000), 4096);
        assert_eq!(fitting(8192, 1000, 4, 1), 512);
    }

    #[test]
    fn impossible_options_are_refused_by_name() {
        let default = EngineOptions::default;
        let bad = [
            ("parallel", EngineOptions { parallel: 0, ..default() }),
            ("parallel", EngineOptions { parallel: 65, ..default() }),
            ("threads", EngineOptions { threads: Some(0), ..default() }),
            ("ctx_size", EngineOptions { ctx_size: Some(0), ..default() }),
            ("ctx_size", EngineOptions { ctx_size: Some(u32::MAX), ..default() }),
        ];
        for (param, options) in bad {
            assert_eq!(check(&options).unwrap_err().param(), Some(param));
        }
        check(&default()).unwrap();
    }
}
