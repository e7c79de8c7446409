//! Opens a `libllama` of any version since August 2024 and resolves what the engine calls.

mod abi;
#[cfg(all(unix, not(target_os = "macos")))]
mod dependencies;
mod gpu;
mod library;
mod log;
mod profile;
mod symbols;
mod threadpool;

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{EngineError, Result};

pub(crate) use abi::{Block, Defaults, Layout, MappingField};
pub use gpu::GpuDevice;
use library::Libraries;
pub(crate) use log::{tells_of_memory, with_errors};
pub use profile::Profile;
use symbols::{GgmlBackendReg, missing};
pub(crate) use symbols::{GgmlTensor, LlamaContext, LlamaMemory, LlamaModel, LlamaVocab, Symbols};
pub(crate) use threadpool::{Threadpool, ThreadpoolApi};

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

/// The opened runtime: its libraries, their functions and the layout of their structs.
///
/// There is one per process, for its whole life: two builds of ggml in one process bind to each other's files.
pub struct Runtime {
    spec: RuntimeSpec,
    files: Files,
    pub(crate) symbols: Symbols,
    profile: Profile,
    pub(crate) layout: Layout,
    pub(crate) model_defaults: Defaults,
    pub(crate) context_defaults: Defaults,
    pub(crate) threadpool: Option<ThreadpoolApi>,
    gpus: OnceLock<Result<Vec<GpuDevice>>>,
    /// Last, so that it outlives everything resolved from it.
    _libraries: Libraries,
}

/// Real paths of the files of a runtime, by which two specs are the same or not.
type Files = (PathBuf, Option<PathBuf>);

static OPENED: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

impl Runtime {
    /// Opens a runtime, or returns the one that is open already.
    ///
    /// # Errors
    /// [`EngineError::RuntimeConflict`] when other files are open, [`EngineError::LibraryNotFound`] when one
    /// of the files is missing or cannot be opened, [`EngineError::AbiUnsupported`] when the library lacks a
    /// function or its parameter structs do not look like any known ones.
    pub fn open(spec: &RuntimeSpec) -> Result<Arc<Self>> {
        let files = (real_path(&spec.libllama)?, spec.cpu_module.as_deref().map(real_path).transpose()?);
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = opened.as_ref() {
            return if runtime.files == files {
                Ok(Arc::clone(runtime))
            } else {
                Err(EngineError::RuntimeConflict(format!(
                    "this process runs {} ({}), so {} ({}) cannot be opened",
                    runtime.spec.libllama.display(),
                    runtime.spec.variant,
                    spec.libllama.display(),
                    spec.variant
                )))
            };
        }
        let runtime = Arc::new(Self::open_files(spec.clone(), files)?);
        *opened = Some(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// The runtime of this process, if one has been opened.
    #[must_use]
    pub fn opened() -> Option<Arc<Self>> {
        OPENED.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open_files(spec: RuntimeSpec, files: Files) -> Result<Self> {
        silence_backtraces();
        let libraries = Libraries::open(&files.0)?;
        let symbols = Symbols::resolve(&libraries)?;
        let [model_params, context_params] = symbols::default_params(&libraries)?;
        // SAFETY: these are `llama_model_default_params` and `llama_context_default_params`.
        let (model_defaults, context_defaults) =
            unsafe { (Defaults::read(model_params), Defaults::read(context_params)) };
        let profile = Profile::of(&libraries);
        let layout = Layout::derive(profile, &model_defaults, &context_defaults)?;
        let log_levels = std::ptr::from_ref(profile.log_levels()).cast_mut().cast();
        // SAFETY: the callback is a function of this library, valid for ever, as is the constant it gets.
        unsafe { (symbols.log_set)(log::receive, log_levels) };
        let cpu = files.1.as_deref().map(|module| load_backend(&symbols, module)).transpose()?;
        // SAFETY: called once, after the backends are there and before any model is loaded.
        unsafe { (symbols.backend_init)() };
        let threadpool = cpu.and_then(|cpu| ThreadpoolApi::resolve(&symbols, &libraries, cpu));
        Ok(Self {
            spec,
            files,
            symbols,
            profile,
            layout,
            model_defaults,
            context_defaults,
            threadpool,
            gpus: OnceLock::new(),
            _libraries: libraries,
        })
    }

    /// Its generation.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What it calls a tensor type; `None` if it cannot be asked. One it does not know has another name than ours.
    pub(crate) fn type_name(&self, id: u32) -> Option<&'static [u8]> {
        let name = self.symbols.type_name?;
        // SAFETY: since October 2024 the function takes any number.
        let name = unsafe { name(id as i32) };
        // SAFETY: not null, it is a constant of the library, which stays open.
        Some(if name.is_null() { b"" } else { unsafe { CStr::from_ptr(name) }.to_bytes() })
    }

    /// The files it was opened from.
    #[must_use]
    pub fn spec(&self) -> &RuntimeSpec {
        &self.spec
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("spec", &self.spec)
            .field("profile", &self.profile)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

fn real_path(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| EngineError::LibraryNotFound(format!("{}: {error}", path.display())))
}

/// Loads exactly one backend: loading a folder would bring in a GPU nobody asked for.
fn load_backend(symbols: &Symbols, module: &Path) -> Result<*mut GgmlBackendReg> {
    let load = symbols.backend_load.ok_or_else(|| missing(&["ggml_backend_load"]))?;
    let path = c_path(module).ok_or_else(|| EngineError::LibraryNotFound(module.display().to_string()))?;
    // SAFETY: the path is NUL-terminated and lives through the call.
    let (backend, errors) = with_errors(|| unsafe { load(path.as_ptr()) });
    if backend.is_null() {
        return Err(EngineError::LibraryNotFound(format!("{} is no usable backend: {errors}", module.display())));
    }
    Ok(backend)
}

/// A path as the library takes it: UTF-8 on Windows, raw bytes elsewhere. `None` if it cannot be said so.
pub(crate) fn c_path(path: &Path) -> Option<CString> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let bytes = path.to_str()?.as_bytes();
    CString::new(bytes).ok()
}

/// A failed assertion in ggml must end the process at once, not attach a debugger to it first.
fn silence_backtraces() {
    const VARIABLE: &str = "GGML_NO_BACKTRACE";
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: done once per process, under the lock of `Runtime::open` and before any C code of the runtime runs.
        unsafe { std::env::set_var(VARIABLE, "1") };
    }
}
