//! What another runtime would bring on this processor, by measured figures.

use super::cpu::Flags;
use super::release;
use super::variant::Verdict;

/// Speed with weights of one type, as a multiple of what the runtime in use has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// Name of the tensor type.
    pub weights: &'static str,
    /// Reading a prompt.
    pub prompt: f64,
    /// Generating; `None` where it was not measured.
    pub generation: Option<f64>,
}

/// One thing that could be better, or that is worth knowing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// What to do, in a sentence for people.
    pub text: &'static str,
    /// What that brings.
    pub gains: &'static [Gain],
}

const fn gain(weights: &'static str, prompt: f64, generation: Option<f64>) -> Gain {
    Gain { weights, prompt, generation }
}

// Tokens per CPU-second, one thread, on a Zen 5: docs/hardware.md has the figures behind these.
const TO_AVX512: Advice = Advice {
    text: "this processor has AVX-512, the runtime in use does not use it: `tabagent runtime install` fetches one that does",
    gains: &[gain("Q4_0", 2.2, Some(1.2)), gain("Q4_K_M", 1.4, Some(1.1)), gain("Q8_0", 1.25, Some(1.1))],
};
const TO_AVX2: Advice = Advice {
    text: "this processor has AVX2, the runtime in use does not use it: `tabagent runtime install` fetches one that does",
    gains: &[gain("Q4_0", 3.2, None), gain("Q4_K_M", 6.6, None), gain("Q8_0", 6.3, None)],
};
const FROM_RELEASE: Advice = Advice {
    text: "a BitnetRelease library is from 2024: a current llama.cpp is faster (`tabagent runtime list` shows what is here)",
    gains: &[gain("Q4_0", 1.5, Some(3.1)), gain("Q2_K", 1.3, Some(1.1))],
};
const TERNARY_ON_AVX512: Advice = Advice {
    text: "only ternary models are run: code for AVX2 may be faster than this one for AVX-512 (compiled with GCC 12 it was)",
    gains: &[gain("TQ2_0", 1.3, Some(1.3))],
};

/// How wide the vectors are that a module computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Narrow,
    Avx2,
    Avx512,
}

/// What a runtime other than one with the CPU module `variant` would bring on a processor with `flags`.
#[must_use]
pub fn advise(variant: &str, flags: &Flags) -> Vec<Advice> {
    if release::needs(variant, flags).is_some() {
        return vec![FROM_RELEASE];
    }
    let Some(used) = width(variant) else { return Vec::new() };
    let runs = |module: &str| matches!(Verdict::of(module, flags), Verdict::Score(_));
    match used {
        Width::Avx512 => vec![TERNARY_ON_AVX512],
        // Without VNNI the wide vectors were not measured.
        _ if runs("icelake") => vec![TO_AVX512],
        Width::Narrow if runs("haswell") => vec![TO_AVX2],
        _ => Vec::new(),
    }
}

fn width(variant: &str) -> Option<Width> {
    Some(match variant {
        "x64" | "sse42" | "sandybridge" | "ivybridge" | "piledriver" => Width::Narrow,
        "haswell" | "avx2" | "alderlake" => Width::Avx2,
        "skylakex" | "cannonlake" | "cascadelake" | "cooperlake" | "icelake" | "zen4" | "sapphirerapids" => {
            Width::Avx512
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::variant::tests::{HASWELL, flags};

    const WIDE: [&str; 7] = ["avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw", "avx512vbmi", "avx512vnni"];

    #[test]
    fn a_processor_with_avx512_is_worth_more_than_code_for_avx2() {
        let zen_4 = flags(&[&HASWELL, &WIDE]);
        assert_eq!(advise("avx2", &zen_4), [TO_AVX512]);
        assert_eq!(advise("sse42", &zen_4), [TO_AVX512]);
    }

    #[test]
    fn a_processor_with_avx2_is_worth_more_than_narrow_code() {
        assert_eq!(advise("sse42", &flags(&[&HASWELL])), [TO_AVX2]);
    }

    #[test]
    fn what_suits_the_processor_needs_no_advice() {
        assert_eq!(advise("haswell", &flags(&[&HASWELL])), []);
        assert_eq!(advise("sse42", &flags(&[&["sse4.2"]])), []);
        assert_eq!(advise("apple_m2_m3", &flags(&[&["neon"]])), []);
    }

    #[test]
    fn ternary_weights_are_the_exception_of_wide_vectors() {
        assert_eq!(advise("zen4", &flags(&[&HASWELL, &WIDE])), [TERNARY_ON_AVX512]);
    }

    #[test]
    fn a_library_of_2024_is_never_the_fastest() {
        assert_eq!(advise("bitnet-amd-zen4", &flags(&[&HASWELL, &WIDE])), [FROM_RELEASE]);
    }
}
