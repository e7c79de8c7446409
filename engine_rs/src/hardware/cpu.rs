//! The processor: who made it, how many cores this process may use, and what it can do.

use std::collections::BTreeSet;

use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// Instruction-set extensions under `rustc`'s names; only those that the operating system saves on a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeSet<&'static str>);

impl Flags {
    /// Those of `needed` that are not there.
    #[must_use]
    pub fn missing(&self, needed: &[&'static str]) -> Vec<&'static str> {
        needed.iter().copied().filter(|flag| !self.0.contains(flag)).collect()
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
#[derive(Debug, Clone)]
pub struct Cpu {
    /// E.g. `AuthenticAMD`.
    pub vendor: String,
    /// The x86 display family, 0 elsewhere.
    pub family: u32,
    /// The x86 display model, 0 elsewhere.
    pub model: u32,
    /// Marketing name.
    pub name: String,
    /// What it can do, as far as any runtime asks.
    pub flags: Flags,
    /// Physical cores of the machine.
    pub cores: u32,
    /// Hardware threads this process may use: affinity and container quota count.
    pub threads: u32,
}

impl Cpu {
    /// Asks the machine.
    #[must_use]
    pub fn detect() -> Self {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let first = system.as_ref().and_then(|system| system.cpus().first());
        let (family, model) = arch::family_and_model();
        Self {
            vendor: first.map(|cpu| cpu.vendor_id().to_owned()).unwrap_or_default(),
            family,
            model,
            name: first.map_or_else(|| std::env::consts::ARCH.to_owned(), |cpu| cpu.brand().trim().to_owned()),
            flags: arch::flags(),
            cores: System::physical_core_count().map_or(threads, |count| count as u32),
            threads,
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use raw_cpuid::CpuId;

    use super::Flags;

    /// State components of XCR0 that the AMX tiles need.
    const AMX_STATE: u64 = 0b11 << 17;

    pub fn family_and_model() -> (u32, u32) {
        CpuId::new().get_feature_info().map_or((0, 0), |info| (u32::from(info.family_id()), u32::from(info.model_id())))
    }

    pub fn flags() -> Flags {
        macro_rules! detected {
            ($($flag:tt),*) => { [$(($flag, std::arch::is_x86_feature_detected!($flag))),*] };
        }
        // The standard library looks at XCR0 for AVX and AVX-512 by itself.
        let vector = detected!(
            "sse4.2",
            "avx",
            "f16c",
            "fma",
            "avx2",
            "bmi1",
            "bmi2",
            "lzcnt",
            "sse4a",
            "avxvnni",
            "avx512f",
            "avx512cd",
            "avx512vl",
            "avx512dq",
            "avx512bw",
            "avx512vbmi",
            "avx512vnni",
            "avx512bf16"
        );
        vector.into_iter().chain(tiles()).filter_map(|(flag, present)| present.then_some(flag)).collect()
    }

    fn tiles() -> [(&'static str, bool); 2] {
        let cpuid = CpuId::new();
        let saved = cpuid.get_feature_info().is_some_and(|info| info.has_oxsave()) && {
            // SAFETY: the OSXSAVE bit says that XGETBV may be executed here.
            let enabled = unsafe { std::arch::x86_64::_xgetbv(0) };
            enabled & AMX_STATE == AMX_STATE
        };
        let features = cpuid.get_extended_feature_info().filter(|_| saved);
        [
            ("amx-tile", features.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_amx_tile)),
            ("amx-int8", features.as_ref().is_some_and(raw_cpuid::ExtendedFeatures::has_amx_int8)),
        ]
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::Flags;

    pub fn family_and_model() -> (u32, u32) {
        (0, 0)
    }

    pub fn flags() -> Flags {
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
        flags.into_iter().collect()
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod arch {
    use super::Flags;

    pub fn family_and_model() -> (u32, u32) {
        (0, 0)
    }

    pub fn flags() -> Flags {
        Flags::default()
    }
}
