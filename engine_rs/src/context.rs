//! A `llama_context`: decode batches and edit the KV cache.
