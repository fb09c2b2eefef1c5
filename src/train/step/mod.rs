//! One optimizer step, as one compiled function or on the threads of [`workers`].
//!
//! To be read in this order: [`arrays`] (what goes in and comes out), `state` (what a step changes), [`table`] (the rows of the
//! n-gram table), [`gradients`], [`control`] (clipping, skipped steps), the [optimizers](super::optimizers), `update`,
//! [`objective`] (losses beside the next token's), `loss_scale` (for float16), `functions` (all that in compiled functions), then [`Stepper`] here, [`workers`], and last
//! `reduce` (several machines):
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
mod functions;
pub mod gradients;
#[cfg(test)]
mod kernel_buffers;
mod loss_scale;
pub mod objective;
mod own;
mod reduce;
mod report;
mod state;
pub mod table;
mod update;
pub mod workers;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use mlx_rs::Array;
use mlx_rs::transforms::async_eval;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::optimizers::adamw::BETA1;
use super::optimizers::ngram_decay;
use super::optimizers::schedule::{learning_rate_at, muon_learning_rate_at};
use super::own::OwnTraining;
use super::together::rows;
use crate::compute::ranks::Ranks;
use crate::config::{ModelConfig, OnNan, Precision, TrainConfig, Windows};
use crate::data::batches::{self, Batch};
use crate::data::passes;
use crate::data::source::Source;
use crate::data::tokens::Tokens;
use crate::model::dropout::Dropout;
use crate::model::ngrams;
use crate::model::parameters::Parameters;
use arrays::StepScalars;
use functions::{StepBatches, StepFunctions};
use gradients::{LossAndGradFn, MicroBatch, StepBatch};
pub use reduce::{BUCKET_BYTES, RankReduce};
pub use report::{PendingStep, StepReport};
pub use state::TrainState;
use table::TableAccess;
use update::UpdateFn;

/// Computes the optimizer steps of a run.
pub struct Stepper {
    config: TrainConfig,
    dropout_sites: usize,
    vocab_size: usize,
    batch_seed: u64,
    /// Of the n-gram table, if it is trained.
    table: Option<TableAccess>,
    /// Tokens of the training text, if its n-gram table decays.
    training_tokens: Option<usize>,
    functions: StepFunctions,
}

/// The shapes of the gradients of `parameters`: of the n-gram table, of the rows that a step has.
fn gradient_shapes(parameters: &Parameters, table: Option<TableAccess>) -> Vec<Vec<i32>> {
    let shape = |(name, array): (&str, &Array)| match table {
        Some(table) if name == ngrams::TABLE => vec![table.capacity() as i32, array.dim(1)],
        _ => array.shape().to_vec(),
    };
    parameters.iter().map(shape).collect()
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
            objective: config.objective(),
        };
        let update = UpdateFn::new(config, model, parameters);
        let trains_table = parameters.get(ngrams::TABLE).is_ok();
        let table = trains_table.then(|| TableAccess::new(config, model.components));
        let shapes = gradient_shapes(parameters, table);
        let costs = update.costs(&shapes);
        let reduce = ranks
            .filter(|_| config.sync_every == 0)
            .map(|ranks| RankReduce::new(Rc::clone(ranks), shapes, "step"));
        Ok(Self {
            config: config.clone(),
            dropout_sites: Dropout::sites(model.layers),
            vocab_size: model.vocab_size,
            batch_seed: config.seed,
            table,
            training_tokens: None,
            functions: StepFunctions::new(gradients, update, &costs, config.compute_threads(), rows, reduce)?,
        })
    }

    /// For a training text of that many tokens, if there is a text: the n-gram table, if there is one, decays by the
    /// configuration's `ngram_decay` in a pass over them.
    pub fn with_training_tokens(self, training_tokens: Option<usize>) -> Self {
        Self {
            training_tokens,
            ..self
        }
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

    /// Batches are others from now on: the run has returned so many times to an earlier checkpoint.
    pub fn set_retry(&mut self, retry: u32) {
        self.batch_seed = batches::batch_seed(self.config.seed, retry);
    }

    /// The micro-batches of a step, with the keys of their dropout masks.
    pub fn micro_batches(&self, source: &Source, step: u64) -> Vec<MicroBatch> {
        let mut rng = self.rng(step);
        let batch = match self.shuffled_starts(source, step) {
            Some((tokens, starts)) => Batch::gather(tokens, &starts, self.config.context),
            None => source.batch(&mut rng, self.step_rows(), self.config.context),
        };
        self.divide(&mut rng, batch)
    }

    /// Rows as micro-batches, with the keys of their dropout masks.
    pub fn divide(&self, rng: &mut ChaCha8Rng, batch: Batch) -> Vec<MicroBatch> {
        batch
            .split(self.config.batch_size)
            .map(|batch| MicroBatch {
                batch,
                dropout_keys: (0..2 * self.dropout_sites).map(|_| rng.random()).collect(),
                ngram_rows: Vec::new(),
                objective: None,
            })
            .collect()
    }

    /// The random numbers of a step.
    pub fn rng(&self, step: u64) -> ChaCha8Rng {
        batches::step_rng(self.batch_seed, step)
    }

    /// Offsets of the step's rows in the training tokens, if these are a text.
    pub fn rows(&self, source: &Source, step: u64) -> Vec<usize> {
        if let Some((_, starts)) = self.shuffled_starts(source, step) {
            return starts;
        }
        source.row_starts(&mut self.rng(step), self.step_rows(), self.config.context)
    }

    /// The text and where the step's rows begin in it, if they are windows of a pass.
    fn shuffled_starts<'a>(&self, source: &'a Source, step: u64) -> Option<(&'a Tokens, Vec<usize>)> {
        let tokens = source.tokens().filter(|_| self.config.windows == Windows::Shuffled)?;
        let (rows, context) = (self.step_rows(), self.config.context);
        let first = step * rows as u64;
        let starts = passes::shuffled_starts(self.batch_seed, first, rows, tokens.len(), context);
        Some((tokens, starts))
    }

    /// Rows of all micro-batches.
    fn step_rows(&self) -> usize {
        self.config.batch_size * self.config.grad_accum
    }

    /// Computes the next step of `state` on `micro_batches`. If the loss or the gradients are not finite, no parameter or
    /// moment changes; with `on_nan = skip`, it still counts as a step, and as a skipped one.
    ///
    /// # Errors
    /// A token id outside the vocabulary; targets that are all ignored; MLX's, after which the state cannot be used.
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
        let batches = self.prepare(micro_batches)?;
        let pending = if self.config.dtype == Precision::Float16 {
            self.begin_scaled(state, &batches)?
        } else {
            self.dispatch(state, &batches, 1.0, true)?
        };
        state.step += 1;
        Ok(pending)
    }

    /// Checks micro-batches, and finds the rows of the n-gram table that they need.
    fn prepare(&self, mut micro_batches: Vec<MicroBatch>) -> Result<StepBatches> {
        for micro_batch in &micro_batches {
            micro_batch.batch.check(self.vocab_size)?;
        }
        let table_rows = self.table.map(|table| table.find(&mut micro_batches));
        Ok(StepBatches {
            batch: Arc::new(StepBatch::new(micro_batches)?),
            table_rows,
        })
    }

    /// Counts the step if it was skipped.
    pub fn count_skipped(&self, state: &mut TrainState, report: &StepReport) {
        if report.found_inf && self.config.on_nan == OnNan::Skip {
            state.skipped += 1;
        }
    }

    /// With the largest loss scale at which the gradients are finite.
    fn begin_scaled(&mut self, state: &mut TrainState, batches: &StepBatches) -> Result<PendingStep> {
        let mut loss_scale = state.loss_scale.unwrap_or_default();
        loop {
            let pending = self.dispatch(state, batches, loss_scale.scale, true)?;
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
        batches: &StepBatches,
        loss_scale: f32,
        updates: bool,
    ) -> Result<PendingStep> {
        let position = match state.pace {
            Some(pace) => pace.fraction(state.step) * self.config.schedule_steps() as f64,
            None => state.step as f64,
        };
        let lr = learning_rate_at(&self.config, position);
        let t = i32::try_from(state.step + 1).unwrap_or(i32::MAX); // the powers are 0 long before
        let correction = |beta: f32| Array::from_f32((1.0 / (1.0 - f64::from(beta).powi(t))) as f32);
        let scalars = StepScalars {
            updates: Array::from_bool(updates),
            lr: Array::from_f32(lr),
            muon_lr: Array::from_f32(muon_learning_rate_at(&self.config, position)),
            m_correction: correction(BETA1),
            v_correction: correction(self.config.beta2),
        };
        let decay = match self.training_tokens {
            Some(tokens) if updates => ngram_decay::factor(&self.config, tokens, state.step + 1),
            _ => None,
        };
        let metrics = self.functions.call(state, batches, loss_scale, scalars, decay)?;
        let changed = [&state.parameters, &state.m, &state.v]
            .into_iter()
            .flat_map(Parameters::arrays);
        let reported = [&metrics.loss, &metrics.grad_norm, &metrics.found_inf];
        async_eval(changed.chain(reported).chain(&metrics.terms))?;
        Ok(PendingStep {
            step: state.step + 1,
            lr,
            metrics,
            answers: None,
        })
    }

    /// Times a step, after one that compiles, without changing parameters or moments; extrapolated from at most two
    /// micro-batches.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn time_step(&mut self, state: &mut TrainState, source: &Source) -> Result<Duration> {
        self.time_step_of(state, |stepper, state, count| {
            let mut batches = stepper.micro_batches(source, state.step);
            batches.truncate(count);
            Ok(batches)
        })
    }

    /// The same, with the time that `make` takes for that many micro-batches.
    ///
    /// # Errors
    /// Those of [`step`](Self::step) and of `make`.
    pub fn time_step_of(
        &mut self,
        state: &mut TrainState,
        mut make: impl FnMut(&Self, &TrainState, usize) -> Result<Vec<MicroBatch>>,
    ) -> Result<Duration> {
        let grad_accum = self.config.grad_accum;
        let measured = grad_accum.min(2);
        let mut time = Duration::ZERO;
        for _ in 0..2 {
            let started = Instant::now();
            let batches = make(self, state, measured)?;
            let loss_scale = state.loss_scale.unwrap_or_default().scale;
            let batches = self.prepare(batches)?;
            self.dispatch(state, &batches, loss_scale, false)?.report()?;
            time = started.elapsed();
        }
        Ok(time * grad_accum as u32 / measured as u32)
    }
}
