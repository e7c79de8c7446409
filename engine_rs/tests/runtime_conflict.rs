//! A process opens one runtime. A binary of its own: what it opens stays open.

mod support;

use std::sync::Arc;

use support::spec;
use tabagent_engine::ffi::{Runtime, RuntimeSpec};

#[test]
fn the_same_files_are_the_same_runtime() {
    let first = Runtime::open(&spec()).unwrap();
    let elsewhere = spec().libllama.parent().unwrap().join(".").join(spec().libllama.file_name().unwrap());
    let again = RuntimeSpec { libllama: elsewhere, reason: "asked for again".into(), ..spec() };
    assert!(Arc::ptr_eq(&first, &Runtime::open(&again).unwrap()));
}

#[test]
fn another_library_is_refused() {
    Runtime::open(&spec()).unwrap();
    let other = RuntimeSpec { libllama: std::env::current_exe().unwrap(), ..spec() };
    assert_eq!(Runtime::open(&other).unwrap_err().code(), "runtime_conflict");
}

#[test]
fn another_cpu_module_is_refused() {
    Runtime::open(&spec()).unwrap();
    let other = RuntimeSpec { cpu_module: Some(spec().libllama), ..spec() };
    assert_eq!(Runtime::open(&other).unwrap_err().code(), "runtime_conflict");
}
