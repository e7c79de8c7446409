//! Lets one engine compute at a time, in turns by time consumed, so that models share the cores instead of
//! fighting over them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The compute device that all engines of this process share.
pub(super) static COMPUTE: Permit = Permit::new();

/// At most one holder; of those who wait, the one that has consumed least goes first.
pub(super) struct Permit {
    state: Mutex<State>,
    released: Condvar,
}

struct State {
    held: bool,
    /// Consumed time and ticket of everyone who waits.
    waiting: Vec<(Duration, u64)>,
    next_ticket: u64,
    /// What the last holder had consumed. Who was idle starts here, so that idling saves up no claim.
    floor: Duration,
}

/// What one engine has consumed.
#[derive(Debug, Default)]
pub(super) struct Account {
    consumed: Duration,
}

/// The permit in use; dropping it charges the account.
pub(super) struct Held<'a> {
    permit: &'a Permit,
    account: &'a mut Account,
    since: Instant,
}

impl Permit {
    const fn new() -> Self {
        let state = State { held: false, waiting: Vec::new(), next_ticket: 0, floor: Duration::ZERO };
        Self { state: Mutex::new(state), released: Condvar::new() }
    }

    /// Waits for the permit.
    pub(super) fn acquire<'a>(&'a self, account: &'a mut Account) -> Held<'a> {
        let mut state = self.lock();
        account.consumed = account.consumed.max(state.floor);
        if state.held || !state.waiting.is_empty() {
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            let claim = (account.consumed, ticket);
            state.waiting.push(claim);
            while state.held || state.waiting.iter().min() != Some(&claim) {
                state = self.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.waiting.retain(|other| *other != claim);
        }
        state.held = true;
        state.floor = account.consumed;
        drop(state);
        Held { permit: self, account, since: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.account.consumed += self.since.elapsed();
        let mut state = self.permit.lock();
        state.held = false;
        let someone_waits = !state.waiting.is_empty();
        drop(state);
        if someone_waits {
            self.permit.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::{Account, Permit};

    #[test]
    fn only_one_holds_it() {
        let (permit, holders) = (Permit::new(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut account = Account::default();
                    for _ in 0..200 {
                        let _held = permit.acquire(&mut account);
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn who_consumed_least_goes_first() {
        let permit = Permit::new();
        let order = Mutex::new(Vec::new());
        let mut mine = Account::default();
        let held = permit.acquire(&mut mine);
        thread::scope(|scope| {
            let (queued, is_queued) = mpsc::channel();
            for consumed in [3, 1, 2] {
                let (permit, order, queued) = (&permit, &order, queued.clone());
                scope.spawn(move || {
                    let mut account = Account { consumed: Duration::from_secs(consumed) };
                    queued.send(()).unwrap();
                    let _held = permit.acquire(&mut account);
                    order.lock().unwrap().push(consumed);
                });
                is_queued.recv().unwrap();
            }
            while permit.lock().waiting.len() < 3 {
                thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(order.into_inner().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn idling_saves_up_no_claim() {
        let permit = Permit::new();
        let mut busy = Account { consumed: Duration::from_secs(100) };
        drop(permit.acquire(&mut busy));
        let mut idle = Account::default();
        drop(permit.acquire(&mut idle));
        assert!(idle.consumed >= Duration::from_secs(100));
    }
}
