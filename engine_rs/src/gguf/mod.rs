//! Reads and judges GGUF headers in safe Rust, before any C code sees the file.
