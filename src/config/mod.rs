//! Everything that starts a run, as plain structs with named presets.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::device::Compute;

/// What a configuration calls the corpus that comes with the program; no path is called that.
pub const DEFAULT_CORPUS: &str = "builtin:shakespeare";

/// The shape of a GPT-2.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub layers: usize,
    /// Attention heads; they divide `embd`.
    pub heads: usize,
    /// Channels of the residual stream.
    pub embd: usize,
    /// The most tokens that the model can look at.
    pub context: usize,
    pub vocab_size: usize,
    /// Share of activations dropped in training, at GPT-2's three sites.
    pub dropout: f32,
}

/// The number format that the forward and backward pass compute in; master weights are always float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Float32,
    Bfloat16,
    Float16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    Adamw,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
        })
    }
}

/// A training run: what its `config.toml` holds, key by key the long options of `train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// A text file, a folder of them, a folder of tokens, or [`DEFAULT_CORPUS`].
    pub corpus: String,
    /// `char`, `gpt2`, `cl100k`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// A checkpoint whose weights the run starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    pub layers: usize,
    pub heads: usize,
    pub embd: usize,
    pub context: usize,
    pub dropout: f32,
    /// Optimizer steps in total.
    pub steps: u64,
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches, different ones, whose gradients are added up for a step.
    pub grad_accum: usize,
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub lr: f32,
    /// Learning rate at the end of the cosine.
    pub min_lr: f32,
    /// Steps over which the rate rises to `lr`.
    pub warmup: u64,
    pub weight_decay: f32,
    pub beta2: f32,
    /// The gradient's global L2 norm is cut to this; 0 leaves it.
    pub grad_clip: f32,
    pub dtype: Precision,
    pub device: Compute,
    /// Threads that compute gradients, each on its share of a batch's rows.
    pub threads: usize,
    pub seed: u64,
    pub eval_every: u64,
    /// Batches of either split that an evaluation reads, spread evenly over it.
    pub eval_batches: usize,
    pub save_every: u64,
}

/// All cores of a CPU; a GPU is kept busy by one thread.
pub fn default_threads(device: Compute) -> usize {
    match device {
        Compute::Cpu => std::thread::available_parallelism().map_or(1, |n| n.get()),
        Compute::Gpu => 1,
    }
}

/// Named sizes and recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 0.8 million parameters, minutes on a CPU: nanoGPT's shakespeare_char recipe for CPUs.
    Nano,
    /// 10.7 million parameters, for a Mac's GPU: nanoGPT's shakespeare_char recipe for GPUs.
    Baby,
    /// OpenAI's 124 million parameters.
    Gpt2,
    /// 355 million parameters.
    Gpt2Medium,
    /// 774 million parameters.
    Gpt2Large,
    /// 1.56 billion parameters.
    Gpt2Xl,
}

impl Preset {
    /// The preset that trains in minutes on such a device.
    pub fn for_device(device: Compute) -> Self {
        match device {
            Compute::Cpu => Self::Nano,
            Compute::Gpu => Self::Baby,
        }
    }

    pub fn model(self, vocab_size: usize) -> ModelConfig {
        let (layers, heads, embd, context, dropout) = match self {
            Self::Nano => (4, 4, 128, 64, 0.0),
            Self::Baby => (6, 6, 384, 256, 0.2),
            Self::Gpt2 => (12, 12, 768, 1024, 0.0),
            Self::Gpt2Medium => (24, 16, 1024, 1024, 0.0),
            Self::Gpt2Large => (36, 20, 1280, 1024, 0.0),
            Self::Gpt2Xl => (48, 25, 1600, 1024, 0.0),
        };
        ModelConfig {
            layers,
            heads,
            embd,
            context,
            vocab_size,
            dropout,
        }
    }

    /// The preset's whole recipe.
    pub fn train(self, device: Compute) -> TrainConfig {
        let model = self.model(0);
        let character_level = matches!(self, Self::Nano | Self::Baby);
        let (steps, batch_size, grad_accum) = match self {
            Self::Nano => (2000, 12, 1),
            Self::Baby => (5000, 64, 1),
            _ => (600_000, 4, 8),
        };
        let every = if character_level { 250 } else { 1000 };
        TrainConfig {
            corpus: DEFAULT_CORPUS.into(),
            tokenizer: if character_level { "char" } else { "gpt2" }.into(),
            init_from: None,
            layers: model.layers,
            heads: model.heads,
            embd: model.embd,
            context: model.context,
            dropout: model.dropout,
            steps,
            batch_size,
            grad_accum,
            optimizer: Optimizer::Adamw,
            lr: if character_level { 1e-3 } else { 6e-4 },
            min_lr: if character_level { 1e-4 } else { 6e-5 },
            warmup: if character_level { 100 } else { 2000 },
            weight_decay: 0.1,
            beta2: if character_level { 0.99 } else { 0.95 },
            grad_clip: 1.0,
            dtype: Precision::Float32,
            device,
            threads: default_threads(device),
            seed: 1337,
            eval_every: every,
            eval_batches: 20,
            save_every: every,
        }
    }
}

impl ModelConfig {
    /// # Errors
    /// A number that no model can have, with what to do about it.
    pub fn validate(&self) -> Result<()> {
        for (name, value, most) in [
            ("layers", self.layers, 1 << 10),
            ("heads", self.heads, 1 << 10),
            ("embd", self.embd, 1 << 17),
            ("context", self.context, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
        ] {
            ensure!(value >= 1, "{name} is 0; it must be at least 1");
            ensure!(value <= most, "{name} is {value}; it can be at most {most}");
        }
        ensure!(
            self.embd.is_multiple_of(self.heads),
            "heads {} does not divide embd {}; choose a number of heads that does, such as {}",
            self.heads,
            self.embd,
            largest_divisor_up_to(self.embd, self.heads)
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "dropout {} is not from 0 up to, but not including, 1",
            self.dropout
        );
        Ok(())
    }
}

fn largest_divisor_up_to(n: usize, limit: usize) -> usize {
    (1..=limit.min(n)).rev().find(|d| n.is_multiple_of(*d)).unwrap_or(1)
}

impl TrainConfig {
    pub fn model(&self, vocab_size: usize) -> ModelConfig {
        ModelConfig {
            layers: self.layers,
            heads: self.heads,
            embd: self.embd,
            context: self.context,
            vocab_size,
            dropout: self.dropout,
        }
    }

    /// Tokens that one optimizer step learns from.
    pub fn tokens_per_step(&self) -> usize {
        self.batch_size * self.context * self.grad_accum
    }

    /// # Errors
    /// A value outside of what training can do, with its name.
    pub fn validate(&self) -> Result<()> {
        for (name, value, most) in [
            ("steps", self.steps, u64::from(u32::MAX)),
            ("context", self.context as u64, 1 << 20),
            ("batch-size", self.batch_size as u64, 1 << 20),
            ("grad-accum", self.grad_accum as u64, 1 << 20),
            ("threads", self.threads as u64, 1024),
            ("eval-every", self.eval_every, i64::MAX as u64),
            ("eval-batches", self.eval_batches as u64, 1 << 20),
            ("save-every", self.save_every, i64::MAX as u64),
        ] {
            ensure!(value >= 1, "{name} is 0; it must be at least 1");
            ensure!(value <= most, "{name} is {value}; it can be at most {most}");
        }
        ensure!(
            self.batch_size * self.context * self.grad_accum <= i32::MAX as usize,
            "batch-size {} times context {} times grad-accum {} is more tokens than a step can hold; lower one of them",
            self.batch_size,
            self.context,
            self.grad_accum
        );
        for (name, value) in [
            ("lr", self.lr),
            ("min-lr", self.min_lr),
            ("weight-decay", self.weight_decay),
            ("grad-clip", self.grad_clip),
        ] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "{name} is {value}; it must be a number, 0 or more"
            );
        }
        ensure!(
            self.min_lr <= self.lr,
            "min-lr {} is above lr {}; lower it",
            self.min_lr,
            self.lr
        );
        ensure!(
            (0.0..1.0).contains(&self.beta2),
            "beta2 {} is not from 0 up to, but not including, 1",
            self.beta2
        );
        Ok(())
    }
}
