//! Decides who runs in the next batch: pure policy, no FFI.
