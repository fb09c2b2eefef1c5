//! Reference values from PyTorch: logits, gradients and ten training losses of `transformers`' GPT-2, which
//! `scripts/fixtures.py` stored for the tests, and losses of preferences and rewards, which `scripts/preference_fixtures.py` did.

use anyhow::{Result, bail};
use bytemuck::pod_collect_to_vec;
use half::f16;
use mlx_rs::Array;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::Device;
use crate::config::{ModelConfig, Preset, TrainConfig};
use crate::data::batches::Batch;
use crate::model::Parameters;
use crate::model::init::layout;

const PARAMETERS: &[u8] = include_bytes!("../../tests/fixtures/gpt2-parameters.safetensors");
const REFERENCE: &[u8] = include_bytes!("../../tests/fixtures/gpt2-reference.safetensors");
const PREFERENCES: &[u8] = include_bytes!("../../tests/fixtures/preferences.safetensors");

/// Rows of its batch whose logits were stored.
pub const LOGITS_ROWS: usize = 3;

/// A small GPT-2 with random weights, and PyTorch's results for it.
pub struct PyTorch {
    /// Its configuration.
    pub model: ModelConfig,
    /// Its weights.
    pub parameters: Parameters,
    /// A batch of random tokens, `[12, 24]`.
    pub batch: Batch,
    reference: SafeTensors<'static>,
}

impl PyTorch {
    /// Reads the fixtures, which are part of the program.
    ///
    /// # Errors
    /// None.
    pub fn read() -> Result<Self> {
        let mut entries = Vec::new();
        for (name, view) in SafeTensors::deserialize(PARAMETERS)?.tensors() {
            entries.push((name, array(&view)?));
        }
        let reference = SafeTensors::deserialize(REFERENCE)?;
        let ids = |name: &str| -> Result<Vec<u32>> {
            let ids: Vec<i32> = pod_collect_to_vec(reference.tensor(name)?.data());
            Ok(ids.into_iter().map(|id| id as u32).collect())
        };
        let (inputs, targets) = (ids("x")?, ids("y")?);
        Ok(Self {
            model: ModelConfig {
                layers: 3,
                heads: 5,
                embd: 80,
                context: 24,
                ..Preset::Nano.model_config(65)
            },
            parameters: Parameters::from_entries(entries),
            batch: Batch {
                inputs,
                targets,
                rows: 12,
            },
            reference,
        })
    }

    /// The reference value of that name, in the shape that `scripts/fixtures.py` lists.
    ///
    /// # Errors
    /// An unknown name.
    pub fn answer(&self, name: &str) -> Result<Array> {
        array(&self.reference.tensor(name)?)
    }

    /// The gradients of the batch's loss, in the order of the parameters' names.
    ///
    /// # Errors
    /// None.
    pub fn gradients(&self) -> Result<Vec<Array>> {
        let names = self.parameters.names().iter();
        names.map(|name| self.answer(&format!("grad.{name}"))).collect()
    }

    /// The recipe of its ten losses, with that many threads and micro-batches: AdamW with a constant learning rate, clipping to
    /// norm 1, always the same batch.
    pub fn recipe(&self, threads: usize, grad_accum: usize) -> TrainConfig {
        TrainConfig {
            layers: self.model.layers,
            heads: self.model.heads,
            embd: self.model.embd,
            context: self.model.context,
            batch_size: self.batch.rows / grad_accum,
            grad_accum,
            lr: 1e-3,
            min_lr: 1e-3,
            warmup: 0,
            threads,
            ..Preset::Nano.train_config(Device::Cpu)
        }
    }
}

/// The array of that name in `tests/fixtures/preferences.safetensors`, as `scripts/preference_fixtures.py` lists them: weights of a
/// GPT-2 of [`preference_model`], rows of tokens, and losses with trl's formulas.
///
/// # Errors
/// An unknown name.
pub fn preference_answer(name: &str) -> Result<Array> {
    array(&SafeTensors::deserialize(PREFERENCES)?.tensor(name)?)
}

/// The model of [`preference_answer`].
///
/// # Errors
/// None.
pub fn preference_model() -> Result<(ModelConfig, Parameters)> {
    let model = ModelConfig {
        layers: 2,
        heads: 2,
        embd: 16,
        context: 10,
        ..Preset::Nano.model_config(23)
    };
    let names = layout(&model).into_iter().map(|spec| spec.name);
    let entries = names.map(|name| Ok((name.clone(), preference_answer(&name)?)));
    let parameters = Parameters::from_entries(entries.collect::<Result<_>>()?);
    Ok((model, parameters))
}

fn array(view: &TensorView) -> Result<Array> {
    let numbers: Vec<f32> = match view.dtype() {
        Dtype::I32 => {
            let ids: Vec<i32> = pod_collect_to_vec(view.data());
            ids.into_iter().map(|id| id as f32).collect()
        }
        Dtype::F32 => pod_collect_to_vec(view.data()),
        Dtype::F16 => {
            let halves: Vec<f16> = pod_collect_to_vec(view.data());
            halves.into_iter().map(f16::to_f32).collect()
        }
        other => bail!("a stored answer is of {other:?}, which is not read here"),
    };
    let shape: Vec<i32> = view.shape().iter().map(|&n| n as i32).collect();
    Ok(Array::from_slice(&numbers, &shape))
}
