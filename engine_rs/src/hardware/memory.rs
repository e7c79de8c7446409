//! Main memory, as far as this process may use it.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::cgroup::MemoryLimit;

/// Main memory in bytes; a control group's limit counts where it is lower. 0 where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that this process may use.
    pub total: u64,
    /// What can be had without swapping; the page cache of files counts as available.
    pub available: u64,
    /// The limit of the control group, where it is lower than what the machine has.
    pub limit: Option<u64>,
}

impl Memory {
    /// Asks the machine.
    #[must_use]
    pub fn detect() -> Self {
        let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let machine = System::new_with_specifics(ram)
            .map(|system| (system.total_memory(), system.available_memory()))
            .unwrap_or_default();
        Self::within(machine, super::limits().memory)
    }

    /// What a control group leaves of a machine with `total` bytes, of which some are `available`.
    fn within((total, available): (u64, u64), limit: Option<MemoryLimit>) -> Self {
        match limit {
            Some(group) if group.limit < total => {
                Self { total: group.limit, available: available.min(group.available), limit: Some(group.limit) }
            }
            _ => Self { total, available, limit: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_machine_and_group_counts() {
        let group = |limit, available| Some(MemoryLimit { limit, available });
        let tight = Memory::within((1000, 500), group(800, 600));
        assert_eq!(tight, Memory { total: 800, available: 500, limit: Some(800) });
        assert_eq!(Memory::within((1000, 500), group(800, 100)).available, 100);
        let machine = Memory { total: 1000, available: 500, limit: None };
        assert_eq!(Memory::within((1000, 500), group(2000, 100)), machine);
        assert_eq!(Memory::within((1000, 500), None), machine);
    }
}
