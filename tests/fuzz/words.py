"""What mutations put into a file: numbers at the edges, odd texts, and the names libraries know."""

from __future__ import annotations

import math
from typing import Final

INTEGERS: Final = (
    0, 1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 511, 512,
    513, 1000, 4096, 65535, 65536, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53,
    2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -32, -(2**31),
)  # fmt: skip
FLOATS: Final = (
    0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e-45, 1e30, 3e38, 1e308, -1e30, math.nan, math.inf,
    -math.inf, 10000.0, 0.1,
)  # fmt: skip
TEXTS: Final = (
    b"", b" ", b"a", b"a b", b"\0", b"a\0b", b"\xff\xfe", b"\xc3", b"<0xZZ>", b"<0x0A>", b"<0x0a>",
    b"<s>", b"</s>", b"<unk>", "▁".encode(), "▁▁▁▁".encode(), "é€😀".encode(), "\u0120a".encode(),
    b"<|im_start|>", b"<|im_end|>", b"<|eot_id|>", b"\n", b"x" * 64, b"y" * 5000, b"a b c",
    b"llama", b"no_vocab", b"../../../etc/passwd", b"%s%n%s%n", b"\x1b[2J",
)  # fmt: skip
TEMPLATES: Final = (
    b"{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    b"{{ 'a' * 1000000000 }}",
    b"{% if %}",
    b"{{ messages[10**9] }}",
    b"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    b"{{ ''.__class__.__mro__ }}",
    b"{% include '/etc/passwd' %}",
    b"{{ '%999999999d' | format(1) }}",
    b"{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    b"{{ 1 // 0 }}",
    b"\xff{{",
    b"{{" * 5000,
    b"(" * 10000,
    b"{{ 1" + b"+1" * 50000 + b" }}",
    b"{{ messages | tojson(indent=999999999) }}",
    b"{{ -9223372036854775808 // -1 }}",
)
TOKENIZERS: Final = (
    b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"plamo2", b"plamo3", b"hybriddna", b"gemma4",
    b"none", b"no_vocab", b"whitespace", b"replit", b"x",
)  # fmt: skip
PRE_TOKENIZERS: Final = (
    b"default", b"llama-bpe", b"deepseek-llm", b"deepseek-coder", b"deepseek-v3", b"falcon", b"mpt",
    b"starcoder", b"gpt-2", b"refact", b"command-r", b"qwen2", b"qwen35", b"stablelm2", b"olmo",
    b"dbrx", b"smaug-bpe", b"poro-chat", b"chatglm-bpe", b"viking", b"jais", b"tekken", b"smollm",
    b"codeshell", b"bloom", b"gpt3-finnish", b"exaone", b"chameleon", b"minerva-7b", b"megrez",
    b"gpt-4o", b"superbpe", b"trillion", b"bailingmoe", b"llama4", b"pixtral", b"seed-coder",
    b"hunyuan", b"hunyuan-dense", b"kimi-k2", b"joyai-llm", b"grok-2", b"granite-docling",
    b"minimax-m2", b"afmoe", b"solar-open", b"jina-v1-en", b"jina-v2-de", b"youtu", b"exaone4",
    b"tiny_aya", b"whisper", b"gemma4",
)  # fmt: skip
KEYS: Final = (
    "attention.key_length", "attention.value_length", "attention.sliding_window",
    "attention.sliding_window_pattern", "attention.causal", "attention.scale",
    "attention.clamp_kqv", "attention.max_alibi_bias", "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon", "attention.group_norm_groups", "attention.shared_kv_layers",
    "attention.head_count", "attention.head_count_kv", "attention.temperature_scale",
    "attention.temperature_length", "attention.q_lora_rank", "attention.kv_lora_rank",
    "attention.key_length_mla", "attention.key_length_swa", "attention.value_length_swa",
    "attention.indexer.head_count", "rope.dimension_count", "rope.dimension_count_swa",
    "rope.dimension_sections", "rope.freq_base", "rope.freq_base_swa", "rope.scale_linear",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.attn_factor",
    "rope.scaling.original_context_length", "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_log_multiplier", "rope.scaling.finetuned", "expert_count",
    "expert_used_count", "expert_shared_count", "expert_feed_forward_length",
    "expert_shared_feed_forward_length", "expert_weights_scale", "expert_weights_norm",
    "expert_gating_func", "expert_group_count", "expert_group_used_count", "moe_every_n_layers",
    "interleave_moe_layer_step", "leading_dense_block_count", "nextn_predict_layers",
    "feed_forward_length", "embedding_length", "embedding_length_out",
    "embedding_length_per_layer_input", "context_length", "block_count", "vocab_size",
    "use_parallel_residual", "tensor_data_layout", "pooling_type", "logit_scale",
    "final_logit_softcapping", "attn_logit_softcapping", "residual_scale", "embedding_scale",
    "decoder_start_token_id", "swin_norm", "rescale_every_n_layers", "ssm.conv_kernel",
    "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count", "wkv.head_size",
    "classifier.output_labels", "n_deepstack_layers", "full_attention_interval",
)  # fmt: skip
TOKENIZER_KEYS: Final = (
    "bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "unknown_token_id",
    "seperator_token_id", "padding_token_id", "cls_token_id", "mask_token_id", "newline_token_id",
    "fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id",
    "fim_rep_token_id", "fim_sep_token_id", "prefix_token_id", "suffix_token_id", "add_bos_token",
    "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces",
    "precompiled_charsmap", "escape_whitespaces", "normalizer.lowercase", "token_type_count", "pre",
    "model", "scores", "token_type", "merges", "tokens", "suppress_tokens", "eog_token_ids",
)  # fmt: skip
GENERAL_KEYS: Final = (
    "general.alignment", "general.file_type", "general.quantization_version", "split.no",
    "split.count", "split.tensors.count", "general.type", "general.sampling.temp",
    "general.sampling.top_k", "general.sampling.top_p", "general.sampling.min_p",
    "general.sampling.penalty_repeat", "adapter.type", "tokenizer.chat_template.tool_use",
)  # fmt: skip
