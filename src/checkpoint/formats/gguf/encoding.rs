//! ggml's number formats.

use anyhow::{Result, ensure};
use half::f16;

use crate::checkpoint::formats::Dtype;
use crate::config::Precision;
use crate::disk::floats;

/// Number of consecutive weights with a common scale in Q8_0.
pub const BLOCK: usize = 32;

/// The largest integer of Q8_0; -128 is unused, so that the range is symmetric.
const STEPS: f32 = 127.0;

/// A `ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain(Precision),
    /// Blocks of a float16 scale and [`BLOCK`] signed bytes.
    Q8_0,
}

impl Encoding {
    /// float32.
    pub const F32: Self = Self::Plain(Precision::Float32);

    /// The encoding of an export format.
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Float32 => Self::F32,
            Dtype::Float16 => Self::Plain(Precision::Float16),
            Dtype::Bfloat16 => Self::Plain(Precision::Bfloat16),
            Dtype::Q8_0 => Self::Q8_0,
        }
    }

    /// Its `ggml_type` number.
    pub fn code(self) -> u32 {
        match self {
            Self::Plain(Precision::Float32) => 0,
            Self::Plain(Precision::Float16) => 1,
            Self::Q8_0 => 8,
            Self::Plain(Precision::Bfloat16) => 30,
        }
    }

    /// Size in bytes of `numbers` numbers, a multiple of the block.
    pub fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::Plain(Precision::Float32) => 4 * numbers,
            Self::Plain(Precision::Float16 | Precision::Bfloat16) => 2 * numbers,
            Self::Q8_0 => numbers / BLOCK as u64 * (2 + BLOCK as u64),
        }
    }

    /// Encodes numbers, a multiple of the block, and appends them to `out`.
    ///
    /// # Errors
    /// A number is not finite or overflows.
    pub fn encode(self, numbers: &[f32], out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Plain(precision) => {
                floats::check(numbers, precision)?;
                floats::encode(numbers, precision, out);
            }
            Self::Q8_0 => {
                floats::check_finite(numbers)?;
                for block in numbers.as_chunks::<BLOCK>().0 {
                    encode_q8_0(block, out)?;
                }
            }
        }
        Ok(())
    }
}

/// ggml's `quantize_row_q8_0_ref`: the scale maps the largest magnitude to 127 and is rounded to float16 only after its
/// reciprocal is taken; ties round away from zero.
fn encode_q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<()> {
    let largest = block.iter().fold(0.0, |largest: f32, number| largest.max(number.abs()));
    let scale = largest / STEPS;
    ensure!(
        f16::from_f32(scale).is_finite(),
        "a weight is {largest}, which q8_0 cannot represent; choose --dtype float32"
    );
    let steps = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|number| (number * steps).round() as i8 as u8));
    Ok(())
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
            (Encoding::Plain(Precision::Float16), 65520.0),
            (Encoding::Q8_0, 127.0 * 65536.0),
            (Encoding::F32, f32::NAN),
            (Encoding::Q8_0, f32::INFINITY),
        ] {
            let error = encoding.encode(&[number; 32], &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(&number.to_string()), "{error}");
        }
    }
}
