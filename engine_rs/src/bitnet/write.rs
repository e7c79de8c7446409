//! Writes the transcoded file from start to end, a bounded piece at a time.

use std::io::Write;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Progress;
use super::codes::Encoding;
use super::identity::{CHUNK, Source};
use super::plan::{Content, Part, Piece, Plan};
use crate::error::{EngineError, Result};

/// The header as it was written.
pub(super) struct WrittenHeader {
    pub bytes: u64,
    pub digest: Sha256,
}

/// Writes all that `plan` describes to `target`.
pub(super) fn transcode(
    plan: &Plan,
    source: &Source,
    target: &mut dyn Write,
    progress: Progress,
) -> Result<WrittenHeader> {
    let (input, output) = (vec![0; CHUNK], Vec::new());
    let all = plan.data_bytes().max(1);
    let mut transcoder = Transcoder { source, target, input, output, done: 0, all, told: 0, progress };
    let header = transcoder.write_header(&plan.header)?;
    for piece in &plan.pieces {
        transcoder.write_piece(piece)?;
        let end = piece.bytes.next_multiple_of(plan.alignment);
        transcoder.pad(end - piece.bytes)?;
    }
    Ok(header)
}

struct Transcoder<'a> {
    source: &'a Source,
    target: &'a mut dyn Write,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of tensor data written, of `all`.
    done: u64,
    all: u64,
    /// Hundredths that were told.
    told: u64,
    progress: Progress<'a>,
}

impl Transcoder<'_> {
    fn write_header(&mut self, parts: &[Part]) -> Result<WrittenHeader> {
        let mut header = WrittenHeader { bytes: 0, digest: Sha256::new() };
        for part in parts {
            match part {
                Part::New(bytes) => header.add(self.target, bytes)?,
                Part::Copied(range) => {
                    for range in chunks(range) {
                        let bytes = &mut self.input[..(range.end - range.start) as usize];
                        self.source.read(range.start, bytes)?;
                        header.add(self.target, bytes)?;
                    }
                }
            }
        }
        Ok(header)
    }

    fn write_piece(&mut self, piece: &Piece) -> Result<()> {
        match &piece.content {
            Content::Copied(range) => {
                for range in chunks(range) {
                    let bytes = &mut self.input[..(range.end - range.start) as usize];
                    self.source.read(range.start, bytes)?;
                    write(self.target, bytes)?;
                    self.advance(range.end - range.start)?;
                }
                Ok(())
            }
            Content::Codes { range, encoding } => {
                chunks(range).try_for_each(|range| self.write_codes(&range, *encoding, &piece.name))
            }
            Content::Scale { start, factor } => self.write_scale(*start, *factor, &piece.name),
        }
    }

    fn write_codes(&mut self, range: &Range<u64>, encoding: Encoding, name: &str) -> Result<()> {
        let codes = &mut self.input[..(range.end - range.start) as usize];
        self.source.read(range.start, codes)?;
        self.output.resize(encoding.bytes(codes.len() as u64).unwrap_or(0) as usize, 0);
        if !encoding.encode(codes, &mut self.output) {
            return Err(EngineError::GgufInvalid(format!("{name:?} holds codes of no ternary value")));
        }
        write(self.target, &self.output)?;
        self.advance(self.output.len() as u64)
    }

    fn write_scale(&mut self, start: u64, factor: Option<u64>, name: &str) -> Result<()> {
        let read = |start| {
            let mut bytes = [0; 4];
            self.source.read(start, &mut bytes).map(|()| f32::from_le_bytes(bytes))
        };
        let scale = read(start)? * factor.map_or(Ok(1.0), read)?;
        if !scale.is_finite() {
            return Err(EngineError::GgufInvalid(format!("{name:?} is {scale}")));
        }
        write(self.target, &scale.to_le_bytes())?;
        self.advance(4)
    }

    fn pad(&mut self, bytes: u64) -> Result<()> {
        let zeros = [0; 4096];
        let mut left = bytes;
        while left > 0 {
            let part = left.min(zeros.len() as u64);
            write(self.target, &zeros[..part as usize])?;
            left -= part;
        }
        Ok(())
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.done += bytes;
        let hundredths = self.done.saturating_mul(100) / self.all;
        if hundredths == self.told {
            return Ok(());
        }
        self.told = hundredths;
        (self.progress)(hundredths as f32 / 100.0)
    }
}

impl WrittenHeader {
    fn add(&mut self, target: &mut dyn Write, bytes: &[u8]) -> Result<()> {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        write(target, bytes)
    }
}

/// Parts of a range of at most [`CHUNK`] bytes, which is a multiple of every block of codes.
fn chunks(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = range.end;
    range.clone().step_by(CHUNK).map(move |start| start..end.min(start + CHUNK as u64))
}

fn write(target: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    target.write_all(bytes).map_err(|error| EngineError::ModelLoadFailed(format!("writing failed: {error}")))
}
