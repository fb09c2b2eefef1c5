//! Estimates of memory, taken before work starts: MLX ends the process when it cannot allocate an array.
//!
//! The estimates are lower bounds of the peak, so that nothing is refused that would have fitted.

use std::fmt::Display;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use sysinfo::System;

use crate::config::{Architecture, ModelConfig, Optimizer, Precision, TrainConfig};
use crate::disk::bytes::Bytes;

/// Bytes of a float32.
const FLOAT32: f64 = 4.0;

/// Numbers for each token and channel that a block keeps for its backward pass: the residual stream before attention and
/// before the MLP, two layer norms, queries, keys and values, their copies by head, attention's output, the MLP's hidden
/// channels before and after the activation.
const KEPT_CHANNELS: f64 = 20.0;

/// Bytes of the machine's memory, or of the part of it that this process may use.
pub fn total_memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let mut system = System::new();
        system.refresh_memory();
        let total = system.total_memory();
        system
            .cgroup_limits()
            .map_or(total, |limits| limits.total_memory.min(total))
    })
}

/// Bytes of a training step: `parameters` numbers, the gradients and moments of the `trainable` ones among them, and the
/// activations of a micro-batch that the backward pass needs.
pub fn training_step_bytes(config: &TrainConfig, model: &ModelConfig, parameters: usize, trainable: usize) -> f64 {
    let number = match config.dtype {
        Precision::Float32 => FLOAT32,
        Precision::Bfloat16 | Precision::Float16 => FLOAT32 / 2.0,
    };
    let (parameters, trainable) = (parameters as f64, trainable as f64);
    // The gradient and the moments of a trainable number. Muon's matrices have one moment; its embeddings and biases have
    // AdamW's two, which a lower bound can leave out.
    let kept = match config.optimizer {
        Optimizer::Adamw => 3.0,
        Optimizer::Muon => 2.0,
    };
    let state = FLOAT32 * (parameters + kept * trainable);
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
        // The inputs of all, and one of them in its backward pass.
        true => layers * channels + block.min(layers * block),
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
/// `what` takes more `bytes` than this machine has; `remedy` says how to take fewer.
pub fn ensure_fits(what: impl Display, bytes: f64, remedy: &str) -> Result<()> {
    let machine = total_memory();
    ensure!(
        bytes <= machine as f64,
        "{what} takes at least {} of memory, this machine has {}; {remedy}",
        Bytes(bytes as u64),
        Bytes(machine)
    );
    Ok(())
}
