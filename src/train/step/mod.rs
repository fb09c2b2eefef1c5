//! One optimizer step: [`gradients`], [`control`], [`update`], by one compiled function or by the threads of [`workers`].

pub mod arrays;
pub mod control;
pub mod gradients;
mod loss_scale;
mod state;
mod update;
pub mod workers;

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
use crate::compute::compiled::{Compiled, compiled};
use crate::config::{ModelConfig, OnNan, Precision, TrainConfig};
use crate::data::batches::{self, Batch};
use crate::data::tokens::Tokens;
use crate::model::dropout::Dropout;
use crate::model::parameters::Parameters;
use arrays::{StepInputs, StepMetrics, StepOutputs, StepScalars, UpdateInputs};
use gradients::{GradientSpec, MicroBatch};
pub use state::TrainState;
use update::UpdateSpec;
use workers::{GradientWorkers, UpdateWorkers};

/// What is known of a step once it is computed.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done with it.
    pub step: u64,
    /// Mean over the step's tokens, before the update, in nats.
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f32,
    pub lr: f32,
    /// The loss or a gradient was not finite: the step was skipped.
    pub found_inf: bool,
}

/// A step that was begun, and may still be computing.
pub struct Pending {
    step: u64,
    lr: f32,
    metrics: StepMetrics,
}

impl Pending {
    /// Waits for the step.
    ///
    /// # Errors
    /// MLX's.
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

/// Takes the steps of a run.
pub struct Stepper {
    config: TrainConfig,
    dropout_sites: usize,
    vocab_size: usize,
    functions: Functions,
}

/// The step's compiled functions.
enum Functions {
    /// One thread, which a GPU has, and one micro-batch: one function for everything.
    Whole(Compiled<StepInputs, StepOutputs>),
    /// A function for the gradients of each micro-batch and one for the update, or several threads for either.
    Parts {
        gradients: GradientWorkers,
        update: UpdateWorkers,
    },
}

impl Functions {
    fn new(gradients: GradientSpec, update: UpdateSpec, parameters: &Parameters, threads: usize) -> Result<Self> {
        if threads <= 1 && gradients.micro_batches == 1 {
            return Ok(Self::Whole(compiled(move |inputs| whole(&gradients, &update, inputs))));
        }
        Ok(Self::Parts {
            update: UpdateWorkers::new(&update, &update.costs(parameters), threads)?,
            gradients: GradientWorkers::new(&gradients, threads)?,
        })
    }

    /// Parameters and moments of `state` after a step; lazily, on one thread.
    fn call(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
        scalars: StepScalars,
    ) -> Result<StepMetrics> {
        let outputs = match self {
            Self::Whole(function) => {
                let [micro_batch] = &micro_batches[..] else {
                    bail!("a step of one micro-batch was given {}", micro_batches.len());
                };
                function(StepInputs {
                    frozen: state.frozen.arrays().to_vec(),
                    states: state.take(),
                    rows: micro_batch.rows([0, micro_batch.batch.rows], loss_scale),
                    scalars,
                })?
            }
            Self::Parts { gradients, update } => {
                let (parameters, frozen) = (state.parameters.arrays(), state.frozen.arrays());
                let gradients = gradients.compute(parameters, frozen, micro_batches, loss_scale)?;
                update.update(state.take(), gradients, &scalars)?
            }
        };
        state.put(outputs.states)?;
        Ok(outputs.metrics)
    }
}

/// The whole step.
fn whole(gradients: &GradientSpec, update: &UpdateSpec, inputs: StepInputs) -> MlxResult<StepOutputs> {
    let StepInputs {
        states,
        frozen,
        rows,
        scalars,
    } = inputs;
    let parameters: Vec<Array> = states.iter().map(|state| state.parameter.clone()).collect();
    let computed = gradients.gradients(0, &parameters, &frozen, &rows)?;
    update.update(UpdateInputs {
        losses: vec![computed.loss],
        squares: None,
        gradients: computed.gradients,
        states,
        scalars,
    })
}

impl Stepper {
    /// For the parameters that learn and those that are `frozen`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        config: &TrainConfig,
        model: &ModelConfig,
        parameters: &Parameters,
        frozen: &Parameters,
    ) -> Result<Self> {
        let gradients = GradientSpec {
            model: model.clone(),
            names: Arc::clone(parameters.names()),
            frozen: Arc::clone(frozen.names()),
            precision: config.dtype,
            recompute: config.recompute,
            batch_rows: config.batch_size,
            micro_batches: config.grad_accum,
            row_tokens: config.context,
        };
        let update = UpdateSpec::new(config, model, parameters);
        Ok(Self {
            config: config.clone(),
            dropout_sites: Dropout::sites(model.layers),
            vocab_size: model.vocab_size,
            functions: Functions::new(gradients, update, parameters, config.threads)?,
        })
    }

    /// Threads that compute gradients.
    pub fn threads(&self) -> usize {
        match &self.functions {
            Functions::Whole(_) => 1,
            Functions::Parts { gradients, .. } => gradients.count(),
        }
    }

    /// The micro-batches of a step and the keys of their dropout masks.
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

    /// Where the rows of a step begin in the training tokens.
    pub fn rows(&self, tokens: &Tokens, step: u64) -> Vec<usize> {
        self.row_starts(&mut batches::step_rng(self.config.seed, step), tokens)
    }

    fn row_starts(&self, rng: &mut ChaCha8Rng, tokens: &Tokens) -> Vec<usize> {
        let rows = self.config.batch_size * self.config.grad_accum;
        batches::row_starts(rng, rows, tokens.len(), self.config.context)
    }

    /// How long a step takes: one of at most two micro-batches is computed twice, the first time to compile, and changes
    /// nothing.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn measure(&mut self, state: &mut TrainState, tokens: &Tokens) -> Result<Duration> {
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

    /// Takes the step that `state` is at, on `micro_batches`, and waits for it. One whose loss or gradients are not finite
    /// changes no parameter and no moment; where the configuration says so, it is counted as a step and as a skipped one.
    ///
    /// # Errors
    /// A token that the model does not know; MLX's, after which the state cannot be used.
    pub fn step(&mut self, state: &mut TrainState, micro_batches: Vec<MicroBatch>) -> Result<StepReport> {
        let report = self.begin(state, micro_batches)?.report()?;
        if report.found_inf && self.config.on_nan == OnNan::Stop {
            state.step -= 1;
        }
        self.count_skipped(state, &report);
        Ok(report)
    }

    /// Begins the step that `state` is at. On a GPU it is still computing when this returns: read its report after the
    /// next one was begun, then [`count_skipped`](Self::count_skipped).
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
            self.dispatch(state, &micro_batches, 1.0, true)?
        };
        state.step += 1;
        Ok(pending)
    }

    /// Counts a step that was skipped.
    pub fn count_skipped(&self, state: &mut TrainState, report: &StepReport) {
        if report.found_inf && self.config.on_nan == OnNan::Skip {
            state.skipped += 1;
        }
    }

    /// With losses scaled as high as the gradients stay finite.
    fn begin_scaled(&mut self, state: &mut TrainState, micro_batches: &Arc<Vec<MicroBatch>>) -> Result<Pending> {
        let mut loss_scale = state.loss_scale.unwrap_or_default();
        loop {
            let pending = self.dispatch(state, micro_batches, loss_scale.scale, true)?;
            let report = pending.report()?;
            match loss_scale.lowered() {
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

    /// Starts computing the step, its losses scaled by `loss_scale`; the number of steps done stays the same. Parameters and
    /// moments change if it `updates` and its numbers are finite.
    fn dispatch(
        &mut self,
        state: &mut TrainState,
        micro_batches: &Arc<Vec<MicroBatch>>,
        loss_scale: f32,
        updates: bool,
    ) -> Result<Pending> {
        for micro_batch in micro_batches.iter() {
            micro_batch.batch.check(self.vocab_size)?;
        }
        let lr = learning_rate(&self.config, state.step);
        let t = state.step as i32 + 1;
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
        Ok(Pending {
            step: state.step + 1,
            lr,
            metrics,
        })
    }
}
