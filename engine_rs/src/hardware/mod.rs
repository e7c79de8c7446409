//! What the CPU can do, and which runtime and CPU module may run on it.
//!
//! [`detect`] asks the machine once. [`variant`] and [`runtime`] judge recorded facts: flags and file names go in,
//! verdicts come out, and no library is opened before its flags are known to be there.

mod bitnet_release;
mod cpu;
mod memory;
mod release;
mod runtime;
mod score;
mod variant;

pub(crate) use bitnet_release::runs_sse4a;
pub use cpu::{Cpu, Flags};
pub use memory::Memory;
pub use release::release_variants;
pub use runtime::{Candidate, Origin, RuntimeFolder, choose, judge};
pub use variant::Verdict;

/// What this machine offers to an engine.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// GPUs that the Linux kernel lists, as `driver vendor:device`; empty elsewhere.
    pub gpus: Vec<String>,
}

/// Asks the machine.
#[must_use]
pub fn detect() -> Hardware {
    Hardware { cpu: Cpu::detect(), memory: Memory::detect(), gpus: gpus() }
}

/// Threads to compute with: one per physical core this process may use, less one where there are several.
///
/// Compute threads wait for each other by spinning. One that shares its core with the event loop or with the peer
/// makes all others wait: on two busy cores, two threads are many times slower than one.
#[must_use]
pub fn compute_threads() -> u32 {
    let cpu = Cpu::detect();
    cpu.cores.min(cpu.threads).saturating_sub(1).max(1)
}

fn gpus() -> Vec<String> {
    let Ok(cards) = std::fs::read_dir("/sys/class/drm") else { return Vec::new() };
    let mut gpus: Vec<String> = cards
        .flatten()
        .filter(|card| !card.file_name().to_string_lossy().contains('-'))
        .filter_map(|card| std::fs::read_to_string(card.path().join("device/uevent")).ok())
        .filter_map(|text| {
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            Some(format!("{} {}", value("DRIVER=")?, value("PCI_ID=")?))
        })
        .collect();
    gpus.sort();
    gpus.dedup();
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let hardware = detect();
        assert!(hardware.cpu.cores >= 1 && hardware.cpu.threads >= 1);
        assert!(!hardware.cpu.name.is_empty());
        assert!(hardware.memory.available <= hardware.memory.total);
        assert!((1..=hardware.cpu.threads).contains(&compute_threads()));
    }
}
