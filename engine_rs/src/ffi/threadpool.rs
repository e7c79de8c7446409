//! A persistent ggml threadpool, so that a decode does not start its compute threads anew.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use super::library::Libraries;
use super::symbols::{GgmlBackendReg, GgmlThreadpool, LlamaContext, Symbols};

/// A `ggml_threadpool_params`, filled through a pointer; 528 bytes in every build seen.
#[repr(C, align(8))]
struct Params([u8; 2048]);

type ParamsInit = unsafe extern "C" fn(*mut Params, i32);
type New = unsafe extern "C" fn(*mut Params) -> *mut GgmlThreadpool;
type Free = unsafe extern "C" fn(*mut GgmlThreadpool);
type Attach = unsafe extern "C" fn(*mut LlamaContext, *mut GgmlThreadpool, *mut GgmlThreadpool);
type GetFeatures = unsafe extern "C" fn(*mut GgmlBackendReg) -> *const Feature;

/// A `ggml_backend_feature`; a list of them ends with a null name.
#[repr(C)]
struct Feature {
    name: *const c_char,
    value: *const c_char,
}

/// The functions that make and attach a threadpool.
#[derive(Clone, Copy)]
pub(crate) struct ThreadpoolApi {
    params_init: ParamsInit,
    new: New,
    free: Free,
    attach: Attach,
}

impl ThreadpoolApi {
    /// Finds the functions; `None` where one is missing or where OpenMP keeps the threads.
    pub(crate) fn resolve(symbols: &Symbols, libraries: &Libraries, cpu: *mut GgmlBackendReg) -> Option<Self> {
        let get_proc_address = symbols.backend_reg_get_proc_address?;
        let procedure = |name: &CStr| {
            // SAFETY: `cpu` is the registration of a loaded backend, the name is NUL-terminated.
            NonNull::new(unsafe { get_proc_address(cpu, name.as_ptr()) })
        };
        let features = procedure(c"ggml_backend_get_features")?;
        // SAFETY: this is the function's signature in ggml-backend.h.
        let features = unsafe { std::mem::transmute::<NonNull<c_void>, GetFeatures>(features) };
        // SAFETY: the list is static memory of the backend that `cpu` names.
        if unsafe { lists_openmp(features(cpu)) } {
            return None;
        }
        Some(Self {
            // SAFETY: this is the function's signature in ggml.h.
            params_init: unsafe { libraries.symbol(&["ggml_threadpool_params_init"]) }?,
            // SAFETY: as above, in ggml-cpu.h.
            new: unsafe { std::mem::transmute::<NonNull<c_void>, New>(procedure(c"ggml_threadpool_new")?) },
            // SAFETY: as above.
            free: unsafe { std::mem::transmute::<NonNull<c_void>, Free>(procedure(c"ggml_threadpool_free")?) },
            attach: symbols.attach_threadpool?,
        })
    }
}

/// # Safety
/// `feature` must be null or point to a list that ends with a null name.
unsafe fn lists_openmp(mut feature: *const Feature) -> bool {
    while let Some(Feature { name, value }) = {
        // SAFETY: null, or within the list: its end stops the loop.
        unsafe { feature.as_ref() }
    } {
        if name.is_null() {
            return false;
        }
        // SAFETY: names and values are static NUL-terminated strings.
        if unsafe { CStr::from_ptr(*name) == c"OPENMP" && CStr::from_ptr(*value) != c"0" } {
            return true;
        }
        feature = feature.wrapping_add(1);
    }
    false
}

/// Compute threads that wait between decodes.
pub(crate) struct Threadpool {
    api: ThreadpoolApi,
    pool: NonNull<GgmlThreadpool>,
    threads: i32,
}

impl Threadpool {
    /// Starts threads; `None` if the library refuses.
    pub(crate) fn new(api: ThreadpoolApi, threads: i32) -> Option<Self> {
        let mut params = Params([0; 2048]);
        // SAFETY: the block is larger than the struct that is written and then read.
        let pool = NonNull::new(unsafe {
            (api.params_init)(&raw mut params, threads);
            (api.new)(&raw mut params)
        })?;
        Some(Self { api, pool, threads })
    }

    /// Threads it holds.
    pub(crate) fn threads(&self) -> i32 {
        self.threads
    }

    /// Lets a context compute with it.
    ///
    /// # Safety
    /// `context` must be alive, and be freed before this pool is dropped, even when it gets another pool.
    pub(crate) unsafe fn attach(&self, context: *mut LlamaContext) {
        // SAFETY: both are alive, as the caller promises.
        unsafe { (self.api.attach)(context, self.pool.as_ptr(), self.pool.as_ptr()) };
    }
}

impl Drop for Threadpool {
    fn drop(&mut self) {
        // SAFETY: made by `new` and, as `attach` demands, no longer used by any context.
        unsafe { (self.api.free)(self.pool.as_ptr()) };
    }
}
