//! Main memory, as far as this process may use it.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Main memory in bytes; a container's limit counts where it is lower. 0 where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping.
    pub available: u64,
}

impl Memory {
    /// Asks the machine.
    #[must_use]
    pub fn detect() -> Self {
        let ram = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let Ok(system) = System::new_with_specifics(ram) else { return Self { total: 0, available: 0 } };
        let machine = Self { total: system.total_memory(), available: system.available_memory() };
        match system.cgroup_limits() {
            Some(limits) => Self {
                total: machine.total.min(limits.total_memory),
                available: machine.available.min(limits.free_memory),
            },
            None => machine,
        }
    }
}
