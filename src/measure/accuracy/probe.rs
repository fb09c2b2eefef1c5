//! Test computations, on inputs that are generated without MLX.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Dtype, ops};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::tolerance::Tolerance;
use crate::compute::compiled::compiled;
use crate::config::{Device, ModelConfig, Objective, Precision, Preset, TrainConfig, default_threads};
use crate::data::batches::Batch;
use crate::generate::Generator;
use crate::model::Model;
use crate::model::dropout::Dropout;
use crate::model::init::{Init, layout};
use crate::model::parameters::{Names, Parameters};
use crate::train::step::gradients::{LossAndGradFn, MicroBatch, StepBatch};
use crate::train::step::workers::GradientWorkers;
use crate::train::step::{Stepper, TrainState};

const SEED: u64 = 1337;
const STEPS: usize = 10;
const GENERATED_TOKENS: usize = 32;
/// Factor of GPT-2's initial weights, whose logits are nearly equal: with larger weights, errors are more visible.
const INIT_SCALE: f32 = 3.0;
/// Small enough that float16 gradients neither vanish nor overflow.
const LOSS_SCALE: f32 = 128.0;

/// A compared quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Logits of a forward pass.
    Logits,
    /// The gradient of one parameter.
    Gradient,
    /// Losses of training steps.
    Losses,
    /// Token ids of greedy decoding, each followed by the margin of its logit over the second largest, relative to the largest
    /// magnitude. Ids are exact as float32 below 2²⁴.
    GreedyText,
    /// A dropout mask.
    DropoutMask,
}

/// Which quantity, of which model, in which format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Name of the test model.
    pub model: &'static str,
    /// Format of the forward and backward pass.
    pub precision: Precision,
    /// The quantity.
    pub quantity: Quantity,
    /// The parameter of a gradient.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?} {}", self.model, self.precision, self.quantity, self.name)
    }
}

/// The values of a quantity, and their tolerance.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Flattened, row-major.
    pub numbers: Vec<f32>,
    /// How far they may differ from the reference.
    pub tolerance: Tolerance,
}

/// All computed values, by key.
pub type Answers = BTreeMap<Key, Answer>;

/// A test model, and the size of its batch.
struct Probe {
    name: &'static str,
    model: ModelConfig,
    rows: usize,
}

impl Probe {
    /// The preset nano, and two layers of GPT-2's width.
    fn all() -> [Self; 2] {
        let nano = Preset::Nano.model_config(65);
        let wide = ModelConfig {
            layers: 2,
            context: 32,
            ..Preset::Gpt2.model_config(512)
        };
        [("nano", nano, 2), ("2 layers of GPT-2", wide, 1)].map(|(name, model, rows)| Self {
            name,
            model: ModelConfig { dropout: 0.1, ..model },
            rows,
        })
    }

    fn parameters(&self) -> Parameters {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let entries = layout(&self.model).into_iter().map(|spec| {
            let numbers: Vec<f32> = (0..spec.count())
                .map(|_| match spec.init {
                    Init::Normal { std } => INIT_SCALE * std * (rng.random::<f32>() * 2.0 - 1.0) * 3f32.sqrt(),
                    Init::Ones => 1.0 + 0.1 * (rng.random::<f32>() * 2.0 - 1.0),
                    Init::Zeros => 0.02 * (rng.random::<f32>() * 2.0 - 1.0),
                })
                .collect();
            (spec.name, Array::from_slice(&numbers, &spec.shape))
        });
        Parameters::from_entries(entries.collect())
    }

    fn micro_batch(&self, step: u64) -> MicroBatch {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        rng.set_stream(step + 1);
        let tokens = self.rows * self.model.context;
        let mut ids = || -> Vec<u32> {
            (0..tokens)
                .map(|_| rng.random_range(0..self.model.vocab_size as u32))
                .collect()
        };
        MicroBatch {
            batch: Batch {
                inputs: ids(),
                targets: ids(),
                rows: self.rows,
            },
            dropout_keys: (0..2 * Dropout::sites(self.model.layers))
                .map(|_| rng.random())
                .collect(),
            ngram_rows: Vec::new(),
            objective: None,
        }
    }

    /// `[rows, T, V]`, flattened.
    fn logits(&self, parameters: &Parameters, precision: Precision) -> Result<Vec<f32>> {
        let model = self.model.clone();
        let names = Arc::clone(parameters.names());
        let mut forward = compiled(move |arrays: Vec<Array>| {
            let (ids, arrays) = arrays
                .split_first()
                .ok_or_else(|| Exception::custom("a forward pass without arguments"))?;
            let parameters = Parameters::new(&names, arrays.to_vec())?.map(|array| array.as_dtype(dtype(precision)))?;
            let logits = Model::new(&model, &parameters)?.forward(ids, None)?;
            logits.as_dtype(Dtype::Float32)
        });
        let batch = self.micro_batch(0).batch;
        let ids = Array::from_slice(&batch.inputs, &[self.rows as i32, self.model.context as i32]);
        numbers(&forward([&[ids], parameters.arrays()].concat())?)
    }

    fn gradients(&self, parameters: &Parameters, precision: Precision) -> Result<Vec<(String, Vec<f32>)>> {
        let loss_and_grad = LossAndGradFn {
            model: self.model.clone(),
            trainable_names: Arc::clone(parameters.names()),
            frozen_names: Names::default(),
            precision,
            recompute: false,
            batch_rows: self.rows,
            mean_rows: self.rows,
            micro_batches: 1,
            row_tokens: self.model.context,
            objective: Objective::NextToken,
        };
        let mut workers = GradientWorkers::new(&loss_and_grad, threads()?)?;
        let batches = Arc::new(StepBatch::new(vec![self.micro_batch(0)])?);
        let parts = workers.compute(parameters.arrays(), &[], &batches, LOSS_SCALE)?;
        let mut all = Vec::new();
        for (index, name) in parameters.names().iter().enumerate() {
            let mut sum = Array::from_f32(0.0);
            for part in &parts {
                sum = sum.add(&part.gradients[index])?;
            }
            all.push((name.clone(), numbers(&sum)?));
        }
        Ok(all)
    }

    fn losses(&self, parameters: &Parameters, precision: Precision) -> Result<Vec<f32>> {
        let device = Device::current()?;
        let config = TrainConfig {
            dtype: precision,
            batch_size: self.rows,
            context: self.model.context,
            dropout: self.model.dropout,
            warmup: 0,
            steps: STEPS as u64,
            threads: threads()?,
            ..Preset::Nano.train_config(device)
        };
        let mut stepper = Stepper::new(&config, &self.model, parameters, &Parameters::default())?;
        let mut state = TrainState::new(parameters.clone(), Parameters::default(), config.optimizer)?;
        (0..STEPS)
            .map(|step| Ok(stepper.step(&mut state, vec![self.micro_batch(step as u64)])?.loss))
            .collect()
    }

    /// Ids and margins, alternating.
    fn greedy_text(&self, parameters: &Parameters, precision: Precision) -> Result<Vec<f32>> {
        let parameters = parameters.map(|array| array.as_dtype(dtype(precision)))?;
        let generator = Generator::new(&self.model, &parameters)?;
        let mut sequence = generator.sequence()?;
        let mut written = Vec::with_capacity(2 * GENERATED_TOKENS);
        let mut next = 1;
        for _ in 0..GENERATED_TOKENS {
            sequence.push(&[next]);
            let logits = sequence.next_logits()?;
            let (best, second) = top_two(&logits).context("a model without a vocabulary")?;
            let largest = logits
                .iter()
                .fold(f32::MIN_POSITIVE, |largest, logit| largest.max(logit.abs()));
            next = best as u32;
            written.extend([best as f32, (logits[best] - second) / largest]);
        }
        Ok(written)
    }

    fn dropout_mask(&self, precision: Precision) -> Result<Vec<f32>> {
        let (rows, rate) = (self.rows as i32, self.model.dropout);
        let shape = [rows, self.model.context as i32, self.model.embd as i32];
        let keys = self.micro_batch(0).dropout_keys;
        let keys = Array::from_slice(&keys, &[keys.len() as i32 / 2, 2]);
        let mut mask = compiled(move |keys: Array| {
            let ones = ops::ones::<f32>(&shape)?.as_dtype(dtype(precision))?;
            let dropped = Dropout::new(rate, keys, rows, 0).apply(&ones)?;
            dropped.gt(Array::from_f32(0.0))?.as_dtype(Dtype::Float32)
        });
        numbers(&mask(keys)?)
    }
}

/// Index of the largest logit, and the second largest logit.
fn top_two(logits: &[f32]) -> Option<(usize, f32)> {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))?;
    let others = logits.iter().enumerate().filter(|(place, _)| *place != best);
    Some((best, others.map(|(_, &logit)| logit).fold(f32::NEG_INFINITY, f32::max)))
}

/// All compared quantities, computed on MLX's current device. `progress` is called with the name of the next computation.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn answers(mut progress: impl FnMut(&str)) -> Result<Answers> {
    let mut answers = Answers::new();
    for probe in Probe::all() {
        let parameters = probe.parameters();
        for precision in [Precision::Float32, Precision::Bfloat16, Precision::Float16] {
            progress(&format!("{}, {precision}", probe.name));
            let tolerance = Tolerance::new(&probe.model, precision, probe.rows * probe.model.context);
            let mut add = |quantity: Quantity, name: String, numbers: Vec<f32>| {
                let key = Key {
                    model: probe.name,
                    precision,
                    quantity,
                    name,
                };
                answers.insert(key, Answer { numbers, tolerance });
            };
            let unnamed = String::new;
            add(Quantity::Logits, unnamed(), probe.logits(&parameters, precision)?);
            for (name, gradient) in probe.gradients(&parameters, precision)? {
                add(Quantity::Gradient, name, gradient);
            }
            add(Quantity::Losses, unnamed(), probe.losses(&parameters, precision)?);
            add(
                Quantity::GreedyText,
                unnamed(),
                probe.greedy_text(&parameters, precision)?,
            );
            add(Quantity::DropoutMask, unnamed(), probe.dropout_mask(precision)?);
        }
    }
    Ok(answers)
}

fn threads() -> Result<usize> {
    Ok(default_threads(Device::current()?))
}

fn dtype(precision: Precision) -> Dtype {
    match precision {
        Precision::Float32 => Dtype::Float32,
        Precision::Bfloat16 => Dtype::Bfloat16,
        Precision::Float16 => Dtype::Float16,
    }
}

fn numbers(array: &Array) -> Result<Vec<f32>> {
    Ok(array.reshape(&[-1])?.to_vec_exact::<f32>()?)
}
