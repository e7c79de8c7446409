//! Stops a running decode.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops a running decode from any thread; with a library of 2024, the next one before it begins.
#[derive(Debug, Clone, Default)]
pub struct AbortHandle(Arc<AtomicBool>);

impl AbortHandle {
    /// Makes the running decode, or the next one, end as [`Decoded::Aborted`](super::Decoded::Aborted).
    pub fn abort(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Lets decodes run again.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether decodes are to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What [`is_set`] takes; valid as long as a handle lives.
    pub(super) fn as_ptr(&self) -> *mut c_void {
        Arc::as_ptr(&self.0).cast_mut().cast()
    }
}

/// `ggml_abort_callback`: called between graph nodes, on the compute threads.
///
/// # Safety
/// `data` must come from [`AbortHandle::as_ptr`] of a handle that is alive.
pub(super) unsafe extern "C" fn is_set(data: *mut c_void) -> bool {
    // SAFETY: as the caller promises.
    unsafe { &*data.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
