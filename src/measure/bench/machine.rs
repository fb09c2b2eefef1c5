//! The machine, and its peak rates through MLX.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, random};
use serde::Serialize;

use crate::compute::numerics::processor;
use crate::compute::{kernels, memory};
use crate::config::Device;

/// The machine, as reported with measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name; of a Mac the chip's, whose GPU is part of it.
    pub processor: String,
    /// Number of its cores.
    pub cores: usize,
    /// Bytes.
    pub memory: u64,
    /// Version of MLX.
    pub mlx: &'static str,
    /// The device that MLX computes on.
    pub device: Device,
    /// Threads that compute gradients.
    pub threads: usize,
    /// The CPU kernels in effect: `on`, `off` or `on without …`; `None` where MLX is linked as it comes.
    pub kernels: Option<String>,
    /// Name of the BLAS on the CPU, and the kernels that it selected.
    pub blas: Option<String>,
}

impl Machine {
    /// Describes this machine.
    pub fn this(device: Device, threads: usize) -> Self {
        let (processor, cores) = processor();
        Self {
            processor,
            cores,
            memory: memory::total_memory(),
            mlx: env!("MLX_VERSION"),
            device,
            threads,
            kernels: kernels::setting(),
            blas: kernels::blas(),
        }
    }
}

/// Peak rates of all threads together.
#[derive(Clone, Debug, Serialize)]
pub struct Peaks {
    /// FLOP/s of products of large float32 matrices.
    pub sgemm: f64,
    /// Bytes read from memory per second.
    pub bandwidth: f64,
}

impl Peaks {
    /// Measures both rates, which takes seconds.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn measure(threads: usize) -> Result<Self> {
        let peaks = Self {
            sgemm: sgemm(threads)?,
            bandwidth: bandwidth(threads)?,
        };
        mlx_rs::memory::clear_cache()?;
        Ok(peaks)
    }
}

/// Rounds, of which the fastest counts: noise only ever slows a measurement down.
const ROUNDS: usize = 4;
/// Rows and columns of the matrices.
const SIDE: i32 = 2048;
/// Products of a round, in sequence, so that kernel launches on a GPU take little of it.
const PRODUCTS: usize = 4;
/// Length of the rows that are summed: on a CPU, MLX reads them at memory bandwidth; reducing one long row is three times
/// slower.
const WIDTH: usize = 2048;
/// Bytes that all threads read in a round: many times the size of the caches.
const READ_BYTES: usize = 512 << 20;

/// FLOP/s of `threads` threads that each multiply large matrices.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn sgemm(threads: usize) -> Result<f64> {
    let time = fastest_round(threads, || {
        // Rows of unit length on average, so that repeated products keep their magnitude.
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

/// Bytes that `threads` threads read from memory per second, each summing the rows of its own matrix.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn bandwidth(threads: usize) -> Result<f64> {
    let rows = READ_BYTES / threads / WIDTH / size_of::<f32>();
    let time = fastest_round(threads, || {
        let x = Array::ones::<f32>(&[rows as i32, WIDTH as i32])?;
        eval([&x])?;
        Ok(move || eval([&x.sum_axis(0, None)?]))
    })?;
    Ok((threads * rows * WIDTH * size_of::<f32>()) as f64 / time.as_secs_f64())
}

/// The shortest time in which all of `threads` threads finished their work, started together. `prepare` makes one thread's
/// work, because arrays and streams belong to threads.
fn fastest_round<W>(threads: usize, prepare: impl Fn() -> MlxResult<W> + Sync) -> Result<Duration>
where
    W: FnMut() -> MlxResult<()>,
{
    let barrier = Barrier::new(threads);
    let timed = || -> MlxResult<[Duration; ROUNDS]> {
        let mut work = prepare();
        let mut times = [Duration::ZERO; ROUNDS];
        for time in &mut times {
            barrier.wait(); // also after an error, or the other threads would wait for ever
            let started = Instant::now();
            work = work.and_then(|mut work| work().map(|()| work));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use mlx_rs::error::Exception;

    use super::*;

    /// The other threads wait for each other in every round.
    #[test]
    fn work_that_fails_on_one_thread_ends_all() {
        let made = AtomicUsize::new(0);
        let error = fastest_round(2, || {
            let fails = made.fetch_add(1, Ordering::Relaxed) == 0;
            Ok(move || match fails {
                true => Err(Exception::custom("no memory")),
                false => Ok(()),
            })
        });
        assert!(error.unwrap_err().to_string().contains("no memory"));
    }
}
