//! Runs GGUF models in-process through `libllama` and streams their tokens.
//!
//! Layers, each using only those above it: [`error`] · [`gguf`], [`hardware`] · [`bitnet`] · [`ffi`] ·
//! [`compatibility`], [`model`], [`vocab`], [`context`] · [`sampler`], [`template`], [`sequence`], [`scheduler`] (no
//! FFI) · [`engine`] · [`waker`] · `python` (the only folder that names `PyO3`).

pub mod bitnet;
pub mod compatibility;
pub mod context;
pub mod engine;
pub mod error;
pub mod ffi;
pub mod gguf;
pub mod hardware;
pub mod model;
#[cfg(feature = "python")]
mod python;
pub mod sampler;
pub mod scheduler;
pub mod sequence;
pub mod template;
pub mod vocab;
pub mod waker;
