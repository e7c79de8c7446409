//! Writes small GGUF files for tests.

/// Value-type numbers of the format.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// Tensor types.
pub(crate) const F32_TENSOR: u32 = 0;
pub(crate) const Q4_0: u32 = 2;
/// Tensors of a layer and their rows of 64; 0 for a vector.
const LAYER: [(&str, u64); 9] = [
    ("attn_norm", 0),
    ("attn_q", 64),
    ("attn_k", 32),
    ("attn_v", 32),
    ("attn_output", 64),
    ("ffn_norm", 0),
    ("ffn_gate", 64),
    ("ffn_up", 64),
    ("ffn_down", 64),
];

/// A GGUF under construction. Starts as a complete model that the engine accepts; tests change what they judge.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub magic: [u8; 4],
    pub version: u32,
    pub pairs: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<(String, Vec<u64>, u32, u64)>,
    pub data_bytes: usize,
}

fn text(value: &str) -> Vec<u8> {
    let mut out = (value.len() as u64).to_le_bytes().to_vec();
    out.extend(value.as_bytes());
    out
}

fn typed(type_id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = type_id.to_le_bytes().to_vec();
    out.extend(payload);
    out
}

fn array(type_id: u32, items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = type_id.to_le_bytes().to_vec();
    out.extend((items.len() as u64).to_le_bytes());
    out.extend(items.concat());
    typed(ARRAY, &out)
}

fn data_bytes(type_id: u32, shape: &[u64]) -> usize {
    let elements = shape.iter().product::<u64>() as usize;
    match type_id {
        Q4_0 => elements / 32 * 18,
        // TQ1_0, TQ2_0, I2_S, MXFP4
        34 => elements / 256 * 54,
        35 => elements / 256 * 66,
        36 => elements / 4 + 32,
        39 => elements / 32 * 17,
        _ => elements * 4,
    }
}

impl Fixture {
    /// Two layers over a vocabulary of `<unk> <s> </s>`, the 256 bytes and `words`.
    pub(crate) fn model(words: &[&str]) -> Self {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(Into::into).into();
        tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(words.iter().map(|word| (*word).to_owned()));
        let texts: Vec<_> = tokens.iter().map(|token| text(token)).collect();
        let scores: Vec<_> = tokens.iter().map(|_| 0f32.to_le_bytes().to_vec()).collect();
        let types: Vec<_> = tokens.iter().map(|_| 1i32.to_le_bytes().to_vec()).collect();
        let mut fixture = Self { magic: *b"GGUF", version: 3, pairs: Vec::new(), tensors: Vec::new(), data_bytes: 0 };
        fixture.set_text("general.architecture", "llama").set_text("general.name", "fixture");
        for (key, value) in [("context_length", 512), ("embedding_length", 64), ("block_count", 2)] {
            fixture.set_u32(&format!("llama.{key}"), value);
        }
        fixture.set_u32("llama.attention.head_count", 4).set_u32("llama.attention.head_count_kv", 2);
        fixture.set_text("tokenizer.ggml.model", "llama");
        fixture.set("tokenizer.ggml.tokens", array(STRING, &texts));
        fixture.set("tokenizer.ggml.scores", array(F32, &scores));
        fixture.set("tokenizer.ggml.token_type", array(I32, &types));
        fixture.push_tensor("output_norm.weight", &[64], F32_TENSOR);
        fixture.push_tensor("token_embd.weight", &[64, tokens.len() as u64], Q4_0);
        for layer in 0..2 {
            for (name, rows) in LAYER {
                let shape = if rows == 0 { vec![64] } else { vec![64, rows] };
                fixture.push_tensor(
                    &format!("blk.{layer}.{name}.weight"),
                    &shape,
                    if rows == 0 { F32_TENSOR } else { Q4_0 },
                );
            }
        }
        fixture
    }

    /// Appends a tensor whose data follows that of the one before.
    pub(crate) fn push_tensor(&mut self, name: &str, shape: &[u64], type_id: u32) -> &mut Self {
        self.tensors.push((name.into(), shape.into(), type_id, self.data_bytes as u64));
        self.data_bytes += data_bytes(type_id, shape).next_multiple_of(32);
        self
    }

    /// Replaces a tensor, or appends it, and lets the data of all follow each other again.
    pub(crate) fn set_tensor(&mut self, name: &str, shape: &[u64], type_id: u32) -> &mut Self {
        let tensor = (name.to_owned(), shape.to_vec(), type_id, 0);
        match self.tensors.iter_mut().find(|tensor| tensor.0 == name) {
            Some(place) => *place = tensor,
            None => self.tensors.push(tensor),
        }
        self.data_bytes = 0;
        for (_, shape, type_id, start) in &mut self.tensors {
            *start = self.data_bytes as u64;
            self.data_bytes += data_bytes(*type_id, shape).next_multiple_of(32);
        }
        self
    }

    /// The tensor of that name.
    pub(crate) fn tensor(&mut self, name: &str) -> &mut (String, Vec<u64>, u32, u64) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).expect("a tensor of the fixture")
    }

    pub(crate) fn set(&mut self, key: &str, value: Vec<u8>) -> &mut Self {
        self.pairs.retain(|(name, _)| name != key);
        self.pairs.push((key.into(), value));
        self
    }

    /// Makes it a model of another architecture, with the same keys.
    pub(crate) fn rename(&mut self, architecture: &str) -> &mut Self {
        for (key, _) in &mut self.pairs {
            if let Some(name) = key.strip_prefix("llama.") {
                *key = format!("{architecture}.{name}");
            }
        }
        self.set_text("general.architecture", architecture)
    }

    pub(crate) fn remove(&mut self, key: &str) -> &mut Self {
        self.pairs.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn set_u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.set(key, typed(U32, &value.to_le_bytes()))
    }

    pub(crate) fn set_f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.set(key, typed(F32, &value.to_le_bytes()))
    }

    pub(crate) fn set_bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.set(key, typed(BOOL, &[u8::from(value)]))
    }

    pub(crate) fn set_text(&mut self, key: &str, value: &str) -> &mut Self {
        self.set(key, typed(STRING, &text(value)))
    }

    pub(crate) fn set_texts(&mut self, key: &str, values: &[&str]) -> &mut Self {
        self.set(key, array(STRING, &values.iter().map(|value| text(value)).collect::<Vec<_>>()))
    }

    pub(crate) fn set_u32s(&mut self, key: &str, values: &[u32]) -> &mut Self {
        self.set(key, array(U32, &values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>()))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            out.extend(text(key));
            out.extend(value);
        }
        for (name, shape, type_id, offset) in &self.tensors {
            out.extend(text(name));
            out.extend((shape.len() as u32).to_le_bytes());
            out.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
            out.extend(type_id.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32) + self.data_bytes, 0);
        out
    }
}
