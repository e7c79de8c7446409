//! The log callback of the process.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

pub(crate) type LogCallback = unsafe extern "C" fn(level: c_int, text: *const c_char, user_data: *mut c_void);

const ERROR: c_int = 4;

static CALLBACK: Mutex<Option<(LogCallback, usize)>> = Mutex::new(None);

pub(crate) fn set(callback: Option<LogCallback>, user_data: *mut c_void) {
    *CALLBACK.lock().unwrap_or_else(PoisonError::into_inner) =
        callback.map(|callback| (callback, user_data.expose_provenance()));
}

pub(crate) fn error(text: &str) {
    let text = CString::new(text).expect("log lines hold no NUL");
    let callback = *CALLBACK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((callback, user_data)) = callback {
        // SAFETY: the callback takes any text, and gets the user data that came with it.
        unsafe { callback(ERROR, text.as_ptr(), std::ptr::with_exposed_provenance_mut(user_data)) };
    }
}
