use super::changed;
use crate::error::Result;
use crate::gguf::GgufSummary;

const QUERY: &str = "blk.0.attn_q.weight";

fn with_matrix(architecture: &str, name: &str, shape: &[u64], type_id: u32) -> Result<GgufSummary> {
    changed(|f| _ = f.rename(architecture).set_tensor(name, shape, type_id))
}

#[test]
fn i2_s_takes_a_quarter_byte_per_weight_and_a_tail() {
    for architecture in ["bitnet-b1.58", "bitnet-25", "bitnet", "llama"] {
        let summary = with_matrix(architecture, QUERY, &[256, 4], 36).unwrap();
        assert_eq!(summary.problem, None);
        assert!(summary.tensor_types.iter().any(|total| total.name == "I2_S" && total.bytes == 256 + 32));
        let ternary = summary.ternary.unwrap();
        assert_eq!((ternary.encoding, ternary.runs_as, ternary.tensors), (Some("I2_S"), vec!["TQ2_0"], 1));
        assert!(ternary.needs_transcoding);
        assert_eq!(ternary.squared_relu, architecture.len() > "bitnet".len());
    }
    let summary = with_matrix("llama", QUERY, &[128, 8], 36).unwrap();
    assert_eq!(summary.ternary.unwrap().runs_as, ["Q4_0"]);
}

#[test]
fn the_tail_of_i2_s_must_lie_inside_the_file() {
    let cut = |bytes: usize| {
        changed(|f| {
            f.set_tensor("blk.1.ffn_down.weight", &[128, 8], 36);
            f.data_bytes -= bytes;
        })
    };
    assert_eq!(cut(0).unwrap().problem, None);
    assert_eq!(cut(1).unwrap_err().code(), "gguf_invalid");
}

#[test]
fn i2_s_is_refused_where_nothing_would_read_its_scale() {
    let problem = |architecture, name, shape: &[u64]| with_matrix(architecture, name, shape, 36).unwrap().problem;
    for name in ["output.weight", "blk.0.attn_q.bias", "blk.x.attn_q.weight", "blk.0.attn_qkv.weight"] {
        assert!(problem("llama", name, &[128, 2]).unwrap().contains(name));
    }
    assert!(problem("qwen3", QUERY, &[128, 2]).unwrap().contains("qwen3"));
    assert!(problem("llama", QUERY, &[128]).unwrap().contains("I2_S"));
    assert_eq!(with_matrix("llama", QUERY, &[64, 2], 36).unwrap_err().code(), "gguf_invalid");
}

#[test]
fn lookup_tables_are_refused_by_their_name() {
    for (type_id, name) in [(38, "TL1"), (39, "TL2")] {
        for rows in [1, 1 << 20] {
            let mut shape = vec![256, 1];
            let summary = changed(|f| {
                f.rename("bitnet-b1.58").set_tensor(QUERY, &shape, type_id);
                shape[1] = rows;
                f.tensor(QUERY).1.clone_from(&shape);
            });
            assert!(summary.unwrap().problem.unwrap().contains(name));
        }
    }
}

#[test]
fn the_number_of_tl2_is_mxfp4_elsewhere_unless_such_tensors_would_overlap() {
    let closer = |bytes: u64| {
        changed(|f| {
            f.set_tensor("blk.0.one.weight", &[256, 4], 39).set_tensor("blk.0.two.weight", &[256, 4], 39);
            f.tensor("blk.0.two.weight").3 -= bytes;
        })
    };
    assert_eq!(closer(0).unwrap().problem, None);
    assert!(closer(32).unwrap().problem.unwrap().contains("TL2"));
}

#[test]
fn ternary_types_of_the_library_run_as_they_are() {
    for (type_id, name) in [(34, "TQ1_0"), (35, "TQ2_0")] {
        let summary = with_matrix("llama", QUERY, &[256, 4], type_id).unwrap();
        summary.require_loadable().unwrap();
        assert_eq!(summary.ternary.unwrap().runs_as, [name]);
    }
    assert_eq!(changed(|_| ()).unwrap().ternary, None);
}
