//! Reads an x86 processor from CPUID and XCR0: who it is, and which extensions programs may use on it.

use raw_cpuid::{CpuId, CpuIdReader};

use super::cpu::Flags;

/// State components of XCR0 that the operating system saves: SSE and AVX registers, AVX-512's, AMX's tiles.
const AVX_STATE: u64 = 0b110;
const AVX512_STATE: u64 = AVX_STATE | 0b111 << 5;
const TILE_STATE: u64 = 0b11 << 17;

/// What CPUID says of a processor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// E.g. `AuthenticAMD`; empty when it is hidden.
    pub vendor: String,
    /// Display family.
    pub family: u32,
    /// Display model.
    pub model: u32,
    /// Revision of the model.
    pub stepping: u32,
    /// Extensions that may be used here.
    pub flags: Flags,
}

/// Asks the processor this code runs on.
#[cfg(target_arch = "x86_64")]
pub fn identify() -> Identity {
    let cpuid = CpuId::new();
    let readable = cpuid.get_feature_info().is_some_and(|info| info.has_oxsave());
    let saved = if readable {
        // SAFETY: the OSXSAVE bit says that XGETBV may be executed here.
        unsafe { enabled_state() }
    } else {
        0
    };
    read(&cpuid, saved)
}

/// # Safety
/// The processor must have OSXSAVE.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: as the caller promises; register 0 always exists.
    unsafe { std::arch::x86_64::_xgetbv(0) }
}

/// Judges what CPUID answers where the operating system saves the state components `saved`.
pub fn read<R: CpuIdReader>(cpuid: &CpuId<R>, saved: u64) -> Identity {
    let features = cpuid.get_feature_info();
    let vendor = cpuid.get_vendor_info().map(|vendor| vendor.as_str().trim().to_owned()).unwrap_or_default();
    let (family, model, stepping) = features.as_ref().map_or((0, 0, 0), |info| {
        (u32::from(info.family_id()), u32::from(info.model_id()), u32::from(info.stepping_id()))
    });
    Identity { vendor, family, model, stepping, flags: flags(cpuid, saved) }
}

fn flags<R: CpuIdReader>(cpuid: &CpuId<R>, saved: u64) -> Flags {
    let mut found: Vec<(&'static str, bool)> = Vec::new();
    let (avx, avx512, tiles) = (has(saved, AVX_STATE), has(saved, AVX512_STATE), has(saved, TILE_STATE));
    if let Some(info) = cpuid.get_feature_info() {
        found.extend([
            ("sse4.2", info.has_sse42()),
            ("avx", avx && info.has_avx()),
            ("f16c", avx && info.has_f16c()),
            ("fma", avx && info.has_fma()),
        ]);
    }
    if let Some(info) = cpuid.get_extended_feature_info() {
        found.extend([
            ("avx2", avx && info.has_avx2()),
            ("bmi1", info.has_bmi1()),
            ("bmi2", info.has_bmi2()),
            ("avxvnni", avx && info.has_avx_vnni()),
            ("avx512f", avx512 && info.has_avx512f()),
            ("avx512cd", avx512 && info.has_avx512cd()),
            ("avx512vl", avx512 && info.has_avx512vl()),
            ("avx512dq", avx512 && info.has_avx512dq()),
            ("avx512bw", avx512 && info.has_avx512bw()),
            ("avx512vbmi", avx512 && info.has_avx512vbmi()),
            ("avx512vnni", avx512 && info.has_avx512vnni()),
            ("avx512bf16", avx512 && info.has_avx512_bf16()),
            ("amx-tile", tiles && info.has_amx_tile()),
            ("amx-int8", tiles && info.has_amx_int8()),
        ]);
    }
    if let Some(info) = cpuid.get_extended_processor_and_feature_identifiers() {
        found.extend([("lzcnt", info.has_lzcnt()), ("sse4a", info.has_sse4a())]);
    }
    found.into_iter().filter_map(|(flag, present)| present.then_some(flag)).collect()
}

fn has(saved: u64, state: u64) -> bool {
    saved & state == state
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use raw_cpuid::CpuIdResult;

    use super::*;

    /// Registers of leaves 0, 1 and 7 of a Sapphire Rapids (family 6, model 0x8F, stepping 8), and of `0x8000_0001`.
    #[derive(Clone)]
    struct Recorded(HashMap<(u32, u32), CpuIdResult>);

    impl CpuIdReader for Recorded {
        fn cpuid2(&self, eax: u32, ecx: u32) -> CpuIdResult {
            self.0.get(&(eax, ecx)).copied().unwrap_or(CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 })
        }
    }

    fn sapphire_rapids() -> CpuId<Recorded> {
        let leaf = |eax, ebx, ecx, edx| CpuIdResult { eax, ebx, ecx, edx };
        let leaves = [
            ((0, 0), leaf(0x20, 0x756e_6547, 0x6c65_746e, 0x4965_6e69)),
            ((1, 0), leaf(0x0008_06F8, 0x0010_0800, 0x7FFE_FBFF, 0xBFEB_FBFF)),
            ((7, 0), leaf(2, 0xF3BF_BFBF, 0xFB41_7FFE, 0xFFDD_4432)),
            ((7, 1), leaf(0x0000_1C30, 0, 0, 0)),
            ((0x8000_0000, 0), leaf(0x8000_0008, 0, 0, 0)),
            ((0x8000_0001, 0), leaf(0, 0, 0x121, 0x2C10_0800)),
        ];
        CpuId::with_cpuid_reader(Recorded(leaves.into_iter().collect()))
    }

    fn flags_where(saved: u64) -> Flags {
        read(&sapphire_rapids(), saved).flags
    }

    #[test]
    fn family_and_model_are_composed_of_their_parts() {
        let found = read(&sapphire_rapids(), u64::MAX);
        assert_eq!((found.vendor.as_str(), found.family, found.model, found.stepping), ("GenuineIntel", 6, 0x8F, 8));
    }

    #[test]
    fn every_extension_counts_where_the_system_saves_all_registers() {
        let needed = ["avx2", "lzcnt", "bmi1", "avxvnni", "avx512f", "avx512bf16", "amx-tile", "amx-int8"];
        assert_eq!(flags_where(AVX512_STATE | TILE_STATE).missing(&needed), Vec::<&str>::new());
    }

    #[test]
    fn tiles_do_not_count_where_the_system_does_not_save_them() {
        assert_eq!(flags_where(AVX512_STATE).missing(&["amx-tile", "amx-int8", "avx512f"]), ["amx-tile", "amx-int8"]);
    }

    #[test]
    fn avx512_does_not_count_where_the_system_saves_half_of_each_register() {
        assert_eq!(
            flags_where(AVX_STATE).missing(&["avx2", "avxvnni", "avx512f", "avx512vnni"]),
            ["avx512f", "avx512vnni"]
        );
    }

    #[test]
    fn nothing_wide_counts_where_the_system_saves_no_wide_register() {
        assert_eq!(flags_where(0).iter().collect::<Vec<_>>(), ["bmi1", "bmi2", "lzcnt", "sse4.2"]);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_standard_library_finds_the_same_extensions_here() {
        let found = identify().flags;
        let theirs = [
            ("avx2", std::arch::is_x86_feature_detected!("avx2")),
            ("bmi1", std::arch::is_x86_feature_detected!("bmi1")),
            ("lzcnt", std::arch::is_x86_feature_detected!("lzcnt")),
            ("avxvnni", std::arch::is_x86_feature_detected!("avxvnni")),
            ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
            ("avx512vbmi", std::arch::is_x86_feature_detected!("avx512vbmi")),
        ];
        for (flag, present) in theirs {
            assert_eq!(found.missing(&[flag]).is_empty(), present, "{flag}");
        }
    }
}
