//! Cores by kind, and which of them this process may use.

use std::collections::BTreeSet;

/// What a core is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The fast cores; all cores of a processor that has but one kind.
    Performance,
    /// The small cores of a hybrid processor.
    Efficiency,
}

impl Kind {
    /// The word of the public contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Efficiency => "efficiency",
        }
    }
}

/// The cores of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Their kind.
    pub kind: Kind,
    /// Physical cores.
    pub cores: u32,
    /// Hardware threads.
    pub threads: u32,
    /// Physical cores that this process may run on.
    pub usable: u32,
}

/// Cores of one kind, where nothing tells more than their numbers.
fn uniform(cores: u32, threads: u32, usable_threads: u32) -> Vec<Cores> {
    vec![Cores { kind: Kind::Performance, cores, threads, usable: cores.min(usable_threads) }]
}

/// Asks the operating system; `usable` is the number of hardware threads this process may use.
#[must_use]
pub fn detect(physical: u32, usable: u32) -> Vec<Cores> {
    let found = system::detect();
    if found.is_empty() { uniform(physical, usable.max(physical), usable) } else { found }
}

/// The hardware threads that this process may run on; `None` where the system does not tell.
#[must_use]
pub fn allowed() -> Option<u32> {
    allowed_numbers().map(|numbers| numbers.len() as u32)
}

/// Numbers of the hardware threads that this process may run on; `None` where the system does not tell.
#[must_use]
pub fn allowed_numbers() -> Option<BTreeSet<u32>> {
    system::allowed()
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::Cores;

    pub fn detect() -> Vec<Cores> {
        super::linux::detect(Path::new("/"))
    }

    pub fn allowed() -> Option<BTreeSet<u32>> {
        super::linux::allowed(Path::new("/"))
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::collections::BTreeSet;

    use super::{Cores, Kind};
    use crate::hardware::apple::number;

    /// Level 0 is the fastest; an Intel Mac has no levels.
    pub fn detect() -> Vec<Cores> {
        let levels = number("hw.nperflevels").unwrap_or(0);
        (0..levels)
            .filter_map(|level| {
                let cores = number(&format!("hw.perflevel{level}.physicalcpu"))? as u32;
                let threads = number(&format!("hw.perflevel{level}.logicalcpu"))? as u32;
                let kind = if level == 0 { Kind::Performance } else { Kind::Efficiency };
                Some(Cores { kind, cores, threads, usable: cores })
            })
            .collect()
    }

    pub fn allowed() -> Option<BTreeSet<u32>> {
        None
    }
}

#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as system;

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod system {
    use std::collections::BTreeSet;

    use super::Cores;

    pub fn detect() -> Vec<Cores> {
        Vec::new()
    }

    pub fn allowed() -> Option<BTreeSet<u32>> {
        None
    }
}

#[cfg(any(target_os = "linux", test))]
mod linux;

#[cfg(test)]
mod tests;
