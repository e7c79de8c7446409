//! Opens a `libllama` of any version since 2025 and resolves what the engine calls.

use std::path::PathBuf;

/// A chosen runtime: which files to open. Made by [`crate::hardware`], opened here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSpec {
    /// Public id, e.g. `npm-linux-x64` or `mineru`.
    pub id: String,
    /// The `libllama` file.
    pub libllama: PathBuf,
    /// The CPU module to load into it; `None` when the CPU code is linked in.
    pub cpu_module: Option<PathBuf>,
    /// Variant name of the CPU module, e.g. `haswell`.
    pub variant: String,
    /// Version of the package it comes from.
    pub version: String,
    /// Why it was chosen, in a few words.
    pub reason: String,
}
