//! Keeps transcoded files on disk, the least recently used ones leaving first.
//!
//! A file appears under its name only when it is whole and on the disk; what a killed process leaves has another name
//! and is removed by the next one that writes. Processes share a folder: one writes at a time, and none removes
//! while another opens.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::Progress;
use super::identity::{Identity, TRANSCODER_VERSION, digest_start};
use super::write::WrittenHeader;
use crate::error::{EngineError, Result};

const MAGIC: &[u8; 8] = b"TABAGENT";
/// Magic, version, bytes of the header, bytes of the file, identity of the source, digest of all this and the header.
const TRAILER_BYTES: u64 = 8 + 4 + 8 + 8 + 32 + 32;
/// Room that is left on the disk beyond what is written.
const SPARE_BYTES: u64 = 64 << 20;
/// How often a process that waits for another one looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);

/// A folder of transcoded files.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
}

/// What was removed from a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files removed.
    pub files: u64,
    /// Bytes they took.
    pub bytes: u64,
}

impl Cache {
    /// A cache in `folder`, which need not exist, of at most `limit` bytes beyond the file in use.
    #[must_use]
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit }
    }

    /// Removes the least recently used files until the others take at most `keep` bytes.
    ///
    /// # Errors
    /// `model_load_failed` when the folder cannot be read.
    pub fn prune(&self, keep: u64) -> Result<Pruned> {
        if !self.folder.is_dir() {
            return Ok(Pruned::default());
        }
        let unused = self.lock_file("loading")?;
        unused.lock().or_else(|error| self.tolerate(&error))?;
        if let Ok(()) = self.lock_file("writing")?.try_lock() {
            self.remove_leftovers()?;
        }
        self.remove_oldest(keep)
    }

    /// The file of that identity, written by `write` unless it is there; the lock keeps it there.
    pub(super) fn obtain(
        &self,
        identity: Identity,
        bytes: u64,
        progress: Progress,
        write: impl FnOnce(&mut dyn Write, Progress) -> Result<WrittenHeader>,
    ) -> Result<(PathBuf, File)> {
        fs::create_dir_all(&self.folder).map_err(|error| self.failed(&error))?;
        let path = self.folder.join(identity.file_name());
        if let Some(in_use) = self.find(&path, identity)? {
            return Ok((path, in_use));
        }
        let writing = self.lock_file("writing")?;
        let alone = self.wait_for(&writing, progress)?;
        // Another process may just have written it.
        if let Some(in_use) = self.find(&path, identity)? {
            return Ok((path, in_use));
        }
        if alone {
            self.remove_leftovers()?;
        }
        self.make_room(bytes)?;
        let in_use = self.write(&path, identity, progress, write)?;
        Ok((path, in_use))
    }

    /// Locks the folder against removals if the file is there and whole.
    fn find(&self, path: &Path, identity: Identity) -> Result<Option<File>> {
        let in_use = self.lock_in_use()?;
        match File::open(path) {
            Ok(file) if is_whole(&file, identity).unwrap_or(false) => {
                mark_used(path);
                Ok(Some(in_use))
            }
            _ => Ok(None),
        }
    }

    fn write(
        &self,
        path: &Path,
        identity: Identity,
        progress: Progress,
        write: impl FnOnce(&mut dyn Write, Progress) -> Result<WrittenHeader>,
    ) -> Result<File> {
        let partial = tempfile::Builder::new().suffix(".partial").tempfile_in(&self.folder);
        let partial = partial.map_err(|error| self.failed(&error))?;
        let mut target = BufWriter::with_capacity(1 << 20, partial.as_file());
        let header = write(&mut target, progress)?;
        let finish = || -> std::io::Result<()> {
            let end = target.stream_position()?;
            target.write_all(&trailer(identity, end + TRAILER_BYTES, header))?;
            target.flush()?;
            drop(target);
            partial.as_file().sync_all()
        };
        finish().map_err(|error| self.failed(&error))?;
        let in_use = self.lock_in_use()?;
        partial.persist(path).map_err(|error| self.failed(&error.error))?;
        // The new name is on the disk when the folder is; systems that cannot sync folders do so by themselves.
        _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(in_use)
    }

    /// Removes old files until the new one fits both the limit and the disk.
    fn make_room(&self, bytes: u64) -> Result<()> {
        // Who cannot lock at once leaves the old files: somebody opens one.
        if self.lock_file("loading")?.try_lock().is_ok() {
            self.remove_oldest(self.limit.saturating_sub(bytes))?;
        }
        let free = fs4::available_space(&self.folder).map_err(|error| self.failed(&error))?;
        if free < bytes.saturating_add(SPARE_BYTES) {
            return Err(EngineError::ModelLoadFailed(format!(
                "transcoding takes {} MB in {}, where {} MB are free",
                bytes.div_ceil(1_000_000),
                self.folder.display(),
                free / 1_000_000
            )));
        }
        Ok(())
    }

    fn remove_oldest(&self, keep: u64) -> Result<Pruned> {
        let mut files = self.files("gguf")?;
        files.sort_by_key(|(_, _, used)| std::cmp::Reverse(*used));
        let (mut kept, mut pruned) = (0_u64, Pruned::default());
        for (path, bytes, _) in files {
            kept = kept.saturating_add(bytes);
            // A file that another system's process maps may refuse; it is found again next time.
            if kept > keep && fs::remove_file(&path).is_ok() {
                pruned.files += 1;
                pruned.bytes += bytes;
            }
        }
        Ok(pruned)
    }

    /// Removes what killed processes left. The caller is the only one that writes.
    fn remove_leftovers(&self) -> Result<()> {
        for (path, _, _) in self.files("partial")? {
            _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Path, size and time of the last use of each file with this ending.
    fn files(&self, ending: &str) -> Result<Vec<(PathBuf, u64, SystemTime)>> {
        let entries = fs::read_dir(&self.folder).map_err(|error| self.failed(&error))?;
        let file = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let facts = entry.metadata().ok()?;
            let path = entry.path();
            let fits = facts.is_file() && path.extension().is_some_and(|extension| extension == ending);
            fits.then(|| (path, facts.len(), facts.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
        };
        Ok(entries.filter_map(file).collect())
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
        file.map_err(|error| self.failed(&error))
    }

    fn lock_in_use(&self) -> Result<File> {
        let file = self.lock_file("loading")?;
        file.lock_shared().or_else(|error| self.tolerate(&error))?;
        Ok(file)
    }

    /// Waits until no other process writes; true if that could be made sure of.
    fn wait_for(&self, writing: &File, progress: Progress) -> Result<bool> {
        loop {
            match writing.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => {
                    progress(0.0)?;
                    thread::sleep(PATIENCE);
                }
                Err(TryLockError::Error(error)) => return self.tolerate(&error).map(|()| false),
            }
        }
    }

    /// Some network file systems have no locks. Files still appear whole, at worst they are written twice.
    fn tolerate(&self, error: &std::io::Error) -> Result<()> {
        if error.kind() == ErrorKind::Unsupported { Ok(()) } else { Err(self.failed(error)) }
    }

    fn failed(&self, error: &std::io::Error) -> EngineError {
        EngineError::ModelLoadFailed(format!("the cache {}: {error}", self.folder.display()))
    }
}

fn trailer(identity: Identity, file_bytes: u64, header: WrittenHeader) -> Vec<u8> {
    let mut trailer = MAGIC.to_vec();
    trailer.extend(TRANSCODER_VERSION.to_le_bytes());
    trailer.extend(header.bytes.to_le_bytes());
    trailer.extend(file_bytes.to_le_bytes());
    trailer.extend(identity.0);
    let digest = header.digest.chain_update(&trailer).finalize();
    trailer.extend(digest);
    trailer
}

/// Whether a file is as long as it was written, its header unchanged and from that source.
fn is_whole(mut file: &File, identity: Identity) -> Result<bool> {
    let bytes = file.metadata().map_or(0, |facts| facts.len());
    let Some(end) = bytes.checked_sub(TRAILER_BYTES) else { return Ok(false) };
    let mut found = [0; TRAILER_BYTES as usize];
    if file.seek(SeekFrom::Start(end)).and_then(|_| file.read_exact(&mut found)).is_err() {
        return Ok(false);
    }
    let header_bytes = u64::from_le_bytes(found[12..20].try_into().expect("8 bytes"));
    let mut header = WrittenHeader { bytes: header_bytes, digest: Sha256::new() };
    digest_start(file, header_bytes.min(end), &mut header.digest)?;
    Ok(found[..] == trailer(identity, bytes, header))
}

/// The time of the last change stands for the time of the last use: the content never changes.
fn mark_used(path: &Path) {
    _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
}
