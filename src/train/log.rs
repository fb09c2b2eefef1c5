//! Logs steps to `metrics.jsonl`, and measures their rate.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::metrics::{Record, StepRecord};
use super::session::Session;
use super::step::StepReport;
use crate::config::Objective;

/// Interval between logged steps; the first and the last are logged too.
pub const LOG_EVERY: u64 = 10;

/// Logs steps, and measures their throughput.
pub struct StepLogger {
    /// Time spent in steps since the last logged one.
    clock: Duration,
    running_since: Instant,
    tokens_since: usize,
    /// At the last logged step; 0 before the first.
    tokens_per_second: f64,
}

impl StepLogger {
    /// Starts the clock.
    pub fn new() -> Self {
        Self {
            clock: Duration::ZERO,
            running_since: Instant::now(),
            tokens_since: 0,
            tokens_per_second: 0.0,
        }
    }

    /// Starts the clock, without the time since it was last read.
    pub fn start_clock(&mut self) {
        self.running_since = Instant::now();
    }

    /// Adds the time and the tokens of a finished step.
    pub fn count(&mut self, session: &Session) {
        self.clock += self.running_since.elapsed();
        self.start_clock();
        self.tokens_since += session.config.tokens_per_step();
    }

    /// Counts a step, and logs every [`LOG_EVERY`]th.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn step(&mut self, session: &mut Session, step: &StepReport) -> Result<()> {
        self.count(session);
        let (now, last) = (step.step, session.total_steps());
        // Steps that sample answers are few and slow.
        let every = match session.config.objective() {
            Objective::NextToken => LOG_EVERY,
            _ => 1,
        };
        if now == 1 || now.is_multiple_of(every) || now == last {
            self.log(session, step)?;
        }
        Ok(())
    }

    /// Logs a step.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn log(&mut self, session: &mut Session, step: &StepReport) -> Result<()> {
        self.tokens_per_second = self.rate();
        session.metrics.log(Record::Step(StepRecord {
            step: step.step,
            loss: step.loss,
            lr: step.lr,
            grad_norm: step.grad_norm,
            tokens_per_second: self.tokens_per_second,
            memory: mlx_rs::memory::active_memory()? + mlx_rs::memory::cache_memory()?,
            objective: step.objective,
        }))?;
        (self.clock, self.tokens_since) = (Duration::ZERO, 0);
        Ok(())
    }

    /// Tokens a second up to the last logged step; before that, of the steps so far, or 0.
    pub fn tokens_per_second(&self) -> f64 {
        match (self.tokens_per_second, self.tokens_since) {
            (0.0, 0) => 0.0,
            (0.0, _) => self.rate(),
            (logged, _) => logged,
        }
    }

    fn rate(&self) -> f64 {
        self.tokens_since as f64 / self.clock.as_secs_f64()
    }
}
