//! Opens the shared libraries of a runtime by absolute path and looks symbols up in them.

use std::path::Path;

#[cfg(all(unix, not(target_os = "macos")))]
use super::dependencies::open_needs;
use crate::error::{EngineError, Result};

#[cfg(unix)]
use libloading::os::unix::Library;
#[cfg(windows)]
use libloading::os::windows::Library;

/// The opened libraries, `libllama` first.
pub(crate) struct Libraries {
    opened: Vec<Library>,
}

impl Libraries {
    /// Opens `libllama` and what it needs that lies beside it.
    pub(crate) fn open(libllama: &Path) -> Result<Self> {
        let needs = open_needs(libllama)?;
        let mut opened = vec![open(libllama)?];
        opened.extend(needs);
        Ok(Self { opened })
    }

    /// The first of these symbols that any of the libraries has, taken as a `T`.
    ///
    /// # Safety
    /// `T` must be a function pointer type that fits each of the named symbols.
    pub(crate) unsafe fn symbol<T: Copy>(&self, names: &[&str]) -> Option<T> {
        names.iter().flat_map(|name| self.opened.iter().map(move |library| (name, library))).find_map(
            |(name, library)| {
                // SAFETY: the caller vouches for the type; the libraries stay open as long as the symbol is used.
                unsafe { library.get::<T>(name.as_bytes()) }.ok().map(|symbol| *symbol)
            },
        )
    }
}

#[cfg(unix)]
pub(super) fn open(path: &Path) -> Result<Library> {
    use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};
    // SAFETY: running the initialisers of the chosen runtime is what the user asks for by choosing it.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| cannot_open(path, &error))
}

#[cfg(windows)]
fn open(path: &Path) -> Result<Library> {
    use libloading::os::windows::LOAD_WITH_ALTERED_SEARCH_PATH;
    // SAFETY: running the initialisers of the chosen runtime is what the user asks for by choosing it.
    unsafe { Library::load_with_flags(path, LOAD_WITH_ALTERED_SEARCH_PATH) }.map_err(|error| cannot_open(path, &error))
}

fn cannot_open(path: &Path, error: &libloading::Error) -> EngineError {
    EngineError::LibraryNotFound(format!("{} cannot be opened: {error}", path.display()))
}

/// The loader of macOS takes the paths in the library itself.
#[cfg(target_os = "macos")]
fn open_needs(_libllama: &Path) -> Result<Vec<Library>> {
    Ok(Vec::new())
}

/// `GetProcAddress` sees one DLL only, so ggml's two are opened as well, whatever release their names carry.
#[cfg(windows)]
fn open_needs(libllama: &Path) -> Result<Vec<Library>> {
    let Some(Ok(entries)) = libllama.parent().map(std::fs::read_dir) else { return Ok(Vec::new()) };
    let siblings = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = name.strip_prefix("lib").unwrap_or(&name);
        name.ends_with(".dll") && (name.starts_with("ggml.") || name.starts_with("ggml-base."))
    });
    siblings.map(|sibling| open(&sibling)).collect()
}
