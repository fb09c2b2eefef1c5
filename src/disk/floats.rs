//! Encodes float32 values as little-endian float32, float16 or bfloat16.

use anyhow::{Result, bail};
use half::{bf16, f16};

use serde::{Deserialize, Serialize};

/// Floating-point format of stored weights, or of the forward and backward pass, whose master weights are always float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Float32,
    Bfloat16,
    Float16,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        })
    }
}

/// float32 is written as it is in memory. MLX runs on little-endian processors alone.
const _: () = assert!(cfg!(target_endian = "little"));

/// Appends values in a format; rounding to 16 bits is to nearest, ties to even.
pub fn encode(numbers: &[f32], precision: Precision, out: &mut Vec<u8>) {
    match precision {
        Precision::Float32 => out.extend_from_slice(bytemuck::cast_slice(numbers)),
        Precision::Float16 => out.extend(numbers.iter().flat_map(|&number| f16::from_f32(number).to_le_bytes())),
        Precision::Bfloat16 => out.extend(numbers.iter().flat_map(|&number| bf16::from_f32(number).to_le_bytes())),
    }
}

/// Checks that all values can be stored in that format.
///
/// # Errors
/// A value is not finite, or overflows the format.
pub fn check(numbers: &[f32], precision: Precision) -> Result<()> {
    check_finite(numbers)?;
    let held = |number: f32| match precision {
        Precision::Float32 => true,
        Precision::Float16 => f16::from_f32(number).is_finite(),
        Precision::Bfloat16 => bf16::from_f32(number).is_finite(),
    };
    match numbers.iter().find(|&&number| !held(number)) {
        Some(number) => bail!("a weight is {number}, which overflows {precision}; choose --dtype float32"),
        None => Ok(()),
    }
}

/// Checks that all values are finite.
///
/// # Errors
/// A value is NaN or infinite.
pub fn check_finite(numbers: &[f32]) -> Result<()> {
    match numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => bail!("a weight is {number}; the model is damaged, choose an earlier checkpoint"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(precision: Precision, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        check(numbers, precision).unwrap();
        encode(numbers, precision, &mut bytes);
        bytes
    }

    /// Bit patterns by IEEE 754: sign, exponent, mantissa. 1 + 2^-11 and 1 + 2^-8 lie halfway between two numbers.
    #[test]
    fn sixteen_bits_round_to_nearest_even() {
        let above_one = |exponent: i32| 1.0 + 2f32.powi(exponent);
        assert_eq!(
            encoded(
                Precision::Float16,
                &[1.0, -2.5, 65504.0, above_one(-11), above_one(-10) + 2f32.powi(-11)]
            ),
            [0x00, 0x3c, 0x00, 0xc1, 0xff, 0x7b, 0x00, 0x3c, 0x02, 0x3c]
        );
        assert_eq!(
            encoded(
                Precision::Bfloat16,
                &[1.0, -2.5, above_one(-8), above_one(-7) + 2f32.powi(-8)]
            ),
            [0x80, 0x3f, 0x20, 0xc0, 0x80, 0x3f, 0x82, 0x3f]
        );
        assert_eq!(encoded(Precision::Float32, &[1.0]), 1f32.to_le_bytes());
    }

    #[test]
    fn what_would_become_infinite_is_refused() {
        for (precision, number) in [
            (Precision::Float16, 65520.0),
            (Precision::Bfloat16, f32::MAX),
            (Precision::Float32, f32::NAN),
            (Precision::Float16, f32::NEG_INFINITY),
        ] {
            let error = check(&[1.0, number], precision).unwrap_err().to_string();
            assert!(error.contains(&number.to_string()), "{error}");
        }
        // Below the halfway mark to the number that is infinite.
        check(&[65519.0], Precision::Float16).unwrap();
    }
}
