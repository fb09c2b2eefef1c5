//! What the machine is, and what it can do at most through MLX.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, random};
use serde::Serialize;

use crate::compute::arithmetic::processor;
use crate::compute::{kernels, memory};
use crate::config::Device;

/// The machine that figures are of.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name; of a Mac the chip's, whose GPU is part of it.
    pub processor: String,
    pub cores: usize,
    /// Bytes.
    pub memory: u64,
    pub mlx: &'static str,
    pub device: Device,
    /// Threads that compute gradients.
    pub threads: usize,
    /// Which CPU kernels are in effect: `on`, `off`, or MLX's own where there are no others.
    pub kernels: Option<String>,
    /// Which BLAS multiplies matrices on the CPU, with which kernels.
    pub blas: Option<String>,
}

impl Machine {
    pub fn this(device: Device, threads: usize) -> Self {
        let (processor, cores) = processor();
        Self {
            processor,
            cores,
            memory: memory::of_machine(),
            mlx: env!("MLX_VERSION"),
            device,
            threads,
            kernels: kernels::setting(),
            blas: kernels::blas(),
        }
    }
}

/// What all threads reach together.
#[derive(Clone, Debug, Serialize)]
pub struct Peaks {
    /// Floating-point operations a second of products of large float32 matrices.
    pub sgemm: f64,
    /// Bytes of memory that are read a second.
    pub bandwidth: f64,
}

impl Peaks {
    /// # Errors
    /// MLX's.
    pub fn measure(threads: usize) -> Result<Self> {
        let peaks = Self {
            sgemm: sgemm(threads)?,
            bandwidth: bandwidth(threads)?,
        };
        mlx_rs::memory::clear_cache()?;
        Ok(peaks)
    }
}

/// Rounds of which the fastest counts: what disturbs a measurement makes it slower, never faster.
const ROUNDS: usize = 4;
/// Rows and columns of the matrices.
const SIDE: i32 = 2048;
/// Products in a round, one after the other, so that starting a GPU takes little of it.
const PRODUCTS: usize = 4;
/// Numbers of a row that is added up with the others: MLX reads such rows on a CPU as fast as memory gives them, but the
/// numbers of one long row a third as fast.
const WIDTH: usize = 2048;
/// Bytes that are read in a round, by all threads: many times what caches hold.
const READ_BYTES: usize = 512 << 20;

/// Floating-point operations a second of `threads` threads that each multiply large matrices.
///
/// # Errors
/// MLX's.
pub fn sgemm(threads: usize) -> Result<f64> {
    let time = fastest_round(threads, || {
        // Rows of unit length in the mean, so that products of products stay of one size.
        let x = random::normal::<f32>(&[SIDE, SIDE], None, 1.0 / (SIDE as f32).sqrt(), &random::key(1)?)?;
        eval([&x])?;
        Ok(move || {
            let mut y = x.clone();
            for _ in 0..PRODUCTS {
                y = y.matmul(&x)?;
            }
            eval([&y])
        })
    })?;
    let operations = threads as f64 * PRODUCTS as f64 * 2.0 * f64::from(SIDE).powi(3);
    Ok(operations / time.as_secs_f64())
}

/// Bytes that `threads` threads read from memory in a second, each adding up the rows of a matrix of its own.
///
/// # Errors
/// MLX's.
pub fn bandwidth(threads: usize) -> Result<f64> {
    let rows = READ_BYTES / threads / WIDTH / size_of::<f32>();
    let time = fastest_round(threads, || {
        let x = Array::ones::<f32>(&[rows as i32, WIDTH as i32])?;
        eval([&x])?;
        Ok(move || eval([&x.sum_axis(0, None)?]))
    })?;
    Ok((threads * rows * WIDTH * size_of::<f32>()) as f64 / time.as_secs_f64())
}

/// The shortest time in which all of `threads` threads did a piece of work, having begun together. `prepare` makes one
/// thread's work: arrays and streams belong to threads.
fn fastest_round<W>(threads: usize, prepare: impl Fn() -> MlxResult<W> + Sync) -> Result<Duration>
where
    W: FnMut() -> MlxResult<()>,
{
    let barrier = Barrier::new(threads);
    let timed = || -> MlxResult<[Duration; ROUNDS]> {
        let mut work = prepare();
        let mut times = [Duration::ZERO; ROUNDS];
        for time in &mut times {
            barrier.wait(); // also where the work could not be made, or the other threads would wait for ever
            let started = Instant::now();
            if let Ok(work) = &mut work {
                work()?;
            }
            *time = started.elapsed();
        }
        work.map(|_| times)
    };
    let times: Vec<[Duration; ROUNDS]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(timed)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|times| Ok(times.map_err(|_| anyhow!("a thread of the measurement ended early"))??))
            .collect::<Result<_>>()
    })?;
    let slowest_thread = |round: usize| times.iter().map(|times| times[round]).max();
    Ok((0..ROUNDS).filter_map(slowest_thread).min().unwrap_or_default())
}
