mod cache;

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::codes::Encoding;
use super::{Cache, prepare};
use crate::error::Result;
use crate::gguf::fixture::Fixture;
use crate::gguf::{self, GgufSummary, Layout, MetaValue, inspect_layout};

const SCALE: f32 = 0.123_456_79;
const QUERY: &str = "blk.0.attn_q.weight";
const DOWN: &str = "blk.0.ffn_down.weight";
const LAST: &str = "blk.1.ffn_down.weight";

/// The values of `I2_S`, one by one, as its definition has them.
fn values_of_i2_s(codes: &[u8]) -> Vec<i8> {
    let value = |index: usize| {
        let (block, inside) = (index / 128, index % 128);
        (codes[block * 32 + inside % 32] >> (6 - 2 * (inside / 32)) & 3).cast_signed() - 1
    };
    (0..codes.len() * 4).map(value).collect()
}

/// The values of `TQ2_0`, scaled, as the library reads them.
fn values_of_tq2_0(blocks: &[u8]) -> Vec<f32> {
    let mut values = Vec::new();
    for block in blocks.chunks_exact(66) {
        assert_eq!(block[64..], [0x00, 0x3C], "a scale of 1");
        for half in block[..64].chunks_exact(32) {
            for shift in [0, 2, 4, 6] {
                values.extend(half.iter().map(|byte| f32::from(byte >> shift & 3) - 1.0));
            }
        }
    }
    values
}

/// The values of `Q4_0`, scaled, as the library reads them.
fn values_of_q4_0(blocks: &[u8]) -> Vec<f32> {
    let mut values = Vec::new();
    for block in blocks.chunks_exact(18) {
        assert_eq!(block[..2], [0x00, 0x3C], "a scale of 1");
        for shift in [0, 4] {
            values.extend(block[2..].iter().map(|byte| f32::from(byte >> shift & 15) - 8.0));
        }
    }
    values
}

/// A byte of four codes that are ternary values.
fn any_codes() -> impl Strategy<Value = u8> {
    (0..3_u8, 0..3_u8, 0..3_u8, 0..3_u8).prop_map(|(a, b, c, d)| a << 6 | b << 4 | c << 2 | d)
}

fn encoded(encoding: Encoding, codes: &[u8]) -> Option<Vec<u8>> {
    let mut blocks = vec![0xFF; encoding.bytes(codes.len() as u64).unwrap() as usize];
    encoding.encode(codes, &mut blocks).then_some(blocks)
}

proptest! {
    #[test]
    fn every_value_stays_what_it_is(codes in prop::collection::vec(any_codes(), 128)) {
        let values: Vec<f32> = values_of_i2_s(&codes).into_iter().map(f32::from).collect();
        prop_assert_eq!(&values_of_tq2_0(&encoded(Encoding::Tq2, &codes).unwrap()), &values);
        prop_assert_eq!(&values_of_q4_0(&encoded(Encoding::Q4, &codes).unwrap()), &values);
    }

    #[test]
    fn a_code_of_no_ternary_value_is_seen_wherever_it_is(
        mut codes in prop::collection::vec(any_codes(), 128), at in 0..128_usize, place in 0..4
    ) {
        codes[at] |= 3_u8 << (2 * place);
        prop_assert!(encoded(Encoding::Tq2, &codes).is_none());
        prop_assert!(encoded(Encoding::Q4, &codes).is_none());
    }
}

/// A model with two ternary matrices, their rows of 256 and of 128.
fn model(architecture: &str) -> Fixture {
    let mut fixture = Fixture::model(&["h", "e", "he"]);
    fixture.rename(architecture).set_u32("general.file_type", 40);
    fixture.set_tensor(QUERY, &[256, 4], 36).set_tensor(DOWN, &[128, 3], 36);
    fixture
}

/// Where the data of a tensor ends in a file of these many bytes.
fn end_of(fixture: &Fixture, name: &str, file_bytes: usize) -> usize {
    let (_, shape, _, start) = fixture.tensors.iter().find(|tensor| tensor.0 == name).unwrap();
    let bytes = shape.iter().product::<u64>() / 4 + 32;
    file_bytes - fixture.data_bytes + (start + bytes) as usize
}

/// The bytes of a file, its data a pattern, its codes ternary values.
fn bytes_of(fixture: &Fixture) -> Vec<u8> {
    let mut bytes = fixture.bytes();
    let data = bytes.len() - fixture.data_bytes;
    for (index, byte) in bytes[data..].iter_mut().enumerate() {
        *byte = [0x00, 0x15, 0x9A, 0x61, 0xA2][index * index % 5];
    }
    for name in [QUERY, DOWN] {
        let end = end_of(fixture, name, bytes.len());
        bytes[end - 32..end - 28].copy_from_slice(&SCALE.to_le_bytes());
    }
    bytes
}

/// A folder with a source file and a cache.
struct Place {
    folder: tempfile::TempDir,
    source: PathBuf,
    cache: Cache,
}

impl Place {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("model.gguf");
        fs::write(&source, bytes).unwrap();
        let cache = Cache::new(folder.path().join("cache"), u64::MAX);
        Self { folder, source, cache }
    }

    fn of(architecture: &str) -> Self {
        Self::new(&bytes_of(&model(architecture)))
    }

    /// The transcoded file, and how often progress was told.
    fn prepare(&self) -> Result<(PathBuf, usize)> {
        let mut told = 0;
        let prepared = prepare(&self.source, &self.cache, &mut |share| {
            assert!((0.0..=1.0).contains(&share));
            told += 1;
            Ok(())
        })?;
        Ok((prepared.path().to_owned(), told))
    }

    fn cached(&self, ending: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("cache")).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == ending).collect()
    }
}

/// A file with everything in it.
struct Opened {
    bytes: Vec<u8>,
    summary: GgufSummary,
    layout: Layout,
}

impl Opened {
    fn at(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (summary, layout) = inspect_layout(Cursor::new(&bytes), bytes.len() as u64).unwrap();
        Self { bytes, summary, layout }
    }

    fn tensor(&self, name: &str) -> (u32, &[u64], &[u8]) {
        let tensor = self.layout.tensors.iter().find(|tensor| tensor.name == name).unwrap();
        (tensor.type_id, &tensor.shape, &self.bytes[tensor.start as usize..][..tensor.bytes as usize])
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.summary.metadata.text(key)
    }
}

#[test]
fn the_transcoded_weights_are_those_of_the_source() {
    let place = Place::of("llama");
    let (source, result) = (Opened::at(&place.source), Opened::at(&place.prepare().unwrap().0));
    result.summary.require_loadable().unwrap();
    let weights = |values: Vec<f32>, scale: f32| values.into_iter().map(|value| value * scale).collect::<Vec<_>>();
    let originals = |name| {
        let (type_id, _, data) = source.tensor(name);
        assert_eq!(type_id, 36);
        let codes = &data[..data.len() - 32];
        weights(values_of_i2_s(codes).into_iter().map(f32::from).collect(), SCALE)
    };
    let scale = |name| f32::from_le_bytes(result.tensor(name).2.try_into().unwrap());
    let (query, down) = (result.tensor(QUERY), result.tensor(DOWN));
    assert_eq!((query.0, query.1), (35, &[256, 4][..]));
    assert_eq!((down.0, down.1), (2, &[128, 3][..]));
    assert_eq!(weights(values_of_tq2_0(query.2), scale("blk.0.attn_q.scale")), originals(QUERY));
    assert_eq!(weights(values_of_q4_0(down.2), scale("blk.0.ffn_down.scale")), originals(DOWN));
    for name in ["output_norm.weight", "token_embd.weight"] {
        assert_eq!(result.tensor(name), source.tensor(name));
    }
    assert_eq!(result.layout.tensors.len(), source.layout.tensors.len() + 2);
}

#[test]
fn tensors_follow_each_other_without_gaps_as_the_library_demands() {
    let place = Place::of("llama");
    let result = Opened::at(&place.prepare().unwrap().0);
    let mut expected = result.layout.data_start;
    for tensor in &result.layout.tensors {
        assert_eq!(tensor.start, expected, "{}", tensor.name);
        expected = (tensor.start + tensor.bytes).next_multiple_of(result.layout.alignment);
    }
}

#[test]
fn the_fork_s_architectures_get_the_name_that_stock_libraries_know() {
    for architecture in ["bitnet-b1.58", "bitnet-25"] {
        let place = Place::of(architecture);
        let result = Opened::at(&place.prepare().unwrap().0);
        assert_eq!(result.summary.architecture, "bitnet");
        assert_eq!(result.summary.dimensions, Opened::at(&place.source).summary.dimensions);
        assert_eq!(result.text("tabagent.ffn_activation"), Some("relu_sqr"));
        assert!(result.summary.metadata.iter().all(|(key, _)| !key.starts_with(architecture)));
        assert_eq!(result.summary.metadata.get("general.file_type"), Some(&MetaValue::Unsigned(37)));
    }
}

#[test]
fn other_architectures_keep_their_name_and_activation() {
    for architecture in ["bitnet", "llama"] {
        let result = Opened::at(&Place::of(architecture).prepare().unwrap().0);
        assert_eq!(result.summary.architecture, architecture);
        assert_eq!(result.text("tabagent.ffn_activation"), None);
        assert_eq!(result.text("general.name"), Some("fixture"));
    }
}

#[test]
fn the_fork_s_architectures_are_renamed_whatever_holds_their_weights() {
    let mut fixture = model("bitnet-b1.58");
    fixture.set_tensor(QUERY, &[64, 4], 0).set_tensor(DOWN, &[64, 4], 0);
    let result = Opened::at(&Place::new(&fixture.bytes()).prepare().unwrap().0);
    assert_eq!(result.summary.architecture, "bitnet");
    assert_eq!(result.summary.metadata.get("general.file_type"), Some(&MetaValue::Unsigned(40)));
}

#[test]
fn a_byte_pair_vocabulary_without_a_pre_tokenizer_gets_that_of_llama_3() {
    let pre = |change: &dyn Fn(&mut Fixture)| {
        let mut fixture = model("bitnet-b1.58");
        fixture.set_text("tokenizer.ggml.model", "gpt2").set_texts("tokenizer.ggml.merges", &["h e"]);
        change(&mut fixture);
        let result = Opened::at(&Place::new(&bytes_of(&fixture)).prepare().unwrap().0);
        result.text("tokenizer.ggml.pre").map(str::to_owned)
    };
    assert_eq!(pre(&|_| ()).as_deref(), Some("llama-bpe"));
    assert_eq!(pre(&|f| _ = f.set_text("tokenizer.ggml.pre", "falcon3")).as_deref(), Some("falcon3"));
    assert_eq!(pre(&|f| _ = f.set_text("tokenizer.ggml.model", "llama")), None);
}

#[test]
fn a_scale_tensor_that_was_there_is_multiplied_in() {
    let mut fixture = model("bitnet");
    fixture.push_tensor("blk.0.attn_q.scale", &[1], 0);
    let mut bytes = bytes_of(&fixture);
    let last = bytes.len() - 32;
    bytes[last..last + 4].copy_from_slice(&2.5_f32.to_le_bytes());
    let result = Opened::at(&Place::new(&bytes).prepare().unwrap().0);
    assert_eq!(result.tensor("blk.0.attn_q.scale").2, (SCALE * 2.5).to_le_bytes());
    assert_eq!(result.tensor("blk.0.ffn_down.scale").2, SCALE.to_le_bytes());
}

#[test]
fn a_file_that_needs_nothing_is_used_as_it_is() {
    let place = Place::new(&Fixture::model(&[]).bytes());
    assert_eq!(place.prepare().unwrap(), (place.source.clone(), 0));
    assert!(!place.folder.path().join("cache").exists());
}

#[test]
fn the_library_never_sees_a_file_that_is_not_transcoded() {
    for architecture in ["bitnet-b1.58", "bitnet-25", "bitnet", "llama"] {
        let summary = gguf::inspect(&Place::of(architecture).source).unwrap();
        summary.require_supported().unwrap();
        assert_eq!(summary.require_loadable().unwrap_err().code(), "gguf_unsupported");
    }
}

#[test]
fn codes_and_scales_that_cannot_be_are_refused_and_leave_nothing() {
    let fixture = model("llama");
    let whole = bytes_of(&fixture);
    let end = end_of(&fixture, DOWN, whole.len());
    let changes = [(end - 33, vec![0xFF]), (end - 32, f32::NAN.to_le_bytes().to_vec())];
    for (at, wrong) in changes {
        let mut bytes = whole.clone();
        bytes[at..at + wrong.len()].copy_from_slice(&wrong);
        let place = Place::new(&bytes);
        assert_eq!(place.prepare().unwrap_err().code(), "gguf_invalid");
        assert_eq!(place.cached("gguf").len() + place.cached("partial").len(), 0);
    }
}
