//! Folders are made of empty files: a verdict that opened one of them would fail.

use super::*;
use crate::hardware::variant::tests::{HASWELL, IVY_BRIDGE, flags};

const NPM_FILES: [&str; 6] = [
    "libllama-common.so",
    "libllama.v0.5.0.so",
    "libggml.v0.5.0.so",
    "libggml-cpu-sse42.so",
    "libggml-cpu-haswell.so",
    "libggml-cpu-zen4.so",
];

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self, id: &str, origin: Origin, files: &[&str]) -> RuntimeFolder {
        let path = self.0.path().join(id);
        for file in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, []).unwrap();
        }
        let folders = vec![path.join("lib"), path.join("bin"), path];
        RuntimeFolder { id: id.to_owned(), origin, folders, version: "1.0".to_owned() }
    }

    fn npm(&self) -> RuntimeFolder {
        self.folder("npm-linux-x64", Origin::Npm, &NPM_FILES)
    }

    fn mineru(&self) -> RuntimeFolder {
        let files = ["lib/libllama.so.0", "lib/libllama-common.so.0", "bin/libggml-cpu.so", "bin/libggml-vulkan.so"];
        self.folder("mineru", Origin::Mineru, &files)
    }
}

/// Judges for a processor that can do just this.
fn judge(folders: &[RuntimeFolder], flags: &Flags) -> Vec<Candidate> {
    super::judge(folders, &Cpu { flags: flags.clone(), ..Cpu::detect() })
}

fn chosen(folders: &[RuntimeFolder], flags: &Flags) -> (String, String) {
    let spec = choose(&judge(folders, flags)).unwrap();
    (spec.id, spec.variant)
}

#[test]
fn the_best_module_of_the_npm_folder_is_chosen_whatever_the_order() {
    let tree = Tree::new();
    let folders = [tree.mineru(), tree.npm()];
    assert_eq!(chosen(&folders, &flags(&[&HASWELL])), ("npm-linux-x64".to_owned(), "haswell".to_owned()));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_wheel_is_chosen_where_npm_has_nothing_better_to_offer() {
    let tree = Tree::new();
    let npm = tree.folder("npm-linux-x64", Origin::Npm, &["libllama.so", "libggml-cpu-sse42.so"]);
    assert_eq!(chosen(&[npm, tree.mineru()], &flags(&[&HASWELL])), ("mineru".to_owned(), "avx2".to_owned()));
}

#[test]
fn without_avx2_the_wheel_is_refused_and_an_older_module_is_chosen() {
    let tree = Tree::new();
    let folders = [tree.mineru(), tree.npm()];
    let candidates = judge(&folders, &flags(&[&["sse4.2", "avx"]]));
    assert_eq!(choose(&candidates).unwrap().variant, "sse42");
    let refused: Vec<&Candidate> = candidates.iter().filter(|candidate| !candidate.allowed).collect();
    assert!(refused.iter().all(|candidate| candidate.score == 0));
    assert!(refused.iter().any(|candidate| candidate.spec.variant == "zen4"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn without_avx2_and_without_npm_the_refusal_says_what_is_missing_and_what_to_do() {
    let tree = Tree::new();
    let error = choose(&judge(&[tree.mineru()], &flags(&[&["sse4.2", "avx"]]))).unwrap_err();
    assert_eq!(error.code(), "library_not_found");
    assert!(error.to_string().contains("mineru (avx2): this processor lacks f16c, fma, avx2, bmi2"), "{error}");
    assert!(error.to_string().contains("tabagent runtime install"), "{error}");
}

#[test]
fn no_runtime_at_all_says_what_to_do() {
    let tree = Tree::new();
    let nothing = tree.folder("empty", Origin::Npm, &["libllama-common.so", "libggml-cpu-x64.so"]);
    let error = choose(&judge(&[nothing], &flags(&[&HASWELL]))).unwrap_err();
    assert_eq!(error.code(), "library_not_found");
    assert!(error.to_string().contains("tabagent runtime install"), "{error}");
}

#[test]
fn a_named_folder_beats_a_better_one_and_the_system_comes_last() {
    let tree = Tree::new();
    let system = tree.folder("system", Origin::System, &["libllama.so", "libggml-cpu-zen4.so"]);
    let named = tree.folder("path", Origin::Explicit, &["libllama.so", "libggml-cpu-sse42.so"]);
    let zen4 = flags(&[&HASWELL, &["avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"]])
        .iter()
        .chain(["avx512vbmi", "avx512vnni", "avx512bf16"])
        .collect();
    assert_eq!(chosen(&[system.clone(), tree.npm(), named], &zen4).0, "path");
    let old_npm = tree.folder("npm-old", Origin::Npm, &["libllama.so", "libggml-cpu-sse42.so"]);
    assert_eq!(chosen(&[system, old_npm], &zen4).0, "npm-old");
}

#[test]
fn an_unknown_module_without_a_scoring_function_is_refused_even_when_named() {
    let tree = Tree::new();
    let named = tree.folder("path", Origin::Explicit, &["libllama.so", "libggml-cpu-graniterapids.so"]);
    let candidates = judge(&[named], &flags(&[&HASWELL]));
    assert!(!candidates[0].allowed);
    assert!(candidates[0].spec.reason.contains("no ggml_backend_score"), "{}", candidates[0].spec.reason);
}

#[test]
fn an_unknown_module_of_the_system_is_not_opened_to_be_asked() {
    let tree = Tree::new();
    let system = tree.folder("system", Origin::System, &["libllama.so", "libggml-cpu.so"]);
    std::fs::write(tree.0.path().join("system/libggml-cpu.so"), b"..ggml_backend_score\0..").unwrap();
    let candidates = judge(&[system], &flags(&[&HASWELL]));
    assert!(!candidates[0].allowed);
    assert!(candidates[0].spec.reason.contains("name its folder"), "{}", candidates[0].spec.reason);
}

#[test]
fn linked_in_code_is_refused_unless_its_needs_are_on_record() {
    let tree = Tree::new();
    let system = tree.folder("system", Origin::System, &["libllama.so"]);
    let candidates = judge(&[system], &flags(&[&HASWELL]));
    assert!(!candidates[0].allowed);
    assert_eq!(candidates[0].spec.cpu_module, None);
    assert!(candidates[0].spec.reason.contains("linked in"), "{}", candidates[0].spec.reason);
}

#[test]
fn library_names_of_every_platform_are_recognised() {
    let names = [
        "libllama.so",
        "libllama.so.0",
        "libllama.so.0.5.0",
        "libllama.v0.5.0.so",
        "libllama.vulkan.v0.5.0.so",
        "libllama.0.dylib",
        "libllama.metal.v0.4.0.dylib",
        "llama.dll",
        "llama.v0.4.0.dll",
    ];
    assert!(names.iter().all(|name| is_libllama(name)));
    let others = ["libllama-common.so.0", "llama-server", "libllama.a", "llama-addon.node", "libllama.so.txt", "llama"];
    assert!(!others.iter().any(|name| is_libllama(name)));
    assert_eq!(cpu_module_variant("libggml-cpu-armv8.2_1.so"), Some("armv8.2_1"));
    assert_eq!(cpu_module_variant("ggml-cpu.dll"), Some(""));
    assert_eq!(cpu_module_variant("libggml-cpu.so.0"), Some(""));
    assert_eq!(cpu_module_variant("libggml-base.so"), None);
}

#[test]
fn the_plainest_of_several_libraries_is_opened() {
    let tree = Tree::new();
    let files = ["libllama.vulkan.v0.5.0.so", "libllama.v0.5.0.so", "libggml-cpu-x64.so"];
    let npm = tree.folder("npm", Origin::Npm, &files);
    let spec = choose(&judge(&[npm], &flags(&[]))).unwrap();
    assert_eq!(file_name(&spec.libllama), "libllama.v0.5.0.so");
}

const PORTABLE: [&str; 8] = ["sse4.2", "avx", "f16c", "fma", "avx2", "bmi1", "bmi2", "lzcnt"];

impl Tree {
    /// A variant of a `BitnetRelease` tree whose two files begin so.
    fn variant(&self, name: &str, libllama: &[u8], libggml: &[u8]) -> RuntimeFolder {
        let folder = self.folder(name, Origin::BitnetRelease, &["libllama.so", "libggml.so"]);
        let place = folder.folders.last().unwrap();
        std::fs::write(place.join("libllama.so"), libllama).unwrap();
        std::fs::write(place.join("libggml.so"), libggml).unwrap();
        folder
    }
}

fn reason(folder: RuntimeFolder, flags: &Flags) -> (bool, String) {
    let candidate = judge(&[folder], flags).remove(0);
    (candidate.allowed, candidate.spec.reason)
}

#[test]
fn a_release_is_chosen_only_when_nothing_else_may_run() {
    let tree = Tree::new();
    let release = tree.variant("bitnet-portable", b"", b"");
    let system = tree.folder("system", Origin::System, &["libllama.so", "libggml-cpu-sse42.so"]);
    let flags = flags(&[&PORTABLE]);
    assert_eq!(chosen(&[release.clone(), system], &flags).0, "system");
    let useless = tree.folder("useless", Origin::Npm, &["libllama.so", "libggml-cpu-zen4.so"]);
    assert_eq!(chosen(&[useless, release], &flags).1, "bitnet-portable");
}

#[test]
fn the_flags_decide_which_variants_of_a_release_may_run() {
    let tree = Tree::new();
    let avx512 = (false, "this processor lacks avx512f, avx512bw, avx512dq, avx512vl".to_owned());
    assert_eq!(reason(tree.variant("bitnet-amd-zen4", b"", b""), &flags(&[&PORTABLE])), avx512);
    assert!(reason(tree.variant("standard", b"", b""), &flags(&[&PORTABLE])).0);
    let without_avx2 = reason(tree.variant("standard", b"", b""), &flags(&[&IVY_BRIDGE]));
    assert_eq!(without_avx2, (false, "this processor lacks fma, avx2, bmi1, bmi2".to_owned()));
    let unknown = reason(tree.variant("bitnet-next", b"", b""), &flags(&[&PORTABLE]));
    assert_eq!(unknown, (false, "what this variant needs is not on record".to_owned()));
}

#[test]
fn a_variant_whose_ggml_is_missing_or_a_pointer_is_refused() {
    let tree = Tree::new();
    let alone = tree.folder("standard", Origin::BitnetRelease, &["libllama.so"]);
    assert_eq!(reason(alone, &flags(&[&PORTABLE])), (false, "libggml.so is missing".to_owned()));
    let pointer = tree.variant("bitnet-portable", b"", b"version https://git-lfs.github.com/spec/v1\noid ...");
    let (allowed, reason) = reason(pointer, &flags(&[&PORTABLE]));
    assert!(!allowed && reason.contains("git lfs pull"), "{reason}");
}

#[test]
fn what_a_variant_knows_of_bitnet_is_read_in_its_files() {
    let tree = Tree::new();
    let knows = |libllama: &[u8], libggml: &[u8]| {
        reason(tree.variant("bitnet-portable", libllama, libggml), &flags(&[&PORTABLE])).1
    };
    let architecture = b"..bitnet\0bitnet-b1.58\0..";
    assert!(knows(b"..bitnet\0llama\0..", b"..q4_0\0..").contains("knows no I2_S"));
    assert!(knows(b"..bitnet\0llama\0..", b"..i2_s\0..").contains("knows no I2_S"));
    assert!(
        knows(architecture, b"..i2_s\0..").ends_with("it knows I2_S; without SSE4a it runs no IQ2_XXS and no IQ3_XXS")
    );
    assert!(knows(architecture, b"..i2_s\0..ggml_qgemm_lut\0..").contains("knows I2_S and TL2"));
}
