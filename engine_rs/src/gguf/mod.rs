//! Parses and judges GGUF files in safe Rust, before any C code sees them.
//!
//! `libllama` answers some bad files by aborting the process, so what it cannot run is refused here. Nothing is
//! allocated by a count that the file merely claims.

mod dimensions;
#[cfg(test)]
pub(crate) mod fixture;
mod header;
mod metadata;
mod reader;
mod tensor_type;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;

pub use dimensions::Dimensions;
pub use metadata::{MetaValue, Metadata};

use crate::error::{EngineError, Result};
use header::{Header, Tensor, parse};
use reader::invalid;

/// Architectures that do not continue text one token after another.
const NOT_GENERATIVE: [&str; 4] = ["clip", "t5", "t5encoder", "wavtokenizer-dec"];

/// All tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorTotal {
    /// Name of the type, e.g. `Q4_0`.
    pub name: String,
    /// Tensors of this type.
    pub tensors: u64,
    /// Bytes they take; 0 for a type the engine does not know.
    pub bytes: u64,
}

/// What a GGUF file says about itself, and whether this engine can run it.
#[derive(Debug, Clone)]
pub struct GgufSummary {
    /// Version of the format: 2 or 3.
    pub version: u32,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// All key-value pairs; long arrays without their items.
    pub metadata: Metadata,
    /// Tensors by type, most bytes first.
    pub tensor_types: Vec<TensorTotal>,
    /// Number of tensors.
    pub tensor_count: u64,
    /// Weights in all tensors together.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Sizes of the model; zero where the architecture is refused.
    pub dimensions: Dimensions,
    /// Entries of the vocabulary; 0 where it is refused.
    pub vocab_size: u32,
    /// Why this engine cannot run the file; `None` when it can.
    pub problem: Option<String>,
}

impl GgufSummary {
    /// Refuses a file that this engine cannot run.
    pub fn require_supported(&self) -> Result<()> {
        self.problem.as_ref().map_or(Ok(()), |problem| Err(EngineError::GgufUnsupported(problem.clone())))
    }

    /// The chat template, if the file has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.metadata.text("tokenizer.chat_template")
    }

    /// Bytes that the weights and a cache of `tokens` tokens take; compute buffers come on top.
    #[must_use]
    pub fn memory_estimate(&self, tokens: u64) -> u64 {
        self.weight_bytes.saturating_add(self.dimensions.kv_bytes_per_token.saturating_mul(tokens))
    }
}

/// Reads the header of the file at `path`.
///
/// A file that is well-formed but cannot be run is no error: [`GgufSummary::problem`] says why.
pub fn inspect(path: &Path) -> Result<GgufSummary> {
    let not_found = || EngineError::ModelNotFound(path.display().to_string());
    // Asked before opening: opening a pipe would block.
    let facts = fs::metadata(path).map_err(|_| not_found())?;
    if !facts.is_file() {
        return Err(not_found());
    }
    let file =
        File::open(path).map_err(|error| EngineError::ModelLoadFailed(format!("{}: {error}", path.display())))?;
    inspect_source(file, facts.len())
}

/// Like [`inspect`], for any source of `len` bytes.
pub fn inspect_source<R: Read + Seek>(source: R, len: u64) -> Result<GgufSummary> {
    let header = parse(source, len)?;
    let metadata = &header.pairs.metadata;
    let architecture =
        metadata.text("general.architecture").ok_or_else(|| invalid("general.architecture is missing"))?.to_owned();
    let mut dimensions = Dimensions::default();
    let mut vocab_size = 0;
    let problem = match judge(&header, &architecture, &mut dimensions, &mut vocab_size) {
        Ok(()) => None,
        Err(EngineError::GgufUnsupported(problem)) => Some(problem),
        Err(error) => return Err(error),
    };
    Ok(GgufSummary {
        version: header.version,
        file_bytes: len,
        name: metadata.text("general.name").map(str::to_owned),
        architecture,
        tensor_types: totals(&header.tensors),
        tensor_count: header.tensors.len() as u64,
        parameters: header.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements)),
        weight_bytes: header.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes)),
        dimensions,
        vocab_size,
        problem,
        metadata: header.pairs.metadata,
    })
}

fn judge(header: &Header, architecture: &str, dimensions: &mut Dimensions, vocab_size: &mut u32) -> Result<()> {
    let metadata = &header.pairs.metadata;
    let unsupported = |reason: String| Err(EngineError::GgufUnsupported(reason));
    let generative = metadata.get(&format!("{architecture}.attention.causal")) != Some(&MetaValue::Bool(false));
    if NOT_GENERATIVE.contains(&architecture) || !generative {
        return unsupported(format!("a {architecture} model does not generate text"));
    }
    if metadata.number("split.count").is_some_and(|parts| parts > 1.0) {
        return unsupported("a model split over several files".into());
    }
    *dimensions = Dimensions::read(metadata, architecture)?;
    *vocab_size = vocabulary::judge(metadata, header.pairs.tokens.as_ref())?;
    if header.tensors.is_empty() {
        return unsupported("the file has no tensors".into());
    }
    header.tensors.iter().try_for_each(judge_tensor)
}

/// Refuses the tensors that load and then crash.
fn judge_tensor(tensor: &Tensor) -> Result<()> {
    let reason = match tensor.layout {
        None => format!("{:?} has the unknown tensor type {}", tensor.name, tensor.type_id),
        Some(layout) if !layout.runs => format!("{:?} has the tensor type {}", tensor.name, layout.name),
        // Vectors enter element-wise operations, which take nothing else.
        Some(layout) if tensor.dimensions == 1 && layout.name != "F32" => {
            format!("{:?} is a vector of type {}", tensor.name, layout.name)
        }
        Some(_) => return Ok(()),
    };
    Err(EngineError::GgufUnsupported(reason))
}

fn totals(tensors: &[Tensor]) -> Vec<TensorTotal> {
    let mut by_type: BTreeMap<u32, TensorTotal> = BTreeMap::new();
    for tensor in tensors {
        let total = by_type.entry(tensor.type_id).or_insert_with(|| TensorTotal {
            name: tensor.layout.map_or_else(|| format!("type {}", tensor.type_id), |layout| layout.name.into()),
            tensors: 0,
            bytes: 0,
        });
        total.tensors += 1;
        total.bytes = total.bytes.saturating_add(tensor.bytes);
    }
    let mut totals: Vec<_> = by_type.into_values().collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.bytes));
    totals
}
