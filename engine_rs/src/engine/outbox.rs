//! The events on their way out of the engine, and the one wake-up that announces them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::types::{Event, RequestId, Wake};
use crate::sequence::Unsent;

/// Deltas that follow each other faster than this wait for company: no display shows them sooner, and a consumer that is
/// woken for every token of a small model takes the processor from the thread that makes them.
const FRAME: Duration = Duration::from_millis(8);

/// Where the decode thread leaves events and the consumer takes them.
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    /// A wake-up is under way and nobody has drained since.
    announced: AtomicBool,
    waker: Box<dyn Wake>,
    frame: Duration,
}

/// Events in order. Deltas of one request that nobody has taken yet become one.
#[derive(Default)]
pub(super) struct Queue {
    events: Vec<Event>,
    /// Number of the batch of events that is being collected.
    epoch: u64,
    /// Something in it should not wait: anything but a further delta.
    urgent: bool,
    /// When the consumer was last woken.
    woken: Option<Instant>,
}

/// Where a request's latest delta lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    epoch: u64,
    index: usize,
}

impl Outbox {
    pub(super) fn new(waker: Box<dyn Wake>) -> Self {
        Self { queue: Mutex::default(), announced: AtomicBool::new(false), waker, frame: FRAME }
    }

    /// Adds events, all under one lock and with one wake-up at most. Further deltas of a request may wait up to a
    /// [`FRAME`] for the next write, so whoever stops writing calls [`announce`](Self::announce).
    pub(super) fn write(&self, add: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut queue);
        if queue.urgent || queue.woken.is_none_or(|woken| woken.elapsed() >= self.frame) {
            self.wake(queue);
        }
    }

    /// Lets nothing wait any longer.
    pub(super) fn announce(&self) {
        self.wake(self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.events.is_empty() || self.announced.swap(true, Ordering::SeqCst) {
            return;
        }
        queue.urgent = false;
        queue.woken = Some(Instant::now());
        drop(queue);
        self.waker.wake();
    }

    pub(super) fn drain(&self) -> Vec<Event> {
        // Cleared before the queue is taken: what is added in between is announced again rather than forgotten.
        self.announced.store(false, Ordering::SeqCst);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.epoch += 1;
        queue.urgent = false;
        std::mem::take(&mut queue.events)
    }
}

impl Queue {
    pub(super) fn push(&mut self, event: Event) {
        self.urgent = true;
        self.events.push(event);
    }

    /// Reports what a request produced. `place` is where its last delta went and goes.
    pub(super) fn delta(&mut self, id: RequestId, unsent: &mut Unsent, place: &mut Option<Place>) {
        if unsent.text.is_empty() && unsent.tokens.is_empty() {
            return;
        }
        let last = place.filter(|place| place.epoch == self.epoch).and_then(|place| self.events.get_mut(place.index));
        if let Some(Event::Delta { text, tokens, logprobs, .. }) = last {
            text.push_str(&unsent.text);
            tokens.append(&mut unsent.tokens);
            logprobs.append(&mut unsent.logprobs);
            unsent.text.clear();
            return;
        }
        self.urgent |= place.is_none();
        *place = Some(Place { epoch: self.epoch, index: self.events.len() });
        let Unsent { text, tokens, logprobs } = std::mem::take(unsent);
        self.events.push(Event::Delta { id, text, tokens, logprobs });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{Outbox, Place};
    use crate::engine::{Event, Wake};
    use crate::sequence::Unsent;

    struct Counter(Arc<AtomicUsize>);

    impl Wake for Counter {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn outbox(frame: Duration) -> (Outbox, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        (Outbox { frame, ..Outbox::new(Box::new(Counter(Arc::clone(&wakes)))) }, wakes)
    }

    fn produce(outbox: &Outbox, id: u64, text: &str, place: &mut Option<Place>) {
        let mut unsent = Unsent { text: text.into(), tokens: vec![text.len() as i32], logprobs: Vec::new() };
        outbox.write(|queue| queue.delta(id, &mut unsent, place));
    }

    fn texts(events: &[Event]) -> Vec<(u64, String, usize)> {
        let text = |event: &Event| match event {
            Event::Delta { id, text, tokens, .. } => (*id, text.clone(), tokens.len()),
            other => panic!("{other:?}"),
        };
        events.iter().map(text).collect()
    }

    #[test]
    fn deltas_nobody_has_taken_become_one_per_request() {
        let (outbox, _) = outbox(Duration::ZERO);
        let (mut first, mut second) = (None, None);
        produce(&outbox, 1, "a", &mut first);
        produce(&outbox, 2, "x", &mut second);
        produce(&outbox, 1, "b", &mut first);
        assert_eq!(texts(&outbox.drain()), [(1, "ab".into(), 2), (2, "x".into(), 1)]);
        produce(&outbox, 1, "c", &mut first);
        assert_eq!(texts(&outbox.drain()), [(1, "c".into(), 1)]);
    }

    #[test]
    fn there_is_one_wake_up_until_somebody_drains() {
        let (outbox, wakes) = outbox(Duration::ZERO);
        let mut place = None;
        produce(&outbox, 1, "a", &mut place);
        produce(&outbox, 1, "b", &mut place);
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        outbox.drain();
        produce(&outbox, 1, "c", &mut place);
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn further_deltas_wait_for_the_next_frame_or_for_the_announcement() {
        let (outbox, wakes) = outbox(Duration::MAX);
        let mut place = None;
        produce(&outbox, 1, "a", &mut place);
        outbox.drain();
        produce(&outbox, 1, "b", &mut place);
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
        outbox.announce();
        outbox.announce();
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
        assert_eq!(texts(&outbox.drain()), [(1, "b".into(), 1)]);
    }

    #[test]
    fn beginnings_and_ends_do_not_wait() {
        let (outbox, wakes) = outbox(Duration::MAX);
        let mut place = None;
        produce(&outbox, 1, "a", &mut place);
        outbox.drain();
        produce(&outbox, 2, "first of another", &mut None);
        assert_eq!(wakes.load(Ordering::SeqCst), 2);
        outbox.drain();
        produce(&outbox, 1, "b", &mut place);
        outbox.write(|queue| queue.push(Event::Queued { id: 3, position: 0 }));
        assert_eq!(wakes.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn nothing_to_say_wakes_nobody() {
        let (outbox, wakes) = outbox(Duration::ZERO);
        outbox.write(|queue| queue.delta(1, &mut Unsent::default(), &mut None));
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
        assert!(outbox.drain().is_empty());
    }
}
