//! Gives threads back while others need the processors.
//!
//! Compute threads wait for each other by spinning, many times per token. While another program runs on the core of
//! one of them, all stand still; with a thread less they run on.

use std::time::{Duration, Instant};

use crate::hardware::{Load, Sample};

/// Between two looks at the machine.
const INTERVAL: Duration = Duration::from_millis(500);
/// Quiet looks before a thread comes back.
const QUIET: u32 = 4;

/// Compute threads, adjusted to what others leave.
pub(super) struct Pace {
    policy: Policy,
    load: Load,
    last: Option<Instant>,
    /// Time without work since then.
    rested: Duration,
}

impl Pace {
    pub(super) fn new(most: u32) -> Self {
        Self { policy: Policy::new(most), load: Load::new(), last: None, rested: Duration::ZERO }
    }

    /// Tells that there was nothing to compute for a while.
    pub(super) fn rest(&mut self, duration: Duration) {
        self.rested += duration;
    }

    /// The number of threads from now on, when it is another one. Costs nothing but now and then.
    pub(super) fn adjust(&mut self, now: Instant) -> Option<u32> {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if self.policy.most == 1 || since.is_some_and(|since| since < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        let rested = std::mem::take(&mut self.rested);
        let sample = self.load.sample()?;
        // An average over a rest says nothing of now. One over a step says the more, the longer that took.
        let telling = since.is_some_and(|since| rested < since / 2);
        if telling { self.policy.adjust(sample) } else { None }
    }
}

/// Decides by figures alone.
#[derive(Debug)]
struct Policy {
    most: u32,
    threads: u32,
    quiet: u32,
}

impl Policy {
    fn new(most: u32) -> Self {
        Self { most, threads: most, quiet: 0 }
    }

    /// Steps down at once, and up after a while.
    ///
    /// One of `n` threads less costs an n-th of the speed. Others who run for a share of the time on a core of ours
    /// cost that share of it. So they may have an n-th of a core before a thread makes room.
    fn adjust(&mut self, sample: Sample) -> Option<u32> {
        let room = sample.processors - sample.others + 1.0 / f64::from(self.most);
        let target = (room.floor().max(1.0) as u32).min(self.most);
        self.quiet = if target > self.threads { self.quiet + 1 } else { 0 };
        if target == self.threads || (target > self.threads && self.quiet < QUIET) {
            return None;
        }
        self.quiet = 0;
        self.threads = target;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(most: u32, processors: f64, others: &[f64]) -> Vec<Option<u32>> {
        let mut policy = Policy::new(most);
        others.iter().map(|&others| policy.adjust(Sample { processors, others })).collect()
    }

    #[test]
    fn a_quiet_machine_keeps_all_threads() {
        assert_eq!(decisions(2, 2.0, &[0.03, 0.12, 0.3, 0.05]), [None; 4]);
    }

    #[test]
    fn one_busy_program_on_two_cores_takes_one_thread_at_once() {
        assert_eq!(decisions(2, 2.0, &[0.67, 0.98, 1.0]), [Some(1), None, None]);
    }

    #[test]
    fn one_thread_is_always_left() {
        assert_eq!(decisions(2, 2.0, &[1.02, 1.33, 2.0]), [Some(1), None, None]);
        assert_eq!(decisions(4, 4.0, &[3.9]), [Some(1)]);
    }

    #[test]
    fn a_thread_comes_back_after_two_seconds_of_quiet() {
        assert_eq!(decisions(2, 2.0, &[0.9, 0.1, 0.0, 0.1, 0.0, 0.0]), [Some(1), None, None, None, Some(2), None]);
    }

    #[test]
    fn a_short_quiet_brings_no_thread_back() {
        assert_eq!(
            decisions(2, 2.0, &[0.9, 0.1, 0.0, 0.9, 0.1, 0.1, 0.1]),
            [Some(1), None, None, None, None, None, None]
        );
    }

    #[test]
    fn as_many_threads_go_as_others_need_cores() {
        assert_eq!(decisions(8, 8.0, &[0.1, 3.0, 0.0, 0.0, 0.0, 0.0]), [None, Some(5), None, None, None, Some(8)]);
    }

    #[test]
    fn cores_that_are_not_computed_on_are_used_up_first() {
        assert_eq!(decisions(4, 16.0, &[12.0, 12.5]), [None, Some(3)]);
    }

    #[test]
    fn a_single_thread_is_never_changed() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.adjust(Instant::now()), None);
        assert!(pace.last.is_none(), "nothing was measured");
    }
}
