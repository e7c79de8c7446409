//! How many layers of a model go to a GPU.

use super::sizing::BATCH;
use super::types::{EngineOptions, GpuLayers};
use crate::error::Result;
use crate::ffi::{GpuDevice, Runtime};
use crate::gguf::GgufSummary;

/// Layers to offload of a model whose context has so many `cells`, the one that makes the logits included.
///
/// # Errors
/// As [`Runtime::gpus`], for layers whose number is named.
pub(super) fn layers(runtime: &Runtime, summary: &GgufSummary, options: &EngineOptions, cells: u64) -> Result<u32> {
    let all = summary.dimensions.block_count.saturating_add(1);
    match options.gpu_layers {
        GpuLayers::Count(0) => Ok(0),
        GpuLayers::Count(count) => runtime.gpus().map(|_| count.min(all)),
        // What corrects such a model's graph reads tensors, which it cannot in a GPU's memory.
        GpuLayers::Auto if summary.ternary.as_ref().is_some_and(|ternary| ternary.squared_relu) => Ok(0),
        GpuLayers::Auto => {
            let free = runtime.gpus().unwrap_or_default().iter().map(|device: &GpuDevice| device.memory.1).sum();
            let logits = u64::from(summary.vocab_size) * u64::from(BATCH) * 4;
            Ok(fitting(all, summary.memory_estimate(cells), logits, free))
        }
    }
}

/// How many of the `layers`, which take so many `bytes` with their cache, fit into `free` ones beside the `logits` of
/// a batch; a tenth is left for what else is computed.
fn fitting(layers: u32, bytes: u64, logits: u64, free: u64) -> u32 {
    let usable = (free / 10 * 9).saturating_sub(logits);
    let per_layer = bytes.div_ceil(u64::from(layers)).max(1);
    (usable / per_layer).min(u64::from(layers)) as u32
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn a_large_device_takes_all_layers_and_none_takes_none() {
        assert_eq!(fitting(10, 10_000_000, 200_000, u64::MAX), 10);
        assert_eq!(fitting(10, 10_000_000, 200_000, 0), 0);
        assert_eq!(fitting(10, 0, 0, 1000), 10);
    }

    #[test]
    fn a_smaller_one_takes_some_and_keeps_room_to_compute_in() {
        assert_eq!(fitting(10, 10_000_000, 200_000, 5_000_000), 4);
        assert_eq!(fitting(10, 10_000_000, 4_500_000, 5_000_000), 0);
    }
}
