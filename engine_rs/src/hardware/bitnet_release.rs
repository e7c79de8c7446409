//! Judges one variant of a `BitnetRelease` tree: a folder of a `libllama` and the `libggml` it was linked with.

use std::io::Read;
use std::path::Path;

use memchr::memmem;

use super::cpu::Cpu;
use super::release::release_variants;
use super::variant::Verdict;

/// What Git leaves in place of a file that Git LFS keeps elsewhere begins so.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The score and its reason; 0 refuses. The best of the variants has the highest score.
///
/// What is written on the folder orders, the flags decide, and what the files know is read in the files.
pub(super) fn judge(libllama: &Path, variant: &str, cpu: &Cpu) -> (u32, String) {
    let libggml =
        libllama.with_file_name(libllama.file_name().unwrap_or_default().to_string_lossy().replace("llama", "ggml"));
    for file in [libllama, &libggml] {
        if let Some(problem) = problem(file) {
            return (0, problem);
        }
    }
    match Verdict::of(variant, &cpu.flags) {
        Verdict::Unknown => (0, "what this variant needs is not on record".to_owned()),
        Verdict::Missing(flags) => (0, format!("this processor lacks {}", flags.join(", "))),
        Verdict::Score(_) => {
            let order = release_variants(cpu);
            let place = order.iter().position(|name| *name == variant);
            let score = place.map_or(1, |place| (order.len() - place + 1) as u32);
            let bitnet = Bitnet::of(libllama, &libggml);
            let mut reason = format!("this processor has all that its code needs; {bitnet}");
            if !runs_sse4a(cpu) {
                reason.push_str("; without SSE4a it runs no IQ2_XXS and no IQ3_XXS");
            }
            (score, reason)
        }
    }
}

/// Whether the code of this release for `IQ2_XXS` and `IQ3_XXS` would not end the process.
pub(crate) fn runs_sse4a(cpu: &Cpu) -> bool {
    cfg!(not(target_arch = "x86_64")) || cpu.flags.missing(&["sse4a"]).is_empty()
}

/// Why a file is no library; `None` if it may be one.
fn problem(file: &Path) -> Option<String> {
    let name = file.file_name().unwrap_or_default().display();
    let mut start = Vec::new();
    let Ok(file) = std::fs::File::open(file) else { return Some(format!("{name} is missing")) };
    let read = file.take(LFS_POINTER.len() as u64).read_to_end(&mut start);
    match read {
        Ok(_) if start == LFS_POINTER => Some(format!("{name} is a Git LFS pointer: `git lfs pull` fetches the file")),
        Ok(_) => None,
        Err(error) => Some(format!("{name} cannot be read: {error}")),
    }
}

/// What a library knows of `BitNet`: its name says nothing about it.
struct Bitnet {
    /// Tensors of the type `i2_s` in graphs of `bitnet-b1.58`.
    i2_s: bool,
    /// The lookup kernels of `TL2`.
    tl2: bool,
}

impl Bitnet {
    fn of(libllama: &Path, libggml: &Path) -> Self {
        let [llama, ggml] = [libllama, libggml].map(|file| std::fs::read(file).unwrap_or_default());
        let has = |bytes: &[u8], sign: &[u8]| memmem::find(bytes, sign).is_some();
        Self { i2_s: has(&ggml, b"i2_s\0") && has(&llama, b"bitnet-b1.58\0"), tl2: has(&ggml, b"ggml_qgemm_lut") }
    }
}

impl std::fmt::Display for Bitnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.i2_s, self.tl2) {
            (false, _) => "it knows no I2_S",
            (true, false) => "it knows I2_S",
            (true, true) => "it knows I2_S and TL2",
        })
    }
}
