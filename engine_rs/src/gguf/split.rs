//! Models that lie in several files, `NAME-00001-of-00003.gguf` and so on: the first has the keys, all have tensors.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::metadata::{MetaValue, Metadata};
use super::read_header;
use super::reader::invalid;
use crate::error::{EngineError, Result};

/// The largest number that the names of parts hold.
const MAX_PARTS: u64 = 99_999;

/// How many files a model consists of, by the keys of one of them.
pub(super) fn parts(metadata: &Metadata) -> Result<u64> {
    match number(metadata, "split.count")?.unwrap_or(1) {
        count @ 0..=MAX_PARTS => Ok(count.max(1)),
        count => Err(invalid(format!("a model of {count} parts"))),
    }
}

/// Adds the tensors of all other parts to those of the first and returns the bytes of these parts.
///
/// # Errors
/// `gguf_unsupported` for a later part, with the name of the first; `gguf_invalid` for an incomplete set.
pub(super) fn join(path: &Path, header: &mut Header) -> Result<u64> {
    let count = parts(&header.pairs.metadata)?;
    if count == 1 {
        return Ok(0);
    }
    let number = number(&header.pairs.metadata, "split.no")?;
    let place = number.filter(|number| *number < count).ok_or_else(|| invalid("split.no is no part of the model"))?;
    let stem = prefix(path, place, count)
        .ok_or_else(|| invalid(format!("part {} of {count} must be called {}", place + 1, suffix(place, count))))?;
    if place > 0 {
        let first = part(&stem, 0, count);
        let reason = format!("this is part {} of {count} of a model; open the first: {}", place + 1, first.display());
        return Err(EngineError::GgufUnsupported(reason));
    }
    let mut bytes = 0_u64;
    for place in 1..count {
        let path = part(&stem, place, count);
        bytes = bytes.saturating_add(add(&path, place, count, header).map_err(|error| in_part(&path, error))?);
    }
    judge_whole(header)?;
    Ok(bytes)
}

/// Judges one part and adds its tensors; returns its bytes.
fn add(path: &Path, place: u64, count: u64, header: &mut Header) -> Result<u64> {
    let (other, bytes) = read_header(path)?;
    let keys = (number(&other.pairs.metadata, "split.no")?, number(&other.pairs.metadata, "split.count")?);
    if keys != (Some(place), Some(count)) {
        return Err(invalid(format!("it is not part {} of {count} by its own keys", place + 1)));
    }
    header.tensors.extend(other.tensors);
    Ok(bytes)
}

fn judge_whole(header: &Header) -> Result<()> {
    let found = header.tensors.len() as u64;
    if number(&header.pairs.metadata, "split.tensors.count")?.is_some_and(|claimed| claimed != found) {
        return Err(invalid(format!("the parts together have {found} tensors, not split.tensors.count")));
    }
    let mut seen = HashSet::new();
    match header.tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
        Some(tensor) => Err(invalid(format!("the tensor {:?} is in two parts", tensor.name))),
        None => Ok(()),
    }
}

fn number(metadata: &Metadata, key: &str) -> Result<Option<u64>> {
    let number = match metadata.get(key) {
        None => return Ok(None),
        Some(MetaValue::Unsigned(number)) => Some(*number),
        Some(MetaValue::Signed(number)) => u64::try_from(*number).ok(),
        Some(_) => None,
    };
    number.map(Some).ok_or_else(|| invalid(format!("{key} is not a number")))
}

/// How the names of parts end; the library derives all names from that of the first.
fn suffix(place: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", place + 1)
}

fn prefix(path: &Path, place: u64, count: u64) -> Option<PathBuf> {
    let stem = path.file_name()?.to_str()?.strip_suffix(&suffix(place, count)).filter(|stem| !stem.is_empty())?;
    Some(path.with_file_name(stem))
}

fn part(stem: &Path, place: u64, count: u64) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(suffix(place, count));
    path.into()
}

/// Says which file of the set an error is about.
fn in_part(path: &Path, error: EngineError) -> EngineError {
    match error {
        EngineError::ModelNotFound(_) => invalid(format!("a part of the model is missing: {}", path.display())),
        EngineError::GgufInvalid(reason) => invalid(format!("{}: {reason}", path.display())),
        EngineError::GgufUnsupported(reason) => EngineError::GgufUnsupported(format!("{}: {reason}", path.display())),
        other => other,
    }
}
