//! One optimizer step: gradients, then a compiled update of parameters and moments.

mod control;
pub mod gradients;
mod loss_scale;
mod update;
pub mod workers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::ops;
use mlx_rs::transforms::{async_eval, eval};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::optimizers::adamw::BETA1;
use super::optimizers::has_v;
use super::optimizers::schedule::{learning_rate, muon_learning_rate};
use crate::checkpoint::LossScale;
use crate::config::{ModelConfig, OnNan, Optimizer, Precision, TrainConfig};
use crate::data::batches::{self, Batch};
use crate::data::tokens::Tokens;
use crate::model::dropout::Dropout;
use crate::model::parameters::Parameters;
use control::Verdict;
use gradients::{GradientSpec, MicroBatch};
use update::Update;
use workers::DataParallel;

/// Everything that training changes.
#[derive(Clone)]
pub struct TrainState {
    /// Steps done, those that were left out included.
    pub step: u64,
    /// The parameters that learn.
    pub parameters: Parameters,
    /// Those that do not: frozen ones, or all that adapters are added to.
    pub frozen: Parameters,
    /// Running mean of the gradients, by the parameters' names.
    pub m: Parameters,
    /// AdamW's running mean of their squares; Muon's parameters have none.
    pub v: Parameters,
    /// Steps left out because their loss or gradients were not finite.
    pub skipped: u64,
    /// How losses are scaled, in float16.
    pub loss_scale: Option<LossScale>,
}

impl TrainState {
    /// The state before the first step.
    pub fn new(parameters: Parameters, frozen: Parameters, optimizer: Optimizer) -> Result<Self> {
        let zeros = parameters.map(|array| ops::zeros_like(array))?;
        let (with_v, _) = zeros.partition(|name, array| has_v(optimizer, name, array.shape()));
        let state = Self {
            step: 0,
            parameters,
            frozen,
            m: zeros,
            v: with_v,
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
    /// Steps done with it.
    pub step: u64,
    /// Mean over the step's tokens, before the update, in nats.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    pub lr: f32,
    /// Loss and gradients were finite; otherwise the step was left out.
    pub finite: bool,
}

/// A step that was begun, and may still be computing.
pub struct Pending {
    step: u64,
    lr: f32,
    verdict: Verdict,
}

impl Pending {
    /// Waits for the step.
    ///
    /// # Errors
    /// MLX's.
    pub fn report(&self) -> Result<StepReport> {
        let Verdict {
            finite,
            loss,
            grad_norm,
        } = &self.verdict;
        Ok(StepReport {
            step: self.step,
            loss: loss.try_item_exact()?,
            grad_norm: grad_norm.try_item_exact()?,
            lr: self.lr,
            finite: finite.try_item_exact()?,
        })
    }
}

/// The compiled step of a run.
pub struct Stepper {
    config: TrainConfig,
    dropout_sites: usize,
    vocab_size: usize,
    gradients: DataParallel,
    update: Update,
}

impl Stepper {
    /// For the parameters that learn and those that are `frozen`.
    pub fn new(
        config: &TrainConfig,
        model: &ModelConfig,
        parameters: &Parameters,
        frozen: &Parameters,
    ) -> Result<Self> {
        let spec = GradientSpec {
            model: model.clone(),
            names: Arc::clone(parameters.names()),
            frozen: Arc::clone(frozen.names()),
            precision: config.dtype,
            batch_rows: config.rows_at(0),
            micro_batches: config.grad_accum,
            row_tokens: config.context,
        };
        let gradients = DataParallel::new(&spec, config.threads)?;
        Ok(Self {
            config: config.clone(),
            dropout_sites: Dropout::sites(model.layers),
            vocab_size: model.vocab_size,
            update: Update::new(config, model, parameters, gradients.threads())?,
            gradients,
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

    /// How long a step takes: one of at most two micro-batches is computed twice, the first time to compile, and changes
    /// nothing. Of batches that grow, each size is compiled, and the time is that of the largest.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn measure(&mut self, state: &mut TrainState, tokens: &Tokens) -> Result<Duration> {
        let grad_accum = self.config.grad_accum;
        let measured = grad_accum.min(2);
        let growth = self.config.batch_growth();
        let mut steps: Vec<u64> = growth.iter().map(|(first, _)| state.step.max(*first)).collect();
        steps.dedup();
        let mut time = Duration::ZERO;
        for step in steps.into_iter().flat_map(|step| [step, step]) {
            let mut batches = self.micro_batches(tokens, step);
            batches.truncate(measured);
            let started = Instant::now();
            let loss_scale = state.loss_scale.unwrap_or_default().scale;
            self.attempt(state, &Arc::new(batches), loss_scale, false)?.report()?;
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

    /// Takes the step that `state` is at, on `micro_batches`, and waits for it. One whose loss or gradients are not finite
    /// changes no parameter and no moment; it is counted, and done, where the configuration says so.
    ///
    /// # Errors
    /// A token that the model does not know; MLX's, after which the state is of no use.
    pub fn step(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<StepReport> {
        let report = self.begin(state, micro_batches)?.report()?;
        if !report.finite && self.config.on_nan == OnNan::Stop {
            state.step -= 1;
        }
        self.settle(state, &report);
        Ok(report)
    }

    /// Begins the step that `state` is at. On a GPU it is still computing when this returns: read its report after the
    /// next one was begun, then [`settle`](Self::settle) it.
    ///
    /// In float16, gradients that overflow are computed again from a smaller scaled loss first, which is waited for.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn begin(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<Pending> {
        let micro_batches = Arc::new(micro_batches);
        let pending = if self.config.dtype == Precision::Float16 {
            self.begin_scaled(state, &micro_batches)?
        } else {
            self.attempt(state, &micro_batches, 1.0, true)?
        };
        state.step += 1;
        Ok(pending)
    }

    /// Counts a step that was left out.
    pub fn settle(&self, state: &mut TrainState, report: &StepReport) {
        if !report.finite && self.config.on_nan == OnNan::Skip {
            state.skipped += 1;
        }
    }

    /// With losses scaled as high as the gradients stay finite.
    fn begin_scaled(&mut self, state: &mut TrainState, micro_batches: &Arc<Vec<MicroBatch>>) -> Result<Pending> {
        let mut loss_scale = state.loss_scale.unwrap_or_default();
        loop {
            let pending = self.attempt(state, micro_batches, loss_scale.scale, true)?;
            let report = pending.report()?;
            match loss_scale.lowered() {
                Some(lower) if report.loss.is_finite() && !report.finite => loss_scale = lower,
                _ => {
                    if report.finite {
                        state.loss_scale = Some(loss_scale.after_finite_step());
                    }
                    return Ok(pending);
                }
            }
        }
    }

    /// The step, if its numbers are finite with losses scaled by `loss_scale`; its number stays the same. If it is not to be
    /// taken, it is computed all the same.
    fn attempt(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
        taken: bool,
    ) -> Result<Pending> {
        for micro in micro_batches.iter() {
            micro.batch.check(self.vocab_size)?;
        }
        let lr = learning_rate(&self.config, state.step);
        let muon_lr = muon_learning_rate(&self.config, state.step);
        let t = state.step as i32 + 1;
        let correction = |beta: f32| (1.0 / (1.0 - f64::from(beta).powi(t))) as f32;
        let taken = if taken { 1.0 } else { 0.0 };
        let rates = [taken, lr, correction(BETA1), correction(self.config.beta2), muon_lr];

        let gradients = self
            .gradients
            .compute(&state.parameters, &state.frozen, micro_batches, loss_scale)?;
        let verdict = self.update.apply(state, gradients, rates)?;
        async_eval(state.arrays().chain(verdict.arrays()))?;
        Ok(Pending {
            step: state.step + 1,
            lr,
            verdict,
        })
    }
}
