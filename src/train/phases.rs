//! The phases of a run one at a time, to be timed: what [`train`](super::train) does.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::report::{LOG_EVERY, Report};
use super::session::{SAMPLE_TOKENS, Session};
use super::step::StepReport;
use crate::config::ModelConfig;

/// Tokens of a sample that are timed in place of all: OpenAI's sizes take a minute for those on a CPU.
const TIMED_TOKENS: usize = 30;
/// Lines that are logged, for their mean time.
const TIMED_LINES: u32 = 10;

impl Session {
    /// The model that is trained.
    pub fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// Takes a step: how long its batches took to make, and how long it took then.
    ///
    /// # Errors
    /// MLX's.
    pub fn time_step(&mut self) -> Result<(Duration, Duration)> {
        let started = Instant::now();
        let batches = self.stepper.micro_batches(&self.train_tokens, self.state.step);
        let data = started.elapsed();
        let started = Instant::now();
        self.stepper.step(&mut self.state, batches)?;
        Ok((data, started.elapsed()))
    }

    /// How long an evaluation takes, from a part of it.
    ///
    /// # Errors
    /// MLX's.
    pub fn time_evaluation(&mut self) -> Result<Duration> {
        let whole = self.config.eval_batches;
        let at_once = self.evaluator.rows(self.config.context) * self.evaluator.batches_at_once();
        let part = whole.min(at_once.div_ceil(self.config.batch_size));
        self.estimate_losses(part)?; // traced and compiled
        let started = Instant::now();
        self.estimate_losses(part)?;
        let estimate = started.elapsed().mul_f64(whole as f64 / part as f64);
        let started = Instant::now();
        self.write_sample(TIMED_TOKENS)?;
        Ok(estimate + started.elapsed().mul_f64(SAMPLE_TOKENS as f64 / TIMED_TOKENS as f64))
    }

    /// The mean time that logging takes per step.
    ///
    /// # Errors
    /// MLX's.
    pub fn time_logging(&mut self) -> Result<Duration> {
        let mut report = Report::quiet();
        let step = StepReport {
            step: self.state.step,
            loss: 4.1589,
            grad_norm: 1.0,
            lr: self.config.lr,
            found_inf: false,
        };
        let started = Instant::now();
        for _ in 0..TIMED_LINES {
            report.log(self, &step)?;
        }
        Ok(started.elapsed() / TIMED_LINES / LOG_EVERY as u32)
    }
}
