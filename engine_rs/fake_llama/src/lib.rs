//! A tiny library with the C symbols of `libllama` and scripted logits, so that the engine is tested without a model.
//!
//! The `cdylib` is what the engine opens, by way of [`library_path`]. It keeps a real KV cache of tokens: logits
//! depend on what a sequence's cache holds, so a cell lost or mixed up changes the answer. Where the real library
//! would end the process by assertion, so does this one.
//!
//! The `rlib` is the tests' side: a [`Script`] says what a model answers, [`write_model`] turns it into a GGUF that
//! real libraries load, too (with other answers), and [`Control`] watches and holds the decodes of one model.

mod cache;
mod control;
mod decode;
mod exports;
mod gguf;
mod log;
mod params;
mod script;
mod sessions;
mod vocabulary;

pub use control::{Control, Counts, library_path};
pub use gguf::write_model;
pub use script::Script;
