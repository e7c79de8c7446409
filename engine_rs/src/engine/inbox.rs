//! What callers want of the decode thread: they leave it here and never wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::prompt::Prepared;
use super::types::RequestId;
use crate::context::AbortHandle;
use crate::error::{EngineError, Result};

/// What callers may change about a live request while it runs.
#[derive(Debug)]
pub(super) struct Ticket {
    credit: AtomicU64,
    cancelled: AtomicBool,
    /// The decode thread waits for its credit.
    starving: AtomicBool,
    /// The decode under way reads its prompt.
    reading: AtomicBool,
}

impl Ticket {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Whether a token may be produced; without credit, the next grant wakes the decode thread.
    pub(super) fn has_credit(&self) -> bool {
        if self.credit.load(Ordering::SeqCst) > 0 {
            return true;
        }
        self.starving.store(true, Ordering::SeqCst);
        // A grant in between saw no starving flag, but is seen here.
        self.credit.load(Ordering::SeqCst) > 0
    }

    /// Pays for one token. Only the decode thread does, after [`has_credit`](Self::has_credit).
    pub(super) fn debit(&self) {
        self.credit.fetch_sub(1, Ordering::SeqCst);
    }

    /// Tells whether the decode to come reads this prompt, so that a cancel stops it midway.
    pub(super) fn set_reading(&self, reading: bool) {
        self.reading.store(reading, Ordering::SeqCst);
    }
}

/// A message to the decode thread.
pub(super) enum Mail {
    /// A prompt is ready to run.
    Prepared(Box<Prepared>),
    /// A prompt cannot run.
    Refused(RequestId, EngineError),
    /// A request was cancelled before its prompt was ready.
    Dropped(RequestId),
    /// Somebody cancelled a request; its ticket says so too.
    Cancel(RequestId),
}

/// Mail and live requests of one engine.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    abort: AbortHandle,
}

#[derive(Default)]
struct State {
    mail: Vec<Mail>,
    /// Something changed that is no mail.
    poked: bool,
    closing: bool,
    live: HashMap<RequestId, Arc<Ticket>>,
}

impl Inbox {
    pub(super) fn new(abort: AbortHandle) -> Self {
        Self { abort, ..Self::default() }
    }

    /// Opens a request.
    pub(super) fn register(&self, id: RequestId, credit: u32) -> Result<Arc<Ticket>> {
        let mut state = self.lock();
        if state.closing {
            return Err(EngineError::ShuttingDown);
        }
        if state.live.contains_key(&id) {
            let message = format!("the request {id} is running already");
            return Err(EngineError::InvalidParameter { param: "request_id", message });
        }
        let ticket = Arc::new(Ticket {
            credit: AtomicU64::new(credit.into()),
            cancelled: AtomicBool::new(false),
            starving: AtomicBool::new(false),
            reading: AtomicBool::new(false),
        });
        state.live.insert(id, Arc::clone(&ticket));
        Ok(ticket)
    }

    /// Closes a request. True exactly once, for whoever may write its last event.
    pub(super) fn settle(&self, id: RequestId) -> bool {
        self.lock().live.remove(&id).is_some()
    }

    pub(super) fn post(&self, mail: Mail) {
        self.lock().mail.push(mail);
        self.arrived.notify_one();
    }

    pub(super) fn cancel(&self, id: RequestId) {
        let mut state = self.lock();
        let Some(ticket) = state.live.get(&id).map(Arc::clone) else { return };
        ticket.cancelled.store(true, Ordering::SeqCst);
        state.mail.push(Mail::Cancel(id));
        drop(state);
        if ticket.reading.load(Ordering::SeqCst) {
            self.abort.abort();
        }
        self.arrived.notify_one();
    }

    pub(super) fn grant(&self, id: RequestId, tokens: u32) {
        let mut state = self.lock();
        let Some(ticket) = state.live.get(&id) else { return };
        ticket.credit.fetch_add(tokens.into(), Ordering::SeqCst);
        if ticket.starving.swap(false, Ordering::SeqCst) {
            state.poked = true;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Asks the decode thread to end everything; no request is opened from here on.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.abort.abort();
        self.arrived.notify_one();
    }

    /// Takes the mail; true when the engine is closing.
    pub(super) fn take(&self, into: &mut Vec<Mail>) -> bool {
        let mut state = self.lock();
        into.append(&mut state.mail);
        state.poked = false;
        state.closing
    }

    /// Sleeps until there is something to take, or until `deadline`.
    pub(super) fn wait(&self, deadline: Option<Instant>) {
        let idle = |state: &mut State| state.mail.is_empty() && !state.poked && !state.closing;
        let state = self.lock();
        match deadline {
            None => drop(self.arrived.wait_while(state, idle)),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                drop(self.arrived.wait_timeout_while(state, left, idle));
            }
        }
    }

    /// Closes the engine for good and settles all requests that are left; returns them.
    pub(super) fn abandon(&self) -> Vec<RequestId> {
        let mut state = self.lock();
        state.closing = true;
        state.mail.clear();
        state.live.drain().map(|(id, _)| id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
