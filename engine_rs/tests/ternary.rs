//! Ternary models on a real `libllama`, against the logits of the original `BitNet` code for the same files.
//!
//! ```text
//! TABAGENT_TEST_LIBLLAMA=… TABAGENT_TEST_CPU_MODULE=… TABAGENT_TEST_BITNET=<folder of *-i2_s.gguf, *-logits.npz> \
//!     cargo test --test ternary -- --ignored
//! ```

mod support;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::DeflateDecoder;
use support::{likeliest, params};
use tabagent_engine::bitnet::{Cache, prepare};
use tabagent_engine::context::{Batch, Context, Decoded};
use tabagent_engine::ffi::{Runtime, RuntimeSpec};
use tabagent_engine::model::{Model, ModelParams};

/// How near the original's own ternary kernels come to its F32 ones.
const LEAST_COSINE: f64 = 0.998;
/// A lead of the likeliest token that rounding does not turn.
const CLEAR_LEAD: f32 = 0.3;

fn given(name: &str) -> PathBuf {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")).into()
}

/// The elements, of four bytes each, of an array in a compressed `NumPy` archive.
fn array(archive: &Path, name: &str) -> Vec<[u8; 4]> {
    let bytes = fs::read(archive).unwrap();
    let name = format!("{name}.npy");
    let length = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let is_member = |start: &usize| bytes[*start..].starts_with(b"PK\x03\x04") && length(start + 26) == name.len();
    let starts = (0..bytes.len() - 30).filter(is_member);
    let found = starts.map(|start| start + 30).find(|text| bytes[*text..].starts_with(name.as_bytes()));
    let text = found.unwrap_or_else(|| panic!("no {name} in {}", archive.display()));
    let mut array = Vec::new();
    DeflateDecoder::new(&bytes[text + name.len() + length(text - 2)..]).read_to_end(&mut array).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
    let (elements, rest) = array[header..].as_chunks();
    assert!(rest.is_empty());
    elements.to_vec()
}

/// The logits after each of the tokens, from the transcoded file.
fn logits(file: &Path, tokens: &[i32]) -> Vec<Vec<f32>> {
    let spec = RuntimeSpec {
        libllama: given("TABAGENT_TEST_LIBLLAMA"),
        cpu_module: std::env::var_os("TABAGENT_TEST_CPU_MODULE").map(PathBuf::from),
        ..support::spec()
    };
    let runtime = Runtime::open(&spec).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().into(), u64::MAX);
    let prepared = prepare(file, &cache, &mut |_| Ok(())).unwrap();
    let model = Model::load(&runtime, prepared.path(), &ModelParams::default()).unwrap();
    let mut context = Context::new(&model, &params(256, 1)).unwrap();
    let mut batch = Batch::with_capacity(tokens.len());
    for (position, token) in tokens.iter().enumerate() {
        batch.push(*token, position as i32, 0, true);
    }
    assert_eq!(context.decode(&batch).unwrap(), Decoded::Done);
    (0..tokens.len() as i32).map(|position| context.logits(position).unwrap().to_vec()).collect()
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

fn lead(logits: &[f32]) -> f32 {
    let mut sorted = logits.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted[sorted.len() - 1] - sorted[sorted.len() - 2]
}

/// Fails unless the file `<name>-i2_s.gguf` gives the logits of its weights in F32.
fn assert_logits(name: &str) {
    let folder = given("TABAGENT_TEST_BITNET");
    let reference = folder.join(format!("{name}-logits.npz"));
    let tokens: Vec<_> = array(&reference, "prompt_tokens").into_iter().map(i32::from_le_bytes).collect();
    let expected: Vec<_> = array(&reference, "f32").into_iter().map(f32::from_le_bytes).collect();
    let found = logits(&folder.join(format!("{name}-i2_s.gguf")), &tokens);
    let expected = expected.chunks_exact(found[0].len());
    assert_eq!((expected.len(), expected.remainder().len()), (found.len(), 0));
    let mut clear = 0;
    for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(cosine(found, expected) >= LEAST_COSINE, "{position}: {}", cosine(found, expected));
        if lead(expected) > CLEAR_LEAD {
            assert_eq!(likeliest(found), likeliest(expected), "{position}");
            clear += 1;
        }
    }
    assert!(clear >= 36, "{clear}");
}

#[test]
#[ignore = "needs a libllama and the reference files"]
fn a_llama_file_of_i2_s_gives_the_logits_of_its_weights() {
    assert_logits("llama");
}

#[test]
#[ignore = "needs a libllama and the reference files"]
fn a_file_of_the_2b_4t_graph_gives_the_logits_of_its_weights() {
    assert_logits("bitnet-b1.58");
}
