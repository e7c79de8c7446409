//! Names processor generations by what CPUID says. A name only orders; what may run is decided by the flags.

use super::cpu::Cpu;

/// A line of generations of one maker, each of which runs what was built for those before it, flags permitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// AMD, and Hygon under licence.
    Amd(Zen),
    /// Intel's large cores and, from `AlderLake` on, its small ones.
    Intel(Core),
}

/// AMD's generations, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zen {
    /// Zen and Zen+.
    One,
    /// Zen 2.
    Two,
    /// Zen 3 and 3+.
    Three,
    /// Zen 4 and 4c.
    Four,
    /// Zen 5, 5c and what came after it.
    Five,
}

/// Intel's generations in the order in which their instruction sets appeared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Core {
    /// Haswell.
    Haswell,
    /// Broadwell.
    Broadwell,
    /// Skylake and its many sequels, servers up to Cooper Lake included.
    Skylake,
    /// Ice Lake and Tiger Lake.
    IceLake,
    /// Rocket Lake.
    RocketLake,
    /// Alder Lake and all that came after it, servers and small cores included.
    AlderLake,
}

/// What family and model say: the name for people, and the place in a line of generations if it has AVX2 at all.
#[must_use]
pub fn named(vendor: &str, family: u32, model: u32) -> Option<(&'static str, Option<Generation>)> {
    match vendor {
        "AuthenticAMD" => amd(family, model).map(|(name, zen)| (name, zen.map(Generation::Amd))),
        "HygonGenuine" if family == 0x18 => Some(("Dhyana (Zen)", Some(Generation::Amd(Zen::One)))),
        "GenuineIntel" if family == 6 => intel(model).map(|(name, core)| (name, core.map(Generation::Intel))),
        "GenuineIntel" => {
            intel_after_family_6(family, model).map(|name| (name, Some(Generation::Intel(Core::AlderLake))))
        }
        _ => None,
    }
}

/// The newest generation that either its model or its flags speak for: a virtual machine may hide or fake the model.
#[must_use]
pub fn generation(cpu: &Cpu) -> Option<Generation> {
    let named = named(&cpu.vendor, cpu.family, cpu.model).and_then(|(_, generation)| generation);
    match (cpu.vendor.as_str(), named) {
        ("AuthenticAMD" | "HygonGenuine", Some(Generation::Amd(zen))) => {
            Some(Generation::Amd(zen.max(zen_by_flags(cpu))))
        }
        ("AuthenticAMD" | "HygonGenuine", _) => Some(Generation::Amd(zen_by_flags(cpu))),
        ("GenuineIntel", Some(Generation::Intel(core))) => Some(Generation::Intel(core.max(core_by_flags(cpu)))),
        ("GenuineIntel", _) => Some(Generation::Intel(core_by_flags(cpu))),
        _ => None,
    }
}

/// The oldest of AMD's that has such flags.
fn zen_by_flags(cpu: &Cpu) -> Zen {
    if cpu.flags.has("avx512f") { Zen::Four } else { Zen::One }
}

/// The oldest of Intel's that has such flags.
fn core_by_flags(cpu: &Cpu) -> Core {
    if cpu.flags.has("avxvnni") {
        Core::AlderLake
    } else if cpu.flags.has("avx512vbmi") && cpu.flags.has("avx512vnni") {
        Core::IceLake
    } else if cpu.flags.has("avx512f") {
        Core::Skylake
    } else {
        Core::Haswell
    }
}

fn amd(family: u32, model: u32) -> Option<(&'static str, Option<Zen>)> {
    Some(match (family, model) {
        (0x15, 0x60..=0x7F) => ("Excavator", None),
        (0x15, _) => ("Bulldozer family", None),
        (0x17, 0x08 | 0x18) => ("Zen+", Some(Zen::One)),
        (0x17, 0x00..=0x2F | 0x50..=0x5F) => ("Zen", Some(Zen::One)),
        (0x17, 0x30..=0x4F | 0x60..=0x7F | 0x90..=0xAF) => ("Zen 2", Some(Zen::Two)),
        (0x19, 0x00..=0x0F | 0x20..=0x3F | 0x50..=0x5F) => ("Zen 3", Some(Zen::Three)),
        (0x19, 0x40..=0x4F) => ("Zen 3+", Some(Zen::Three)),
        (0x19, 0x10..=0x1F | 0x60..=0xAF) => ("Zen 4", Some(Zen::Four)),
        (0x1A, 0x50..=0x5F | 0x80..=0xAF | 0xC0..=0xCF) => ("Zen 6", Some(Zen::Five)),
        (0x1A, 0x00..=0x7F) => ("Zen 5", Some(Zen::Five)),
        _ => return None,
    })
}

fn intel(model: u32) -> Option<(&'static str, Option<Core>)> {
    use Core::{AlderLake, Broadwell, Haswell, IceLake, RocketLake, Skylake};
    Some(match model {
        0x1A | 0x1E | 0x1F | 0x2E => ("Nehalem", None),
        0x25 | 0x2C | 0x2F => ("Westmere", None),
        0x2A | 0x2D => ("Sandy Bridge", None),
        0x3A | 0x3E => ("Ivy Bridge", None),
        0x37 | 0x4A | 0x4C | 0x4D | 0x5A | 0x5D => ("Silvermont", None),
        0x5C | 0x5F | 0x7A => ("Goldmont", None),
        0x86 | 0x8A | 0x96 | 0x9C => ("Tremont", None),
        0x57 | 0x85 => ("Knights Landing", Some(Haswell)),
        0x3C | 0x3F | 0x45 | 0x46 => ("Haswell", Some(Haswell)),
        0x3D | 0x47 | 0x4F | 0x56 => ("Broadwell", Some(Broadwell)),
        0x4E | 0x5E => ("Skylake", Some(Skylake)),
        0x8E | 0x9E => ("Kaby/Coffee Lake", Some(Skylake)),
        0xA5 | 0xA6 => ("Comet Lake", Some(Skylake)),
        0x55 => ("Skylake-SP/Cascade Lake", Some(Skylake)),
        0x66 => ("Cannon Lake", Some(Skylake)),
        0x6A | 0x6C | 0x7D | 0x7E | 0x9D => ("Ice Lake", Some(IceLake)),
        0x8C | 0x8D => ("Tiger Lake", Some(IceLake)),
        0xA7 => ("Rocket Lake", Some(RocketLake)),
        0x97 | 0x9A => ("Alder Lake", Some(AlderLake)),
        0xB7 | 0xBA | 0xBF => ("Raptor Lake", Some(AlderLake)),
        0xBE => ("Alder Lake-N", Some(AlderLake)),
        0xAA | 0xAC => ("Meteor Lake", Some(AlderLake)),
        0xB5 | 0xC5 | 0xC6 => ("Arrow Lake", Some(AlderLake)),
        0xBD => ("Lunar Lake", Some(AlderLake)),
        0xCC => ("Panther Lake", Some(AlderLake)),
        0x8F => ("Sapphire Rapids", Some(AlderLake)),
        0xCF => ("Emerald Rapids", Some(AlderLake)),
        0xAD | 0xAE => ("Granite Rapids", Some(AlderLake)),
        0xAF => ("Sierra Forest", Some(AlderLake)),
        0xB6 => ("Grand Ridge", Some(AlderLake)),
        0xDD => ("Clearwater Forest", Some(AlderLake)),
        _ => return None,
    })
}

/// Families that Intel began after three decades of family 6.
fn intel_after_family_6(family: u32, model: u32) -> Option<&'static str> {
    match (family, model) {
        (18, 1 | 3) => Some("Nova Lake"),
        (19, 1) => Some("Diamond Rapids"),
        _ => None,
    }
}
