//! Estimates of the memory that work needs, made before it starts: MLX ends the process if it cannot allocate an array.
//!
//! Each is a lower bound, so that nothing is refused that would fit.

use std::fmt::Display;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use indicatif::HumanBytes;
use sysinfo::System;

use crate::config::{Architecture, ModelConfig, Optimizer, Precision, TrainConfig};

/// Bytes of a float32.
const FLOAT32: f64 = 4.0;

/// Activations per token and channel that a block keeps for its backward pass: its input and its middle, two layer norms,
/// queries, keys and values, their copies by head, attention's output, the MLP's two inner layers.
const KEPT_CHANNELS: f64 = 20.0;

/// The machine's memory, or as much of it as this process may use.
pub fn of_machine() -> u64 {
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

/// Bytes of a training step: `parameters` numbers of which `learning` learn, with their moments and gradients, and the
/// activations of a micro-batch that the backward pass needs.
pub fn of_step(config: &TrainConfig, model: &ModelConfig, parameters: usize, learning: usize) -> f64 {
    let number = match config.dtype {
        Precision::Float32 => FLOAT32,
        Precision::Bfloat16 | Precision::Float16 => FLOAT32 / 2.0,
    };
    let (parameters, learning) = (parameters as f64, learning as f64);
    // Numbers kept for each that learns, its gradient included; Muon's matrices have one moment.
    let kept = match config.optimizer {
        Optimizer::Adamw => 3.0,
        Optimizer::Muon => 2.0,
    };
    let state = FLOAT32 * (parameters + kept * learning);
    let tokens = (config.batch_size * config.context) as f64;
    // The lessons' early architectures have less than a block.
    let blocks = match model.architecture {
        Architecture::Gpt2 | Architecture::Modern => model.layers,
        Architecture::Bigram | Architecture::Averaging | Architecture::Attention => 0,
    };
    let [layers, heads, channels, vocabulary] = [blocks, model.heads, model.embd, model.vocab_size].map(|n| n as f64);
    // Attention's weights [B, H, T, T]: with dropout they are kept before and after it, and its mask.
    let weights = heads * config.context as f64 * if config.dropout > 0.0 { 3.0 } else { 0.0 };
    let block = KEPT_CHANNELS * channels + weights;
    state + tokens * (layers * block * number + 2.0 * vocabulary * FLOAT32)
}

/// Bytes of a forward pass over `rows` rows of `length` tokens, one block after the other: its channels, or the
/// logits.
pub fn of_forward(model: &ModelConfig, rows: usize, length: usize) -> f64 {
    let [channels, vocabulary] = [model.embd, model.vocab_size].map(|n| n as f64);
    (rows * length) as f64 * (8.0 * channels).max(vocabulary) * FLOAT32
}

/// Bytes of the keys and values of one sequence as long as the model's context.
pub fn of_generation(model: &ModelConfig) -> f64 {
    let channels = model.embd / model.heads * model.kv_heads();
    2.0 * [model.layers, model.context, channels]
        .map(|n| n as f64)
        .iter()
        .product::<f64>()
        * FLOAT32
}

/// # Errors
/// `what` takes more `bytes` than this machine has; `remedy` says how to take fewer.
pub fn ensure_fits(what: impl Display, bytes: f64, remedy: &str) -> Result<()> {
    let machine = of_machine();
    ensure!(
        bytes <= machine as f64,
        "{what} takes at least {} of memory, this machine has {}; {remedy}",
        HumanBytes(bytes as u64),
        HumanBytes(machine)
    );
    Ok(())
}
