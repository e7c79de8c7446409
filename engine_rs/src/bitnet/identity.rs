//! Tells whether a file on disk is the one that was transcoded.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use crate::gguf::{I2_S, Layout};

/// Changes whenever the same source becomes other bytes, so that older results are not taken for current ones.
pub(super) const TRANSCODER_VERSION: u32 = 1;
/// Most bytes of a file in memory at once.
pub(super) const CHUNK: usize = 1 << 18;

/// Names a source by what it is, not where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(pub [u8; 32]);

impl Identity {
    /// The name of its file in a cache.
    pub(super) fn file_name(self) -> String {
        let half = self.0.first_chunk().expect("a digest of 32 bytes");
        format!("{:032x}.gguf", u128::from_be_bytes(*half))
    }
}

/// A file that is read in pieces.
pub(super) struct Source {
    file: File,
    facts: Metadata,
}

impl Source {
    pub(super) fn new(file: File) -> Result<Self> {
        let facts = file.metadata().map_err(|error| failed(&error))?;
        Ok(Self { file, facts })
    }

    /// Fills `buffer` from `start` on.
    pub(super) fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(buffer)).map_err(|error| failed(&error))
    }

    /// Size, time of the last change, the whole header and the scale of each tensor. A digest of everything would
    /// read gigabytes at every load; whoever changes codes and none of these sets the clock back on purpose.
    pub(super) fn identity(&self, layout: &Layout) -> Result<Identity> {
        let mut digest = Sha256::new_with_prefix(TRANSCODER_VERSION.to_le_bytes());
        let changed = self.facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        digest.update(self.facts.len().to_le_bytes());
        digest.update(changed.map_or(0, |time| time.as_nanos()).to_le_bytes());
        digest_start(&self.file, layout.data_start.min(self.facts.len()), &mut digest)?;
        let mut scale = [0; 4];
        for tensor in layout.tensors.iter().filter(|tensor| tensor.type_id == I2_S) {
            self.read(tensor.start + tensor.elements / 4, &mut scale)?;
            digest.update(scale);
        }
        Ok(Identity(digest.finalize().into()))
    }

    /// Fails when the file was written to since it was opened.
    pub(super) fn require_unchanged(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|error| failed(&error))?;
        let same = now.len() == self.facts.len() && now.modified().ok() == self.facts.modified().ok();
        if same { Ok(()) } else { Err(EngineError::ModelLoadFailed("the file changed while it was read".into())) }
    }
}

/// Adds the first `bytes` of a file.
pub(super) fn digest_start(mut file: &File, bytes: u64, digest: &mut Sha256) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    file.seek(SeekFrom::Start(0)).map_err(|error| failed(&error))?;
    while left > 0 {
        let part = &mut buffer[..left.min(CHUNK as u64) as usize];
        file.read_exact(part).map_err(|error| failed(&error))?;
        digest.update(&*part);
        left -= part.len() as u64;
    }
    Ok(())
}

fn failed(error: &std::io::Error) -> EngineError {
    EngineError::ModelLoadFailed(format!("reading failed: {error}"))
}
