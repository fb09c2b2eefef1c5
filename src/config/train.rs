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

/// A training run: the one table of its settings. They are the keys of its `config.toml` and, as `--key`, the options of
/// `train`, whose help is what the comments say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Text to learn from: a UTF-8 file, a folder of them, or a folder of tokens (from `data prepare`, or nanoGPT's
    /// train.bin and val.bin) [default: Shakespeare's plays, built in]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", help_heading = "Data"))]
    pub corpus: String,
    /// How text becomes tokens: char, gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a folder that
    /// holds one [default: that of a folder of tokens; else char for nano and baby, gpt2 for the others]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME_OR_PATH", help_heading = "Data"))]
    pub tokenizer: String,
    /// What becomes of special tokens whose text is in the corpus, such as '<|endoftext|>' between documents [default: text]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Data"))]
    pub special: SpecialTokens,
    /// Start from this checkpoint's weights, shape and tokenizer instead of random weights
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR", help_heading = "Data"))]
    pub init_from: Option<String>,

    /// Keep parameters as they are whose names match this pattern, such as 'wte.*' or 'h.[0-5].*'; may be given several
    /// times
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN", help_heading = "Finetuning"))]
    pub freeze: Vec<String>,
    /// Train low-rank adapters of this rank beside the weights of --init-from, which stay (LoRA); 0 for none
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "R", help_heading = "Finetuning"))]
    pub lora_rank: usize,
    /// Adapters are scaled by ALPHA / R [default: 16]
    #[serde(default = "default_lora_alpha")]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "ALPHA",
            allow_negative_numbers = true,
            help_heading = "Finetuning"
        )
    )]
    pub lora_alpha: f32,
    /// Linear layers that get adapters, by the ends of their names, with commas between [default: c_attn]
    #[serde(default = "default_lora_targets")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Finetuning")
    )]
    pub lora_targets: Vec<String>,

    /// The network: GPT-2, GPT-2 with later parts (modern), or one of the lessons' steps towards it
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Model"))]
    pub arch: Architecture,
    /// How the model knows a token's position. This and the other parts one by one are keys of the file alone.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub position: Position,
    /// The normalisation before each layer.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub norm: Norm,
    /// Queries and keys are normalised.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub qk_norm: bool,
    /// The MLP's activation.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub activation: Activation,
    /// The output head is the token embedding; otherwise a matrix of its own.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub tie_head: bool,
    /// Heads of keys and values, if fewer than `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub kv_heads: Option<usize>,
    /// Transformer blocks
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub layers: usize,
    /// Attention heads; they must divide --embd
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub heads: usize,
    /// Width: channels of a token's vector
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub embd: usize,
    /// Tokens that the model sees at once
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub context: usize,
    /// Share of activations dropped in training, 0 to below 1
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Model")
    )]
    pub dropout: f32,

    /// Optimizer steps in total, those before a resume included
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub steps: u64,
    /// Rows of a batch
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Training"))]
    pub batch_size: usize,
    /// Of an earlier version.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub batch_start: BatchRamp,
    /// Of an earlier version.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub batch_ramp: BatchRamp,
    /// Batches whose gradients are added up for one step, for larger batches than memory holds
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Training"))]
    pub grad_accum: usize,
    /// What moves the weights; each brings its own rates [default: muon for nano, adamw for the others, finetuning and
    /// adapters]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub optimizer: Optimizer,
    /// Highest learning rate, reached after the warm-up
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub lr: f32,
    /// Muon's highest learning rate, of the blocks' matrices; it rises and falls as the other does [default: 0.02]
    #[serde(default = "default_muon_lr")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub muon_lr: f32,
    /// Learning rate at the end of the schedule
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub min_lr: f32,
    /// Steps over which the rate rises
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub warmup: u64,
    /// How the learning rate falls after the warm-up [default: cosine]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub schedule: Schedule,
    /// Steps at whose end the rate is at its lowest, where it stays [default: --steps; a resumed run keeps its own, even
    /// with other --steps]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub schedule_steps: Option<u64>,
    /// Share of the schedule's steps, the last ones, over which --schedule wsd falls [default: 0.4]
    #[serde(default = "default_decay_share")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub decay_share: f32,
    /// AdamW's decay of parameters with two or more dimensions
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub weight_decay: f32,
    /// AdamW's memory of squared gradients
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub beta2: f32,
    /// Gradients are cut to this norm; 0 turns it off
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub grad_clip: f32,
    /// Number format of the forward and backward pass; weights stay float32
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub dtype: Precision,
    /// Compute each block a second time in the backward pass instead of keeping what it needs: less memory, more time
    #[serde(default)]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "BOOL",
            action = clap::ArgAction::Set,
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true",
            help_heading = "Training"
        )
    )]
    pub recompute: bool,
    /// Decides initial weights, batches and dropout
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub seed: u64,

    /// Where MLX computes [default: its GPU where there is one]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Machine"))]
    pub device: Device,
    /// CPU threads that share a batch's rows, the update and evaluations [default: all cores; 1 on a GPU]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Machine"))]
    pub threads: usize,

    /// Steps between estimates of the loss on both splits
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Watching and saving"))]
    pub eval_every: u64,
    /// Batches of either split that an estimate reads
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Watching and saving"))]
    pub eval_batches: usize,
    /// Steps between checkpoints
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Watching and saving"))]
    pub save_every: u64,
    /// Keep the newest N checkpoints and the best one, and remove the others; 0 keeps all [default: all for nano and baby,
    /// 3 for the others]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Watching and saving"))]
    pub keep_last: usize,
    /// Keep the checkpoints of every Nth step as well
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Watching and saving"))]
    pub keep_every: u64,
    /// What happens when the loss or the gradients of a step are not finite numbers [default: stop]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Watching and saving"))]
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
