//! Decides what the transcoded file consists of: where each part of it comes from, and how large it is.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::codes::Encoding;
use crate::error::{EngineError, Result};
use crate::gguf::{GgufSummary, I2_S, Layout, Tensor};

/// The name under which a stock library has the layers of `BitNet`.
const ARCHITECTURE: &str = "bitnet";
/// Value-type numbers of the format.
const UINT32: u32 = 4;
const STRING: u32 = 8;
/// The tensor type of scales.
const F32: u32 = 0;
const SCALE_BYTES: u64 = 4;

/// A part of the header.
pub(super) enum Part {
    New(Vec<u8>),
    /// Bytes of the source.
    Copied(Range<u64>),
}

/// The data of one tensor; places are in the source.
pub(super) enum Content {
    Copied(Range<u64>),
    Codes {
        range: Range<u64>,
        encoding: Encoding,
    },
    /// The scale behind the codes, times that of a scale tensor which was there already.
    Scale {
        start: u64,
        factor: Option<u64>,
    },
}

/// One tensor to be written.
pub(super) struct Piece {
    pub name: String,
    pub content: Content,
    pub bytes: u64,
    shape: Vec<u64>,
    type_id: u32,
}

/// The transcoded file, described.
pub(super) struct Plan {
    pub header: Vec<Part>,
    pub pieces: Vec<Piece>,
    pub alignment: u64,
    bytes: u64,
}

impl Plan {
    pub(super) fn new(summary: &GgufSummary, layout: &Layout) -> Result<Self> {
        let pieces = pieces(layout)?;
        let mut header = vec![Part::New(Vec::new())];
        let pairs = push_pairs(&mut header, summary, layout, &pieces);
        let mut table = Vec::new();
        let mut offset: u64 = 0;
        for piece in &pieces {
            push_text(&mut table, &piece.name);
            table.extend((piece.shape.len() as u32).to_le_bytes());
            table.extend(piece.shape.iter().flat_map(|size| size.to_le_bytes()));
            table.extend(piece.type_id.to_le_bytes());
            table.extend(offset.to_le_bytes());
            offset = offset
                .checked_add(piece.bytes)
                .and_then(|end| end.checked_next_multiple_of(layout.alignment))
                .ok_or_else(too_large)?;
        }
        header.push(Part::New(table));
        let mut start = b"GGUF".to_vec();
        start.extend(3_u32.to_le_bytes());
        start.extend((pieces.len() as u64).to_le_bytes());
        start.extend(pairs.to_le_bytes());
        header[0] = Part::New(start);
        let unpadded = header.iter().map(Part::bytes).sum::<u64>();
        let data_start = unpadded.checked_next_multiple_of(layout.alignment).ok_or_else(too_large)?;
        header.push(Part::New(vec![0; (data_start - unpadded) as usize]));
        let bytes = data_start.checked_add(offset).ok_or_else(too_large)?;
        Ok(Self { header, pieces, alignment: layout.alignment, bytes })
    }

    /// Bytes of the whole file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the tensor data alone, padding left out.
    pub(super) fn data_bytes(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.bytes))
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        match self {
            Self::New(bytes) => bytes.len() as u64,
            Self::Copied(range) => range.end - range.start,
        }
    }
}

fn too_large() -> EngineError {
    EngineError::GgufUnsupported("the transcoded file would be too large".into())
}

/// The tensors in the order of the source, each scale right after its codes.
fn pieces(layout: &Layout) -> Result<Vec<Piece>> {
    let codes = layout.tensors.iter().filter(|tensor| tensor.type_id == I2_S);
    let scale_names: HashSet<String> = codes.map(scale_name).collect();
    let taken_over = |tensor: &&Tensor| scale_names.contains(&tensor.name);
    let scales: HashMap<&str, &Tensor> =
        layout.tensors.iter().filter(taken_over).map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut pieces = Vec::new();
    for tensor in layout.tensors.iter().filter(|tensor| !taken_over(tensor)) {
        if tensor.type_id != I2_S {
            pieces.push(Piece {
                name: tensor.name.clone(),
                content: Content::Copied(tensor.start..tensor.start + tensor.bytes),
                bytes: tensor.bytes,
                shape: tensor.shape.clone(),
                type_id: tensor.type_id,
            });
            continue;
        }
        let codes = tensor.elements / 4;
        let encoding = Encoding::for_row(tensor.shape[0]);
        pieces.push(Piece {
            name: tensor.name.clone(),
            content: Content::Codes { range: tensor.start..tensor.start + codes, encoding },
            bytes: encoding.bytes(codes).ok_or_else(too_large)?,
            shape: tensor.shape.clone(),
            type_id: encoding.type_id(),
        });
        let name = scale_name(tensor);
        let factor = scales.get(name.as_str());
        if let Some(scale) = factor.filter(|scale| scale.type_id != F32 || scale.elements != 1) {
            return Err(EngineError::GgufUnsupported(format!("{:?} is not one F32", scale.name)));
        }
        let content = Content::Scale { start: tensor.start + codes, factor: factor.map(|scale| scale.start) };
        pieces.push(Piece { name, content, bytes: SCALE_BYTES, shape: vec![1], type_id: F32 });
    }
    Ok(pieces)
}

/// The name under which the library looks for the scale of a weight; that of an `I2_S` tensor was judged to end so.
fn scale_name(tensor: &Tensor) -> String {
    format!("{}.scale", tensor.name.trim_end_matches(".weight"))
}

/// Appends the metadata, renamed and completed for a stock library; returns the number of pairs.
fn push_pairs(header: &mut Vec<Part>, summary: &GgufSummary, layout: &Layout, pieces: &[Piece]) -> u64 {
    let ternary = summary.ternary.as_ref();
    let renamed = ternary.is_some_and(|ternary| ternary.squared_relu) && summary.architecture != ARCHITECTURE;
    let mut new = vec![("general.architecture", text(if renamed { ARCHITECTURE } else { &summary.architecture }))];
    if pieces.iter().any(|piece| matches!(piece.content, Content::Codes { .. })) {
        // The source's number for I2_S means another type to the library.
        new.push(("general.file_type", [UINT32.to_le_bytes(), file_type(pieces).to_le_bytes()].concat()));
    }
    if summary.metadata.text("tokenizer.ggml.model") == Some("gpt2") && !has(summary, "tokenizer.ggml.pre") {
        new.push(("tokenizer.ggml.pre", text("llama-bpe")));
    }
    if ternary.is_some_and(|ternary| ternary.squared_relu) {
        new.push(("tabagent.ffn_activation", text("relu_sqr")));
    }
    let prefix = format!("{}.", summary.architecture);
    let mut pairs = new.len() as u64;
    for (key, value) in &new {
        let mut pair = Vec::new();
        push_text(&mut pair, key);
        pair.extend(value);
        header.push(Part::New(pair));
    }
    for (key, span) in &layout.pairs {
        let clashes = renamed && key.starts_with("bitnet.");
        if clashes || new.iter().any(|(name, _)| name == key) {
            continue;
        }
        let mut name = Vec::new();
        match key.strip_prefix(&prefix).filter(|_| renamed) {
            Some(rest) => push_text(&mut name, &format!("{ARCHITECTURE}.{rest}")),
            None => push_text(&mut name, key),
        }
        header.extend([Part::New(name), Part::Copied(span.clone())]);
        pairs += 1;
    }
    pairs
}

/// The library's number for a file of mostly this type.
fn file_type(pieces: &[Piece]) -> u32 {
    let tq2 = |piece: &Piece| piece.type_id == Encoding::Tq2.type_id();
    if pieces.iter().any(tq2) { 37 } else { 2 }
}

fn has(summary: &GgufSummary, key: &str) -> bool {
    summary.metadata.get(key).is_some()
}

fn push_text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}

fn text(value: &str) -> Vec<u8> {
    let mut typed = STRING.to_le_bytes().to_vec();
    push_text(&mut typed, value);
    typed
}
