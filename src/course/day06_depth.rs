//! Gradient flow in deep stacks, with and without residual connections.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Result;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::value_and_grad_with_argnums;
use mlx_rs::{Array, Dtype};

use super::day06_block::BLOCKS;
use crate::config::ModelConfig;
use crate::data::corpus::Split;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::model::attention::Attention;
use crate::model::block::Block;
use crate::model::embeddings::Embeddings;
use crate::model::init::initialize;
use crate::model::loss::negative_log_likelihood;
use crate::model::mlp::Mlp;
use crate::model::norm::LayerNorm;
use crate::model::parameters::{Parameters, Scope};
use crate::terminal::console::say;

/// Number of stacked blocks: enough to see the trend.
const DEPTH: usize = 16;

/// Variant of a block.
#[derive(Clone, Copy)]
pub enum BlockVariant {
    /// The library's block: `x + f(norm(x))`.
    ResidualAndNorm,
    /// `x + f(x)`.
    Residual,
    /// `f(norm(x))`.
    Norm,
    /// `f(x)`.
    Neither,
}

/// The variants of a block, with their formulas.
pub const WIRINGS: [(BlockVariant, &str); 4] = [
    (BlockVariant::ResidualAndNorm, "x + f(norm(x))"),
    (BlockVariant::Residual, "x + f(x)"),
    (BlockVariant::Norm, "f(norm(x))"),
    (BlockVariant::Neither, "f(x)"),
];

// ANCHOR: wirings
/// A block of the library's layers in one of four variants: x `[B, T, C]` to `[B, T, C]`.
fn block(wiring: BlockVariant, scope: &Scope, model: &ModelConfig, x: &Array) -> MlxResult<Array> {
    let attn = Attention::new(&scope.under("attn"), model)?;
    let mlp = Mlp::new(&scope.under("mlp"), model)?;
    let norm = |name: &str, x: &Array| LayerNorm::new(&scope.under(name))?.forward(x);
    match wiring {
        BlockVariant::ResidualAndNorm => Block::new(scope, model)?.forward(x, None, None),
        BlockVariant::Residual => {
            let x = x.add(attn.forward(x, None, None)?)?;
            x.add(mlp.forward(&x, None)?)
        }
        BlockVariant::Norm => {
            let x = attn.forward(&norm("ln_1", x)?, None, None)?;
            mlp.forward(&norm("ln_2", &x)?, None)
        }
        BlockVariant::Neither => mlp.forward(&attn.forward(x, None, None)?, None),
    }
}
// ANCHOR_END: wirings

/// A stack of untrained blocks, and an input for it.
struct Stack {
    wiring: BlockVariant,
    model: ModelConfig,
    parameters: Parameters,
    inputs: Array,
    targets: Array,
}

impl Stack {
    fn new(workspace: &Workspace, wiring: BlockVariant) -> Result<Self> {
        let model = ModelConfig {
            layers: DEPTH,
            ..workspace.config(&BLOCKS)?.model(workspace.tokenizer()?.vocab_size())
        };
        let (inputs, targets) = some_text(workspace, model.context)?;
        Ok(Self {
            wiring,
            parameters: initialize(&model, workspace.seed())?.map(unit_variance_init)?,
            model,
            inputs,
            targets,
        })
    }

    /// The output of each block, `[B, T, C]`.
    fn outputs(&self, parameters: &Parameters) -> MlxResult<Vec<Array>> {
        let mut outputs = Vec::with_capacity(DEPTH);
        let mut x = Embeddings::new(&self.model, parameters)?.forward(&self.inputs, 0)?;
        for layer in 0..DEPTH {
            x = block(self.wiring, &parameters.under(&format!("h.{layer}")), &self.model, &x)?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn loss(&self, parameters: &Parameters) -> MlxResult<Array> {
        let outputs = self.outputs(parameters)?;
        let x = LayerNorm::new(&parameters.under("ln_f"))?.forward(&outputs[DEPTH - 1])?;
        let logits = Embeddings::new(&self.model, parameters)?.wte().logits(&x)?;
        negative_log_likelihood(&logits, &self.targets)?.mean(None)
    }
}

/// Rescales a matrix `[in, out]` to variance 1 / in (LeCun initialisation), which preserves the variance of activations. With
/// GPT-2's smaller standard deviation, activations of a stack without residual connections would vanish at once.
fn unit_variance_init(array: &Array) -> MlxResult<Array> {
    if array.ndim() < 2 {
        return Ok(array.clone());
    }
    let inputs = array.dim(0) as f32;
    let deviation = array.var(None, None)?.sqrt()?;
    array.divide(deviation)?.divide(Array::from_f32(inputs.sqrt()))
}

/// Norm of the loss's gradient with respect to the parameters of each block of an untrained stack, from the first block to
/// the last.
pub fn gradient_norms(workspace: &Workspace, wiring: BlockVariant) -> Result<Vec<f64>> {
    let stack = Stack::new(workspace, wiring)?;
    let parameters = stack.parameters.clone();
    let names = Arc::clone(parameters.names());
    let loss = move |arrays: &[Array]| -> MlxResult<Vec<Array>> {
        Ok(vec![stack.loss(&Parameters::new(&names, arrays.to_vec())?)?])
    };
    let every: Vec<i32> = (0..parameters.arrays().len() as i32).collect();
    let (_, gradients) = value_and_grad_with_argnums(loss, every.as_slice())(parameters.arrays())?;
    let gradients = Parameters::new(parameters.names(), gradients)?;
    let norm = |layer: usize| {
        let prefix = format!("h.{layer}.");
        let mut squares = 0.0;
        for (_, gradient) in gradients.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            // In float64: squares of gradients that have all but vanished are too small for float32.
            let numbers: Vec<f32> = gradient.flatten(None, None)?.to_vec_exact()?;
            squares += numbers.into_iter().map(|number| f64::from(number).powi(2)).sum::<f64>();
        }
        Ok(squares.sqrt())
    };
    (0..DEPTH).map(norm).collect()
}

/// Mean cosine similarity of a text's tokens after each block, over all pairs.
pub fn mean_cosine_similarity(workspace: &Workspace, wiring: BlockVariant) -> Result<Vec<f64>> {
    let stack = Stack::new(workspace, wiring)?;
    let outputs = stack.outputs(&stack.parameters)?;
    let mean_cosine = |x: &Array| {
        let length = x.square()?.sum_axis(-1, true)?.sqrt()?;
        let middle = x.divide(length)?.mean_axis(1, false)?; // [B, C]
        // The squared length of a mean of unit vectors is the mean of all their products.
        let cosine = middle.square()?.sum_axis(-1, false)?.mean(None)?;
        Ok(f64::from(cosine.try_item_exact::<f32>()?))
    };
    outputs.iter().map(mean_cosine).collect()
}

/// Four rows of the training text, with their targets.
fn some_text(workspace: &Workspace, context: usize) -> Result<(Array, Array)> {
    let rows = 4;
    let text: String = workspace
        .text(Split::Train)
        .chars()
        .take(rows * (context + 1))
        .collect();
    let ids = workspace.tokenizer()?.encode(&text)?;
    let width = ids.len() / rows;
    let ids = Array::from_slice(&ids[..rows * width], &[rows as i32, width as i32]).as_dtype(Dtype::Uint32)?;
    Ok((ids.try_index((.., ..-1))?, ids.try_index((.., 1..))?))
}

/// Figure: gradient norms by block.
pub fn gradients(workspace: &Workspace) -> Result<String> {
    say("computing the gradients of four deep stacks");
    by_block(|wiring| gradient_norms(workspace, wiring), |norm| format!("{norm:.1e}"))
}

/// Figure: mean cosine similarity by block.
pub fn alike(workspace: &Workspace) -> Result<String> {
    by_block(
        |wiring| mean_cosine_similarity(workspace, wiring),
        |cosine| format!("{cosine:.3}"),
    )
}

/// A line for each block, a column for each wiring.
fn by_block(measure: impl Fn(BlockVariant) -> Result<Vec<f64>>, written: impl Fn(f64) -> String) -> Result<String> {
    let mut text = String::from("block");
    let mut columns = Vec::new();
    for (wiring, name) in WIRINGS {
        write!(text, "  {name:>14}")?;
        columns.push(measure(wiring)?);
    }
    text.push('\n');
    for layer in 0..DEPTH {
        write!(text, "{:>5}", layer + 1)?;
        for column in &columns {
            write!(text, "  {:>14}", written(column[layer]))?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// Figure: the gradient norms as a picture.
pub fn gradient_curves(workspace: &Workspace) -> Result<String> {
    let mut lines = Vec::new();
    for (wiring, name) in WIRINGS {
        let norms = gradient_norms(workspace, wiring)?.into_iter().enumerate();
        let points = norms.filter(|(_, norm)| *norm > 0.0);
        lines.push(Series {
            name: name.into(),
            points: points.map(|(layer, norm)| ((layer + 1) as f64, norm.log10())).collect(),
        });
    }
    let axes = Axes {
        title: "Gradient norm of each block",
        x: "block, the first is the farthest from the loss",
        y: "log10 of the gradient's norm",
        ..Axes::default()
    };
    curves(&axes, &lines)
}
