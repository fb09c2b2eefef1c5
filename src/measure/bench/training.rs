//! Training speed of a model size, phase by phase.

use anyhow::{Context, Result};
use serde::Serialize;

use super::flops;
use super::machine::Peaks;
use super::timing::{Rounds, median, milliseconds};
use crate::config::TrainConfig;
use crate::data::dataset::Dataset;
use crate::train::Session;

/// Warm-up steps: the first is traced and compiled, the second allocates buffers.
const WARM_UP: usize = 2;

/// Measurements of training.
#[derive(Clone, Debug, Serialize)]
pub struct Training {
    /// Rows of a batch.
    pub batch_size: usize,
    /// Tokens of a row.
    pub context: usize,
    /// Micro-batches of a step.
    pub grad_accum: usize,
    /// Format of the forward and backward pass.
    pub dtype: String,
    /// Steps that were timed.
    pub steps: usize,
    /// From the median time of a step and of making its batches.
    pub tokens_per_second: f64,
    /// Time of each phase.
    pub milliseconds: Phases,
    /// Peak bytes of MLX's arrays.
    pub peak_memory: usize,
    /// [`flops::training_flops_per_token`].
    pub flops_per_token: u64,
    /// Fraction of the sgemm peak, if that was measured.
    pub share_of_sgemm: Option<f64>,
}

/// Milliseconds per step of each phase; phases that don't happen in every step are averaged over all steps.
#[derive(Clone, Debug, Serialize)]
pub struct Phases {
    /// Making the step's batches.
    pub data: f64,
    /// Gradients and update.
    pub step: f64,
    /// Estimating the loss on both splits, and a sample.
    pub evaluation: f64,
    /// The line of metrics and the progress bar.
    pub logging: f64,
}

impl Training {
    /// Trains by `config` in a folder that is removed afterwards.
    ///
    /// # Errors
    /// Those of training.
    pub fn measure(config: TrainConfig, dataset: &Dataset, rounds: Rounds, peaks: Option<&Peaks>) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder can be made; set TMPDIR to one that can")?;
        mlx_rs::memory::reset_peak_memory()?;
        let mut session = Session::start(config.clone(), dataset, &folder.path().join("run"))?;
        for _ in 0..WARM_UP {
            session.time_step()?;
        }
        let times = rounds.repeat(|| session.time_step())?;
        let peak_memory = mlx_rs::memory::peak_memory()?;
        let (data, step): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        let steps = step.len();
        let (data, step) = (median(data), median(step));
        let tokens_per_second = config.tokens_per_step() as f64 / (data + step).as_secs_f64();
        let flops_per_token = flops::training_flops_per_token(session.model(), config.context);
        Ok(Self {
            batch_size: config.batch_size,
            context: config.context,
            grad_accum: config.grad_accum,
            dtype: config.dtype.to_string(),
            steps,
            tokens_per_second,
            milliseconds: Phases {
                data: milliseconds(data),
                step: milliseconds(step),
                evaluation: milliseconds(session.time_evaluation()?) / config.eval_every as f64,
                logging: milliseconds(session.time_logging()?),
            },
            peak_memory,
            flops_per_token,
            share_of_sgemm: peaks.map(|peaks| flops_per_token as f64 * tokens_per_second / peaks.sgemm),
        })
    }
}
