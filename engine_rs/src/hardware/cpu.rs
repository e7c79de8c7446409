//! The processor: who made it, what it can do, and how much of it this process may use.

use std::collections::BTreeSet;

use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::cache::{self, Cache};
use super::cores::{self, Cores};
use super::microarchitecture;

/// Instruction-set extensions under `rustc`'s names; only those that the operating system saves on a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeSet<&'static str>);

impl Flags {
    /// Those of `needed` that are not there.
    #[must_use]
    pub fn missing(&self, needed: &[&'static str]) -> Vec<&'static str> {
        needed.iter().copied().filter(|flag| !self.0.contains(flag)).collect()
    }

    /// Whether one is there.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.0.contains(flag)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

impl FromIterator<&'static str> for Flags {
    fn from_iter<I: IntoIterator<Item = &'static str>>(flags: I) -> Self {
        Self(flags.into_iter().collect())
    }
}

/// The processor.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    /// E.g. `AuthenticAMD`.
    pub vendor: String,
    /// The x86 display family, 0 elsewhere.
    pub family: u32,
    /// The x86 display model, 0 elsewhere.
    pub model: u32,
    /// The x86 stepping, 0 elsewhere.
    pub stepping: u32,
    /// Marketing name; a virtual machine may hide it.
    pub name: String,
    /// What it can do, as far as any runtime asks.
    pub flags: Flags,
    /// Physical cores of the machine.
    pub cores: u32,
    /// Hardware threads this process may use: affinity and container quota count.
    pub threads: u32,
    /// Hardware threads that affinity and `cpuset` allow.
    pub allowed: u32,
    /// Processor time that control groups allow, in processors; `None` without a quota.
    pub quota: Option<f64>,
    /// Cores by kind, fast ones first.
    pub kinds: Vec<Cores>,
    /// Caches, the nearest first.
    pub caches: Vec<Cache>,
}

impl Cpu {
    /// Asks the machine.
    #[must_use]
    pub fn detect() -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
        let first = system.as_ref().and_then(|system| system.cpus().first());
        let name = first.map_or_else(|| std::env::consts::ARCH.to_owned(), |cpu| cpu.brand().trim().to_owned());
        let known = arch::identify();
        let vendor = first.filter(|_| known.vendor.is_empty()).map(|cpu| cpu.vendor_id().to_owned());
        // The standard library counts affinity and quota as well, and at least one.
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let allowed = cores::allowed().unwrap_or(threads).max(1);
        let physical = System::physical_core_count().map_or(allowed, |count| count as u32);
        let kinds = cores::detect(physical, allowed);
        Self {
            vendor: vendor.unwrap_or(known.vendor),
            name,
            cores: kinds.iter().map(|kind| kind.cores).sum(),
            threads: threads.min(allowed),
            allowed,
            quota: super::limits().quota,
            kinds,
            caches: cache::detect(),
            ..known
        }
    }

    /// Name of the microarchitecture, where it is on record.
    #[must_use]
    pub fn microarchitecture(&self) -> Option<&'static str> {
        microarchitecture::named(&self.vendor, self.family, self.model).map(|(name, _)| name)
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::Cpu;
    use crate::hardware::x86;

    pub fn identify() -> Cpu {
        let x86::Identity { vendor, family, model, stepping, flags } = x86::identify();
        Cpu { vendor, family, model, stepping, flags, ..Cpu::default() }
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Cpu;

    pub fn identify() -> Cpu {
        macro_rules! detected {
            ($($flag:tt),*) => { [$(($flag, std::arch::is_aarch64_feature_detected!($flag))),*] };
        }
        let mut flags: Vec<&str> = detected!("neon", "dotprod", "fp16", "sve", "sve2", "i8mm")
            .into_iter()
            .filter_map(|(flag, present)| present.then_some(flag))
            .collect();
        // The standard library's name for SME is not stable yet; the kernel lists it.
        let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if listed.split_ascii_whitespace().any(|word| word == "sme") {
            flags.push("sme");
        }
        Cpu { flags: flags.into_iter().collect(), ..Cpu::default() }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    use super::Cpu;

    pub fn identify() -> Cpu {
        Cpu::default()
    }
}
