//! A tiny library with the C symbols of `libllama` and scripted logits, so that the engine is tested without a model.
