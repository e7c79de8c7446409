//! A loaded `llama_model`.
