//! Any text as a chat template: it is refused, or renders within its limits.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tabagent_engine::template::{Limits, render};

fuzz_target!(|source: &str| {
    let limits = Limits { output: 1 << 16, fuel: 20_000, time: Duration::from_secs(20), ..Limits::default() };
    let context = json!({
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi é😀"}],
        "add_generation_prompt": true,
        "bos_token": "<s>",
        "tools": null,
    });
    match render(source, &context, limits) {
        Ok(text) => assert!(text.len() <= limits.output),
        Err(error) => assert!(!error.to_string().contains("takes longer"), "{error}"),
    }
});
