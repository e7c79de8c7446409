//! The variants of a `BitnetRelease` tree: what each needs, and in which order a processor tries them.

use super::cpu::Cpu;

const LIBGGML: &[&str] = &["avx", "f16c", "fma", "avx2", "bmi1", "bmi2"];
const LZCNT: &[&str] = &["lzcnt"];
const AVX512: &[&str] = &["lzcnt", "avx512f", "avx512bw", "avx512dq", "avx512vl"];

/// Variants that may run on `cpu`, best first.
#[must_use]
pub fn release_variants(cpu: &Cpu) -> Vec<&'static str> {
    let all = [
        "bitnet-amd-zen4",
        "bitnet-amd-zen3",
        "bitnet-amd-zen2",
        "bitnet-amd-zen1",
        "bitnet-intel-alderlake",
        "bitnet-intel-rocketlake",
        "bitnet-intel-icelake",
        "bitnet-intel-skylake",
        "bitnet-intel-broadwell",
        "bitnet-intel-haswell",
        "bitnet-portable",
        "standard",
    ];
    let vendor = if cpu.vendor == "GenuineIntel" { "amd" } else { "intel" };
    let runs = |variant: &&str| {
        needs(variant)
            .is_some_and(|(base, more)| cpu.flags.missing(base).is_empty() && cpu.flags.missing(more).is_empty())
    };
    all.into_iter().filter(|variant| !variant.contains(vendor)).filter(runs).collect()
}

/// What a variant needs; `None` if the release has no such name.
pub fn needs(variant: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match variant {
        "standard" => (LIBGGML, &[]),
        "bitnet-amd-zen4" | "bitnet-intel-icelake" | "bitnet-intel-rocketlake" => (LIBGGML, AVX512),
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
