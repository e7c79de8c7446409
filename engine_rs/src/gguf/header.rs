//! Parses a whole GGUF header: magic, version, key-value pairs and tensor table.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::metadata::{MetaValue, Pairs, read_pairs};
use super::reader::{Reader, invalid};
use super::tensor_type::{TensorType, tensor_type};
use crate::error::{EngineError, Result};

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The library keeps names in fixed arrays of 64 bytes, the final zero included.
const MAX_NAME: usize = 63;
const MAX_DIMENSIONS: u32 = 4;

/// One row of the tensor table.
pub(super) struct Tensor {
    pub name: String,
    pub type_id: u32,
    /// `None` when the type is retired or unknown; its size is unknown then.
    pub layout: Option<TensorType>,
    pub dimensions: u32,
    pub elements: u64,
    pub bytes: u64,
}

pub(super) struct Header {
    pub version: u32,
    pub pairs: Pairs,
    pub tensors: Vec<Tensor>,
}

pub(super) fn parse<R: Read + Seek>(source: R, file_bytes: u64) -> Result<Header> {
    let mut reader = Reader::new(source, file_bytes);
    if reader.bytes::<4>()? != MAGIC {
        return Err(invalid("the file does not start with GGUF"));
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(EngineError::GgufUnsupported(match version.swap_bytes() {
            2 | 3 => "the file is big-endian".into(),
            _ => format!("version {version} of the format"),
        }));
    }
    // The shortest pair is an empty key, a type and one byte; the shortest tensor has no dimensions.
    let tensor_count = reader.count(24, "tensors")?;
    let pair_count = reader.count(13, "metadata pairs")?;
    let pairs = read_pairs(&mut reader, pair_count)?;
    let alignment = match pairs.metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(MetaValue::Unsigned(value)) if value.is_power_of_two() && u32::try_from(*value).is_ok() => *value,
        Some(other) => return Err(invalid(format!("an alignment of {other:?}"))),
    };
    let tensors = read_tensors(&mut reader, tensor_count, alignment, file_bytes)?;
    Ok(Header { version, pairs, tensors })
}

fn read_tensors<R: Read + Seek>(
    reader: &mut Reader<R>,
    count: u64,
    alignment: u64,
    file_bytes: u64,
) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    let mut offsets = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let (tensor, offset) = read_tensor(reader)?;
        if !seen.insert(tensor.name.clone()) {
            return Err(invalid(format!("the tensor {:?} appears twice", tensor.name)));
        }
        if offset % alignment != 0 {
            return Err(invalid(format!("the data of {:?} is not aligned", tensor.name)));
        }
        tensors.push(tensor);
        offsets.push(offset);
    }
    let data = reader.position().checked_next_multiple_of(alignment).ok_or_else(|| invalid("an absurd alignment"))?;
    for (tensor, offset) in tensors.iter().zip(offsets) {
        let end = data.checked_add(offset).and_then(|start| start.checked_add(tensor.bytes));
        if end.is_none_or(|end| end > file_bytes) {
            return Err(invalid(format!("the data of {:?} lies beyond the end of the file", tensor.name)));
        }
    }
    Ok(tensors)
}

/// One row of the tensor table and the offset of its data.
fn read_tensor<R: Read + Seek>(reader: &mut Reader<R>) -> Result<(Tensor, u64)> {
    let name = reader.string()?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(invalid(format!("a tensor name of {} bytes", name.len())));
    }
    let dimensions = reader.u32()?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(invalid(format!("{name:?} has {dimensions} dimensions")));
    }
    let mut elements: u64 = 1;
    let mut row = 1;
    for dimension in 0..dimensions {
        let size = reader.u64()?;
        if dimension == 0 {
            row = size;
        }
        elements = elements
            .checked_mul(size)
            .filter(|elements| *elements > 0 && i64::try_from(*elements).is_ok())
            .ok_or_else(|| invalid(format!("{name:?} has an absurd shape")))?;
    }
    let type_id = reader.u32()?;
    let offset = reader.u64()?;
    let layout = tensor_type(type_id);
    let bytes = match layout {
        None => 0,
        Some(layout) if row % layout.block_elements != 0 => {
            return Err(invalid(format!("the rows of {name:?} are not whole {} blocks", layout.name)));
        }
        Some(layout) => (elements / layout.block_elements)
            .checked_mul(layout.block_bytes)
            .ok_or_else(|| invalid(format!("{name:?} has an absurd size")))?,
    };
    Ok((Tensor { name, type_id, layout, dimensions, elements, bytes }, offset))
}
