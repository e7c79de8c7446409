//! The tests' hold on the opened library: counts, and a gate in front of each computation.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::exports::text;
use crate::sessions::Watch;

/// What a model file has been used for.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Models loaded and not freed.
    pub models: u32,
    /// Contexts made and not freed.
    pub contexts: u32,
    /// Calls of `llama_decode`.
    pub decodes: u32,
    /// Most sequences in one of them.
    pub widest_decode: u32,
}

/// Where the `cdylib` lies: beside the test that is running.
pub fn library_path() -> PathBuf {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    let test = std::env::current_exe().expect("a test knows its own file");
    test.with_file_name(format!("{DLL_PREFIX}fake_llama{DLL_SUFFIX}"))
}

/// Watches and holds one model, in the copy of the library that the engine has opened.
pub struct Control {
    library: Library,
    model: CString,
}

type OnModel = unsafe extern "C" fn(*const c_char);

impl Control {
    /// For the model at this path.
    pub fn of(model: &Path) -> Self {
        // SAFETY: this library's initialisers do nothing; the engine has run them already.
        let library = unsafe { Library::new(library_path()) }.expect("fake_llama is built beside the test");
        let model = CString::new(model.to_str().expect("a test's path is UTF-8")).expect("a path without NUL");
        Self { library, model }
    }

    /// Makes each computation wait, before its next ubatch, until it is let go or aborted.
    pub fn hold(&self) {
        self.call(b"fake_llama_hold");
    }

    /// Lets all computations run again.
    pub fn release(&self) {
        self.call(b"fake_llama_release");
    }

    /// Lets one ubatch pass.
    pub fn step(&self) {
        self.call(b"fake_llama_step");
    }

    /// Blocks until a computation waits.
    pub fn wait_until_held(&self) {
        self.call(b"fake_llama_wait_until_held");
    }

    /// What the model has been used for so far.
    pub fn counts(&self) -> Counts {
        type Read = unsafe extern "C" fn(*const c_char) -> Counts;
        // SAFETY: the signature is that of the function below, and the path is NUL-terminated.
        unsafe { self.library.get::<Read>(b"fake_llama_counts").expect("fake_llama exports it")(self.model.as_ptr()) }
    }

    fn call(&self, name: &[u8]) {
        // SAFETY: the signature is that of the functions below, and the path is NUL-terminated.
        unsafe { self.library.get::<OnModel>(name).expect("fake_llama exports it")(self.model.as_ptr()) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fake_llama_hold(model: *const c_char) {
    // SAFETY: a NUL-terminated path.
    Watch::of(&unsafe { text(model) }).hold(true);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fake_llama_release(model: *const c_char) {
    // SAFETY: a NUL-terminated path.
    Watch::of(&unsafe { text(model) }).hold(false);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fake_llama_step(model: *const c_char) {
    // SAFETY: a NUL-terminated path.
    Watch::of(&unsafe { text(model) }).pass(1);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fake_llama_wait_until_held(model: *const c_char) {
    // SAFETY: a NUL-terminated path.
    Watch::of(&unsafe { text(model) }).wait_until_held();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn fake_llama_counts(model: *const c_char) -> Counts {
    // SAFETY: a NUL-terminated path.
    Watch::of(&unsafe { text(model) }).counts()
}
