//! The files and folders of other programs: Hugging Face's, peft's, mlx-lm's, GGUF.

pub mod folder;
pub mod gguf;
pub mod hugging_face;
pub mod mlx_lm;
pub mod peft;

/// Number format of exported weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Dtype {
    /// 4 bytes per weight, exact
    Float32,
    /// 2 bytes, 11 bits of precision, up to 65504
    Float16,
    /// 2 bytes, 8 bits of precision, the range of float32
    Bfloat16,
    /// 34 bytes for each 32 weights of a row: 8-bit integers and their scale
    #[cfg_attr(feature = "cli", value(name = "q8_0"))]
    Q8_0,
}
