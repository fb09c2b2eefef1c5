//! Estimates of memory, taken before work starts: on a CPU, MLX ends the process when it cannot allocate an array.
//!
//! The estimates are lower bounds of the peak, so that nothing is refused that would have fitted.

use std::fmt::Display;
use std::sync::OnceLock;

use anyhow::{Error, Result, anyhow, ensure};
use mlx_rs::memory::{set_cache_limit, set_memory_limit, set_wired_limit};
use sysinfo::System;

use super::{limits, raw};
use crate::config::{Architecture, Device, ModelConfig, Optimizer, Precision, TrainConfig};
use crate::disk::bytes::Bytes;

/// Bytes of a float32.
const FLOAT32: f64 = 4.0;

/// Numbers for each token and channel that a block keeps for its backward pass: the residual stream before attention and
/// before the MLP (2), two layer norms (2), queries, keys and values (3), their copies by head (3), attention's output by
/// head and by token (2), the MLP's hidden channels before and after the activation (8).
const KEPT_CHANNELS: f64 = 20.0;

/// Bytes of the machine's memory, or of the part of it that this process may use.
pub fn total_memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let mut system = System::new();
        system.refresh_memory();
        let total = system.total_memory();
        limits::process_limit().map_or(total, |limit| limit.min(total))
    })
}

/// The memory that a GPU can use at full speed, in bytes: a CUDA card's memory; on a Mac, whose memory is the GPU's as
/// well, the part of it that Metal recommends to use at once. None where MLX has no GPU.
pub fn gpu_memory() -> Option<u64> {
    raw::gpu_number(c"max_recommended_working_set_size").or_else(|| raw::gpu_number(c"total_memory"))
}

/// Upper limit of the device's memory in bytes, and how an error message names its source. A Mac's GPU can go on beyond
/// what is recommended.
fn device_memory() -> (u64, &'static str) {
    let gpu = matches!(Device::current(), Ok(Device::Gpu));
    match raw::gpu_number(c"total_memory").filter(|_| gpu) {
        Some(memory) => (memory, "the GPU has"),
        None if limits::process_limit().is_some_and(|limit| limit <= total_memory()) => {
            (total_memory(), "a limit leaves this process")
        }
        None => (total_memory(), "this machine has"),
    }
}

/// Makes MLX keep to a GPU's memory: as much of it as is recommended stays resident (macOS 15 and later), and beyond that
/// MLX waits for operations that are under way before it begins others. Its own limit on Metal is half as much again.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn limit_gpu() -> Result<()> {
    if let Some(recommended) = raw::gpu_number(c"max_recommended_working_set_size") {
        set_wired_limit(recommended as usize)?;
        set_memory_limit(recommended as usize)?;
    }
    Ok(())
}

/// Makes MLX cache no more freed memory than a training step takes at its `peak`, in bytes. Its own limit leaves nothing
/// of a GPU to other programs once an evaluation, which has arrays of other sizes, has come between two steps.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn limit_cache(peak: usize) -> Result<()> {
    if Device::current()? == Device::Gpu {
        set_cache_limit(peak)?;
    }
    Ok(())
}

/// What MLX says where a GPU has no memory left: its allocators, Metal's command buffers, CUDA.
const EXHAUSTED: [&str; 5] = [
    "Unable to allocate",
    "maximum allowed buffer size",
    "kIOGPUCommandBufferCallbackErrorOutOfMemory",
    "[metal::malloc] Resource limit",
    "out of memory",
];

/// The error, and `hint` where it is that memory ran out.
pub fn with_oom_hint(error: Error, hint: impl Display) -> Error {
    let words = format!("{error:#}");
    match EXHAUSTED.iter().any(|phrase| words.contains(phrase)) {
        true => anyhow!(
            "the device has no memory left ({}); {hint}",
            words.trim_end_matches('.')
        ),
        false => error,
    }
}

/// Bytes of a training step: `parameters` numbers, the gradients and moments of the `trainable` ones among them, and the
/// activations of a micro-batch that the backward pass needs.
pub fn training_step_bytes(config: &TrainConfig, model: &ModelConfig, parameters: usize, trainable: usize) -> f64 {
    let number = match config.dtype {
        Precision::Float32 => FLOAT32,
        Precision::Bfloat16 | Precision::Float16 => FLOAT32 / 2.0,
    };
    let (parameters, trainable) = (parameters as f64, trainable as f64);
    // Of an n-gram table a step has the gradient of a few rows.
    let table = (model.components.ngram_rows * model.embd) as f64;
    // The gradient and the moments of a trainable number. Muon's matrices have one moment; its embeddings and biases have
    // AdamW's two, which a lower bound can leave out.
    let kept = match config.optimizer {
        Optimizer::Adamw => 3.0 * trainable - table,
        Optimizer::Muon => 2.0 * trainable,
    };
    let state = FLOAT32 * (parameters + kept);
    let tokens = (config.batch_size * config.context) as f64;
    // The early architectures have less than a block.
    let blocks = match model.architecture {
        Architecture::Gpt2 | Architecture::Modern => model.layers,
        Architecture::Bigram | Architecture::Averaging | Architecture::Attention => 0,
    };
    let [layers, heads, channels, vocabulary] = [blocks, model.heads, model.embd, model.vocab_size].map(|n| n as f64);
    // Dropout needs attention's weights, [B, H, T, T], before and after it, and its mask.
    let weights = heads * config.context as f64 * if config.dropout > 0.0 { 3.0 } else { 0.0 };
    let block = KEPT_CHANNELS * channels + weights;
    let kept = match config.recompute {
        false => layers * block,
        // The inputs of all, and one of them in its backward pass, of the rows of one thread: others need not be in theirs just then.
        true => {
            let threads = config.compute_threads().clamp(1, config.batch_size.max(1)) as f64;
            layers * channels + block.min(layers * block) / threads
        }
    };
    state + tokens * (kept * number + 2.0 * vocabulary * FLOAT32)
}

/// Bytes of a forward pass over `rows` rows of `length` tokens: the larger of a block's activations and the logits.
pub fn forward_bytes(model: &ModelConfig, rows: usize, length: usize) -> f64 {
    let [channels, vocabulary] = [model.embd, model.vocab_size].map(|n| n as f64);
    (rows * length) as f64 * (8.0 * channels).max(vocabulary) * FLOAT32
}

/// Bytes of the KV cache of one sequence as long as the model's context.
pub fn kv_cache_bytes(model: &ModelConfig) -> f64 {
    let channels = model.embd / model.heads * model.kv_heads();
    2.0 * [model.layers, model.context, channels]
        .map(|n| n as f64)
        .iter()
        .product::<f64>()
        * FLOAT32
}

/// Checks an estimate, in bytes, against the machine's memory.
///
/// # Errors
/// `what` takes more `bytes` than this machine, or its GPU, has; `hint` says how to take fewer.
pub fn ensure_fits(what: impl Display, bytes: f64, hint: &str) -> Result<()> {
    limits::ensure_room_to_compute()?;
    let (memory, owner) = device_memory();
    ensure!(
        bytes <= memory as f64,
        "{what} takes at least {} of memory, {owner} {}; {hint}",
        Bytes(bytes as u64),
        Bytes(memory)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MLX's words at 0.32.2: `MetalAllocator::malloc`, `CommandEncoder::commit`, `check_cuda_error`.
    #[test]
    fn memory_that_runs_out_is_one_line_with_a_remedy() {
        for words in [
            "[malloc] Unable to allocate 4294967296 bytes.",
            "[metal::malloc] Attempting to allocate 9000000000 bytes which is greater than the maximum allowed buffer size of 8000000000 bytes.",
            "[metal::malloc] Resource limit (499000) exceeded.",
            "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory).",
            "cudaMallocAsync(&data, size, stream) failed: out of memory",
        ] {
            let said = with_oom_hint(anyhow!(words).context("step 3"), "lower --batch-size").to_string();
            assert!(said.contains(words.trim_end_matches('.')), "{said}");
            assert!(said.ends_with("; lower --batch-size") && !said.contains('\n'), "{said}");
        }
        let other = with_oom_hint(anyhow!("[matmul] shapes"), "lower --batch-size");
        assert_eq!(other.to_string(), "[matmul] shapes");
    }

    #[test]
    fn the_gpu_has_memory_where_there_is_one() {
        let gpu = matches!(Device::current(), Ok(Device::Gpu));
        assert_eq!(gpu_memory().is_some_and(|memory| memory > 1 << 30), gpu);
    }
}
