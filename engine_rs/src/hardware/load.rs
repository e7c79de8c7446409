//! How much others compute on the processors that this process may use.

use std::collections::BTreeSet;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::cores;

/// What was measured since the call before, in processors: 1.5 is one and a half.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Hardware threads that this process may use.
    pub processors: f64,
    /// What others used of them.
    pub others: f64,
}

/// Measures from call to call; a call takes some ten microseconds on a small machine.
pub struct Load {
    system: Option<System>,
    own: Option<Pid>,
    allowed: Option<BTreeSet<u32>>,
}

impl Load {
    /// Begins to measure.
    #[must_use]
    pub fn new() -> Self {
        Self { system: System::new().ok(), own: sysinfo::get_current_pid().ok(), allowed: cores::allowed_numbers() }
    }

    /// Measures; `None` where the system does not tell. The first call only begins.
    pub fn sample(&mut self) -> Option<Sample> {
        let (system, own) = (self.system.as_mut()?, self.own?);
        system.refresh_cpu_usage();
        let kind = ProcessRefreshKind::nothing().with_cpu().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, kind);
        let own = system.process(own)?.cpu_usage();
        let usable = system.cpus().iter().filter(|cpu| may_use(self.allowed.as_ref(), cpu.name()));
        let (count, busy) = usable.fold((0.0, 0.0), |(count, busy), cpu| (count + 1.0, busy + cpu.usage()));
        Some(Sample { processors: count, others: f64::from(busy - own).max(0.0) / 100.0 })
    }
}

/// Linux names processors `cpu0`, `cpu1`, …; elsewhere there is no list of allowed ones.
fn may_use(allowed: Option<&BTreeSet<u32>>, name: &str) -> bool {
    let number = || name.strip_prefix("cpu")?.parse::<u32>().ok();
    allowed.is_none_or(|allowed| number().is_some_and(|number| allowed.contains(&number)))
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_use_no_more_than_there_is() {
        let mut load = Load::new();
        load.sample();
        let sample = load.sample().expect("this system tells");
        assert!(sample.processors >= 1.0);
        assert!((0.0..=sample.processors).contains(&sample.others), "{sample:?}");
    }
}
