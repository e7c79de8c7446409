//! The sizes of a model that its `<architecture>.*` keys give, and what they cost.

use super::heads;
use super::metadata::{MetaValue, Metadata};
use super::reader::invalid;
use crate::error::{EngineError, Result};

/// Bytes of one cached key or value element (F16).
const KV_ELEMENT_BYTES: u64 = 2;
/// More layers or experts than this trip assertions in the library.
const MAX_LAYERS: u64 = 512;
const MAX_EXPERTS: u64 = 512;
/// Architectures that keep a recurrent state and have no attention heads.
const RECURRENT: [&str; 6] = ["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"];

/// Sizes of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dimensions {
    /// Tokens the model was trained with.
    pub context_length: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Layers.
    pub block_count: u32,
    /// Attention heads of the first layer that has any; 0 in recurrent models.
    pub head_count: u32,
    /// Key-value heads of the same layer.
    pub head_count_kv: u32,
    /// Bytes one token takes in the key-value cache of all layers.
    pub kv_bytes_per_token: u64,
}

impl Dimensions {
    pub(super) fn read(metadata: &Metadata, architecture: &str) -> Result<Self> {
        let keys = Keys { metadata, architecture };
        let context_length = keys.required("context_length")?;
        let embedding_length = keys.required("embedding_length")?;
        let block_count = keys.required("block_count")?;
        if u64::from(block_count) > MAX_LAYERS {
            return Err(EngineError::GgufUnsupported(format!("{block_count} layers")));
        }
        if keys.optional("nextn_predict_layers")?.is_some_and(|extra| extra >= block_count) {
            return Err(invalid(format!("{} leaves no layer of the model itself", keys.name("nextn_predict_layers"))));
        }
        keys.judge_experts(block_count)?;
        let mut dimensions = Self { context_length, embedding_length, block_count, ..Self::default() };
        if !RECURRENT.contains(&architecture) {
            keys.read_heads(&mut dimensions)?;
        }
        Ok(dimensions)
    }
}

struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A positive integer that must be there.
    fn required(&self, key: &str) -> Result<u32> {
        match self.optional(key)? {
            Some(value) if value > 0 => Ok(value),
            Some(_) => Err(invalid(format!("{} is 0", self.name(key)))),
            None => Err(invalid(format!("{} is missing", self.name(key)))),
        }
    }

    fn optional(&self, key: &str) -> Result<Option<u32>> {
        let value = match self.metadata.get(&self.name(key)) {
            None => return Ok(None),
            Some(MetaValue::Unsigned(value)) => i32::try_from(*value).ok(),
            Some(MetaValue::Signed(value)) => i32::try_from(*value).ok(),
            Some(_) => None,
        };
        let count = value.and_then(|value| u32::try_from(value).ok());
        count.map(Some).ok_or_else(|| invalid(format!("{} is not a count", self.name(key))))
    }

    /// A count that may be given once or once per layer.
    fn per_layer(&self, key: &str, layers: u32) -> Result<Option<Vec<u32>>> {
        let wrong = || invalid(format!("{} is not one count per layer", self.name(key)));
        match self.metadata.get(&self.name(key)) {
            Some(MetaValue::Array { integers, .. }) if integers.len() == layers as usize => integers
                .iter()
                .map(|value| i32::try_from(*value).ok().and_then(|value| u32::try_from(value).ok()).ok_or_else(wrong))
                .collect::<Result<_>>()
                .map(Some),
            Some(MetaValue::Array { .. }) => Err(wrong()),
            _ => Ok(self.optional(key)?.map(|value| vec![value; layers as usize])),
        }
    }

    fn judge_experts(&self, layers: u32) -> Result<()> {
        let experts = self.optional("expert_count")?.unwrap_or(0);
        let per_layer = self.per_layer("expert_used_count", layers)?.unwrap_or_default();
        let used = per_layer.into_iter().max().unwrap_or(0);
        if u64::from(experts) > MAX_EXPERTS || used > experts || (experts > 0 && used == 0) {
            return Err(EngineError::GgufUnsupported(format!("{used} of {experts} experts")));
        }
        let groups = self.optional("expert_group_count")?.unwrap_or(0);
        let used = self.optional("expert_group_used_count")?.unwrap_or(0);
        let divides = groups < 2 || experts % groups == 0 && (1..groups).contains(&used);
        if groups > 0 && groups >= experts || !divides {
            return Err(EngineError::GgufUnsupported(format!("{used} of {groups} groups of {experts} experts")));
        }
        Ok(())
    }

    fn read_heads(&self, dimensions: &mut Dimensions) -> Result<()> {
        let layers = dimensions.block_count;
        let heads = self
            .per_layer("attention.head_count", layers)?
            .ok_or_else(|| invalid(format!("{} is missing", self.name("attention.head_count"))))?;
        let kv_heads = self.per_layer("attention.head_count_kv", layers)?.unwrap_or_else(|| heads.clone());
        let first = heads
            .iter()
            .position(|heads| *heads > 0)
            .ok_or_else(|| invalid(format!("{} is 0", self.name("attention.head_count"))))?;
        let default_width = dimensions.embedding_length / heads[first];
        let key_length = self.optional("attention.key_length")?.unwrap_or(default_width);
        let value_length = self.optional("attention.value_length")?.unwrap_or(default_width);
        let rotated = self.optional("rope.dimension_count")?;
        let divides = heads.iter().zip(&kv_heads).all(|(heads, kv)| *kv == 0 || heads % kv == 0);
        if key_length == 0 || value_length == 0 || rotated.unwrap_or(0) % 2 != 0 || !divides {
            return Err(EngineError::GgufUnsupported("the attention heads do not divide evenly".into()));
        }
        self.judge_widths(key_length, value_length, rotated)?;
        let kv_heads_in_all: u64 = kv_heads.iter().map(|heads| u64::from(*heads)).sum();
        dimensions.head_count = heads[first];
        dimensions.head_count_kv = kv_heads[first];
        dimensions.kv_bytes_per_token = kv_heads_in_all
            .saturating_mul(u64::from(key_length) + u64::from(value_length))
            .saturating_mul(KV_ELEMENT_BYTES);
        Ok(())
    }

    /// Judges the widths of the heads, of those with a sliding window as well, which have their own or the same.
    fn judge_widths(&self, key: u32, value: u32, rotated: Option<u32>) -> Result<()> {
        let sliding_key = self.optional("attention.key_length_swa")?.unwrap_or(key);
        let sliding_value = self.optional("attention.value_length_swa")?.unwrap_or(value);
        let sliding_rotated = self.optional("rope.dimension_count_swa")?.or(rotated);
        let widths = [(key, value, rotated), (sliding_key, sliding_value, sliding_rotated)];
        let problem =
            widths.iter().find_map(|(key, value, rotated)| heads::problem(self.architecture, *key, *value, *rotated));
        problem.map_or(Ok(()), |problem| Err(EngineError::GgufUnsupported(problem)))
    }
}
