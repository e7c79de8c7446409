mod keys;
mod split;
mod ternary;
mod vocabulary;

use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::fixture::{F32_TENSOR, Fixture};
use super::{GgufSummary, MetaValue, inspect, inspect_source};
use crate::error::{EngineError, Result};

fn judge(bytes: Vec<u8>) -> Result<GgufSummary> {
    let len = bytes.len() as u64;
    inspect_source(Cursor::new(bytes), len)
}

fn changed(change: impl FnOnce(&mut Fixture)) -> Result<GgufSummary> {
    let mut fixture = Fixture::model(&["hello", "world"]);
    change(&mut fixture);
    judge(fixture.bytes())
}

fn code(change: impl FnOnce(&mut Fixture)) -> &'static str {
    match changed(change).and_then(|summary| summary.require_supported()) {
        Ok(()) => "ok",
        Err(error) => error.code(),
    }
}

/// What is said of a file that is refused.
fn refusal(change: impl FnOnce(&mut Fixture)) -> String {
    changed(change).and_then(|summary| summary.require_supported()).unwrap_err().to_string()
}

/// What is said of a file whose vocabulary ends with these tokens.
fn judge_words(words: &[&str]) -> String {
    judge(Fixture::model(words).bytes()).and_then(|summary| summary.require_supported()).unwrap_err().to_string()
}

#[test]
fn a_complete_model_is_summarised() {
    let summary = changed(|_| ()).unwrap();
    assert_eq!(summary.problem, None);
    assert_eq!((summary.version, summary.architecture.as_str()), (3, "llama"));
    assert_eq!(summary.name.as_deref(), Some("fixture"));
    assert_eq!(summary.vocab_size, 261);
    let (matrices, vectors) = (64 * 261 + 2 * 64 * (64 + 32 + 32 + 64 + 64 * 3), 5 * 64);
    assert_eq!(summary.parameters, matrices + vectors);
    assert_eq!(summary.weight_bytes, matrices / 32 * 18 + vectors * 4);
    // 2 layers × 2 key-value heads × (16 + 16) elements × 2 bytes
    assert_eq!(summary.dimensions.kv_bytes_per_token, 256);
    assert_eq!(summary.memory_estimate(10), summary.weight_bytes + 2560);
    assert_eq!(summary.tensor_types[0].name, "Q4_0");
    assert_eq!(summary.metadata.get("llama.block_count"), Some(&MetaValue::Unsigned(2)));
}

#[test]
fn version_2_is_read_and_other_versions_are_refused() {
    assert_eq!(code(|f| f.version = 2), "ok");
    for version in [0, 1, 4, 3u32.swap_bytes()] {
        assert_eq!(code(|f| f.version = version), "gguf_unsupported");
    }
}

#[test]
fn another_magic_is_invalid() {
    assert_eq!(code(|f| f.magic = *b"GGML"), "gguf_invalid");
    assert!(matches!(judge(Vec::new()), Err(EngineError::GgufInvalid(_))));
}

#[test]
fn a_missing_file_and_a_folder_are_not_found() {
    for path in ["/nonexistent/model.gguf", "/"] {
        assert!(matches!(inspect(Path::new(path)), Err(EngineError::ModelNotFound(_))));
    }
}

#[test]
fn a_key_that_appears_twice_is_invalid() {
    assert_eq!(code(|f| f.pairs.push(f.pairs[0].clone())), "gguf_invalid");
}

#[test]
fn a_tensor_that_appears_twice_is_invalid() {
    assert_eq!(code(|f| f.tensors.push(f.tensors[0].clone())), "gguf_invalid");
}

#[test]
fn tensor_types_that_crash_or_are_unknown_are_unsupported() {
    for type_id in [4, 5, 9, 15, 24, 26, 28, 31, 37, 38, 43, u32::MAX] {
        let change = |f: &mut Fixture| {
            f.push_tensor("blk.1.attn_q_norm.weight", &[256, 8], F32_TENSOR);
            f.tensor("blk.1.attn_q_norm.weight").2 = type_id;
            f.data_bytes *= 2;
        };
        assert_eq!(code(change), "gguf_unsupported", "{type_id}");
    }
}

#[test]
fn a_quantised_vector_is_unsupported() {
    for (name, shape) in
        [("x", &[64][..]), ("x", &[64, 1]), ("blk.1.attn_q.bias", &[64, 2]), ("x_norm.weight", &[64, 2])]
    {
        let change = |f: &mut Fixture| {
            f.push_tensor(name, shape, F32_TENSOR);
            f.tensor(name).2 = 8;
        };
        assert!(refusal(change).contains("is a vector of type Q8_0"), "{name} {shape:?}");
    }
}

#[test]
fn an_unsupported_file_still_has_a_summary() {
    let summary = changed(|f| f.tensors[1].2 = 37).unwrap();
    assert!(summary.problem.unwrap().contains("37"));
    assert!(summary.tensor_types.iter().any(|total| total.name == "type 37"));
}

#[test]
fn tensor_data_must_lie_inside_the_file() {
    assert_eq!(code(|f| f.tensors[1].3 = 1 << 20), "gguf_invalid");
    assert_eq!(code(|f| f.tensors[1].3 = u64::MAX - 31), "gguf_invalid");
    assert_eq!(code(|f| f.tensors[1].3 = 1), "gguf_invalid");
    assert!(refusal(|f| f.data_bytes -= 1).contains("\"blk.1.ffn_down.weight\" lies beyond the end"));
    assert_eq!(code(|f| f.tensors[1].1 = vec![32, 1 << 40]), "gguf_invalid");
}

#[test]
fn shapes_must_be_sane() {
    for shape in [vec![], vec![0], vec![1 << 33, 1 << 33], vec![u64::MAX], vec![33], vec![32; 5]] {
        assert_eq!(code(|f| f.tensors[1].1.clone_from(&shape)), "gguf_invalid", "{shape:?}");
    }
}

#[test]
fn tensors_lie_one_after_the_other() {
    assert_eq!(code(|f| f.tensors[1].3 = 0), "gguf_invalid");
    assert_eq!(code(|f| f.tensors[1].3 += 32), "gguf_invalid");
    assert_eq!(code(|f| f.tensors.swap(0, 1)), "gguf_invalid");
}

#[test]
fn names_must_fit_and_must_not_end_early() {
    for name in ["", &"x".repeat(64), "output_norm\0.weight"] {
        assert_eq!(code(|f| f.tensors[1].0 = name.into()), "gguf_invalid", "{name:?}");
    }
    assert_eq!(code(|f| _ = f.set_text("", "x")), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_text(&"k".repeat(1 << 16), "x")), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_text("llama.block_count\0", "x")), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_text("general.architecture", "llama\0x")), "gguf_invalid");
}

#[test]
fn the_alignment_must_be_a_power_of_two_that_memory_mapping_allows() {
    assert_eq!(code(|f| _ = f.set_u32("general.alignment", 32)), "ok");
    for alignment in [0, 1, 16, 24, 48, 1 << 31] {
        assert_eq!(code(|f| _ = f.set_u32("general.alignment", alignment)), "gguf_invalid", "{alignment}");
    }
}

#[test]
fn more_names_than_a_model_has_are_invalid() {
    assert_eq!(
        code(|f| (0..1 << 14).for_each(|key| f.pairs.push((format!("k{key}"), vec![7, 0, 0, 0, 1])))),
        "gguf_invalid"
    );
    assert_eq!(
        code(|f| (0..1 << 15).for_each(|n| _ = f.push_tensor(&format!("t{n}"), &[1], F32_TENSOR))),
        "gguf_invalid"
    );
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    let whole = Fixture::model(&[]).bytes();
    for at in [8, 16] {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(judge(bytes), Err(EngineError::GgufInvalid(_))));
    }
    for claimed in [u64::MAX, 1 << 40] {
        let mut array = 9u32.to_le_bytes().to_vec();
        array.extend(8u32.to_le_bytes());
        array.extend(claimed.to_le_bytes());
        assert_eq!(code(|f| _ = f.set("some.array", array.clone())), "gguf_invalid");
    }
}

#[test]
fn nested_arrays_are_invalid() {
    let mut nested = 9u32.to_le_bytes().to_vec();
    nested.extend(9u32.to_le_bytes());
    nested.extend(1u64.to_le_bytes());
    assert_eq!(code(|f| _ = f.set("some.array", nested)), "gguf_invalid");
}

#[test]
fn models_that_do_not_generate_are_unsupported() {
    for architecture in ["clip", "t5", "bert", "gemma-embedding"] {
        assert!(refusal(|f| _ = f.rename(architecture)).contains("does not generate text"));
    }
    assert_eq!(code(|f| _ = f.set_u32("split.count", 2)), "gguf_unsupported");
    assert_eq!(code(|f| f.tensors.clear()), "gguf_unsupported");
}

#[test]
fn every_truncation_of_the_header_is_invalid() {
    let fixture = Fixture::model(&[]);
    let whole = fixture.bytes();
    for len in 0..whole.len() - fixture.data_bytes {
        assert!(matches!(judge(whole[..len].to_vec()), Err(EngineError::GgufInvalid(_))), "{len}");
    }
}

proptest! {
    #[test]
    fn no_mutation_panics(at in 0usize..1 << 16, bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut file = Fixture::model(&["x"]).bytes();
        let at = at % file.len();
        for (place, byte) in file[at..].iter_mut().zip(bytes) {
            *place = byte;
        }
        _ = judge(file);
    }

    #[test]
    fn no_noise_after_the_magic_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(noise);
        _ = judge(file);
    }
}
