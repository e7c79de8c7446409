//! A little-endian cursor that never reads, seeks or allocates beyond the file.

use std::io::{BufReader, ErrorKind, Read, Seek};

use crate::error::{EngineError, Result};

/// Longest text kept in memory; chat templates are a few tens of KiB.
const MAX_STRING: u64 = 16 << 20;
/// Bytes of all texts kept.
const MAX_KEPT: u64 = 64 << 20;

/// Reads from `inner`, whose length is known, and checks every size against what is left of it.
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    position: u64,
    len: u64,
    kept: u64,
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn new(inner: R, len: u64) -> Self {
        Self { inner: BufReader::with_capacity(1 << 16, inner), position: 0, len, kept: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn remaining(&self) -> u64 {
        self.len.saturating_sub(self.position)
    }

    fn claim(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.remaining() {
            return Err(truncated());
        }
        self.position += bytes;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.claim(N as u64)?;
        let mut buffer = [0; N];
        self.inner.read_exact(&mut buffer).map_err(|error| io_error(&error))?;
        Ok(buffer)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    pub(super) fn skip(&mut self, bytes: u64) -> Result<()> {
        self.claim(bytes)?;
        let offset = i64::try_from(bytes).map_err(|_| truncated())?;
        self.inner.seek_relative(offset).map_err(|error| io_error(&error))
    }

    /// A count of items that take at least `item_bytes` each, so that a lie about it is seen before anything is read.
    pub(super) fn count(&mut self, item_bytes: u64, what: &str) -> Result<u64> {
        let count = self.u64()?;
        let fits = count.checked_mul(item_bytes).is_some_and(|bytes| bytes <= self.remaining());
        if fits { Ok(count) } else { Err(invalid(format!("{count} {what} do not fit into the file"))) }
    }

    /// Raw bytes of a length-prefixed string.
    pub(super) fn string_bytes(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let len = self.count(1, "bytes of text")?;
        if len > MAX_STRING {
            return Err(invalid(format!("a text of {len} bytes")));
        }
        self.claim(len)?;
        into.resize(len as usize, 0);
        self.inner.read_exact(into).map_err(|error| io_error(&error))
    }

    /// A text that is kept. The library ends texts at the first zero byte: with one inside, it would read another.
    pub(super) fn string(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        self.string_bytes(&mut bytes)?;
        self.kept += bytes.len() as u64;
        if self.kept > MAX_KEPT {
            return Err(invalid(format!("more than {MAX_KEPT} bytes of metadata")));
        }
        if bytes.contains(&0) {
            return Err(invalid("a text has a zero byte in it"));
        }
        String::from_utf8(bytes).map_err(|_| invalid("a text is not UTF-8"))
    }

    /// A text of at least one and at most `max` bytes.
    pub(super) fn name(&mut self, what: &str, max: usize) -> Result<String> {
        let name = self.string()?;
        let fits = !name.is_empty() && name.len() <= max;
        if fits { Ok(name) } else { Err(invalid(format!("{what} of {} bytes", name.len()))) }
    }

    pub(super) fn skip_string(&mut self) -> Result<()> {
        let len = self.count(1, "bytes of text")?;
        self.skip(len)
    }
}

pub(super) fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::GgufInvalid(message.into())
}

fn truncated() -> EngineError {
    invalid("the file ends too early")
}

fn io_error(error: &std::io::Error) -> EngineError {
    match error.kind() {
        ErrorKind::UnexpectedEof => truncated(),
        _ => EngineError::ModelLoadFailed(format!("reading failed: {error}")),
    }
}
