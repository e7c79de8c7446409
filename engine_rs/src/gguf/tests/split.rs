use std::fs;
use std::path::{Path, PathBuf};

use super::super::fixture::{F32_TENSOR, Fixture};
use super::super::{GgufSummary, inspect};
use crate::error::Result;

/// The parts of a model in a folder of their own: the fixture, then files of one tensor each.
struct Parts {
    folder: tempfile::TempDir,
    count: u32,
}

impl Parts {
    fn write(count: u32) -> Self {
        let parts = Self { folder: tempfile::tempdir().unwrap(), count };
        for number in 0..count {
            parts.change(number, |_| ());
        }
        parts
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.path().join(format!("model-{:05}-of-{:05}.gguf", number + 1, self.count))
    }

    /// Writes a part anew.
    fn change(&self, number: u32, change: impl FnOnce(&mut Fixture)) -> &Self {
        let mut fixture = Fixture::model(&[]);
        if number == 0 {
            fixture.set_u32("split.tensors.count", 20 + self.count - 1);
        } else {
            fixture.pairs.clear();
            fixture.tensors.clear();
            fixture.data_bytes = 0;
            fixture.push_tensor(&format!("blk.0.extra{number}.weight"), &[64], F32_TENSOR);
        }
        fixture.set_u32("split.no", number).set_u32("split.count", self.count);
        change(&mut fixture);
        fs::write(self.path(number), fixture.bytes()).unwrap();
        self
    }

    fn inspect(&self) -> Result<GgufSummary> {
        inspect(&self.path(0))
    }

    fn refusal(&self) -> (&'static str, String) {
        let error = self.inspect().unwrap_err();
        (error.code(), error.to_string())
    }
}

#[test]
fn the_parts_of_a_model_are_summed_up() {
    let parts = Parts::write(3);
    let summary = parts.inspect().unwrap();
    assert_eq!((summary.parts, summary.tensor_count, summary.problem), (3, 22, None));
    let bytes: u64 = (0..3).map(|number| fs::metadata(parts.path(number)).unwrap().len()).sum();
    assert_eq!(summary.file_bytes, bytes);
}

#[test]
fn a_later_part_names_the_first() {
    let error = inspect(&Parts::write(3).path(2)).unwrap_err();
    assert_eq!(error.code(), "gguf_unsupported");
    assert!(error.to_string().contains("model-00001-of-00003.gguf"), "{error}");
}

#[test]
fn a_missing_part_is_named() {
    let parts = Parts::write(3);
    fs::remove_file(parts.path(1)).unwrap();
    let (code, said) = parts.refusal();
    assert_eq!(code, "gguf_invalid");
    assert!(said.contains("model-00002-of-00003.gguf"), "{said}");
}

#[test]
fn every_part_is_judged() {
    let parts = Parts::write(3);
    for change in [
        |f: &mut Fixture| f.magic = *b"GGML",
        |f: &mut Fixture| f.data_bytes -= 1,
        |f: &mut Fixture| {
            f.tensors[0].1 = vec![u64::MAX];
        },
    ] {
        let (code, said) = parts.change(2, change).refusal();
        assert_eq!(code, "gguf_invalid");
        assert!(said.contains("model-00003-of-00003.gguf"), "{said}");
    }
}

#[test]
fn the_keys_of_all_parts_must_agree() {
    for change in [
        |f: &mut Fixture| _ = f.set_u32("split.no", 2),
        |f: &mut Fixture| _ = f.set_u32("split.count", 2),
        |f: &mut Fixture| _ = f.remove("split.no"),
        |f: &mut Fixture| _ = f.set_text("split.no", "1"),
        |f: &mut Fixture| f.tensors[0].0 = "output_norm.weight".into(),
        |f: &mut Fixture| f.tensors.clear(),
    ] {
        assert_eq!(Parts::write(3).change(1, change).refusal().0, "gguf_invalid");
    }
    for (key, number) in [("split.no", 3), ("split.no", 9), ("split.count", 100_000), ("split.count", 4)] {
        assert_eq!(Parts::write(3).change(0, |f| _ = f.set_u32(key, number)).refusal().0, "gguf_invalid", "{key}");
    }
}

#[test]
fn a_part_must_bear_its_name() {
    let parts = Parts::write(2);
    let other = parts.folder.path().join("model.gguf");
    fs::copy(parts.path(0), &other).unwrap();
    let error = inspect(Path::new(&other)).unwrap_err();
    assert!(error.to_string().contains("-00001-of-00002.gguf"), "{error}");
}

#[test]
fn a_ternary_model_must_be_one_file() {
    let parts = Parts::write(2);
    parts.change(1, |f| {
        f.tensors.clear();
        f.data_bytes = 0;
        f.push_tensor("blk.0.attn_q.weight", &[128, 64], F32_TENSOR);
        f.tensor("blk.0.attn_q.weight").2 = 36;
    });
    parts.change(0, |f| {
        f.tensors.truncate(2);
        f.set_u32("split.tensors.count", 3).rename("bitnet");
    });
    let problem = parts.inspect().unwrap().problem.unwrap();
    assert!(problem.contains("in several files"), "{problem}");
}
