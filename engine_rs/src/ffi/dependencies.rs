//! Opens what a `libllama` needs before `libllama` itself, each file by its path, so that nothing is left to a search.
//!
//! The dynamic linker takes a library that is loaded already for any need of that name. Who opens the needs first
//! decides which files they are; what would search the current directory, as `BitnetRelease`'s do, finds all there.

use std::ffi::{OsStr, c_int};
use std::path::{Path, PathBuf};

use goblin::elf::Elf;
use libloading::os::unix::{Library, RTLD_LAZY};

use super::library::open;
use crate::error::{EngineError, Result};

/// `RTLD_NOLOAD` of glibc and musl: answers only with what is loaded already.
const NO_LOAD: c_int = 4;

/// Opens everything that `libllama` needs, deepest first.
///
/// # Errors
/// [`EngineError::RuntimeConflict`] when another file of a needed name is in this process already,
/// [`EngineError::LibraryNotFound`] when a need cannot be met without searching the current directory.
pub(super) fn open_needs(libllama: &Path) -> Result<Vec<Library>> {
    let mut needs = Needs::default();
    needs.add_those_of(libllama)?;
    for sibling in &needs.siblings {
        refuse_namesake(sibling)?;
    }
    refuse_global_ggml()?;
    // Without a path, they come from where this crate's own needs come from.
    let elsewhere = needs.elsewhere.iter().map(Path::new);
    elsewhere.chain(needs.siblings.iter().map(PathBuf::as_path)).map(open).collect()
}

#[derive(Default)]
struct Needs {
    /// Files beside the library, each behind those it needs itself.
    siblings: Vec<PathBuf>,
    /// Names that the library would look for in the current directory before anywhere else.
    elsewhere: Vec<String>,
}

impl Needs {
    fn add_those_of(&mut self, library: &Path) -> Result<()> {
        let unreadable = |error: &dyn std::fmt::Display| {
            EngineError::LibraryNotFound(format!("{} is no shared library: {error}", library.display()))
        };
        let bytes = std::fs::read(library).map_err(|error| unreadable(&error))?;
        let elf = Elf::parse(&bytes).map_err(|error| unreadable(&error))?;
        let searches_here = elf.rpaths.iter().chain(&elf.runpaths).flat_map(|path| path.split(':')).any(is_relative);
        for name in &elf.libraries {
            let sibling = library.with_file_name(name);
            if !sibling.is_file() {
                if searches_here {
                    self.elsewhere.push((*name).to_owned());
                }
            } else if !self.siblings.contains(&sibling) {
                self.add_those_of(&sibling)?;
                self.siblings.push(sibling);
            }
        }
        Ok(())
    }
}

/// An empty path is the current directory.
fn is_relative(path: &str) -> bool {
    !["/", "$ORIGIN", "${ORIGIN}"].iter().any(|start| path.starts_with(start))
}

/// `libllama` would be bound to the file that was there first.
fn refuse_namesake(file: &Path) -> Result<()> {
    let Some(name) = file.file_name() else { return Ok(()) };
    match loaded(name) {
        Some(namesake) if loaded(file.as_os_str()) != Some(namesake) => Err(EngineError::RuntimeConflict(format!(
            "another {} is loaded in this process, so {} cannot be",
            name.display(),
            file.display()
        ))),
        _ => Ok(()),
    }
}

/// What is visible to all would come before what lies beside `libllama`.
fn refuse_global_ggml() -> Result<()> {
    // SAFETY: the pointer is not called.
    if unsafe { Library::this().get::<unsafe extern "C" fn()>(b"ggml_init\0") }.is_ok() {
        return Err(EngineError::RuntimeConflict("another ggml is visible to all of this process".into()));
    }
    Ok(())
}

/// The handle of a library if it is loaded; equal handles are one library.
fn loaded(name: &OsStr) -> Option<usize> {
    // SAFETY: nothing is loaded, so no initialiser runs.
    let handle = unsafe { Library::open(Some(name), RTLD_LAZY | NO_LOAD) }.ok()?.into_raw();
    // SAFETY: the handle was just taken; this gives it back.
    drop(unsafe { Library::from_raw(handle) });
    Some(handle.addr())
}
