//! The CPU modules of ggml that are known by name: what each needs, and how ggml scores it.

use super::cpu::Flags;
use super::release;

/// What a CPU module is worth on a given processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Runs, with the score that ggml itself would give; higher is faster.
    Score(u32),
    /// Would die of an illegal instruction: these flags are missing.
    Missing(Vec<&'static str>),
    /// No name in the table; only its own scoring function could tell.
    Unknown,
}

/// What ggml adds to a score of 1 for each flag; the further AVX-512 subsets count together with `avx512f`.
const WEIGHTS: [(&str, u32); 20] = [
    ("fma", 1),
    ("f16c", 1 << 1),
    ("sse4.2", 1 << 2),
    ("bmi2", 1 << 3),
    ("avx", 1 << 4),
    ("avx2", 1 << 5),
    ("avxvnni", 1 << 6),
    ("avx512f", 1 << 7),
    ("avx512vbmi", 1 << 8),
    ("avx512bf16", 1 << 9),
    ("avx512vnni", 1 << 10),
    ("amx-int8", 1 << 11),
    ("neon", 0),
    ("dotprod", 1 << 1),
    ("fp16", 1 << 2),
    ("sve", 1 << 3),
    ("i8mm", 1 << 4),
    ("sve2", 1 << 5),
    ("sme", 1 << 6),
    ("amx-tile", 0),
];

const AVX2: [&str; 6] = ["sse4.2", "avx", "f16c", "fma", "avx2", "bmi2"];
const AVX512: [&str; 11] =
    ["sse4.2", "avx", "f16c", "fma", "avx2", "bmi2", "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"];

/// A base set and what comes on top of it.
type Needs = (&'static [&'static str], &'static [&'static str]);

fn needs(variant: &str) -> Option<Needs> {
    Some(match variant {
        "x64" => (&[], &[]),
        "sse42" => (&["sse4.2"], &[]),
        "sandybridge" => (&["sse4.2", "avx"], &[]),
        "ivybridge" => (&["sse4.2", "avx"], &["f16c"]),
        "piledriver" => (&["sse4.2", "avx"], &["f16c", "fma"]),
        "haswell" | "avx2" => (&AVX2, &[]),
        "alderlake" => (&AVX2, &["avxvnni"]),
        "skylakex" => (&AVX512, &[]),
        "cannonlake" => (&AVX512, &["avx512vbmi"]),
        "cascadelake" => (&AVX512, &["avx512vnni"]),
        "cooperlake" => (&AVX512, &["avx512vnni", "avx512bf16"]),
        "icelake" => (&AVX512, &["avx512vbmi", "avx512vnni"]),
        "zen4" => (&AVX512, &["avx512vbmi", "avx512vnni", "avx512bf16"]),
        "sapphirerapids" => (&AVX512, &["avx512vbmi", "avx512vnni", "avx512bf16", "amx-tile", "amx-int8"]),
        "armv8.0" | "armv8.0_1" => (&["neon"], &[]),
        "armv8.2_1" | "apple_m1" => (&["neon"], &["dotprod"]),
        "armv8.2_2" => (&["neon", "dotprod"], &["fp16"]),
        "armv8.2_3" => (&["neon", "dotprod", "fp16"], &["sve"]),
        "armv8.6_1" => (&["neon", "dotprod", "fp16", "sve"], &["i8mm"]),
        "armv8.6_2" => (&["neon", "dotprod", "fp16", "sve", "i8mm"], &["sve2"]),
        "armv9.2_1" => (&["neon", "dotprod", "fp16", "sve", "i8mm"], &["sme"]),
        "armv9.2_2" => (&["neon", "dotprod", "fp16", "sve", "i8mm", "sve2"], &["sme"]),
        "armv8.7" | "apple_m2_m3" => (&["neon", "dotprod"], &["i8mm"]),
        "apple_m4" => (&["neon", "dotprod", "i8mm"], &["sme"]),
        _ => return None,
    })
}

impl Verdict {
    /// Judges a CPU module, or a variant of a `BitnetRelease` tree, by its name.
    #[must_use]
    pub fn of(variant: &str, flags: &Flags) -> Self {
        let Some((base, more)) = needs(variant).or_else(|| release::needs(variant, flags)) else {
            return Self::Unknown;
        };
        let needed = [base, more].concat();
        let missing = flags.missing(&needed);
        if !missing.is_empty() {
            return Self::Missing(missing);
        }
        Self::Score(1 + WEIGHTS.iter().filter(|(flag, _)| needed.contains(flag)).map(|(_, weight)| weight).sum::<u32>())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const IVY_BRIDGE: [&str; 3] = ["sse4.2", "avx", "f16c"];
    const PILEDRIVER: [&str; 4] = ["sse4.2", "avx", "f16c", "fma"];
    /// Also Zen 2 and Zen 3.
    pub const HASWELL: [&str; 6] = AVX2;
    const ICE_LAKE: [&str; 2] = ["avx512vbmi", "avx512vnni"];
    const ZEN_4: [&str; 3] = ["avx512vbmi", "avx512vnni", "avx512bf16"];
    const SAPPHIRE_RAPIDS: [&str; 6] = ["avx512vbmi", "avx512vnni", "avx512bf16", "avxvnni", "amx-tile", "amx-int8"];

    pub fn flags(parts: &[&[&'static str]]) -> Flags {
        parts.iter().flat_map(|part| part.iter().copied()).collect()
    }

    fn best(flags: &Flags) -> (&'static str, u32) {
        let x86 = [
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
        let scored = x86.into_iter().filter_map(|name| match Verdict::of(name, flags) {
            Verdict::Score(score) => Some((name, score)),
            _ => None,
        });
        scored.max_by_key(|(_, score)| *score).expect("the x64 module runs everywhere")
    }

    #[test]
    fn each_recorded_processor_gets_the_module_made_for_it() {
        let cases: [(&str, Flags, (&str, u32)); 9] = [
            ("Core 2", flags(&[]), ("x64", 1)),
            ("Westmere", flags(&[&["sse4.2"]]), ("sse42", 5)),
            ("Ivy Bridge", flags(&[&IVY_BRIDGE]), ("ivybridge", 23)),
            ("Piledriver", flags(&[&PILEDRIVER]), ("piledriver", 24)),
            ("Zen 3", flags(&[&HASWELL]), ("haswell", 64)),
            ("Alder Lake", flags(&[&HASWELL, &["avxvnni"]]), ("alderlake", 128)),
            ("Ice Lake", flags(&[&AVX512, &ICE_LAKE]), ("icelake", 1472)),
            ("Zen 4", flags(&[&AVX512, &ZEN_4]), ("zen4", 1984)),
            ("Sapphire Rapids", flags(&[&AVX512, &SAPPHIRE_RAPIDS]), ("sapphirerapids", 4032)),
        ];
        for (processor, flags, expected) in cases {
            assert_eq!(best(&flags), expected, "{processor}");
        }
    }

    #[test]
    fn a_tile_module_is_refused_where_the_system_does_not_save_tiles() {
        let without_state = flags(&[&AVX512, &ZEN_4]);
        assert_eq!(Verdict::of("sapphirerapids", &without_state), Verdict::Missing(vec!["amx-tile", "amx-int8"]));
    }

    #[test]
    fn avx512f_alone_is_not_enough_for_an_avx512_module() {
        let knights_landing = flags(&[&HASWELL, &["avx512f", "avx512cd"]]);
        let missing = vec!["avx512vl", "avx512dq", "avx512bw"];
        assert_eq!(Verdict::of("skylakex", &knights_landing), Verdict::Missing(missing));
    }

    #[test]
    fn arm_modules_have_the_scores_their_own_code_returns() {
        let neoverse_v2 = flags(&[&["neon", "dotprod", "fp16", "sve", "i8mm", "sve2"]]);
        let scores = [
            ("armv8.0_1", 1),
            ("armv8.2_1", 3),
            ("armv8.2_2", 7),
            ("armv8.2_3", 15),
            ("armv8.6_1", 31),
            ("armv8.6_2", 63),
        ];
        for (name, score) in scores {
            assert_eq!(Verdict::of(name, &neoverse_v2), Verdict::Score(score), "{name}");
        }
        assert_eq!(Verdict::of("armv9.2_2", &neoverse_v2), Verdict::Missing(vec!["sme"]));
    }

    #[test]
    fn an_unknown_name_is_not_guessed_at() {
        assert_eq!(Verdict::of("graniterapids", &flags(&[&AVX512, &SAPPHIRE_RAPIDS])), Verdict::Unknown);
    }
}
