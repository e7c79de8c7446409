//! Parses and judges GGUF files in safe Rust, before any C code sees them.
//!
//! `libllama` answers some bad files by aborting the process, so what it cannot run is refused here. Nothing is
//! allocated by a count that the file merely claims.

mod dimensions;
#[cfg(test)]
pub(crate) mod fixture;
mod header;
mod heads;
mod hyperparameters;
mod metadata;
mod reader;
mod shapes;
mod split;
mod tensor_type;
mod ternary;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::Path;

pub use dimensions::Dimensions;
pub(crate) use header::Tensor;
pub use metadata::{MetaValue, Metadata};
pub(crate) use tensor_type::I2_S;
pub use ternary::Ternary;

use crate::error::{EngineError, Result};
use header::{Header, parse};
use reader::invalid;

/// Architectures that do not continue text one token after another: encoders, speech, parts of other models.
const NOT_GENERATIVE: [&str; 18] = [
    "bert",
    "clip",
    "dflash",
    "eagle3",
    "eurobert",
    "gemma-embedding",
    "gemma4-assistant",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "pockettts",
    "t5",
    "t5encoder",
    "wavtokenizer-dec",
];
/// Tensors that enter no matrix product, by the end of their name.
const ELEMENTWISE: [&str; 6] = [".bias", "norm.weight", ".ssm_a", ".ssm_d", "conv1d.weight", "shortconv.conv.weight"];

/// All tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorTotal {
    /// Number of the type in the file.
    pub type_id: u32,
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
    /// Size of the file in bytes, of a split model that of all its files.
    pub file_bytes: u64,
    /// Files that the model consists of.
    pub parts: u64,
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// All key-value pairs; long arrays without their items.
    pub metadata: Metadata,
    /// Tensors by type, most bytes first.
    pub tensor_types: Vec<TensorTotal>,
    /// Whether some weights have a scale beside them, as a tensor of its own.
    pub has_scales: bool,
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
    /// Weights of three values, and how they run; `None` in other files.
    pub ternary: Option<Ternary>,
    /// Why this engine cannot run the file; `None` when it can.
    pub problem: Option<String>,
}

/// Where the parts of a file lie, for those who copy it.
pub(crate) struct Layout {
    /// Key, and where type and value lie.
    pub pairs: Vec<(String, Range<u64>)>,
    pub tensors: Vec<Tensor>,
    /// Tensor data begins at multiples of this.
    pub alignment: u64,
    /// Where the data of all tensors begins.
    pub data_start: u64,
}

impl GgufSummary {
    /// Refuses a file that this engine cannot run.
    pub fn require_supported(&self) -> Result<()> {
        self.problem.as_ref().map_or(Ok(()), |problem| Err(EngineError::GgufUnsupported(problem.clone())))
    }

    /// Refuses a file that the library cannot load as it is.
    pub fn require_loadable(&self) -> Result<()> {
        self.require_supported()?;
        if self.ternary.as_ref().is_some_and(|ternary| ternary.needs_transcoding) {
            return Err(EngineError::GgufUnsupported("the file must be transcoded first".into()));
        }
        Ok(())
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

/// Reads the header of the file at `path`, of a split model those of all its files.
///
/// A file that is well-formed but cannot be run is no error: [`GgufSummary::problem`] says why.
pub fn inspect(path: &Path) -> Result<GgufSummary> {
    let (mut header, bytes) = read_header(path)?;
    let others = split::join(path, &mut header)?;
    Ok(summarise(header, bytes.saturating_add(others))?.0)
}

/// Like [`inspect`], for any source of `len` bytes that is a whole model.
pub fn inspect_source<R: Read + Seek>(source: R, len: u64) -> Result<GgufSummary> {
    Ok(inspect_layout(source, len)?.0)
}

/// Like [`inspect_source`], and where everything lies.
pub(crate) fn inspect_layout<R: Read + Seek>(source: R, len: u64) -> Result<(GgufSummary, Layout)> {
    let header = parse(source, len)?;
    if split::parts(&header.pairs.metadata)? > 1 {
        return Err(EngineError::GgufUnsupported("one part of a model".into()));
    }
    summarise(header, len)
}

/// The header and the size of a regular file.
fn read_header(path: &Path) -> Result<(Header, u64)> {
    let (file, bytes) = open(path)?;
    Ok((parse(file, bytes)?, bytes))
}

/// Opens a regular file and tells its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let not_found = || EngineError::ModelNotFound(path.display().to_string());
    // Asked before opening: opening a pipe would block.
    let facts = fs::metadata(path).map_err(|_| not_found())?;
    if !facts.is_file() {
        return Err(not_found());
    }
    let file =
        File::open(path).map_err(|error| EngineError::ModelLoadFailed(format!("{}: {error}", path.display())))?;
    Ok((file, facts.len()))
}

fn summarise(header: Header, file_bytes: u64) -> Result<(GgufSummary, Layout)> {
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
    let summary = GgufSummary {
        version: header.version,
        file_bytes,
        parts: split::parts(metadata)?,
        name: metadata.text("general.name").map(str::to_owned),
        tensor_types: totals(&header.tensors),
        has_scales: header.tensors.iter().any(|tensor| tensor.name.strip_suffix(".scale").is_some()),
        tensor_count: header.tensors.len() as u64,
        parameters: header.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements)),
        weight_bytes: header.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes)),
        dimensions,
        vocab_size,
        ternary: ternary::recognise(&header, &architecture),
        problem,
        architecture,
        metadata: header.pairs.metadata,
    };
    let keys = summary.metadata.iter().map(|(key, _)| key.to_owned());
    let layout = Layout {
        pairs: keys.zip(header.pairs.spans).collect(),
        tensors: header.tensors,
        alignment: header.alignment,
        data_start: header.data_start,
    };
    Ok((summary, layout))
}

fn judge(header: &Header, architecture: &str, dimensions: &mut Dimensions, vocab_size: &mut u32) -> Result<()> {
    let metadata = &header.pairs.metadata;
    let unsupported = |reason: String| Err(EngineError::GgufUnsupported(reason));
    let generative = metadata.get(&format!("{architecture}.attention.causal")) != Some(&MetaValue::Bool(false));
    if NOT_GENERATIVE.contains(&architecture) || !generative {
        return unsupported(format!("a {architecture} model does not generate text"));
    }
    hyperparameters::judge(metadata, architecture)?;
    *dimensions = Dimensions::read(metadata, architecture)?;
    *vocab_size = vocabulary::judge(metadata, &header.pairs.vocabulary)?;
    if header.tensors.is_empty() {
        return unsupported("the file has no tensors".into());
    }
    header.tensors.iter().try_for_each(|tensor| judge_tensor(tensor, architecture))?;
    shapes::judge(header, architecture, dimensions, *vocab_size)?;
    let ternary = ternary::recognise(header, architecture);
    if split::parts(metadata)? > 1 && ternary.is_some_and(|ternary| ternary.needs_transcoding) {
        return unsupported("a ternary model in several files, which only one file can be transcoded from".into());
    }
    Ok(())
}

/// Refuses the tensors that load and then crash.
fn judge_tensor(tensor: &Tensor, architecture: &str) -> Result<()> {
    let reason = match tensor.layout {
        None => ternary::unknown_type(tensor),
        Some(_) if tensor.type_id == I2_S => return ternary::judge(tensor, architecture),
        Some(layout) if !layout.runs => format!("{:?} has the tensor type {}", tensor.name, layout.name),
        // Vectors enter element-wise operations, which take nothing else.
        Some(layout) if is_vector(tensor) && layout.name != "F32" => {
            format!("{:?} is a vector of type {}", tensor.name, layout.name)
        }
        Some(_) => return Ok(()),
    };
    Err(EngineError::GgufUnsupported(reason))
}

/// Whether a tensor is a vector, or a row of them.
fn is_vector(tensor: &Tensor) -> bool {
    tensor.elements == tensor.shape[0] || ELEMENTWISE.iter().any(|end| tensor.name.ends_with(end))
}

fn totals(tensors: &[Tensor]) -> Vec<TensorTotal> {
    let mut by_type: BTreeMap<u32, TensorTotal> = BTreeMap::new();
    for tensor in tensors {
        let total = by_type.entry(tensor.type_id).or_insert_with(|| TensorTotal {
            type_id: tensor.type_id,
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
