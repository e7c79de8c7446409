//! The variants of a `BitnetRelease` tree: what each needs, and in which order a processor tries them.
//!
//! The needs were measured on the files; the names promise more than the builds hold. Names order only.

use super::cpu::{Cpu, Flags};
use super::microarchitecture::{Core, Generation, Zen, generation};

/// What the `libggml` of every x86 variant needs, the one called `standard` included.
const LIBGGML: &[&str] = &["avx", "f16c", "fma", "avx2", "bmi1", "bmi2"];
/// What the `libllama` of all but `standard` needs on top.
const LZCNT: &[&str] = &["lzcnt"];
const AVX512: &[&str] = &["lzcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl"];
const ARM: &[&str] = &["neon"];
const ARM_VARIANT: &[&str] = &["dotprod"];

const AMD: [(Zen, &str); 5] = [
    (Zen::Five, "bitnet-amd-zen5"),
    (Zen::Four, "bitnet-amd-zen4"),
    (Zen::Three, "bitnet-amd-zen3"),
    (Zen::Two, "bitnet-amd-zen2"),
    (Zen::One, "bitnet-amd-zen1"),
];
const INTEL: [(Core, &str); 6] = [
    (Core::AlderLake, "bitnet-intel-alderlake"),
    (Core::RocketLake, "bitnet-intel-rocketlake"),
    (Core::IceLake, "bitnet-intel-icelake"),
    (Core::Skylake, "bitnet-intel-skylake"),
    (Core::Broadwell, "bitnet-intel-broadwell"),
    (Core::Haswell, "bitnet-intel-haswell"),
];
/// Tried last, in this order.
const GENERAL: [&str; 2] = ["bitnet-portable", "standard"];

/// Variants that may run on `cpu`, best first: exact, older ones of the same vendor, portable, standard.
///
/// Empty where nothing of the release may be opened: on x86 without AVX2 even `standard` would end the process.
#[must_use]
pub fn release_variants(cpu: &Cpu) -> Vec<&'static str> {
    let own: Vec<&'static str> = match generation(cpu) {
        _ if is_arm(&cpu.flags) => vec!["bitnet-arm"],
        Some(Generation::Amd(zen)) => up_to(&AMD, zen),
        Some(Generation::Intel(core)) => up_to(&INTEL, core),
        None => Vec::new(),
    };
    own.into_iter().chain(GENERAL).filter(|variant| runs(variant, &cpu.flags)).collect()
}

/// What a variant needs; `None` if the release has no such name.
pub fn needs(variant: &str, flags: &Flags) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match variant {
        "standard" | "bitnet-portable" if is_arm(flags) => (ARM, &[]),
        "bitnet-arm" => (ARM, ARM_VARIANT),
        "standard" => (LIBGGML, &[]),
        // Zen 5's exists for Windows only and was not measured; no Zen 5 lacks what Zen 4 has.
        "bitnet-amd-zen4" | "bitnet-amd-zen5" | "bitnet-intel-icelake" | "bitnet-intel-rocketlake" => (LIBGGML, AVX512),
        "bitnet-portable"
        | "bitnet-amd-zen1"
        | "bitnet-amd-zen2"
        | "bitnet-amd-zen3"
        | "bitnet-intel-haswell"
        | "bitnet-intel-broadwell"
        | "bitnet-intel-skylake"
        | "bitnet-intel-alderlake" => (LIBGGML, LZCNT),
        _ => return None,
    })
}

fn up_to<G: Copy + PartialOrd>(line: &[(G, &'static str)], newest: G) -> Vec<&'static str> {
    line.iter().filter(|(generation, _)| *generation <= newest).map(|(_, variant)| *variant).collect()
}

fn runs(variant: &str, flags: &Flags) -> bool {
    needs(variant, flags).is_some_and(|(base, more)| flags.missing(base).is_empty() && flags.missing(more).is_empty())
}

fn is_arm(flags: &Flags) -> bool {
    flags.has("neon")
}
