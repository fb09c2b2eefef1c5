//! One optimizer step: gradients, then a compiled update of parameters and moments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::ops;
use mlx_rs::transforms::eval;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::data_parallel::DataParallel;
use super::gradients::{GradientSpec, MicroBatch};
use super::optimizer::{self, AdamW, BETA1, Rates, Slot};
use super::schedule::learning_rate;
use crate::checkpoint::LossScale;
use crate::config::{ModelConfig, OnNan, Precision, TrainConfig};
use crate::data::batches::{self, Batch};
use crate::data::tokens::Tokens;
use crate::model::compiled::{Compiled, compiled};
use crate::model::dropout::Dropout;
use crate::model::parameters::{Names, Parameters};

/// Everything that training changes.
#[derive(Clone)]
pub struct TrainState {
    /// Steps done, those that were left out included.
    pub step: u64,
    /// The parameters that learn.
    pub parameters: Parameters,
    /// Those that do not: frozen ones, or all that adapters are added to.
    pub frozen: Parameters,
    /// AdamW's running mean of the gradients, by the parameters' names.
    pub m: Parameters,
    /// AdamW's running mean of their squares.
    pub v: Parameters,
    /// Steps left out because their loss or gradients were not finite.
    pub skipped: u64,
    /// How losses are scaled, in float16.
    pub loss_scale: Option<LossScale>,
}

impl TrainState {
    /// The state before the first step.
    pub fn new(parameters: Parameters, frozen: Parameters) -> Result<Self> {
        let zeros = parameters.map(|array| ops::zeros_like(array))?;
        let state = Self {
            step: 0,
            parameters,
            frozen,
            m: zeros.clone(),
            v: zeros,
            skipped: 0,
            loss_scale: None,
        };
        // Streams belong to threads: what gradient threads are handed must be numbers, not a graph of this thread's.
        eval(state.arrays().chain(state.frozen.arrays()))?;
        Ok(state)
    }

    /// All parameters of the model.
    pub fn model_parameters(&self) -> Parameters {
        self.parameters.with(&self.frozen)
    }

    fn arrays(&self) -> impl Iterator<Item = &Array> {
        [&self.parameters, &self.m, &self.v]
            .into_iter()
            .flat_map(Parameters::arrays)
    }
}

/// What a step says of itself.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Mean over the step's tokens, before the update, in nats.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    pub lr: f32,
    /// Loss and gradients were finite; otherwise the step was left out.
    pub finite: bool,
}

/// The compiled step of a run.
pub struct Stepper {
    config: TrainConfig,
    dropout_sites: usize,
    vocab_size: usize,
    gradients: DataParallel,
    update: Compiled,
}

impl Stepper {
    /// For parameters of those `names` that learn and those that are `frozen`.
    pub fn new(config: &TrainConfig, model: &ModelConfig, names: &Names, frozen: &Names) -> Result<Self> {
        let spec = GradientSpec {
            model: model.clone(),
            names: Arc::clone(names),
            frozen: Arc::clone(frozen),
            precision: config.dtype,
            batch_rows: config.rows_at(0),
            micro_batches: config.grad_accum,
            row_tokens: config.context,
        };
        Ok(Self {
            config: config.clone(),
            dropout_sites: Dropout::sites(model.layers),
            vocab_size: model.vocab_size,
            gradients: DataParallel::new(&spec, config.threads)?,
            update: compiled(update(config, names.len())),
        })
    }

    /// Threads that compute gradients.
    pub fn threads(&self) -> usize {
        self.gradients.threads()
    }

    /// The micro-batches of a step and the keys of their dropout masks.
    pub fn micro_batches(&self, tokens: &Tokens, step: u64) -> Vec<MicroBatch> {
        let config = &self.config;
        let mut rng = batches::step_rng(config.seed, step);
        self.row_starts(&mut rng, tokens, step)
            .chunks(config.rows_at(step))
            .map(|starts| MicroBatch {
                batch: Batch::gather(tokens, starts, config.context),
                dropout_keys: (0..2 * self.dropout_sites).map(|_| rng.random()).collect(),
            })
            .collect()
    }

    /// How long a step takes: one of at most two micro-batches is taken twice, the first time to compile, and
    /// forgotten. Of batches that grow, each size is compiled, and the time is that of the largest.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn measure(&mut self, state: &TrainState, tokens: &Tokens) -> Result<Duration> {
        let grad_accum = self.config.grad_accum;
        let measured = grad_accum.min(2);
        let growth = self.config.batch_growth();
        let mut steps: Vec<u64> = growth.iter().map(|(first, _)| state.step.max(*first)).collect();
        steps.dedup();
        let mut time = Duration::ZERO;
        for step in steps.into_iter().flat_map(|step| [step, step]) {
            let mut trial = state.clone();
            let mut batches = self.micro_batches(tokens, step);
            batches.truncate(measured);
            let started = Instant::now();
            self.step(&mut trial, batches)?;
            time = started.elapsed();
        }
        Ok(time * grad_accum as u32 / measured as u32)
    }

    /// Where the rows of a step begin in the training tokens.
    pub fn rows(&self, tokens: &Tokens, step: u64) -> Vec<usize> {
        self.row_starts(&mut batches::step_rng(self.config.seed, step), tokens, step)
    }

    fn row_starts(&self, rng: &mut ChaCha8Rng, tokens: &Tokens, step: u64) -> Vec<usize> {
        let config = &self.config;
        let rows = config.rows_at(step) * config.grad_accum;
        batches::row_starts(rng, rows, tokens.len(), config.context)
    }

    /// Takes the step that `state` is at, on `micro_batches`. One whose loss or gradients are not finite changes no
    /// parameter and no moment; it is counted, and done, where the configuration says so.
    ///
    /// In float16, gradients that overflow are computed again from a smaller scaled loss first.
    pub fn step(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<StepReport> {
        for micro in &micro_batches {
            micro.batch.check(self.vocab_size)?;
        }
        let micro_batches = Arc::new(micro_batches);
        let float16 = self.config.dtype == Precision::Float16;
        let mut loss_scale = float16.then(|| state.loss_scale.unwrap_or_default());
        let report = loop {
            let scale = loss_scale.map_or(1.0, |loss_scale| loss_scale.scale);
            let report = self.attempt(state, &micro_batches, scale)?;
            match loss_scale.and_then(LossScale::lowered) {
                Some(lower) if report.loss.is_finite() && !report.finite => loss_scale = Some(lower),
                _ => break report,
            }
        };
        if report.finite {
            state.step += 1;
            state.loss_scale = loss_scale.map(LossScale::after_finite_step);
        } else if self.config.on_nan == OnNan::Skip {
            state.step += 1;
            state.skipped += 1;
        }
        Ok(report)
    }

    /// The step, if its numbers are finite with losses scaled by `loss_scale`; its number stays the same.
    fn attempt(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
    ) -> Result<StepReport> {
        let lr = learning_rate(&self.config, state.step);
        let t = state.step as i32 + 1;
        let correction = |beta: f32| Array::from_f32((1.0 / (1.0 - f64::from(beta).powi(t))) as f32);

        let mut inputs = vec![Array::from_f32(lr), correction(BETA1), correction(self.config.beta2)];
        inputs.extend(state.arrays().cloned());
        for part in self
            .gradients
            .compute(&state.parameters, &state.frozen, micro_batches, loss_scale)?
        {
            inputs.push(part.loss);
            inputs.extend(part.gradients);
        }
        let mut outputs = (self.update)(&inputs)?;
        drop(inputs);
        let mut arrays = outputs.split_off(3).into_iter();
        let [finite, loss, grad_norm] = [0, 1, 2].map(|index| outputs[index].clone());
        // The old state's last handles go here, before the evaluation, so that MLX writes the new one into its buffers.
        let names = Arc::clone(state.parameters.names());
        for part in [&mut state.parameters, &mut state.m, &mut state.v] {
            *part = Parameters::new(&names, arrays.by_ref().take(names.len()).collect())?;
        }
        eval(state.arrays().chain([&loss, &grad_norm, &finite]))?;

        Ok(StepReport {
            loss: loss.try_item_exact()?,
            grad_norm: grad_norm.try_item_exact()?,
            lr,
            finite: finite.try_item_exact()?,
        })
    }
}

/// The function of `lr, two bias corrections, parameters…, m…, v…, (loss, gradients…) for each thread` to
/// `finite, loss, gradient norm, parameters…, m…, v…`. Where loss or gradients are not finite, the state comes back as
/// it went in.
fn update(config: &TrainConfig, count: usize) -> impl FnMut(&[Array]) -> MlxResult<Vec<Array>> + 'static {
    let adamw = AdamW {
        beta2: config.beta2,
        weight_decay: config.weight_decay,
    };
    let grad_clip = config.grad_clip;
    move |inputs| {
        let (rates, inputs) = inputs.split_at(3);
        let rates = Rates {
            lr: &rates[0],
            correction1: &rates[1],
            correction2: &rates[2],
        };
        let (state, parts) = inputs.split_at(3 * count);

        // Loss and gradients, summed over the threads.
        let mut sums = parts[..count + 1].to_vec();
        for part in parts[count + 1..].chunks(count + 1) {
            for (sum, array) in sums.iter_mut().zip(part) {
                *sum = sum.add(array)?;
            }
        }
        let loss = sums.remove(0);
        let mut gradients = sums;

        let norm = optimizer::global_norm(&gradients)?;
        let finite = ops::logical_and(loss.is_finite()?, norm.is_finite()?)?;
        if grad_clip > 0.0 {
            let factor = optimizer::clip_factor(&norm, grad_clip)?;
            for gradient in &mut gradients {
                *gradient = gradient.multiply(&factor)?;
            }
        }

        let mut columns = [
            Vec::with_capacity(count),
            Vec::with_capacity(count),
            Vec::with_capacity(count),
        ];
        for (index, gradient) in gradients.iter().enumerate() {
            let old = Slot {
                parameter: state[index].clone(),
                m: state[count + index].clone(),
                v: state[2 * count + index].clone(),
            };
            let new = adamw.update(&old, gradient, &rates)?;
            columns[0].push(ops::select(&finite, &new.parameter, &old.parameter)?);
            columns[1].push(ops::select(&finite, &new.m, &old.m)?);
            columns[2].push(ops::select(&finite, &new.v, &old.v)?);
        }
        let mut outputs = vec![finite, loss, norm];
        outputs.extend(columns.into_iter().flatten());
        Ok(outputs)
    }
}
