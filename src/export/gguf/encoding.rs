//! How ggml stores numbers.

use anyhow::{Result, bail};
use half::{bf16, f16};

use crate::export::Dtype;

/// Weights of a row that share a scale in Q8_0.
pub const BLOCK: usize = 32;

/// The largest integer of Q8_0; -128 is left out, so that both signs reach equally far.
const STEPS: f32 = 127.0;

/// A `ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// Blocks of a float16 scale and [`BLOCK`] signed bytes.
    Q8_0,
}

impl Encoding {
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self::F32,
            Dtype::Float16 => Self::F16,
            Dtype::Bfloat16 => Self::Bf16,
            Dtype::Q8_0 => Self::Q8_0,
        }
    }

    /// ggml's number for it.
    pub fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 8,
            Self::Bf16 => 30,
        }
    }

    /// What so many numbers take; whole blocks of them.
    pub fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F32 => 4 * numbers,
            Self::F16 | Self::Bf16 => 2 * numbers,
            Self::Q8_0 => numbers / BLOCK as u64 * (2 + BLOCK as u64),
        }
    }

    /// Appends numbers, whole blocks of them. Rounding to 16 bits is to nearest, ties to even.
    ///
    /// # Errors
    /// A number that would become infinite, or is not a number at all.
    pub fn encode(self, numbers: &[f32], out: &mut Vec<u8>) -> Result<()> {
        let largest = self.largest();
        if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
            bail!("a weight is {number}; the model is damaged, choose an earlier checkpoint");
        }
        if let Some(number) = numbers.iter().find(|number| number.abs() > largest) {
            bail!("a weight of {number} is beyond {largest}, the most that it can be; choose --dtype float32");
        }
        match self {
            Self::F32 => out.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
            Self::F16 => out.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes())),
            Self::Bf16 => out.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes())),
            Self::Q8_0 => {
                for block in numbers.as_chunks::<BLOCK>().0 {
                    encode_q8_0(block, out);
                }
            }
        }
        Ok(())
    }

    /// The largest number that stays finite.
    fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
            Self::Q8_0 => STEPS * f16::MAX.to_f32(),
        }
    }
}

/// ggml's `quantize_row_q8_0_ref`: the scale makes the largest number ±127, and is rounded only after its reciprocal
/// was taken; halves are rounded away from zero.
fn encode_q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0, |largest: f32, number| largest.max(number.abs()));
    let scale = largest / STEPS;
    let steps = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|number| (number * steps).round() as i8 as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoding: Encoding, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoding.encode(numbers, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, encoding.bytes(numbers.len() as u64));
        bytes
    }

    /// Bit patterns by IEEE 754: sign, exponent, mantissa. 1 + 2^-11 and 1 + 2^-8 lie halfway between two numbers.
    #[test]
    fn sixteen_bits_round_to_nearest_even() {
        let above_one = |exponent: i32| 1.0 + 2f32.powi(exponent);
        assert_eq!(
            encoded(
                Encoding::F16,
                &[1.0, -2.5, 65504.0, above_one(-11), above_one(-10) + 2f32.powi(-11)]
            ),
            [0x00, 0x3c, 0x00, 0xc1, 0xff, 0x7b, 0x00, 0x3c, 0x02, 0x3c]
        );
        assert_eq!(
            encoded(
                Encoding::Bf16,
                &[1.0, -2.5, above_one(-8), above_one(-7) + 2f32.powi(-8)]
            ),
            [0x80, 0x3f, 0x20, 0xc0, 0x80, 0x3f, 0x82, 0x3f]
        );
        assert_eq!(encoded(Encoding::F32, &[1.0]), 1f32.to_le_bytes());
    }

    /// With a largest number of 127 the scale is 1, and the integers are the numbers rounded.
    #[test]
    fn a_block_of_q8_0_is_a_scale_and_integers() {
        let mut numbers = [0.0; 64];
        numbers[..6].copy_from_slice(&[-127.0, 0.4, 0.5, -0.5, 2.5, 126.4]);
        numbers[63] = 127.0 / 256.0;
        let bytes = encoded(Encoding::Q8_0, &numbers);
        assert_eq!(bytes[..2], [0x00, 0x3c]);
        let integers: Vec<i8> = bytes[2..34].iter().map(|&byte| byte as i8).collect();
        assert_eq!(integers[..6], [-127, 0, 1, -1, 3, 126]);
        assert_eq!(integers[6..], [0; 26]);
        assert_eq!(bytes[34..36], [0x00, 0x1c], "2^-8");
        assert_eq!(bytes[67] as i8, 127);
        assert_eq!(encoded(Encoding::Q8_0, &[0.0; 32]), [0; 34]);
    }

    #[test]
    fn what_would_become_infinite_is_refused() {
        for (encoding, number) in [
            (Encoding::F16, 65520.0),
            (Encoding::Bf16, f32::MAX),
            (Encoding::Q8_0, -127.0 * 65536.0),
            (Encoding::F32, f32::NAN),
            (Encoding::Q8_0, f32::INFINITY),
        ] {
            let error = encoding.encode(&[number; 32], &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(&number.to_string()), "{error}");
        }
    }
}
