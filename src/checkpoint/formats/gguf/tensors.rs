//! The model's parameters as llama.cpp's GPT-2 names and lays them out.

use anyhow::{Context, Result, ensure};
use mlx_rs::Array;

use super::container::TensorInfo;
use super::encoding::{BLOCK, Encoding};
use crate::config::ModelConfig;
use crate::model::init::layout;
use crate::model::parameters::Parameters;

/// Our name and llama.cpp's, and whether the weight is a Conv1D's: `[in, out]` in GPT-2, `[out, in]` in ggml, where a
/// matrix product goes along the rows of both its factors.
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

/// A tensor of the file, and the parameter that its numbers come from.
#[derive(Debug, PartialEq)]
pub struct GgufTensor {
    pub parameter: String,
    pub info: TensorInfo,
    transposed: bool,
}

impl GgufTensor {
    /// The numbers, row by row; a copy where they have to be transposed.
    pub fn array(&self, parameters: &Parameters) -> Result<Array> {
        let array = parameters.get(&self.parameter)?;
        Ok(if self.transposed {
            array.transpose()?.contiguous()?
        } else {
            array.clone()
        })
    }
}

/// Every tensor of a model. The output head is not among them: it is tied, and llama.cpp takes `token_embd` where a
/// file has no `output`.
///
/// # Errors
/// Rows that are not whole blocks of Q8_0.
pub fn of_model(model: &ModelConfig, encoding: Encoding) -> Result<Vec<GgufTensor>> {
    // Rows are as long as a layer's input is wide: embd, or four times it.
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
            // As the converter does; llama.cpp adds vectors and positions in float32.
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
