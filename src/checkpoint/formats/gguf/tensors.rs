//! The model's parameters with llama.cpp's names and layout for GPT-2.

use anyhow::{Context, Result, ensure};
use mlx_rs::Array;

use super::container::TensorInfo;
use super::encoding::{BLOCK, Encoding};
use crate::config::ModelConfig;
use crate::model::init::layout;
use crate::model::parameters::Parameters;

/// GPT-2's name, llama.cpp's name, and whether the weight is a Conv1D's: `[in, out]` in GPT-2, `[out, in]` in ggml.
const NAMES: [(&str, &str, bool); 9] = [
    ("wte", "token_embd", false),
    ("wpe", "position_embd", false),
    ("ln_1", "attn_norm", false),
    ("attn.c_attn", "attn_qkv", true),
    ("attn.c_proj", "attn_output", true),
    ("ln_2", "ffn_norm", false),
    ("mlp.c_fc", "ffn_up", true),
    ("mlp.c_proj", "ffn_down", true),
    ("ln_f", "output_norm", false),
];

/// A tensor of the file, and the parameter with its data.
#[derive(Debug, PartialEq)]
pub struct GgufTensor {
    /// The parameter's name.
    pub parameter: String,
    /// Its description in the file.
    pub info: TensorInfo,
    transposed: bool,
}

impl GgufTensor {
    /// The data in the file's layout: `[out, in]` for a linear layer's weight, a transposed copy; otherwise the parameter's shape.
    pub fn array(&self, parameters: &Parameters) -> Result<Array> {
        let array = parameters.get(&self.parameter)?;
        Ok(if self.transposed {
            array.transpose()?.contiguous()?
        } else {
            array.clone()
        })
    }
}

/// Every tensor of a model, except the output head: it is tied, and llama.cpp uses `token_embd` if a file has no `output`.
///
/// # Errors
/// The embedding dimension is not a multiple of Q8_0's block, or a parameter has no counterpart in GGUF, such as an untied
/// head.
pub fn of_model(model: &ModelConfig, encoding: Encoding) -> Result<Vec<GgufTensor>> {
    // Rows have the length of a layer's input: embd, or four times that.
    ensure!(
        encoding != Encoding::Q8_0 || model.embd.is_multiple_of(BLOCK),
        "its embd of {} is not a multiple of {BLOCK}, the block of q8_0; choose --dtype float16",
        model.embd
    );
    layout(model)
        .into_iter()
        .map(|spec| {
            let (name, conv1d) =
                translate(&spec.name).with_context(|| format!("GGUF has no name for {}", spec.name))?;
            let transposed = conv1d && spec.shape.len() == 2;
            let mut shape: Vec<u64> = spec.shape.iter().map(|&n| n as u64).collect();
            if !transposed {
                shape.reverse();
            }
            // As in the converter: llama.cpp computes with vectors and positions in float32.
            let exact = shape.len() == 1 || spec.name == "wpe.weight";
            let encoding = if exact { Encoding::F32 } else { encoding };
            Ok(GgufTensor {
                parameter: spec.name,
                info: TensorInfo { name, shape, encoding },
                transposed,
            })
        })
        .collect()
}

/// llama.cpp's name for a parameter, and whether it is a Conv1D's.
fn translate(parameter: &str) -> Option<(String, bool)> {
    let (layer, kind) = parameter.rsplit_once('.')?;
    let (block, layer) = match layer.strip_prefix("h.") {
        Some(rest) => rest.split_once('.').map(|(block, layer)| (Some(block), layer))?,
        None => (None, layer),
    };
    let &(_, theirs, conv1d) = NAMES.iter().find(|(ours, ..)| *ours == layer)?;
    let prefix = block.map_or(String::new(), |block| format!("blk.{block}."));
    Some((format!("{prefix}{theirs}.{kind}"), conv1d))
}
