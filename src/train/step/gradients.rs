//! Loss and gradients of a batch, or of a share of its rows, by compiled functions.

use std::collections::BTreeMap;

use mlx_rs::error::{Exception, Result as MlxResult};
use mlx_rs::transforms::{eval, value_and_grad_with_argnums};
use mlx_rs::{Array, Dtype};

use crate::compute::compiled::{Compiled, compiled};
use crate::config::{ModelConfig, Precision};
use crate::data::batches::Batch;
use crate::model::Model;
use crate::model::dropout::Dropout;
use crate::model::parameters::{Names, Parameters};

/// A micro-batch and the random keys of its dropout masks, `[sites, 2]`.
#[derive(Clone)]
pub struct MicroBatch {
    pub batch: Batch,
    pub dropout_keys: Vec<u32>,
}

/// What the compiled functions are specialised for.
#[derive(Clone)]
pub struct GradientSpec {
    pub model: ModelConfig,
    /// Names of the parameters that learn, to rebuild the set inside the traced function.
    pub names: Names,
    /// Names of those that stay as they are.
    pub frozen: Names,
    pub precision: Precision,
    /// Rows of a micro-batch; where they grow, of the first.
    pub batch_rows: usize,
    pub micro_batches: usize,
    /// Tokens in a row; at most the model's context.
    pub row_tokens: usize,
}

/// Computes gradients for a share of the rows.
pub(super) struct Share {
    spec: GradientSpec,
    index: usize,
    count: usize,
    /// By the rows of the micro-batches.
    functions: BTreeMap<usize, Functions>,
}

struct Functions {
    /// Parameters and batch to loss and gradients.
    first: Compiled,
    /// The same, added to a loss and gradients given.
    next: Compiled,
}

impl Share {
    /// The share with that `index` of `count`, none of which is without rows.
    pub fn new(spec: &GradientSpec, index: usize, count: usize) -> Self {
        Self {
            spec: spec.clone(),
            index,
            count,
            functions: BTreeMap::new(),
        }
    }

    /// The summed loss and gradients of this share of the micro-batches, all of as many rows, from the arrays of the
    /// parameters that learn and of those that do not; in float16, by way of losses scaled by `loss_scale`. Between
    /// micro-batches it evaluates, so that memory does not grow with their number.
    pub fn compute(
        &mut self,
        parameters: &[Array],
        micro_batches: &[MicroBatch],
        loss_scale: f32,
    ) -> MlxResult<Vec<Array>> {
        let batch_rows = micro_batches.first().map_or(0, |micro| micro.batch.rows);
        let [from, to] = [self.index, self.index + 1].map(|index| index * batch_rows / self.count);
        let functions = self.functions.entry(batch_rows).or_insert_with(|| {
            let spec = GradientSpec {
                batch_rows,
                ..self.spec.clone()
            };
            Functions {
                first: compiled(gradient_function(spec.clone(), from, false)),
                next: compiled(gradient_function(spec, from, true)),
            }
        });
        let mut sums: Vec<Array> = Vec::new();
        for micro in micro_batches {
            let context = micro.batch.context();
            let range = from * context..to * context;
            let shape = [(to - from) as i32, context as i32];
            let keys = &micro.dropout_keys;
            let inputs = [
                Array::from_slice(&micro.batch.inputs[range.clone()], &shape),
                Array::from_slice(&micro.batch.targets[range], &shape),
                Array::from_slice(keys, &[keys.len() as i32 / 2, 2]),
                Array::from_f32(loss_scale),
            ];
            let function = if sums.is_empty() {
                &mut functions.first
            } else {
                &mut functions.next
            };
            let arguments: Vec<Array> = sums.drain(..).chain(parameters.iter().cloned()).chain(inputs).collect();
            sums = function(&arguments)?;
            drop(arguments);
            if self.spec.micro_batches > 1 {
                eval(&sums)?;
            }
        }
        Ok(sums)
    }
}

/// The function of `[sums…,] parameters…, frozen parameters…, inputs, targets, dropout keys, loss scale` to
/// `loss, gradients…`.
///
/// Float16 gradients below 6e-8 are zero; losses are scaled up before the backward pass, and gradients down after it, in
/// float32 (Micikevicius et al. 2018, section 3.2). The other formats have no need of it.
fn gradient_function(
    spec: GradientSpec,
    first_row: usize,
    adds_to_sums: bool,
) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    let count = spec.names.len();
    let tokens = (spec.batch_rows * spec.micro_batches * spec.row_tokens) as f32;
    let (dtype, scaled) = match spec.precision {
        Precision::Float32 => (Dtype::Float32, false),
        Precision::Bfloat16 => (Dtype::Bfloat16, false),
        Precision::Float16 => (Dtype::Float16, true),
    };
    let names: Names = spec.names.iter().chain(spec.frozen.iter()).cloned().collect();
    // Of parameters…, frozen parameters…, inputs, targets, dropout keys, loss scale.
    let scaled_loss = move |arguments: &[Array]| -> MlxResult<Vec<Array>> {
        let (parameters, [inputs, targets, keys, scale]) = arguments.split_at(names.len()) else {
            return Err(Exception::custom(
                "a training step has four inputs beside the parameters",
            ));
        };
        let entries = names.iter().cloned().zip(parameters.iter().cloned());
        let parameters = Parameters::from_entries(entries.collect()).map(|array| array.as_dtype(dtype))?;
        let model = Model::new(&spec.model, &parameters)?;
        let dropout = (spec.model.dropout > 0.0).then(|| {
            Dropout::new(
                spec.model.dropout,
                keys.clone(),
                spec.batch_rows as i32,
                first_row as i32,
            )
        });
        let losses = model.losses(inputs, targets, dropout.as_ref())?; // [rows, T]
        let loss = losses.sum(None)?.multiply(Array::from_f32(1.0 / tokens))?;
        Ok(vec![if scaled { loss.multiply(scale)? } else { loss }])
    };
    let argnums: Vec<i32> = (0..count as i32).collect();
    move |arguments: &[Array]| -> MlxResult<Vec<Array>> {
        let (sums, arguments) = arguments.split_at(if adds_to_sums { count + 1 } else { 0 });
        let (losses, gradients) = value_and_grad_with_argnums(scaled_loss.clone(), argnums.as_slice())(arguments)?;
        let scale = &arguments[arguments.len() - 1];
        let mut outputs = Vec::with_capacity(count + 1);
        for (index, array) in losses.iter().chain(&gradients).enumerate() {
            let array = if scaled { array.divide(scale)? } else { array.clone() };
            outputs.push(match sums.get(index) {
                Some(sum) => sum.add(array)?,
                None => array,
            });
        }
        Ok(outputs)
    }
}
