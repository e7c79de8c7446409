//! The engine over `fake_llama`: what requests see of batching, credit, cancelling, stops, limits and failures.

mod batching;
mod control;
mod endings;
mod failures;
mod prompts;
mod rig;
