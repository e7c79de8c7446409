//! Receives the library's log lines natively and keeps the last errors, so that failures can quote them.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};

use super::profile::LogLevels;

/// `ggml_log_callback`.
pub(crate) type LogCallback = unsafe extern "C" fn(level: c_int, text: *const c_char, user_data: *mut c_void);

/// Error text kept per call; what comes first names the cause.
const KEPT_BYTES: usize = 2000;

#[derive(Default)]
struct Capture {
    text: String,
    last_was_error: bool,
}

thread_local! {
    static CAPTURE: RefCell<Option<Capture>> = const { RefCell::new(None) };
}

/// Runs `call` and returns what it returned with the errors the library logged meanwhile on this thread.
pub(crate) fn with_errors<T>(call: impl FnOnce() -> T) -> (T, String) {
    CAPTURE.with(|capture| *capture.borrow_mut() = Some(Capture::default()));
    let value = call();
    let text = CAPTURE.with(|capture| capture.borrow_mut().take()).unwrap_or_default().text;
    (value, text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether logged errors tell of memory that could not be had.
pub(crate) fn tells_of_memory(errors: &str) -> bool {
    ["failed to allocate", "unable to allocate", "out of memory", "bad_alloc"].iter().any(|sign| errors.contains(sign))
}

/// The callback for `llama_log_set`. Called on any thread, possibly while that thread ends.
///
/// # Safety
/// `levels` must point to [`LogLevels`] that live for ever.
pub(crate) unsafe extern "C" fn receive(level: c_int, text: *const c_char, levels: *mut c_void) {
    // SAFETY: as the caller promises.
    let levels = unsafe { &*levels.cast::<LogLevels>() };
    // Without its thread-local, or re-entered, a line is lost and nothing else.
    let _ = CAPTURE.try_with(|capture| {
        let Ok(mut capture) = capture.try_borrow_mut() else { return };
        let Some(capture) = capture.as_mut() else { return };
        if levels.continued != Some(level) {
            capture.last_was_error = level == levels.error;
        }
        if capture.last_was_error && capture.text.len() < KEPT_BYTES && !text.is_null() {
            // SAFETY: the library passes a NUL-terminated string that lives through this call.
            capture.text.push_str(&unsafe { CStr::from_ptr(text) }.to_string_lossy());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::Profile;

    const INFO: c_int = 2;
    const ERROR: c_int = 4;
    const CONTINUED: c_int = 5;

    fn log(level: c_int, text: &CStr) {
        log_as(Profile::Since2025, level, text);
    }

    fn log_as(profile: Profile, level: c_int, text: &CStr) {
        let levels = std::ptr::from_ref(profile.log_levels()).cast_mut().cast();
        // SAFETY: the text is NUL-terminated, the levels are constants.
        unsafe { receive(level, text.as_ptr(), levels) };
    }

    #[test]
    fn keeps_errors_and_their_continuations() {
        let (value, errors) = with_errors(|| {
            log(INFO, c"loading\n");
            log(CONTINUED, c" still loading\n");
            log(ERROR, c"no such tensor:");
            log(CONTINUED, c" output\n");
            7
        });
        assert_eq!((value, errors.as_str()), (7, "no such tensor: output"));
    }

    #[test]
    fn reads_the_levels_by_the_numbers_of_their_time() {
        let ((), errors) = with_errors(|| {
            log_as(Profile::August2024, 2, c"an error\n");
            log_as(Profile::August2024, 4, c"what is loaded\n");
            log_as(Profile::August2024, 5, c"what is tried\n");
        });
        assert_eq!(errors, "an error");
        let ((), errors) = with_errors(|| {
            log_as(Profile::October2024, 2, c"a warning\n");
            log_as(Profile::October2024, 3, c"an error\n");
        });
        assert_eq!(errors, "an error");
    }

    #[test]
    fn forgets_errors_of_the_call_before() {
        with_errors(|| log(ERROR, c"first\n"));
        log(ERROR, c"between\n");
        assert_eq!(with_errors(|| ()).1, "");
    }

    #[test]
    fn stops_keeping_when_a_library_repeats_itself() {
        let ((), errors) = with_errors(|| (0..10_000).for_each(|_| log(ERROR, c"again\n")));
        assert!(errors.len() <= KEPT_BYTES + "again".len());
    }
}
