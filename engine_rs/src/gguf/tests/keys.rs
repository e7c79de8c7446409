use super::super::fixture::F32_TENSOR;
use super::{changed, code, refusal};

#[test]
fn required_keys_are_demanded() {
    for key in [
        "general.architecture",
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.attention.head_count",
    ] {
        assert_eq!(code(|f| _ = f.remove(key)), "gguf_invalid", "{key}");
        assert_eq!(code(|f| _ = f.set_f32(key, 1.0)), "gguf_invalid", "{key}");
    }
    for key in ["llama.context_length", "llama.embedding_length", "llama.block_count", "llama.attention.head_count"] {
        assert_eq!(code(|f| _ = f.set_u32(key, 0)), "gguf_invalid", "{key}");
    }
}

#[test]
fn heads_and_experts_must_divide_evenly() {
    assert_eq!(code(|f| _ = f.set_u32("llama.attention.head_count_kv", 3)), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.set_u32("llama.rope.dimension_count", 15)), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.set_u32("llama.expert_used_count", 2)), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.set_u32("llama.expert_count", 2)), "gguf_unsupported");
    assert_eq!(code(|f| _ = f.set_u32("llama.block_count", 513)), "gguf_unsupported");
}

#[test]
fn heads_may_differ_by_layer() {
    let summary = changed(|f| _ = f.set_u32s("llama.attention.head_count_kv", &[4, 1])).unwrap();
    assert_eq!(summary.dimensions.kv_bytes_per_token, 5 * 32 * 2);
    assert_eq!(code(|f| _ = f.set_u32s("llama.attention.head_count_kv", &[4, 1, 1])), "gguf_invalid");
}

#[test]
fn layers_beside_the_models_own_must_leave_one() {
    assert_eq!(code(|f| _ = f.set_u32("llama.nextn_predict_layers", 1)), "ok");
    assert_eq!(code(|f| _ = f.set_u32("llama.nextn_predict_layers", 2)), "gguf_invalid");
}

#[test]
fn groups_of_experts_must_divide_them() {
    let groups = |groups: u32, used: u32| {
        refusal(|f| {
            f.set_u32("llama.expert_count", 8).set_u32("llama.expert_used_count", 2);
            f.set_u32("llama.expert_group_count", groups).set_u32("llama.expert_group_used_count", used);
        })
    };
    for (count, used) in [(8, 1), (3, 1), (4, 0), (4, 4)] {
        assert!(groups(count, used).contains("groups of 8 experts"), "{count} {used}");
    }
    assert_eq!(code(|f| _ = f.set_u32("llama.expert_group_count", 1)), "gguf_unsupported");
}

#[test]
fn experts_may_be_used_differently_by_layer() {
    let change = |f: &mut super::Fixture| {
        f.set_u32("llama.expert_count", 4).set_u32s("llama.expert_used_count", &[1, 4]);
    };
    assert_eq!(code(change), "ok");
    assert_eq!(
        code(|f| _ = f.set_u32("llama.expert_count", 4).set_u32s("llama.expert_used_count", &[1, 5])),
        "gguf_unsupported"
    );
}

#[test]
fn heads_are_as_wide_as_the_architecture_says() {
    for (key, width) in [
        ("attention.value_length", 8),
        ("attention.key_length", 32),
        ("rope.dimension_count", 8),
        ("rope.dimension_count", 64),
        ("rope.dimension_count_swa", 64),
        ("attention.key_length_swa", 8),
    ] {
        assert_eq!(code(|f| _ = f.set_u32(&format!("llama.{key}"), width)), "gguf_unsupported", "{key}");
    }
    assert_eq!(code(|f| _ = f.set_u32("llama.rope.dimension_count", 16)), "ok");
    let rotated = |architecture: &str, width: u32| {
        code(|f| _ = f.set_u32("llama.rope.dimension_count", width).rename(architecture))
    };
    assert_eq!(
        (rotated("gemma2", 0), rotated("gemma2", 8), rotated("gemma2", 7)),
        ("gguf_unsupported", "ok", "gguf_unsupported")
    );
    assert_eq!(rotated("gpt2", 0), "ok");
}

#[test]
fn numbers_out_of_their_range_are_invalid() {
    for (key, number) in [
        ("attention.layer_norm_rms_epsilon", f32::NAN),
        ("attention.layer_norm_rms_epsilon", -1e-5),
        ("attention.layer_norm_rms_epsilon", 2.0),
        ("rope.freq_base", 0.0),
        ("rope.freq_base", f32::INFINITY),
        ("rope.scaling.factor", -1.0),
        ("attention.scale", f32::NAN),
        ("logit_scale", 1e30),
    ] {
        assert!(refusal(|f| _ = f.set_f32(&format!("llama.{key}"), number)).contains(key), "{key}");
    }
    assert_eq!(code(|f| _ = f.set_u32("llama.anything", u32::MAX)), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_u32("llama.context_length", u32::MAX)), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_f32("llama.rope.freq_base", 1e6)), "ok");
}

#[test]
fn an_unknown_scaling_of_positions_is_invalid() {
    assert_eq!(code(|f| _ = f.set_text("llama.rope.scaling.type", "yarn")), "ok");
    assert_eq!(code(|f| _ = f.set_text("llama.rope.scaling.type", "magic")), "gguf_invalid");
}

#[test]
fn rotated_dimensions_must_be_shared_out() {
    let key = "llama.rope.dimension_sections";
    assert_eq!(code(|f| _ = f.set_u32s(key, &[4, 2, 2, 0])), "ok");
    assert_eq!(code(|f| _ = f.set_u32s(key, &[0, 0, 0, 8])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_u32s(key, &[4, 2])), "gguf_invalid");
    assert_eq!(code(|f| _ = f.set_u32(key, 4)), "gguf_invalid");
}

#[test]
fn a_window_that_no_layer_has_is_unsupported() {
    let pattern = |period: u32| {
        code(|f| {
            f.set_u32("llama.attention.sliding_window", 16).set_u32("llama.attention.sliding_window_pattern", period);
        })
    };
    assert_eq!((pattern(1), pattern(6)), ("gguf_unsupported", "ok"));
}

#[test]
fn tensors_must_have_the_sizes_that_the_keys_give() {
    let embeddings = refusal(|f| f.tensor("token_embd.weight").1 = vec![261, 64]);
    assert!(embeddings.contains("token_embd.weight"), "{embeddings}");
    assert_eq!(code(|f| f.tensor("blk.1.attn_norm.weight").1 = vec![32]), "gguf_invalid");
    assert!(refusal(|f| f.tensor("blk.1.attn_q.weight").0 = "blk.2.attn_q.weight".into()).contains("blk.2"));
    assert!(refusal(|f| _ = f.set_u32("llama.block_count", 3)).contains("layer 2 of 3"));
    assert!(refusal(|f| f.tensor("blk.0.ffn_up.weight").0 = "blk.0.x".into()).contains("no tensor ffn_up"));
    assert!(refusal(|f| f.tensor("output_norm.weight").0 = "x".into()).contains("output_norm.weight"));
}

#[test]
fn there_is_one_matrix_per_expert() {
    let experts = |matrices: u64| {
        code(|f| {
            f.set_u32("llama.expert_count", 4).set_u32("llama.expert_used_count", 2);
            f.push_tensor("blk.0.ffn_gate_exps.weight", &[64, 8, matrices], F32_TENSOR);
        })
    };
    assert_eq!((experts(4), experts(3)), ("ok", "gguf_invalid"));
}

#[test]
fn some_architectures_need_keys_of_their_own() {
    let change = |f: &mut super::Fixture| {
        f.rename("smallthinker");
    };
    assert!(refusal(change).contains("smallthinker.expert_count must be 1 at least"));
    assert!(refusal(|f| _ = f.rename("paddleocr")).contains("paddleocr.rope.dimension_sections"));
}
