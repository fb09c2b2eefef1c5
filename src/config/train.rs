//! A training run.

use serde::{Deserialize, Serialize};

use super::{
    Activation, Architecture, BatchRamp, Boundaries, Device, Lora, ModelConfig, Norm, Parts, Position, SpecialTokens,
};
use crate::disk::floats::Precision;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay
    Adamw,
    /// Momentum with orthogonalised steps for the blocks' matrices, AdamW for the rest
    Muon,
}

/// How rates change over a run, after their warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine from the highest rate down to the lowest (Loshchilov and Hutter 2017)
    #[default]
    Cosine,
    /// Warm-up, stable, decay: the highest rate until the last --decay-share of the steps, which fall in a line to the
    /// lowest (Hu et al. 2024)
    Wsd,
    /// A line from the highest rate down to the lowest (Defazio et al. 2023)
    Linear,
}

/// A training run: what its `config.toml` holds, key by key the long options of `train`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// A text file, a folder of them, a folder of tokens, or [`DEFAULT_CORPUS`](super::DEFAULT_CORPUS).
    pub corpus: String,
    /// `char`, `gpt2`, `cl100k`, or the path of a `tokenizer.json`.
    pub tokenizer: String,
    /// What becomes of special tokens whose text is in the corpus.
    #[serde(default)]
    pub special: SpecialTokens,
    /// A checkpoint whose weights the run starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Patterns of the names of parameters that do not learn, such as `wte.*`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Rank of the low-rank adapters, which then learn alone; 0 for none.
    #[serde(default)]
    pub lora_rank: usize,
    /// Adapters are scaled by this over their rank.
    #[serde(default = "default_lora_alpha")]
    pub lora_alpha: f32,
    /// The linear layers that have adapters, by the last parts of their names.
    #[serde(default = "default_lora_targets")]
    pub lora_targets: Vec<String>,
    #[serde(default)]
    pub arch: Architecture,
    #[serde(default)]
    pub position: Position,
    #[serde(default)]
    pub norm: Norm,
    /// Queries and keys are normalised.
    #[serde(default)]
    pub qk_norm: bool,
    #[serde(default)]
    pub activation: Activation,
    /// The output head is the token embedding once more.
    #[serde(default = "yes")]
    pub tie_head: bool,
    /// Heads of keys and values, if fewer than `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    pub layers: usize,
    pub heads: usize,
    pub embd: usize,
    pub context: usize,
    pub dropout: f32,
    /// Optimizer steps in total.
    pub steps: u64,
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Of an earlier version.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    pub batch_start: BatchRamp,
    /// Of an earlier version.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    pub batch_ramp: BatchRamp,
    /// Micro-batches of different rows whose gradients are added up for a step.
    pub grad_accum: usize,
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub lr: f32,
    /// Muon's peak learning rate, of the blocks' matrices.
    #[serde(default = "default_muon_lr")]
    pub muon_lr: f32,
    /// Learning rate at the end of the schedule.
    pub min_lr: f32,
    /// Steps over which the rate rises to `lr`.
    pub warmup: u64,
    #[serde(default)]
    pub schedule: Schedule,
    /// The step at which the schedule ends, if not the last: a run that is resumed for more steps keeps its schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_steps: Option<u64>,
    /// The share of the schedule's steps over which [`Schedule::Wsd`] decays.
    #[serde(default = "default_decay_share")]
    pub decay_share: f32,
    pub weight_decay: f32,
    pub beta2: f32,
    /// Gradients are clipped to this global L2 norm; 0 for none.
    pub grad_clip: f32,
    pub dtype: Precision,
    /// Blocks are computed again in the backward pass, which takes less memory and more time.
    #[serde(default)]
    pub recompute: bool,
    pub device: Device,
    /// CPU threads that compute: each the gradients of some rows of a batch, the update of some parameters, whole batches
    /// of evaluations.
    pub threads: usize,
    pub seed: u64,
    pub eval_every: u64,
    /// Batches of either split that an evaluation reads, spread evenly over it.
    pub eval_batches: usize,
    pub save_every: u64,
    /// How many of the newest checkpoints are kept; 0 for all. The best one is kept as well.
    #[serde(default)]
    pub keep_last: usize,
    /// Checkpoints whose step is a multiple of this are kept as well; 0 for none.
    #[serde(default)]
    pub keep_every: u64,
    /// What happens to a step whose loss or gradients are not finite.
    #[serde(default)]
    pub on_nan: OnNan,
}

/// What happens to a step whose loss or gradients are not finite. In either case it changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// The run ends, and says which batch it was
    #[default]
    Stop,
    /// The step is skipped and counted, and the run goes on with the next batch
    Skip,
}

fn yes() -> bool {
    true
}

/// Jordan's, from his speed runs.
pub(super) fn default_muon_lr() -> f32 {
    0.02
}

pub(super) fn default_lora_alpha() -> f32 {
    16.0
}

/// Long runs need no more than 0.1 (Hu et al. 2024); short ones, such as modded-nanogpt's, take 0.4.
pub(super) fn default_decay_share() -> f32 {
    0.4
}

/// The layers that Hugging Face's `peft` adapts in a GPT-2 unless told otherwise.
pub(super) fn default_lora_targets() -> Vec<String> {
    vec!["c_attn".into()]
}

/// All cores of a CPU; a GPU is kept busy by one thread.
pub fn default_threads(device: Device) -> usize {
    match device {
        Device::Cpu => std::thread::available_parallelism().map_or(1, |n| n.get()),
        Device::Gpu => 1,
    }
}

impl TrainConfig {
    pub fn model(&self, vocab_size: usize) -> ModelConfig {
        let parts = Parts {
            position: self.position,
            norm: self.norm,
            qk_norm: self.qk_norm,
            activation: self.activation,
            own_head: !self.tie_head,
            kv_heads: self.kv_heads.filter(|&kv_heads| kv_heads != self.heads),
        };
        ModelConfig {
            // One other part makes it another model than GPT-2.
            architecture: match self.arch {
                Architecture::Gpt2 | Architecture::Modern if parts == Parts::GPT2 => Architecture::Gpt2,
                Architecture::Gpt2 => Architecture::Modern,
                other => other,
            },
            parts,
            layers: self.layers,
            heads: self.heads,
            embd: self.embd,
            context: self.context,
            vocab_size,
            dropout: self.dropout,
            lora: self.lora(),
            quantization: None,
            boundaries: Boundaries::default(),
        }
    }

    /// The step at which the rates have come down to their lowest.
    pub fn schedule_steps(&self) -> u64 {
        self.schedule_steps.unwrap_or(self.steps)
    }

    /// The adapters to train, if there are any.
    pub fn lora(&self) -> Option<Lora> {
        (self.lora_rank > 0).then(|| Lora {
            rank: self.lora_rank,
            alpha: self.lora_alpha,
            targets: self.lora_targets.clone(),
        })
    }

    /// Tokens that one optimizer step learns from.
    pub fn tokens_per_step(&self) -> usize {
        self.batch_size * self.context * self.grad_accum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;

    #[test]
    fn a_run_from_before_there_were_schedules_has_the_cosine() {
        let config = Preset::Nano.train(Device::Cpu);
        let mut table = toml::Table::try_from(&config).unwrap();
        for key in ["schedule", "decay_share"] {
            assert!(table.remove(key).is_some());
        }
        assert_eq!(table.try_into::<TrainConfig>().unwrap(), config);
    }
}
