//! Moves ternary codes from `I2_S` into the blocks of types that a stock library computes with.
//!
//! All three store a value `v` of −1, 0 or 1 as `v` plus a constant. In 32 bytes of `I2_S` byte `j` holds the values
//! `j`, `j + 32`, `j + 64` and `j + 96`, the first one in its highest bits; in half a block of `TQ2_0` the same byte
//! holds the same four, the first one in its lowest bits.

/// 1.0 as an F16: the blocks' own scale, since the true one stands in a tensor beside them.
const ONE: [u8; 2] = 0x3C00_u16.to_le_bytes();

/// The type that takes over the codes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// 256 values in 66 bytes.
    Tq2,
    /// 32 values in 18 bytes, for rows that are not whole blocks of 256.
    Q4,
}

impl Encoding {
    pub(super) const fn for_row(values: u64) -> Self {
        if values.is_multiple_of(256) { Self::Tq2 } else { Self::Q4 }
    }

    pub(super) const fn type_id(self) -> u32 {
        match self {
            Self::Tq2 => 35,
            Self::Q4 => 2,
        }
    }

    /// Bytes that `codes` bytes of `I2_S` become. Overflows for more codes than a file can hold.
    pub(super) const fn bytes(self, codes: u64) -> Option<u64> {
        match self {
            Self::Tq2 => (codes / 64).checked_mul(66),
            Self::Q4 => (codes / 8).checked_mul(18),
        }
    }

    /// Fills `blocks` from `codes`, which are whole blocks; false if one of them is no ternary value.
    #[must_use]
    pub(super) fn encode(self, codes: &[u8], blocks: &mut [u8]) -> bool {
        match self {
            Self::Tq2 => encode_tq2(codes, blocks),
            Self::Q4 => encode_q4(codes, blocks),
        }
    }
}

/// A byte with both bits of one of its four codes set is no sum of ternary values.
const fn both_bits(byte: u8) -> u8 {
    byte & (byte >> 1) & 0b0101_0101
}

fn encode_tq2(codes: &[u8], blocks: &mut [u8]) -> bool {
    let mut wrong = 0;
    for (codes, block) in codes.as_chunks::<64>().0.iter().zip(blocks.as_chunks_mut::<66>().0) {
        for (code, packed) in codes.iter().zip(block.iter_mut()) {
            *packed = code >> 6 | code >> 2 & 0b1100 | code << 2 & 0b11_0000 | code << 6;
            wrong |= both_bits(*code);
        }
        block[64..].copy_from_slice(&ONE);
    }
    wrong == 0
}

fn encode_q4(codes: &[u8], blocks: &mut [u8]) -> bool {
    let mut wrong = 0;
    for (codes, four) in codes.as_chunks::<32>().0.iter().zip(blocks.as_chunks_mut::<72>().0) {
        for (block, shift) in four.as_chunks_mut::<18>().0.iter_mut().zip([6, 4, 2, 0]) {
            block[..2].copy_from_slice(&ONE);
            for (place, packed) in block[2..].iter_mut().enumerate() {
                // A nibble is the value plus 8, a code the value plus 1.
                let nibble = |code: u8| (code >> shift & 3) + 7;
                *packed = nibble(codes[place]) | nibble(codes[place + 16]) << 4;
            }
        }
        wrong |= codes.iter().fold(0, |wrong, code| wrong | both_bits(*code));
    }
    wrong == 0
}
