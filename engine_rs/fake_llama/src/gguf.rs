//! Writes a script as a small, complete GGUF of the `llama` architecture.

use std::io;
use std::path::Path;

use crate::script::{SCRIPT_KEY, Script};
use crate::vocabulary::Vocabulary;

/// Width of the model, of its feed-forward layer, and its attention heads.
pub(crate) const N_EMBD: u64 = 32;
const N_FF: u64 = 32;
const N_HEAD: u32 = 2;
const ALIGNMENT: usize = 32;

/// Value-type numbers of the format, and the tensor type F32.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const TENSOR_F32: u32 = 0;

/// Writes the model file of a script. Its weights are arbitrary, but real libraries load and run it.
pub fn write_model(path: &Path, script: &Script) -> io::Result<()> {
    let vocabulary = Vocabulary::of(script);
    let pairs = pairs(script, &vocabulary);
    let tensors = tensors(u64::from(vocabulary.len() as u32));
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    let mut data_bytes = 0_u64;
    for (name, shape) in &tensors {
        file.extend(text(name));
        file.extend((shape.len() as u32).to_le_bytes());
        file.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
        file.extend(TENSOR_F32.to_le_bytes());
        file.extend(data_bytes.to_le_bytes());
        data_bytes += shape.iter().product::<u64>() * 4;
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    let mut state = 1_u32;
    for _ in 0..data_bytes / 4 {
        // A linear congruential generator, scaled to -0.5 to 0.5.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        file.extend((f32::from((state >> 16) as u16) / 65536.0 - 0.5).to_le_bytes());
    }
    std::fs::write(path, file)
}

/// The script in the bytes of a model file.
pub(crate) fn script_of(file: &[u8]) -> Option<Script> {
    let key = SCRIPT_KEY.as_bytes();
    let start = file.windows(key.len()).position(|window| window == key)? + key.len() + 4;
    let length = u64::from_le_bytes(file.get(start..start + 8)?.try_into().ok()?);
    serde_json::from_slice(file.get(start + 8..)?.get(..usize::try_from(length).ok()?)?).ok()
}

fn pairs(script: &Script, vocabulary: &Vocabulary) -> Vec<Vec<u8>> {
    let scores = (0..vocabulary.len()).map(|token| (-token as f32).to_le_bytes().to_vec());
    let types = (0..vocabulary.len()).map(|token| Vocabulary::kind(token).to_le_bytes().to_vec());
    let json = serde_json::to_string(script).expect("a script is plain data");
    let mut pairs = vec![
        pair("general.architecture", STRING, &text("llama")),
        pair("general.name", STRING, &text("scripted")),
        pair("llama.context_length", U32, &script.context_length.to_le_bytes()),
        pair("llama.embedding_length", U32, &(N_EMBD as u32).to_le_bytes()),
        pair("llama.block_count", U32, &1_u32.to_le_bytes()),
        pair("llama.feed_forward_length", U32, &(N_FF as u32).to_le_bytes()),
        pair("llama.attention.head_count", U32, &N_HEAD.to_le_bytes()),
        pair("llama.attention.layer_norm_rms_epsilon", F32, &1e-5_f32.to_le_bytes()),
        pair("tokenizer.ggml.model", STRING, &text("llama")),
        pair("tokenizer.ggml.tokens", ARRAY, &array(STRING, vocabulary.entries().map(text))),
        pair("tokenizer.ggml.scores", ARRAY, &array(F32, scores)),
        pair("tokenizer.ggml.token_type", ARRAY, &array(I32, types)),
        pair("tokenizer.ggml.add_space_prefix", BOOL, &[0]),
        pair(SCRIPT_KEY, STRING, &text(&json)),
    ];
    pairs.extend(script.chat_template.iter().map(|it| pair("tokenizer.chat_template", STRING, &text(it))));
    pairs
}

fn tensors(n_vocab: u64) -> Vec<(&'static str, Vec<u64>)> {
    let square = [N_EMBD, N_EMBD];
    vec![
        ("token_embd.weight", vec![N_EMBD, n_vocab]),
        ("output_norm.weight", vec![N_EMBD]),
        ("blk.0.attn_norm.weight", vec![N_EMBD]),
        ("blk.0.attn_q.weight", square.into()),
        ("blk.0.attn_k.weight", square.into()),
        ("blk.0.attn_v.weight", square.into()),
        ("blk.0.attn_output.weight", square.into()),
        ("blk.0.ffn_norm.weight", vec![N_EMBD]),
        ("blk.0.ffn_gate.weight", vec![N_EMBD, N_FF]),
        ("blk.0.ffn_up.weight", vec![N_EMBD, N_FF]),
        ("blk.0.ffn_down.weight", vec![N_FF, N_EMBD]),
    ]
}

fn text(value: &str) -> Vec<u8> {
    let mut out = (value.len() as u64).to_le_bytes().to_vec();
    out.extend(value.as_bytes());
    out
}

fn pair(key: &str, type_id: u32, value: &[u8]) -> Vec<u8> {
    let mut out = text(key);
    out.extend(type_id.to_le_bytes());
    out.extend(value);
    out
}

fn array(type_id: u32, items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.collect();
    let mut out = type_id.to_le_bytes().to_vec();
    out.extend((items.len() as u64).to_le_bytes());
    out.extend(items.concat());
    out
}
