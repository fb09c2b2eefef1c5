//! One optimizer step, as one compiled function or on the threads of [`workers`].
//!
//! To be read in this order: [`arrays`] (what goes in and comes out), `state` (what a step changes), [`gradients`], [`control`]
//! (clipping, skipped steps), the [optimizers](super::optimizers), `update`, `loss_scale` (for float16), then [`Stepper`] here,
//! [`workers`], and last `reduce` (several machines):
//!
//! ```text
//! step ─┬─ begin ── dispatch ── StepFunctions::call ─┬─ Fused:  gradients and update in one function
//!       │                                            └─ Split:  workers' gradients, all-reduce, workers' updates
//!       │                                                       (over other ranks too, if there are any)
//!       └─ report: waits for the loss
//! ```
//!
//! - [`Stepper::begin`] counts the step, on a GPU without waiting for it; [`PendingStep::report`] waits. In float16 `begin`
//!   waits already, and tries again with a smaller loss scale.
//! - [`Stepper::step`] is both, and takes the count back if the step is not finite and `on_nan` is `stop`.
//! - [`Stepper::time_step`] waits, and changes no count, parameter or moment.

pub mod arrays;
pub mod control;
pub mod gradients;
#[cfg(test)]
mod kernel_buffers;
mod loss_scale;
mod own;
mod reduce;
mod state;
mod update;
pub mod workers;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use mlx_rs::Array;
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::async_eval;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::optimizers::adamw::BETA1;
use super::optimizers::schedule::{learning_rate, muon_learning_rate};
use super::own::OwnTraining;
use super::together::rows;
use crate::compute::compiled::{Compiled, compiled};
use crate::compute::ranks::Ranks;
use crate::config::{ModelConfig, OnNan, Precision, TrainConfig};
use crate::data::batches::{self, Batch};
use crate::data::tokens::Tokens;
use crate::model::dropout::Dropout;
use crate::model::parameters::Parameters;
use arrays::{StepInputs, StepMetrics, StepOutputs, StepScalars, UpdateInputs};
use gradients::{LossAndGradFn, MicroBatch};
pub use reduce::{BUCKET_BYTES, RankReduce};
pub use state::TrainState;
use update::UpdateFn;
use workers::{GradientWorkers, UpdateWorkers};

/// A computed step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done with it.
    pub step: u64,
    /// Mean over the step's tokens, before the update, in nats.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Learning rate of the step.
    pub lr: f32,
    /// The loss or a gradient was not finite: the step was skipped.
    pub found_inf: bool,
}

/// A dispatched step, which may still be computing.
pub struct PendingStep {
    step: u64,
    lr: f32,
    metrics: StepMetrics,
}

impl PendingStep {
    /// Waits for the step.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn report(&self) -> Result<StepReport> {
        Ok(StepReport {
            step: self.step,
            loss: self.metrics.loss.try_item_exact()?,
            grad_norm: self.metrics.grad_norm.try_item_exact()?,
            lr: self.lr,
            found_inf: self.metrics.found_inf.try_item_exact()?,
        })
    }
}

/// Computes the optimizer steps of a run.
pub struct Stepper {
    config: TrainConfig,
    dropout_sites: usize,
    vocab_size: usize,
    functions: StepFunctions,
}

/// The step's compiled functions.
enum StepFunctions {
    /// On one thread (always on a GPU) with one micro-batch: one function for everything.
    Fused(Compiled<StepInputs, StepOutputs>),
    /// A function for the gradients of each micro-batch and one for the update, or several threads for either.
    Split {
        gradients: GradientWorkers,
        /// Where there are other ranks, with whose gradients this one's are summed.
        reduce: Option<RankReduce>,
        update: UpdateWorkers,
    },
    /// Code of the library's user.
    Own(Box<dyn OwnTraining>),
}

impl StepFunctions {
    fn new(
        gradients: LossAndGradFn,
        update: UpdateFn,
        parameters: &Parameters,
        threads: usize,
        rows: [usize; 2],
        reduce: Option<RankReduce>,
    ) -> Result<Self> {
        if threads <= 1 && gradients.micro_batches == 1 && reduce.is_none() && rows == [0, gradients.batch_rows] {
            return Ok(Self::Fused(compiled(move |inputs| fused(&gradients, &update, inputs))));
        }
        Ok(Self::Split {
            update: UpdateWorkers::new(&update, &update.costs(parameters), threads)?,
            reduce,
            gradients: GradientWorkers::of_rows(&gradients, rows, threads)?,
        })
    }

    /// Replaces parameters and moments in `state` with those after the step; lazily, on one thread.
    fn call(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
        scalars: StepScalars,
    ) -> Result<StepMetrics> {
        let outputs = match self {
            Self::Fused(function) => {
                let [micro_batch] = &micro_batches[..] else {
                    bail!("a step of one micro-batch was given {}", micro_batches.len());
                };
                function(StepInputs {
                    frozen: state.frozen.arrays().to_vec(),
                    states: state.take_states(),
                    batch: micro_batch.worker_batch([0, micro_batch.batch.rows], loss_scale),
                    scalars,
                })?
            }
            Self::Split {
                gradients,
                reduce,
                update,
            } => {
                let (parameters, frozen) = (state.parameters.arrays(), state.frozen.arrays());
                let mut gradients = gradients.compute(parameters, frozen, micro_batches, loss_scale)?;
                if let Some(reduce) = reduce {
                    gradients = vec![reduce.sum(gradients)?];
                }
                update.update(state.take_states(), gradients, &scalars)?
            }
            Self::Own(training) => {
                let [micro_batch] = &micro_batches[..] else {
                    bail!("a step of one micro-batch was given {}", micro_batches.len());
                };
                return own::call(&mut **training, state, &micro_batch.batch, &scalars);
            }
        };
        state.restore(outputs.states)?;
        Ok(outputs.metrics)
    }
}

/// Gradients and update in one function.
fn fused(gradients: &LossAndGradFn, update: &UpdateFn, inputs: StepInputs) -> MlxResult<StepOutputs> {
    let StepInputs {
        states,
        frozen,
        batch,
        scalars,
    } = inputs;
    let parameters: Vec<Array> = states.iter().map(|state| state.parameter.clone()).collect();
    let computed = gradients.gradients(0, &parameters, &frozen, &batch)?;
    update.update(UpdateInputs {
        losses: vec![computed.loss],
        squared_norms: None,
        gradients: computed.gradients,
        states,
        scalars,
    })
}

impl Stepper {
    /// For the trainable `parameters` and the `frozen` ones.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        config: &TrainConfig,
        model: &ModelConfig,
        parameters: &Parameters,
        frozen: &Parameters,
    ) -> Result<Self> {
        Self::among(None, config, model, parameters, frozen)
    }

    /// The same with other `ranks`, if there are any, which share each batch's rows.
    ///
    /// # Errors
    /// A thread cannot be started; there are fewer rows than ranks.
    pub fn among(
        ranks: Option<&Rc<Ranks>>,
        config: &TrainConfig,
        model: &ModelConfig,
        parameters: &Parameters,
        frozen: &Parameters,
    ) -> Result<Self> {
        let (rows, mean_rows) = rows(config, ranks.map(|ranks| &**ranks))?;
        let gradients = LossAndGradFn {
            model: model.clone(),
            trainable_names: Arc::clone(parameters.names()),
            frozen_names: Arc::clone(frozen.names()),
            precision: config.dtype,
            recompute: config.recompute,
            batch_rows: config.batch_size,
            mean_rows,
            micro_batches: config.grad_accum,
            row_tokens: config.context,
        };
        let update = UpdateFn::new(config, model, parameters);
        let reduce = ranks.filter(|_| config.sync_every == 0);
        let reduce = reduce.map(|ranks| RankReduce::new(Rc::clone(ranks), parameters, "step"));
        Ok(Self {
            config: config.clone(),
            dropout_sites: Dropout::sites(model.layers),
            vocab_size: model.vocab_size,
            functions: StepFunctions::new(gradients, update, parameters, config.compute_threads(), rows, reduce)?,
        })
    }

    /// Number of threads that compute gradients.
    pub fn threads(&self) -> usize {
        match &self.functions {
            StepFunctions::Fused(_) => 1,
            StepFunctions::Split { gradients, .. } => gradients.count(),
            StepFunctions::Own(_) => 1,
        }
    }

    /// From now on steps are computed by code of one's own.
    pub fn use_own(&mut self, own: Box<dyn OwnTraining>) {
        self.functions = StepFunctions::Own(own);
    }

    /// The micro-batches of a step, with the keys of their dropout masks.
    pub fn micro_batches(&self, tokens: &Tokens, step: u64) -> Vec<MicroBatch> {
        let config = &self.config;
        let mut rng = batches::step_rng(config.seed, step);
        self.row_starts(&mut rng, tokens)
            .chunks(config.batch_size)
            .map(|starts| MicroBatch {
                batch: Batch::gather(tokens, starts, config.context),
                dropout_keys: (0..2 * self.dropout_sites).map(|_| rng.random()).collect(),
            })
            .collect()
    }

    /// Offsets of the step's rows in the training tokens.
    pub fn rows(&self, tokens: &Tokens, step: u64) -> Vec<usize> {
        self.row_starts(&mut batches::step_rng(self.config.seed, step), tokens)
    }

    fn row_starts(&self, rng: &mut ChaCha8Rng, tokens: &Tokens) -> Vec<usize> {
        let rows = self.config.batch_size * self.config.grad_accum;
        batches::row_starts(rng, rows, tokens.len(), self.config.context)
    }

    /// Computes the next step of `state` on `micro_batches`. If the loss or the gradients are not finite, no parameter or
    /// moment changes; with `on_nan = skip`, it still counts as a step, and as a skipped one.
    ///
    /// # Errors
    /// A token id outside the vocabulary; MLX's, after which the state cannot be used.
    pub fn step(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<StepReport> {
        let report = self.begin(state, micro_batches)?.report()?;
        if report.found_inf && self.config.on_nan == OnNan::Stop {
            state.step -= 1;
        }
        self.count_skipped(state, &report);
        Ok(report)
    }

    /// Dispatches the next step of `state`. On a GPU it is still computing when this returns: dispatch the next one before
    /// waiting for its report, then call [`count_skipped`](Self::count_skipped).
    ///
    /// In float16 it waits, because gradients that overflow are computed again with a smaller loss scale.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn begin(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<PendingStep> {
        let micro_batches = Arc::new(micro_batches);
        let pending = if self.config.dtype == Precision::Float16 {
            self.begin_scaled(state, &micro_batches)?
        } else {
            self.dispatch(state, &micro_batches, 1.0, true)?
        };
        state.step += 1;
        Ok(pending)
    }

    /// Counts the step if it was skipped.
    pub fn count_skipped(&self, state: &mut TrainState, report: &StepReport) {
        if report.found_inf && self.config.on_nan == OnNan::Skip {
            state.skipped += 1;
        }
    }

    /// With the largest loss scale at which the gradients are finite.
    fn begin_scaled(&mut self, state: &mut TrainState, micro_batches: &Arc<Vec<MicroBatch>>) -> Result<PendingStep> {
        let mut loss_scale = state.loss_scale.unwrap_or_default();
        loop {
            let pending = self.dispatch(state, micro_batches, loss_scale.scale, true)?;
            let report = pending.report()?;
            match loss_scale.backed_off() {
                Some(lower) if report.loss.is_finite() && report.found_inf => loss_scale = lower,
                _ => {
                    if !report.found_inf {
                        state.loss_scale = Some(loss_scale.after_finite_step());
                    }
                    return Ok(pending);
                }
            }
        }
    }

    /// Starts computing a step, its losses multiplied by `loss_scale`, and leaves the step count as it is. Parameters and
    /// moments change if `updates` is true and loss and gradients are finite.
    fn dispatch(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
        updates: bool,
    ) -> Result<PendingStep> {
        for micro_batch in micro_batches.iter() {
            micro_batch.batch.check(self.vocab_size)?;
        }
        let lr = learning_rate(&self.config, state.step);
        let t = i32::try_from(state.step + 1).unwrap_or(i32::MAX); // the powers are 0 long before
        let correction = |beta: f32| Array::from_f32((1.0 / (1.0 - f64::from(beta).powi(t))) as f32);
        let scalars = StepScalars {
            updates: Array::from_bool(updates),
            lr: Array::from_f32(lr),
            muon_lr: Array::from_f32(muon_learning_rate(&self.config, state.step)),
            m_correction: correction(BETA1),
            v_correction: correction(self.config.beta2),
        };
        let metrics = self.functions.call(state, micro_batches, loss_scale, scalars)?;
        let changed = [&state.parameters, &state.m, &state.v]
            .into_iter()
            .flat_map(Parameters::arrays);
        async_eval(changed.chain([&metrics.loss, &metrics.grad_norm, &metrics.found_inf]))?;
        Ok(PendingStep {
            step: state.step + 1,
            lr,
            metrics,
        })
    }

    /// Times a step, after one that compiles, without changing parameters or moments; extrapolated from at most two
    /// micro-batches.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn time_step(&mut self, state: &mut TrainState, tokens: &Tokens) -> Result<Duration> {
        let grad_accum = self.config.grad_accum;
        let measured = grad_accum.min(2);
        let mut time = Duration::ZERO;
        for _ in 0..2 {
            let mut batches = self.micro_batches(tokens, state.step);
            batches.truncate(measured);
            let started = Instant::now();
            let loss_scale = state.loss_scale.unwrap_or_default().scale;
            self.dispatch(state, &Arc::new(batches), loss_scale, false)?.report()?;
            time = started.elapsed();
        }
        Ok(time * grad_accum as u32 / measured as u32)
    }
}
