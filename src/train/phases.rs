//! Timing of the phases of [`train`](super::train)'s loop, for the benchmark.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::log::{LOG_EVERY, StepLogger};
use super::saving::SAMPLE_TOKENS;
use super::session::Session;
use super::step::StepReport;

/// Tokens generated to extrapolate the time of an evaluation's sample, which takes a minute with OpenAI's sizes on a CPU.
const TIMED_TOKENS: usize = 30;
/// Lines that are logged to take the mean.
const TIMED_LINES: u32 = 10;

impl Session {
    /// Computes a step; gives the time of making its batches, and of the step itself.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn time_step(&mut self) -> Result<(Duration, Duration)> {
        let started = Instant::now();
        let (batches, _) = self.next_batches()?;
        let data = started.elapsed();
        let started = Instant::now();
        self.stepper.step(&mut self.state, batches)?;
        Ok((data, started.elapsed()))
    }

    /// Time of an evaluation, extrapolated from a part of it.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
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

    /// Mean time of logging per step.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn time_logging(&mut self) -> Result<Duration> {
        let mut log = StepLogger::new();
        let step = StepReport {
            step: self.state.step,
            loss: 4.1589,
            grad_norm: 1.0,
            lr: self.config.lr,
            found_inf: false,
            objective: None,
        };
        let started = Instant::now();
        for _ in 0..TIMED_LINES {
            log.log(self, &step)?;
        }
        Ok(started.elapsed() / TIMED_LINES / LOG_EVERY as u32)
    }
}
