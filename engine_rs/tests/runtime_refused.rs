//! Runtimes that cannot be opened. A binary of its own: none is ever open in it.

mod support;

use fake_llama::library_path;
use support::spec;
use tabagent_engine::error::EngineError;
use tabagent_engine::ffi::{Runtime, RuntimeSpec};

fn refusal(spec: &RuntimeSpec) -> EngineError {
    Runtime::open(spec).unwrap_err()
}

#[test]
fn a_missing_library_is_not_found() {
    let error = refusal(&RuntimeSpec { libllama: "no/such/libllama.so".into(), ..spec() });
    assert_eq!(error.code(), "library_not_found");
}

#[test]
fn a_file_that_is_no_library_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let libllama = folder.path().join("libllama.so");
    std::fs::write(&libllama, "not a library").unwrap();
    assert_eq!(refusal(&RuntimeSpec { libllama, ..spec() }).code(), "library_not_found");
}

#[test]
fn a_missing_cpu_module_is_not_found() {
    let error = refusal(&RuntimeSpec { cpu_module: Some("no/such/module.so".into()), ..spec() });
    assert_eq!(error.code(), "library_not_found");
}

#[test]
fn a_cpu_module_the_library_refuses_is_not_found_and_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("libggml-cpu.so");
    std::fs::write(&module, "").unwrap();
    let error = refusal(&RuntimeSpec { cpu_module: Some(module), ..spec() });
    assert_eq!(error.code(), "library_not_found");
    assert!(error.to_string().contains("failed to load"), "{error}");
}

#[test]
fn a_library_without_the_functions_is_told_which_one_it_lacks() {
    // This crate as a shared library: a real one, without `llama_*`.
    let name = library_path().file_name().unwrap().to_str().unwrap().replace("fake_llama", "tabagent_engine");
    let error = refusal(&RuntimeSpec { libllama: library_path().with_file_name(name), ..spec() });
    assert_eq!(error.code(), "abi_unsupported");
    assert!(error.to_string().contains("llama_log_set"), "{error}");
}
