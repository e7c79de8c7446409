//! Loading models through the wrappers, over `fake_llama`.

mod support;

use fake_llama::{Script, write_model};
use support::{Fixture, spec};
use tabagent_engine::ffi::Runtime;
use tabagent_engine::gguf;
use tabagent_engine::model::{Model, ModelParams};

#[test]
fn a_model_tells_its_facts() {
    let model = Fixture::load(&Script::new().context_length(123)).model;
    assert_eq!((model.n_ctx_train(), model.n_embd()), (123, 32));
    assert_eq!(model.meta("general.name").as_deref(), Some("scripted"));
    assert_eq!(model.description(), "scripted llama");
    assert!(model.size_bytes() > 0 && model.n_vocab() > 256);
}

#[test]
fn a_long_value_of_the_metadata_is_whole() {
    let template = "{{ messages }}".repeat(100);
    let model = Fixture::load(&Script::new().chat_template(&template)).model;
    assert_eq!(model.meta("tokenizer.chat_template"), Some(template));
    assert_eq!(model.meta("no.such.key"), None);
    assert_eq!(model.meta("a\0b"), None);
}

#[test]
fn a_scripted_model_passes_the_judge() {
    let fixture = Fixture::load(&Script::new());
    gguf::inspect(&fixture.path).unwrap().require_supported().unwrap();
}

#[test]
fn a_model_loads_without_mapping() {
    let fixture = Fixture::load(&Script::new());
    let unmapped = ModelParams { mmap: false, ..ModelParams::default() };
    assert!(Model::load(fixture.model.runtime(), &fixture.path, &unmapped).is_ok());
}

#[test]
fn a_refused_model_quotes_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, &Script::new().refuse_load("missing tensor 'output_norm.weight'")).unwrap();
    let runtime = Runtime::open(&spec()).unwrap();
    let error = Model::load(&runtime, &path, &ModelParams::default()).unwrap_err();
    assert_eq!(error.code(), "model_load_failed");
    assert!(error.to_string().contains("missing tensor 'output_norm.weight'"), "{error}");
}

#[test]
fn a_model_too_large_for_memory_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path, &Script::new().refuse_load("unable to allocate CPU buffer")).unwrap();
    let runtime = Runtime::open(&spec()).unwrap();
    assert_eq!(Model::load(&runtime, &path, &ModelParams::default()).unwrap_err().code(), "out_of_memory");
}

#[test]
fn a_path_without_a_file_is_not_found() {
    let runtime = Runtime::open(&spec()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("none.gguf"), "a\0b".into()] {
        let error = Model::load(&runtime, &path, &ModelParams::default()).unwrap_err();
        assert_eq!(error.code(), "model_not_found");
    }
}
