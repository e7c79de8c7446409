//! Reads numbers and texts that the macOS kernel publishes under names.

use std::ffi::CString;

/// The number called `name`; `None` if there is none.
pub fn number(name: &str) -> Option<u64> {
    let bytes = value(name)?;
    let four = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| u64::from(u32::from_ne_bytes(bytes)));
    four.or_else(|_| <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_ne_bytes)).ok()
}

/// The text called `name`; `None` if there is none.
pub fn text(name: &str) -> Option<String> {
    let mut bytes = value(name)?;
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    String::from_utf8(bytes).ok()
}

fn value(name: &str) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    let mut bytes = vec![0_u8; 256];
    let mut len = bytes.len();
    // SAFETY: the name is NUL-terminated, `len` is the buffer's size, and nothing is set.
    let code =
        unsafe { libc::sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &raw mut len, std::ptr::null_mut(), 0) };
    bytes.truncate(len);
    (code == 0).then_some(bytes)
}
