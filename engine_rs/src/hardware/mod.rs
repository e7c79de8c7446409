//! What the machine offers, and which runtime and CPU module may run on it.
//!
//! [`detect`] asks the machine once. [`variant`], [`release`] and [`runtime`] judge recorded facts: flags and file
//! names go in, verdicts come out, and no library is opened before its flags are known to be there.

mod advice;
#[cfg(target_os = "macos")]
mod apple;
mod bitnet_release;
mod cache;
mod cgroup;
mod cores;
mod cpu;
mod gpu;
mod load;
mod memory;
mod microarchitecture;
#[cfg(all(test, target_arch = "x86_64"))]
mod recorded;
mod release;
mod runtime;
mod score;
mod threads;
mod variant;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::path::Path;

pub use advice::{Advice, Gain, advise};
pub(crate) use bitnet_release::runs_sse4a;
pub use cache::Cache;
pub use cores::{Cores, Kind};
pub use cpu::{Cpu, Flags};
pub use gpu::Gpu;
pub use load::{Load, Sample};
pub use memory::Memory;
pub use release::release_variants;
pub use runtime::{Candidate, Origin, RuntimeFolder, choose, judge, prefer_gpus};
pub use threads::{Threads, compute_threads};
pub use variant::Verdict;

/// What this machine offers to an engine.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// The processor.
    pub cpu: Cpu,
    /// Main memory.
    pub memory: Memory,
    /// GPUs that the operating system lists.
    pub gpus: Vec<Gpu>,
}

/// Asks the machine.
#[must_use]
pub fn detect() -> Hardware {
    Hardware { cpu: Cpu::detect(), memory: Memory::detect(), gpus: gpu::detect() }
}

/// What control groups leave to this process.
fn limits() -> cgroup::Limits {
    cgroup::read(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        let hardware = detect();
        let cpu = &hardware.cpu;
        assert!(cpu.cores >= 1 && cpu.threads >= 1 && cpu.threads <= cpu.allowed);
        assert!(!cpu.name.is_empty());
        assert!(cpu.kinds.iter().all(|kind| kind.usable <= kind.cores && kind.cores <= kind.threads));
        assert!(hardware.memory.available <= hardware.memory.total);
        assert!((1..=cpu.threads).contains(&compute_threads(cpu).count));
    }
}
