//! Opens `fake_llama` as a runtime and loads scripted models in it.

use std::path::PathBuf;
use std::sync::Arc;

use fake_llama::{Control, Script, library_path, write_model};
use tabagent_engine::context::{Batch, Context, ContextParams};
use tabagent_engine::ffi::{Runtime, RuntimeSpec};
use tabagent_engine::model::{Model, ModelParams};

/// A scripted model, loaded.
pub struct Fixture {
    pub model: Arc<Model>,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

pub fn spec() -> RuntimeSpec {
    RuntimeSpec {
        id: "fake".into(),
        libllama: library_path(),
        cpu_module: None,
        variant: "scripted".into(),
        version: "0".into(),
        reason: "for tests".into(),
    }
}

#[allow(dead_code, reason = "each test binary uses its part")]
impl Fixture {
    pub fn load(script: &Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        write_model(&path, script).unwrap();
        let runtime = Runtime::open(&spec()).unwrap();
        let model = Model::load(&runtime, &path, &ModelParams::default()).unwrap();
        Self { model, path, _folder: folder }
    }

    pub fn control(&self) -> Control {
        Control::of(&self.path)
    }

    pub fn context(&self, n_ctx: u32, n_seq_max: u32) -> Context {
        Context::new(&self.model, &params(n_ctx, n_seq_max)).unwrap()
    }

    pub fn tokens(&self, text: &str) -> Vec<i32> {
        self.model.vocab().tokenize(text, true, true).unwrap()
    }

    pub fn spelled(&self, tokens: &[i32]) -> String {
        self.model.vocab().detokenize(tokens).unwrap()
    }
}

/// Small ubatches, so that an abort has somewhere to strike.
pub fn params(n_ctx: u32, n_seq_max: u32) -> ContextParams {
    ContextParams { n_ctx, n_batch: 256, n_ubatch: 8, n_seq_max, n_threads: 1, n_threads_batch: 1, embeddings: false }
}

/// A batch of one sequence from position `start` on, with an output at its end.
#[allow(dead_code, reason = "each test binary uses its part")]
pub fn batch(tokens: &[i32], start: i32, sequence: i32) -> Batch {
    let mut batch = Batch::with_capacity(tokens.len());
    for (index, &token) in tokens.iter().enumerate() {
        batch.push(token, start + index as i32, sequence, index + 1 == tokens.len());
    }
    batch
}

#[allow(dead_code, reason = "each test binary uses its part")]
pub fn likeliest(logits: &[f32]) -> i32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as i32
}
