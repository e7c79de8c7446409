//! Parses a whole GGUF header: magic, version, key-value pairs and tensor table.

use std::collections::HashSet;
use std::io::{Read, Seek};
use std::ops::RangeInclusive;

use super::metadata::{MetaValue, Pairs, read_pairs};
use super::reader::{Reader, invalid};
use super::tensor_type::{TensorType, tensor_type};
use super::ternary;
use crate::error::{EngineError, Result};

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// The library keeps names in fixed arrays of 64 bytes, the final zero included.
const MAX_NAME: usize = 63;
const MAX_DIMENSIONS: u32 = 4;
/// The library maps tensors where they lie and insists on the least; the most is a huge page.
const ALIGNMENTS: RangeInclusive<u64> = 32..=1 << 21;
/// The library compares every name with every other: more would take it minutes. Large models have some thousands.
const MAX_TENSORS: u64 = 1 << 15;
const MAX_PAIRS: u64 = 1 << 14;

/// One row of the tensor table.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub name: String,
    pub type_id: u32,
    /// `None` when the type is retired or unknown; its size is unknown then.
    pub(super) layout: Option<TensorType>,
    /// Elements of a row, rows, and so on.
    pub shape: Vec<u64>,
    pub elements: u64,
    pub bytes: u64,
    /// Where its data begins: after the header, as the file says; in the file, once all is read.
    pub start: u64,
}

pub(super) struct Header {
    pub version: u32,
    pub pairs: Pairs,
    pub tensors: Vec<Tensor>,
    /// Tensor data begins at multiples of this.
    pub alignment: u64,
    /// Where the data of all tensors begins.
    pub data_start: u64,
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
    if tensor_count > MAX_TENSORS || pair_count > MAX_PAIRS {
        return Err(invalid(format!("{tensor_count} tensors and {pair_count} metadata pairs")));
    }
    let pairs = read_pairs(&mut reader, pair_count)?;
    let alignment = match pairs.metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(MetaValue::Unsigned(value)) if value.is_power_of_two() && ALIGNMENTS.contains(value) => *value,
        Some(other) => return Err(invalid(format!("general.alignment is {other:?}, not a power of two from 32"))),
    };
    let mut tensors = read_tensors(&mut reader, tensor_count)?;
    let data_start =
        reader.position().checked_next_multiple_of(alignment).ok_or_else(|| invalid("an absurd alignment"))?;
    ternary::recognise_lookup_tables(&mut tensors, pairs.metadata.text("general.architecture"));
    place(&mut tensors, data_start, alignment, file_bytes)?;
    Ok(Header { version, pairs, tensors, alignment, data_start })
}

fn read_tensors<R: Read + Seek>(reader: &mut Reader<R>, count: u64) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let tensor = read_tensor(reader)?;
        if !seen.insert(tensor.name.clone()) {
            return Err(invalid(format!("the tensor {:?} appears twice", tensor.name)));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

/// Turns offsets into places in the file. Tensors lie in their order without gaps: the library insists on it, and
/// none overlaps another.
fn place(tensors: &mut [Tensor], data_start: u64, alignment: u64, file_bytes: u64) -> Result<()> {
    // After a tensor of unknown size, nobody knows where the next one begins.
    let mut expected = Some(0_u64);
    for tensor in tensors {
        if expected.is_some_and(|offset| offset != tensor.start) || !tensor.start.is_multiple_of(alignment) {
            return Err(invalid(format!("the data of {:?} does not follow the tensor before it", tensor.name)));
        }
        let end = tensor.start.checked_add(tensor.bytes);
        let start = data_start.checked_add(tensor.start);
        let last = end.and_then(|end| end.checked_add(data_start)).filter(|last| *last <= file_bytes);
        let (Some(start), Some(end), Some(..)) = (start, end, last) else {
            return Err(invalid(format!("the data of {:?} lies beyond the end of the file", tensor.name)));
        };
        expected = tensor.layout.and_then(|_| end.checked_next_multiple_of(alignment));
        tensor.start = start;
    }
    Ok(())
}

/// One row of the tensor table.
fn read_tensor<R: Read + Seek>(reader: &mut Reader<R>) -> Result<Tensor> {
    let name = reader.name("a tensor name", MAX_NAME)?;
    let dimensions = reader.u32()?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(invalid(format!("{name:?} has {dimensions} dimensions")));
    }
    let mut elements: u64 = 1;
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = reader.u64()?;
        shape.push(size);
        elements = elements
            .checked_mul(size)
            .filter(|elements| *elements > 0 && i64::try_from(*elements).is_ok())
            .ok_or_else(|| invalid(format!("{name:?} has an absurd shape")))?;
    }
    let type_id = reader.u32()?;
    let start = reader.u64()?;
    let layout = tensor_type(type_id);
    let bytes = match layout {
        None => 0,
        Some(layout) if shape[0] % layout.block_elements != 0 => {
            return Err(invalid(format!("the rows of {name:?} are not whole {} blocks", layout.name)));
        }
        Some(layout) => (elements / layout.block_elements)
            .checked_mul(layout.block_bytes)
            .and_then(|bytes| bytes.checked_add(layout.tail_bytes))
            .ok_or_else(|| invalid(format!("{name:?} has an absurd size")))?,
    };
    Ok(Tensor { name, type_id, layout, shape, elements, bytes, start })
}
