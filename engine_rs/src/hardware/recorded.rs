//! Every processor on record gets the name, the CPU module and the order of variants that its line says.

use raw_cpuid::{CpuId, CpuIdReader, CpuIdResult};

use super::variant::Verdict;
use super::{Cpu, Flags, release_variants, x86};

const RECORDED: &str = include_str!("recorded_cpus.txt");

const V2: &[&str] = &["sse4.2"];
const V3: &[&str] = &["sse4.2", "avx", "f16c", "fma", "avx2", "bmi1", "bmi2", "lzcnt"];
const V4: &[&str] = &["avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"];
const OTHERS: &[&str] = &[
    "avx",
    "f16c",
    "fma",
    "bmi1",
    "bmi2",
    "lzcnt",
    "sse4a",
    "avxvnni",
    "avx512f",
    "avx512cd",
    "avx512vbmi",
    "avx512vnni",
    "avx512bf16",
    "amx-tile",
    "amx-int8",
    "neon",
    "dotprod",
    "fp16",
    "i8mm",
    "sve",
    "sve2",
    "sme",
];
const X86_MODULES: [&str; 14] = [
    "x64",
    "sse42",
    "sandybridge",
    "ivybridge",
    "piledriver",
    "haswell",
    "alderlake",
    "skylakex",
    "cannonlake",
    "cascadelake",
    "cooperlake",
    "icelake",
    "zen4",
    "sapphirerapids",
];
const ARM_MODULES: [&str; 8] =
    ["armv8.0_1", "armv8.2_1", "armv8.2_2", "armv8.2_3", "armv8.6_1", "armv8.6_2", "armv9.2_1", "armv9.2_2"];
const APPLE_MODULES: [&str; 3] = ["apple_m1", "apple_m2_m3", "apple_m4"];

struct Record {
    name: &'static str,
    cpu: Cpu,
    microarchitecture: Option<&'static str>,
    module: &'static str,
    variants: Vec<&'static str>,
}

fn records() -> Vec<Record> {
    let lines = RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| record(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

fn record(line: &'static str) -> Option<Record> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let [name, vendor, signature, flags, microarchitecture, module, variants] = fields.try_into().ok()?;
    let known = |word: &'static str| (word != "-").then_some(word);
    let vendor = known(vendor).unwrap_or_default();
    let signature = known(signature).map_or(Some(0), |hex| u32::from_str_radix(hex, 16).ok())?;
    let identity = x86::read(&CpuId::with_cpuid_reader(Leaf1 { vendor, signature }), 0);
    let flags = known(flags).map_or(Some(Flags::default()), expand)?;
    let (family, model, stepping) = (identity.family, identity.model, identity.stepping);
    let cpu = Cpu { vendor: vendor.to_owned(), family, model, stepping, flags, ..Cpu::default() };
    let variants = variants.split(' ').filter(|word| *word != "none").map(variant).collect::<Option<_>>()?;
    Some(Record { name, cpu, microarchitecture: known(microarchitecture), module, variants })
}

fn expand(words: &'static str) -> Option<Flags> {
    let expanded = words.split(' ').map(|word| match word {
        "v2" => Some(V2.to_vec()),
        "v3" => Some(V3.to_vec()),
        "v4" => Some([V3, V4].concat()),
        other => OTHERS.contains(&other).then(|| vec![other]),
    });
    Some(expanded.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

fn variant(word: &str) -> Option<&'static str> {
    Some(match word {
        "z1" => "bitnet-amd-zen1",
        "z2" => "bitnet-amd-zen2",
        "z3" => "bitnet-amd-zen3",
        "z4" => "bitnet-amd-zen4",
        "z5" => "bitnet-amd-zen5",
        "hw" => "bitnet-intel-haswell",
        "bw" => "bitnet-intel-broadwell",
        "sl" => "bitnet-intel-skylake",
        "il" => "bitnet-intel-icelake",
        "rl" => "bitnet-intel-rocketlake",
        "al" => "bitnet-intel-alderlake",
        "arm" => "bitnet-arm",
        "p" => "bitnet-portable",
        "s" => "standard",
        _ => return None,
    })
}

/// A CPUID that knows vendor and signature.
#[derive(Clone)]
struct Leaf1 {
    vendor: &'static str,
    signature: u32,
}

impl CpuIdReader for Leaf1 {
    fn cpuid2(&self, eax: u32, _: u32) -> CpuIdResult {
        let mut name = [b' '; 12];
        name[..self.vendor.len()].copy_from_slice(self.vendor.as_bytes());
        let part = |at: usize| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
        match eax {
            0 => CpuIdResult { eax: 1, ebx: part(0), edx: part(4), ecx: part(8) },
            1 => CpuIdResult { eax: self.signature, ebx: 0, ecx: 0, edx: 0 },
            _ => CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 },
        }
    }
}

fn best_module(cpu: &Cpu) -> &'static str {
    let modules = match (cpu.flags.has("neon"), cpu.vendor.as_str()) {
        (false, _) => X86_MODULES.as_slice(),
        (true, "Apple") => APPLE_MODULES.as_slice(),
        (true, _) => ARM_MODULES.as_slice(),
    };
    let scored = modules.iter().filter_map(|name| match Verdict::of(name, &cpu.flags) {
        Verdict::Score(score) => Some((score, *name)),
        _ => None,
    });
    scored.max_by_key(|(score, _)| *score).expect("one module runs everywhere").1
}

#[test]
fn there_are_records_of_all_kinds() {
    assert!(records().len() >= 40);
}

#[test]
fn each_processor_has_its_name() {
    for Record { name, cpu, microarchitecture, .. } in records() {
        assert_eq!(
            cpu.microarchitecture(),
            microarchitecture,
            "{name}: family {:#x}, model {:#x}",
            cpu.family,
            cpu.model
        );
    }
}

#[test]
fn each_processor_gets_the_ggml_module_made_for_it() {
    for Record { name, cpu, module, .. } in records() {
        assert_eq!(best_module(&cpu), module, "{name}");
    }
}

#[test]
fn each_processor_tries_the_release_variants_in_its_order() {
    for Record { name, cpu, variants, .. } in records() {
        assert_eq!(release_variants(&cpu), variants, "{name}");
    }
}

#[test]
fn no_variant_is_tried_whose_needs_are_not_met() {
    for Record { name, cpu, .. } in records() {
        for variant in release_variants(&cpu) {
            assert!(matches!(Verdict::of(variant, &cpu.flags), Verdict::Score(_)), "{name}: {variant}");
        }
    }
}

#[test]
fn where_nothing_may_be_opened_the_verdict_says_what_is_missing() {
    let westmere = Cpu { vendor: "GenuineIntel".into(), flags: V2.iter().copied().collect(), ..Cpu::default() };
    assert_eq!(release_variants(&westmere), Vec::<&str>::new());
    let missing = vec!["avx", "f16c", "fma", "avx2", "bmi1", "bmi2"];
    assert_eq!(Verdict::of("standard", &westmere.flags), Verdict::Missing(missing));
}
