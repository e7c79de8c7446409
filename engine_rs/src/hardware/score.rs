//! Asks a CPU module itself what it is worth here.

use std::path::Path;

use libloading::Library;

/// What a GGML module exports so that it can be judged before use; 0 means that it must not run here.
const SYMBOL: &[u8] = b"ggml_backend_score\0";

/// Whether the module can be asked, judged by its bytes alone.
pub fn can_be_asked(module: &Path) -> bool {
    std::fs::read(module).is_ok_and(|bytes| bytes.windows(SYMBOL.len()).any(|window| window == SYMBOL))
}

/// Opens the module and asks it; `None` when it cannot be opened.
pub fn ask(module: &Path) -> Option<u32> {
    // SAFETY: ggml compiles scoring and start-up code of a module for the lowest common processor, since its own
    // loader opens every module of a folder in this way.
    let library = unsafe { Library::new(module) }.ok()?;
    // SAFETY: ggml declares the function as `int ggml_backend_score(void)` in every version that has it.
    let score = unsafe { library.get::<unsafe extern "C" fn() -> i32>(SYMBOL).ok()?() };
    u32::try_from(score).ok()
}
