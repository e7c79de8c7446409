//! What a model takes of main memory, and whether that can be had, judged before anything is loaded.

use crate::error::{EngineError, Result};
use crate::gguf::GgufSummary;
use crate::hardware::Memory;

/// Bytes of a mask entry and of an activation.
const MASK_BYTES: u64 = 2;
const ACTIVATION_BYTES: u64 = 4;
/// Activations that are alive at once: three as wide as the feed-forward layer, five as wide as the residual stream.
const FEED_FORWARD_BUFFERS: u64 = 3;
const STREAM_BUFFERS: u64 = 5;
/// What the library keeps of one vocabulary entry: its text, its place in two tables, its merges.
const VOCABULARY_ENTRY_BYTES: u64 = 320;

/// Main memory in bytes that a model takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The weights, mapped or not: every token reads all of them, so mapped ones must fit into the page cache. A
    /// library that repacks mapped weights holds a copy and needs the mapped pages no more: they count once.
    pub weights: u64,
    /// The key-value cache of all sequences.
    pub cache: u64,
    /// Buffers that a decode computes in, and the vocabulary.
    pub compute: u64,
}

impl Footprint {
    /// Estimates what a model takes with a context of `cells` tokens that reads `batch` tokens at once.
    pub(super) fn estimate(summary: &GgufSummary, gpu_layers: u32, cells: u64, batch: u64) -> Self {
        let sizes = &summary.dimensions;
        // Offloaded layers, the output layer being one more, take memory of the GPU instead.
        let layers = u64::from(sizes.block_count) + 1;
        let offloaded = u64::from(gpu_layers).min(layers);
        let kept = |bytes: u64| (u128::from(bytes) * u128::from(layers - offloaded) / u128::from(layers)) as u64;
        let stream = u64::from(sizes.embedding_length) * STREAM_BUFFERS;
        let width = stream.saturating_add(feed_forward(summary).saturating_mul(FEED_FORWARD_BUFFERS));
        let activations = width.saturating_mul(batch * ACTIVATION_BYTES);
        let mask = cells.saturating_mul(batch * MASK_BYTES);
        let vocabulary = u64::from(summary.vocab_size) * VOCABULARY_ENTRY_BYTES;
        Self {
            weights: kept(summary.weight_bytes),
            cache: kept(sizes.kv_bytes_per_token.saturating_mul(cells)),
            compute: activations.saturating_add(mask).saturating_add(vocabulary),
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.cache).saturating_add(self.compute)
    }

    /// Refuses what cannot be had; nobody knows how much that is where the system does not tell.
    pub(super) fn require(&self, memory: &Memory) -> Result<()> {
        if memory.total == 0 || self.total() <= memory.available {
            return Ok(());
        }
        let of = match memory.limit {
            Some(limit) => format!("a limit of {} for the control group", size(limit)),
            None => format!("{} in all", size(memory.total)),
        };
        Err(EngineError::OutOfMemory(format!(
            "the model takes {} (weights {}, cache {}, computing {}), but {} of {of} can be had; a smaller --ctx-size or \
             --parallel makes the cache smaller",
            size(self.total()),
            size(self.weights),
            size(self.cache),
            size(self.compute),
            size(memory.available),
        )))
    }
}

/// Width of the feed-forward layer; that of the experts in use together, where there are any.
fn feed_forward(summary: &GgufSummary) -> u64 {
    let number = |key: &str| {
        let value = summary.metadata.number(&format!("{}.{key}", summary.architecture));
        value.filter(|value| *value > 0.0).map(|value| value as u64)
    };
    let stream = u64::from(summary.dimensions.embedding_length);
    let dense = number("feed_forward_length").unwrap_or(4 * stream);
    let experts = number("expert_used_count").zip(number("expert_feed_forward_length"));
    experts.map_or(dense, |(used, width)| dense.max(used.saturating_mul(width)))
}

fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.1} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn footprint() -> Footprint {
        Footprint { weights: 100 * MEBIBYTE, cache: 20 * MEBIBYTE, compute: 5 * MEBIBYTE }
    }

    fn memory(available: u64, limit: Option<u64>) -> Memory {
        Memory { total: 8192 * MEBIBYTE, available, limit }
    }

    #[test]
    fn what_fits_is_not_refused() {
        footprint().require(&memory(125 * MEBIBYTE, None)).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        let error = footprint().require(&memory(124 * MEBIBYTE, None)).unwrap_err();
        assert_eq!(error.code(), "out_of_memory");
        for figure in ["125.0 MiB", "weights 100.0 MiB", "cache 20.0 MiB", "computing 5.0 MiB", "124.0 MiB of 8.0 GiB"]
        {
            assert!(error.to_string().contains(figure), "{figure}: {error}");
        }
    }

    #[test]
    fn a_control_groups_limit_is_named() {
        let error = footprint().require(&memory(MEBIBYTE, Some(64 * MEBIBYTE))).unwrap_err();
        assert!(error.to_string().contains("a limit of 64.0 MiB for the control group"), "{error}");
    }

    #[test]
    fn nothing_is_refused_where_the_system_does_not_tell() {
        footprint().require(&Memory { total: 0, available: 0, limit: None }).unwrap();
    }
}
