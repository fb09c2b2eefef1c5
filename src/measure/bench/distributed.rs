//! Training on several machines: what messages and steps take here, and a prediction for more machines.
//!
//! A sum over n ranks in a ring takes `2 (n - 1) α + 2 (n - 1) / n · bytes / β`: each rank sends a part of the message that
//! many times, and waits the latency α each time; β is the bandwidth between two neighbours (Thakur et al. 2005,
//! "Optimization of collective communication operations in MPICH"). A step's computation is a fixed part, mostly the update,
//! and a part for each row.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mlx_rs::ops;
use mlx_rs::transforms::eval;
use serde::Serialize;

use super::timing::{Rounds, median, milliseconds};
use crate::compute::ranks::Ranks;
use crate::config::TrainConfig;
use crate::data::source::Source;
use crate::data::tokens::Tokens;
use crate::model::Parameters;
use crate::model::init::initialize;
use crate::train::step::{BUCKET_BYTES, Stepper, TrainState};

/// Sizes of the messages that are timed, in KiB.
const MESSAGE_KIB: [usize; 5] = [4, 64, 1024, 8 << 10, 32 << 10];
/// Numbers of ranks of the prediction.
const RANKS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Steps between joins, where ranks train apart.
pub const SYNC_EVERY: usize = 100;
const WARM_UP: usize = 2;

/// The time of a message.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Message {
    /// Its size.
    pub bytes: usize,
    /// The shortest time of its sum over all ranks: whatever else goes on only adds to it.
    pub milliseconds: f64,
}

/// Latency and bandwidth of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// α: seconds of a message to a neighbour, however short.
    pub latency: f64,
    /// β: bytes a second to a neighbour.
    pub bandwidth: f64,
}

/// What a step takes, without messages.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Computation {
    /// Milliseconds of a step, whatever the rows.
    pub fixed: f64,
    /// Milliseconds of each row.
    pub row: f64,
}

/// A prediction for a number of ranks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prediction {
    /// Number of ranks.
    pub ranks: usize,
    /// Milliseconds of a step that shares the batch of one rank; none where that has fewer rows than ranks.
    pub same_batch: Option<f64>,
    /// Milliseconds of a step of as many rows on each rank as one has.
    pub grown_batch: f64,
    /// The same where ranks train apart and join every [`SYNC_EVERY`] steps.
    pub apart: f64,
}

/// What was measured, and predicted from it.
#[derive(Clone, Debug, Serialize)]
pub struct Distributed {
    /// Number of ranks that measured.
    pub ranks: usize,
    /// Rows of a batch.
    pub rows: usize,
    /// Bytes that a step sums.
    pub bytes_per_step: usize,
    /// By size.
    pub messages: Vec<Message>,
    /// Fitted to the messages; none of one rank, which sends none.
    pub network: Option<Network>,
    /// Fitted to steps of a whole and of half a batch.
    pub computation: Computation,
    /// Milliseconds of a step on one rank.
    pub one_rank: f64,
    /// Milliseconds of a step of the same batch on all ranks.
    pub all_ranks: f64,
    /// For 1 to 64 ranks; empty without a network.
    pub predictions: Vec<Prediction>,
}

impl Network {
    /// The least squares of relative errors over messages between `ranks`.
    fn fit(messages: &[Message], ranks: usize) -> Self {
        let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for message in messages {
            let (bytes, seconds) = (message.bytes as f64, message.milliseconds / 1e3);
            let weight = 1.0 / (seconds * seconds);
            w += weight;
            x += weight * bytes;
            y += weight * seconds;
            xx += weight * bytes * bytes;
            xy += weight * bytes * seconds;
        }
        let slope = (w * xy - x * y) / (w * xx - x * x);
        // On a busy machine times may not grow with sizes at all; then all of them is taken for the bytes.
        let per_byte = if slope > 0.0 { slope } else { y / x };
        let start = ((y - per_byte * x) / w).max(0.0);
        let hops = 2.0 * (ranks as f64 - 1.0);
        Self {
            latency: start / hops,
            bandwidth: hops / ranks as f64 / per_byte,
        }
    }

    /// Milliseconds of a sum over that many ranks.
    fn sum(&self, bytes: usize, ranks: usize) -> f64 {
        let hops = 2.0 * (ranks as f64 - 1.0);
        1e3 * (hops * self.latency + hops / ranks as f64 * bytes as f64 / self.bandwidth)
    }
}

impl Computation {
    /// From the milliseconds of a step of `rows` rows, and of `fewer` rows.
    fn fit(whole: f64, rows: usize, part: f64, fewer: usize) -> Self {
        let row = ((whole - part) / (rows - fewer) as f64).clamp(0.0, whole / rows as f64);
        Self {
            row,
            fixed: whole - row * rows as f64,
        }
    }

    fn step(&self, rows: f64) -> f64 {
        self.fixed + self.row * rows
    }
}

fn predict(network: &Network, computation: &Computation, rows: usize, bytes: usize, ranks: usize) -> Prediction {
    let messages = bytes.div_ceil(BUCKET_BYTES).max(1);
    let message = network.sum(bytes, ranks) + (messages - 1) as f64 * network.sum(0, ranks);
    let whole = computation.step(rows as f64);
    Prediction {
        ranks,
        same_batch: (ranks <= rows).then(|| computation.step(rows as f64 / ranks as f64) + message),
        grown_batch: whole + message,
        apart: whole + message / SYNC_EVERY as f64,
    }
}

impl Distributed {
    /// Measures messages and steps, on all ranks at once; the first one's figures count.
    ///
    /// # Errors
    /// MLX's. If a rank is lost, the process ends.
    pub fn measure(ranks: &Rc<Ranks>, config: &TrainConfig, vocab_size: usize, rounds: usize) -> Result<Self> {
        let rounds = Rounds::Exactly(rounds); // the same number on all ranks
        let mut messages = Vec::new();
        for bytes in MESSAGE_KIB
            .map(|kib| kib << 10)
            .into_iter()
            .filter(|_| ranks.size() > 1)
        {
            let message = [ops::ones::<f32>(&[bytes as i32 / 4])?];
            eval(&message)?;
            let sum = || {
                let started = Instant::now();
                ranks.sum(&message)?;
                anyhow::Ok(started.elapsed())
            };
            let times: Vec<Duration> = rounds.repeat(sum)?;
            messages.push(Message {
                bytes,
                milliseconds: milliseconds(times.into_iter().min().unwrap_or_default()),
            });
        }
        let rows = config.batch_size;
        let fewer = rows.div_ceil(2).min(rows - 1).max(1);
        let with_rows = |batch_size| TrainConfig {
            batch_size,
            ..config.clone()
        };
        let (one_rank, bytes_per_step) = time(None, config, vocab_size, rounds)?;
        let (half, _) = time(None, &with_rows(fewer), vocab_size, rounds)?;
        ranks.barrier()?;
        let (all_ranks, _) = time(Some(ranks), config, vocab_size, rounds)?;
        let network = (ranks.size() > 1).then(|| Network::fit(&messages, ranks.size()));
        let computation = Computation::fit(one_rank, rows, half, fewer);
        let predicted = |ranks| network.map(|network| predict(&network, &computation, rows, bytes_per_step, ranks));
        Ok(Self {
            ranks: ranks.size(),
            rows,
            bytes_per_step,
            messages,
            network,
            computation,
            one_rank,
            all_ranks,
            predictions: RANKS.into_iter().filter_map(predicted).collect(),
        })
    }

    /// What was measured in words.
    pub fn words(&self) -> String {
        let Some(Network { latency, bandwidth }) = self.network else {
            return "One rank sends no messages; start two or more.".into();
        };
        let predicted = predict(
            &Network { latency, bandwidth },
            &self.computation,
            self.rows,
            self.bytes_per_step,
            self.ranks,
        );
        format!(
            "A message to a neighbour takes {:.2} ms however short it is, and {:.1} MB pass a second. A step on one rank takes {:.1} ms: {:.1}, and {:.2} for each of {} rows. Its gradients are {:.1} MB.\nOn {} ranks a step of the same batch took {:.1} ms; the prediction is {:.1} ms.",
            1e3 * latency,
            bandwidth / 1e6,
            self.one_rank,
            self.computation.fixed,
            self.computation.row,
            self.rows,
            self.bytes_per_step as f64 / 1e6,
            self.ranks,
            self.all_ranks,
            predicted.same_batch.unwrap_or(predicted.grown_batch)
        )
    }
}

/// Milliseconds of the median step, and the bytes of its gradients.
fn time(ranks: Option<&Rc<Ranks>>, config: &TrainConfig, vocab_size: usize, rounds: Rounds) -> Result<(f64, usize)> {
    let model = config.model_config(vocab_size);
    model.validate()?;
    let parameters = initialize(&model, config.seed)?;
    let bytes = 4 * parameters.count();
    let mut stepper = Stepper::among(ranks, config, &model, &parameters, &Parameters::default())?;
    let mut state = TrainState::new(parameters, Parameters::default(), config.optimizer)?;
    let ids = u32::try_from(vocab_size).context("a vocabulary of 32 bits")?;
    let source = Source::Text(Tokens::Memory((0..100_000).map(|n| n % ids).collect()));
    let mut step = || {
        let batches = stepper.micro_batches(&source, state.step);
        let started = Instant::now();
        stepper.step(&mut state, batches)?;
        anyhow::Ok(started.elapsed())
    };
    for _ in 0..WARM_UP {
        step()?;
    }
    Ok((milliseconds(median(rounds.repeat(step)?)), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that follow the model give back its α and β, and the model's times.
    #[test]
    fn latency_and_bandwidth_are_found_in_messages_that_have_them() {
        let network = Network {
            latency: 2e-4,
            bandwidth: 5e8,
        };
        for ranks in [2, 4, 7] {
            let message = |bytes| Message {
                bytes,
                milliseconds: network.sum(bytes, ranks),
            };
            let fitted = Network::fit(&MESSAGE_KIB.map(|kib| message(kib << 10)), ranks);
            assert!((fitted.latency / network.latency - 1.0).abs() < 1e-6, "{fitted:?}");
            assert!((fitted.bandwidth / network.bandwidth - 1.0).abs() < 1e-6, "{fitted:?}");
        }
        // Two ranks: 2 α, and each byte once.
        assert!((network.sum(500_000_000, 2) - 1000.4).abs() < 1e-9);
    }

    #[test]
    fn a_prediction_adds_computation_and_messages() {
        let network = Network {
            latency: 1e-3,
            bandwidth: 1e6,
        };
        let computation = Computation::fit(50.0, 8, 30.0, 4); // 10 ms, and 5 for each row
        let predict = |ranks| predict(&network, &computation, 8, 1_000_000, ranks);
        let one = predict(1);
        assert_eq!((one.same_batch, one.grown_batch, one.apart), (Some(50.0), 50.0, 50.0));
        // 30 ms for 4 rows, 2 messages of 1 ms, and a megabyte at a megabyte a second.
        let two = predict(2);
        assert!((two.same_batch.unwrap() - 1032.0).abs() < 1e-9, "{two:?}");
        assert!(
            (two.grown_batch - 1052.0).abs() < 1e-9 && (two.apart - 60.02).abs() < 1e-9,
            "{two:?}"
        );
        assert_eq!(predict(16).same_batch, None);
        // Half the rows in less than half the time: it is all for rows, and a whole step still takes what it took.
        assert_eq!(Computation::fit(50.0, 8, 20.0, 4).step(8.0), 50.0);
    }
}
