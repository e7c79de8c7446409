//! Judges tensors against the architecture's keys: layers, widths, vocabulary and experts must be what these say.

use std::collections::HashMap;

use super::dimensions::Dimensions;
use super::header::{Header, Tensor};
use super::reader::invalid;
use crate::error::Result;

/// Architectures whose layers have just the tensors of [`PLAIN_LAYER`].
const PLAIN: [&str; 3] = ["llama", "qwen2", "qwen3"];
/// Required tensors of a plain layer. Attention may have its three inputs in one.
const PLAIN_LAYER: [&str; 7] =
    ["attn_norm", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down", "attn_q|attn_qkv"];
/// Tensors that read the residual stream.
const READERS: [&str; 3] = ["attn_norm", "ffn_norm", "ffn_gate_inp"];
/// Tensors that hold one matrix per expert.
const EXPERTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

pub(super) fn judge(header: &Header, architecture: &str, dimensions: &Dimensions, vocab_size: u32) -> Result<()> {
    let by_name: HashMap<&str, &Tensor> = header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let width = u64::from(dimensions.embedding_length);
    if let Some(tensor) = by_name.get("token_embd.weight") {
        expect(tensor, &[width, u64::from(vocab_size)], "the embedding length and the vocabulary")?;
    }
    let experts = header.pairs.metadata.number(&format!("{architecture}.expert_count")).unwrap_or(0.0) as u64;
    for tensor in &header.tensors {
        let Some((layer, name)) = layer_of(&tensor.name) else { continue };
        if layer >= u64::from(dimensions.block_count) {
            return Err(invalid(format!("{:?} in a model of {} layers", tensor.name, dimensions.block_count)));
        }
        if READERS.iter().any(|reader| name.strip_suffix(".weight") == Some(reader)) && tensor.shape[0] != width {
            return Err(mismatch(tensor, &format!("the embedding length {width}")));
        }
        if EXPERTS.iter().any(|each| name.strip_suffix(".weight") == Some(each))
            && tensor.shape.get(2) != Some(&experts)
        {
            return Err(mismatch(tensor, &format!("{experts} experts")));
        }
    }
    if !PLAIN.contains(&architecture) || experts > 0 {
        return Ok(());
    }
    judge_plain(&by_name, dimensions.block_count)
}

fn judge_plain(by_name: &HashMap<&str, &Tensor>, layers: u32) -> Result<()> {
    for name in ["token_embd.weight", "output_norm.weight"] {
        if !by_name.contains_key(name) {
            return Err(invalid(format!("the tensor {name:?} is missing")));
        }
    }
    for layer in 0..layers {
        for names in PLAIN_LAYER {
            let present =
                names.split('|').any(|name| by_name.contains_key(format!("blk.{layer}.{name}.weight").as_str()));
            if !present {
                return Err(invalid(format!("layer {layer} of {layers} has no tensor {names}")));
            }
        }
    }
    Ok(())
}

/// The number of the layer a tensor belongs to, and its name in there.
fn layer_of(name: &str) -> Option<(u64, &str)> {
    let (number, name) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((number.parse().ok()?, name))
}

fn expect(tensor: &Tensor, shape: &[u64], what: &str) -> Result<()> {
    if tensor.shape == shape { Ok(()) } else { Err(mismatch(tensor, &format!("{what}, {shape:?}"))) }
}

fn mismatch(tensor: &Tensor, wanted: &str) -> crate::error::EngineError {
    invalid(format!("{:?} has the shape {:?}, which does not fit {wanted}", tensor.name, tensor.shape))
}
