//! Models and contexts, and what tests see and hold of them.

use std::collections::HashMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::Cache;
use crate::control::Counts;
use crate::script::Script;
use crate::vocabulary::Vocabulary;

pub(crate) type AbortCallback = unsafe extern "C" fn(data: *mut c_void) -> bool;

/// A loaded model.
pub(crate) struct Model {
    pub(crate) script: Script,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) watch: Arc<Watch>,
}

/// A context and the outputs of its last decode.
pub(crate) struct Context {
    pub(crate) model: *const Model,
    pub(crate) cache: Cache,
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) n_seq_max: u32,
    pub(crate) unified: bool,
    pub(crate) embeddings: bool,
    pub(crate) abort: Option<(AbortCallback, *mut c_void)>,
    /// For each token of the batch, its row if it has an output.
    pub(crate) outputs: Vec<Option<Vec<f32>>>,
}

impl Context {
    pub(crate) fn is_aborted(&self) -> bool {
        // SAFETY: the caller of `llama_set_abort_callback` keeps the data alive.
        self.abort.is_some_and(|(callback, data)| unsafe { callback(data) })
    }
}

/// What is counted and held for one model file.
#[derive(Default)]
pub(crate) struct Watch {
    state: Mutex<WatchState>,
    changed: Condvar,
}

#[derive(Default)]
struct WatchState {
    counts: Counts,
    held: bool,
    /// Steps that may pass although held.
    passes: u32,
    waiting: u32,
}

static WATCHES: LazyLock<Mutex<HashMap<PathBuf, Arc<Watch>>>> = LazyLock::new(Mutex::default);

/// How often a held decode asks whether it is aborted.
const ABORT_POLL: Duration = Duration::from_millis(1);

impl Watch {
    /// The one for a model file, however its path is spelled.
    pub(crate) fn of(path: &str) -> Arc<Self> {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let mut watches = WATCHES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(watches.entry(path).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock().counts);
    }

    pub(crate) fn hold(&self, held: bool) {
        let mut state = self.lock();
        state.held = held;
        state.passes = 0;
        self.changed.notify_all();
    }

    pub(crate) fn pass(&self, steps: u32) {
        self.lock().passes += steps;
        self.changed.notify_all();
    }

    pub(crate) fn wait_until_held(&self) {
        let state = self.lock();
        let running = |state: &mut WatchState| state.waiting == 0 || state.passes > 0;
        drop(self.changed.wait_while(state, running));
    }

    /// One step of a computation: waits while held. False if aborted meanwhile.
    pub(crate) fn step(&self, is_aborted: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while state.held && state.passes == 0 && !is_aborted() {
            state = self.changed.wait_timeout(state, ABORT_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting -= 1;
        state.passes = state.passes.saturating_sub(1);
        drop(state);
        !is_aborted()
    }
}
