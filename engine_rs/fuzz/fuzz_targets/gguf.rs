//! Any bytes as a GGUF: the judgement may be anything but a panic, an endless loop or a large allocation.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tabagent_engine::gguf::inspect_source;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(summary) = inspect_source(Cursor::new(bytes), bytes.len() as u64) {
        assert!(summary.weight_bytes <= summary.file_bytes);
    }
});
