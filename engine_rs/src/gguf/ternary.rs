//! Recognises weights of three values and judges the encodings that the `BitNet` fork of `llama.cpp` gives them.

use super::header::{Header, Tensor};
use super::tensor_type::{I2_S, TL1, TL2};
use crate::error::{EngineError, Result};

/// Names of the `BitNet-b1.58-2B-4T` graph, which only the fork knows: squared `ReLU` where `bitnet` has `SiLU`.
const SQUARED_RELU: [&str; 2] = ["bitnet-b1.58", "bitnet-25"];
/// Architectures whose `I2_S` files are known to run on a stock library once they are transcoded.
const TRANSCODED: [&str; 4] = ["bitnet-b1.58", "bitnet-25", "bitnet", "llama"];
/// Matrices of a layer for which the library reads a scale.
const SCALED: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// A model of ternary weights, and how it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ternary {
    /// How most ternary tensors are stored: `I2_S`, `TQ2_0` or `TQ1_0`; `None` where a general type holds them.
    pub encoding: Option<&'static str>,
    /// Tensors of a ternary type.
    pub tensors: u64,
    /// The types that the library computes them with.
    pub runs_as: Vec<&'static str>,
    /// Whether the library can load the file only after [`crate::bitnet`] has transcoded it.
    pub needs_transcoding: bool,
    /// Whether the feed-forward layers square their `ReLU`, which stock libraries cannot do by themselves.
    pub squared_relu: bool,
}

/// What is ternary in a file; `None` if nothing is.
pub(super) fn recognise(header: &Header, architecture: &str) -> Option<Ternary> {
    let count = |type_id: u32| header.tensors.iter().filter(|tensor| tensor.type_id == type_id).count() as u64;
    let encodings = [("I2_S", count(I2_S)), ("TQ2_0", count(35)), ("TQ1_0", count(34))];
    let most = encodings.into_iter().filter(|(_, tensors)| *tensors > 0).max_by_key(|(_, tensors)| *tensors);
    let renamed = SQUARED_RELU.contains(&architecture);
    let squared_relu = renamed || header.pairs.metadata.text("tabagent.ffn_activation") == Some("relu_sqr");
    (most.is_some() || squared_relu).then(|| Ternary {
        encoding: most.map(|(encoding, _)| encoding),
        tensors: encodings.iter().map(|(_, tensors)| tensors).sum(),
        runs_as: runs_as(&header.tensors),
        needs_transcoding: renamed || count(I2_S) > 0,
        squared_relu,
    })
}

/// `I2_S` becomes `TQ2_0`, or `Q4_0` where rows are not whole blocks of it.
fn runs_as(tensors: &[Tensor]) -> Vec<&'static str> {
    let whole = |tensor: &Tensor| tensor.shape[0].is_multiple_of(256);
    let has = |runs: &dyn Fn(&Tensor) -> bool| tensors.iter().any(runs);
    let types: [(&str, bool); 3] = [
        ("TQ2_0", has(&|tensor| tensor.type_id == 35 || tensor.type_id == I2_S && whole(tensor))),
        ("Q4_0", has(&|tensor| tensor.type_id == I2_S && !whole(tensor))),
        ("TQ1_0", has(&|tensor| tensor.type_id == 34)),
    ];
    types.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}

/// Refuses `I2_S` where it could not be transcoded to something that gives the same logits.
pub(super) fn judge(tensor: &Tensor, architecture: &str) -> Result<()> {
    let unsupported = |reason: String| Err(EngineError::GgufUnsupported(reason));
    if !TRANSCODED.contains(&architecture) {
        return unsupported(format!("I2_S tensors in a {architecture} model"));
    }
    if tensor.shape.len() != 2 || !is_scaled_matrix(&tensor.name) {
        return unsupported(format!("{:?} is I2_S, which only the matrices of a layer can be", tensor.name));
    }
    Ok(())
}

/// Whether the name is that of `blk.<layer>.<one of the scaled matrices>.weight`.
fn is_scaled_matrix(name: &str) -> bool {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.strip_suffix(".weight"));
    layer
        .and_then(|layer| layer.split_once('.'))
        .is_some_and(|(number, matrix)| number.parse::<u16>().is_ok() && SCALED.contains(&matrix))
}

/// Takes the number 39 for what the fork means by it. Of the two types that bear it `MXFP4` is the larger, so that
/// tables read as `MXFP4` run into each other.
pub(super) fn recognise_lookup_tables(tensors: &mut [Tensor], architecture: Option<&str>) {
    let mut places: Vec<_> = tensors.iter().map(|tensor| (tensor.start, tensor.bytes, tensor.type_id)).collect();
    places.sort_unstable();
    let overlap = places.windows(2).any(|two| two[0].2 == TL2 && two[0].0.saturating_add(two[0].1) > two[1].0);
    let of_bitnet = architecture.is_some_and(|name| name.starts_with("bitnet"));
    if overlap || of_bitnet {
        for tensor in tensors.iter_mut().filter(|tensor| tensor.type_id == TL2) {
            (tensor.layout, tensor.bytes) = (None, 0);
        }
    }
}

/// Why a type that this engine does not know cannot run.
pub(super) fn unknown_type(tensor: &Tensor) -> String {
    let table = match tensor.type_id {
        TL1 => "TL1",
        TL2 => "TL2",
        other => return format!("{:?} has the unknown tensor type {other}", tensor.name),
    };
    format!(
        "{:?} is {table}, which fits only a library compiled for the shapes of that model; get the I2_S file of it",
        tensor.name
    )
}
