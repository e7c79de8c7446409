//! The tensor types of GGML and how many bytes their blocks take.

/// Layout of one tensor type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TensorType {
    /// Name as the field knows it.
    pub name: &'static str,
    /// Elements of one block; rows are whole blocks.
    pub block_elements: u64,
    /// Bytes of one block.
    pub block_bytes: u64,
    /// Bytes after the last block of the tensor.
    pub tail_bytes: u64,
    /// Whether a matrix of this type can be multiplied; the others crash in the library or exist only inside it.
    pub runs: bool,
}

const fn runs(name: &'static str, block_elements: u64, block_bytes: u64) -> TensorType {
    TensorType { name, block_elements, block_bytes, tail_bytes: 0, runs: true }
}

const fn stored(name: &'static str, block_elements: u64, block_bytes: u64) -> TensorType {
    TensorType { name, block_elements, block_bytes, tail_bytes: 0, runs: false }
}

/// Ternary codes as the `BitNet` fork of `llama.cpp` stores them; elsewhere a retired number.
pub(crate) const I2_S: u32 = 36;
/// Ternary types of the same fork for lookup-table kernels; elsewhere a retired number, and MXFP4.
pub(super) const TL1: u32 = 38;
pub(super) const TL2: u32 = 39;

/// The type with this number; `None` for retired and unknown ones.
pub(super) const fn tensor_type(id: u32) -> Option<TensorType> {
    Some(match id {
        0 => runs("F32", 1, 4),
        1 => runs("F16", 1, 2),
        2 => runs("Q4_0", 32, 18),
        3 => runs("Q4_1", 32, 20),
        6 => runs("Q5_0", 32, 22),
        7 => runs("Q5_1", 32, 24),
        8 => runs("Q8_0", 32, 34),
        9 => stored("Q8_1", 32, 36),
        10 => runs("Q2_K", 256, 84),
        11 => runs("Q3_K", 256, 110),
        12 => runs("Q4_K", 256, 144),
        13 => runs("Q5_K", 256, 176),
        14 => runs("Q6_K", 256, 210),
        15 => stored("Q8_K", 256, 292),
        16 => runs("IQ2_XXS", 256, 66),
        17 => runs("IQ2_XS", 256, 74),
        18 => runs("IQ3_XXS", 256, 98),
        19 => runs("IQ1_S", 256, 50),
        20 => runs("IQ4_NL", 32, 18),
        21 => runs("IQ3_S", 256, 110),
        22 => runs("IQ2_S", 256, 82),
        23 => runs("IQ4_XS", 256, 136),
        24 => stored("I8", 1, 1),
        25 => stored("I16", 1, 2),
        26 => stored("I32", 1, 4),
        27 => stored("I64", 1, 8),
        28 => stored("F64", 1, 8),
        29 => runs("IQ1_M", 256, 56),
        30 => runs("BF16", 1, 2),
        34 => runs("TQ1_0", 256, 54),
        35 => runs("TQ2_0", 256, 66),
        // One f32 scale for the whole tensor, padded. The library lacks this type: `bitnet` transcodes it.
        I2_S => TensorType { tail_bytes: 32, ..stored("I2_S", 128, 32) },
        39 => runs("MXFP4", 32, 17),
        40 => runs("NVFP4", 64, 36),
        41 => runs("Q1_0", 128, 18),
        42 => runs("Q2_0", 64, 18),
        _ => return None,
    })
}
