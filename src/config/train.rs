//! The configuration of a training run.

use serde::{Deserialize, Serialize};

use super::{
    Activation, Architecture, BatchRamp, BosEos, Components, Device, Lora, ModelConfig, NormKind, Position, Rl,
    SpecialTokens, Task,
};
use crate::disk::floats::Precision;

/// The optimizer of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW: Adam with decoupled weight decay
    Adamw,
    /// Muon: orthogonalised momentum for the blocks' matrices, AdamW for the rest
    Muon,
}

/// Learning-rate schedule after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine from lr down to min-lr (Loshchilov and Hutter 2017)
    #[default]
    Cosine,
    /// Warm-up, stable, decay: constant at lr, then linear decay to min-lr over the last --decay-share of the steps
    /// (Hu et al. 2024)
    Wsd,
    /// Linear decay from lr to min-lr (Defazio et al. 2023)
    Linear,
}

/// Which rows of a text a step learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Windows {
    /// Rows that begin anywhere, as nanoGPT's
    #[default]
    Random,
    /// Passes over the text, each with all of its windows once, shuffled
    Shuffled,
}

impl Windows {
    fn is_random(&self) -> bool {
        *self == Self::Random
    }
}

/// The configuration of a training run. The fields are the keys of its `config.toml` and, except those marked
/// `arg(skip)`, the options `--key` of `train`; their doc comments are the options' help.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Text to train on: a UTF-8 file, a folder of them, or a token folder (from `data prepare`, or nanoGPT's train.bin and
    /// val.bin) [default: Shakespeare's plays, built in]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATH", help_heading = "Data"))]
    pub corpus: String,
    /// Tokenizer: char, gpt2, cl100k, or a path: a tokenizer.json, .model or .tiktoken, or a folder that holds one
    /// [default: that of a token folder; else char for nano and baby, gpt2 for the others]
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME_OR_PATH", help_heading = "Data"))]
    pub tokenizer: String,
    /// How to encode the text of special tokens in the corpus, such as '<|endoftext|>' between documents [default: text]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Data"))]
    pub special: SpecialTokens,
    /// Train on problems that are made on the fly, instead of on a text
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Data"))]
    pub task: Option<Task>,
    /// Digits of the largest numbers that --task addition adds, from 1 to 18 [default: 3]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Data"))]
    pub digits: Option<usize>,
    /// Whether --task addition writes a sum from its last digit to its first, the order in which they are computed
    /// [default: true]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BOOL", help_heading = "Data"))]
    pub reverse_digits: Option<bool>,
    /// Whether only a task's answers are learned, and not the problems too. It has no option: it is set in the configuration
    /// file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub mask_prompt: Option<bool>,
    /// Conversations to train on, instead of a text: JSONL with messages, or with prompt and completion; the loss is on the
    /// assistant's answers alone
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "FILE", help_heading = "Data"))]
    pub chat: Option<String>,
    /// Start from this checkpoint's weights, shape and tokenizer instead of random weights
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "DIR", help_heading = "Data"))]
    pub init_from: Option<String>,

    /// Freeze the parameters whose names match this pattern, such as 'wte.*' or 'h.[0-5].*'; may be repeated
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "PATTERN", help_heading = "Fine-tuning"))]
    pub freeze: Vec<String>,
    /// Train low-rank adapters (LoRA) of rank R; the weights of --init-from are frozen; 0 disables
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "R", help_heading = "Fine-tuning"))]
    pub lora_rank: usize,
    /// Adapters are scaled by ALPHA / R [default: 16]
    #[serde(default = "default_lora_alpha")]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "ALPHA",
            allow_negative_numbers = true,
            help_heading = "Fine-tuning"
        )
    )]
    pub lora_alpha: f32,
    /// Linear layers that get adapters, by the ends of their names, separated by commas [default: c_attn]
    #[serde(default = "default_lora_targets")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Fine-tuning")
    )]
    pub lora_targets: Vec<String>,

    /// Tune the model of --init-from on --task by reinforcement learning: it answers problems, and right answers are rewarded
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Rewards and preferences"))]
    pub rl: Option<Rl>,
    /// Answers to each problem, which --rl compares with each other; --batch-size counts answers [default: 8]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", help_heading = "Rewards and preferences")
    )]
    pub group_size: Option<usize>,
    /// Weight of the KL divergence from the model of --init-from, for --rl [default: 0.04]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "X",
            allow_negative_numbers = true,
            help_heading = "Rewards and preferences"
        )
    )]
    pub kl_coef: Option<f32>,
    /// How far --rl lets the ratio of probabilities go from 1. It has no option: it is set in the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub clip_range: Option<f32>,
    /// Tune the model of --init-from by direct preference optimisation (DPO) on this file: JSON lines with prompt, chosen and
    /// rejected
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "FILE", help_heading = "Rewards and preferences")
    )]
    pub preferences: Option<String>,
    /// DPO's β: the higher, the closer to the model of --init-from [default: 0.1]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(
            long,
            value_name = "X",
            allow_negative_numbers = true,
            help_heading = "Rewards and preferences"
        )
    )]
    pub dpo_beta: Option<f32>,

    /// Architecture: GPT-2, GPT-2 with newer components (modern), or one of the lessons' simpler models
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Model"))]
    pub arch: Architecture,
    /// Position encoding. Like the other components of a block, it has no option: it is set in the configuration file.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub position: Position,
    /// The normalisation before each layer.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub norm: NormKind,
    /// QK-norm: queries and keys are normalised.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub qk_norm: bool,
    /// The MLP's activation.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub activation: Activation,
    /// The output head is tied to the token embedding; otherwise it is a matrix of its own.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub tie_head: bool,
    /// Key/value heads, if fewer than `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub kv_heads: Option<usize>,
    /// Tokens that the causal convolution before each block takes in; 0: none.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub convolution: usize,
    /// Rows of the n-gram table, a power of two; 0: no table.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub ngram_rows: usize,
    /// The longest n-grams of the table, in tokens.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub ngram_size: usize,
    /// Decay of the n-gram table: in each pass over the training text, its rows are multiplied by exp(-ngram_decay), whatever
    /// the learning rate; 0: none. AdamW's weight decay does not apply to it.
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub ngram_decay: f32,
    /// Transformer blocks
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub layers: usize,
    /// Attention heads; they must divide --embd
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub heads: usize,
    /// Embedding dimension
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub embd: usize,
    /// Context length in tokens
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Model"))]
    pub context: usize,
    /// Dropout probability, from 0 to below 1
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "P", allow_negative_numbers = true, help_heading = "Model")
    )]
    pub dropout: f32,

    /// Which rows of a text a step learns from. It has no option: the architecture sets it, or the configuration file.
    #[serde(default, skip_serializing_if = "Windows::is_random")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub windows: Windows,
    /// Minutes from start to exit; size, steps, rates and the rest are chosen for them
    ///
    /// Batch, context and regularisation, too, by what this machine does in a few seconds. What is given besides is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "M", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub minutes: Option<f64>,
    /// Total optimizer steps, including those before a resume
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub steps: u64,
    /// Rows of a batch, of --context tokens each
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Training"))]
    pub batch_size: usize,
    /// A key of earlier versions.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub batch_start: BatchRamp,
    /// A key of earlier versions.
    #[serde(default, skip_serializing_if = "BatchRamp::is_unused")]
    #[cfg_attr(feature = "cli", arg(skip))]
    pub batch_ramp: BatchRamp,
    /// Batches whose gradients are accumulated for one step, for larger batches than fit into memory
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Training"))]
    pub grad_accum: usize,
    /// Optimizer; sets the default learning rates [default: muon for nano, adamw for the others, fine-tuning and adapters]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub optimizer: Optimizer,
    /// Peak learning rate, reached after the warm-up
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub lr: f32,
    /// Muon's peak learning rate, for the blocks' matrices; it follows the same schedule as --lr [default: 0.02]
    #[serde(default = "default_muon_lr")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub muon_lr: f32,
    /// Final learning rate, at the end of the schedule
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub min_lr: f32,
    /// Learning-rate warm-up steps
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub warmup: u64,
    /// Learning-rate schedule after the warm-up [default: cosine]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub schedule: Schedule,
    /// Step at which the schedule reaches min-lr, where the rate stays [default: --steps; a resumed run keeps its own,
    /// even with other --steps]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub schedule_steps: Option<u64>,
    /// Fraction of the schedule's steps in the final decay of --schedule wsd [default: 0.4]
    #[serde(default = "default_decay_share")]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub decay_share: f32,
    /// AdamW's weight decay, for parameters with two or more dimensions
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub weight_decay: f32,
    /// AdamW's β₂, the decay rate of the second moment
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub beta2: f32,
    /// Gradient clipping: maximum global L2 norm; 0 disables it
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")
    )]
    pub grad_clip: f32,
    /// Number format of the forward and backward pass; master weights are float32
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Training"))]
    pub dtype: Precision,
    /// Recompute each block's activations in the backward pass instead of keeping them: less memory, more time
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
    /// Random seed (initial weights, batches, dropout)
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Training"))]
    pub seed: u64,

    /// Where MLX computes [default: its GPU where there is one]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Hardware"))]
    pub device: Device,
    /// CPU threads, among which a batch's rows, the update and evaluations are divided [default: all cores; 1 on a GPU]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", help_heading = "Hardware"))]
    pub threads: usize,

    /// Let each machine train this many steps on its own rows before they join by an outer step (DiLoCo), for slow networks; 0:
    /// they sum their gradients at each step [default: 0]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "H", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Several machines"))]
    pub sync_every: u64,

    /// Steps between evaluations, which estimate the loss on both splits
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", help_heading = "Evaluation and checkpoints")
    )]
    pub eval_every: u64,
    /// End the run when the validation loss has not fallen for N evaluations; 0: never [default: 0]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Evaluation and checkpoints"))]
    pub patience: u64,
    /// Batches of each split per evaluation
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", help_heading = "Evaluation and checkpoints")
    )]
    pub eval_batches: usize,
    /// Steps between checkpoints
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", help_heading = "Evaluation and checkpoints")
    )]
    pub save_every: u64,
    /// Keep the newest N checkpoints and the best one, and delete the others; 0 keeps all [default: all for nano and baby,
    /// 3 for the others]
    #[serde(default)]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "N", help_heading = "Evaluation and checkpoints")
    )]
    pub keep_last: usize,
    /// Also keep the checkpoints at multiples of N steps
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64), help_heading = "Evaluation and checkpoints"))]
    pub keep_every: u64,
    /// What to do when the loss or the gradients of a step are not finite [default: stop]
    #[serde(default)]
    #[cfg_attr(feature = "cli", arg(long, value_enum, help_heading = "Evaluation and checkpoints"))]
    pub on_nan: OnNan,
}

/// What to do when the loss or the gradients of a step are not finite. In either case the step changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum OnNan {
    /// Stop the run, and name the batch
    #[default]
    Stop,
    /// Skip and count the step, and continue with the next batch
    Skip,
}

fn yes() -> bool {
    true
}

/// Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
pub(super) fn default_muon_lr() -> f32 {
    0.02
}

pub(super) fn default_lora_alpha() -> f32 {
    16.0
}

/// Long runs need no more than 0.1 (Hu et al. 2024); short ones, such as modded-nanogpt's, use 0.4.
pub(super) fn default_decay_share() -> f32 {
    0.4
}

/// The layers that Hugging Face's `peft` adapts in a GPT-2 unless told otherwise.
pub(super) fn default_lora_targets() -> Vec<String> {
    vec!["c_attn".into()]
}

/// The default number of threads: all cores of a CPU; one for a GPU, which it keeps busy.
pub fn default_threads(device: Device) -> usize {
    match device {
        Device::Cpu => std::thread::available_parallelism().map_or(1, |n| n.get()),
        Device::Gpu => 1,
    }
}

impl TrainConfig {
    /// Number of threads that compute a step: one on a GPU, whatever `threads` says, since a step is one graph there.
    pub fn compute_threads(&self) -> usize {
        match self.device {
            Device::Cpu => self.threads,
            Device::Gpu => 1,
        }
    }

    /// The model that it trains, with a vocabulary of that size.
    pub fn model_config(&self, vocab_size: usize) -> ModelConfig {
        let components = Components {
            position: self.position,
            norm: self.norm,
            qk_norm: self.qk_norm,
            activation: self.activation,
            tie_head: self.tie_head,
            kv_heads: self.kv_heads.filter(|&kv_heads| kv_heads != self.heads),
            convolution: self.convolution,
            ngram_rows: self.ngram_rows,
            // Without a table, a size means nothing.
            ngram_size: if self.ngram_rows == 0 { 0 } else { self.ngram_size },
        };
        ModelConfig {
            // A single different component makes it another architecture than GPT-2.
            architecture: match self.arch {
                Architecture::Gpt2 | Architecture::Modern if components == Components::GPT2 => Architecture::Gpt2,
                Architecture::Gpt2 => Architecture::Modern,
                other => other,
            },
            components,
            layers: self.layers,
            heads: self.heads,
            embd: self.embd,
            context: self.context,
            vocab_size,
            dropout: self.dropout,
            lora: self.lora(),
            quantization: None,
            bos_eos: BosEos::default(),
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
        let config = Preset::Nano.train_config(Device::Cpu);
        let mut table = toml::Table::try_from(&config).unwrap();
        for key in ["schedule", "decay_share"] {
            assert!(table.remove(key).is_some());
        }
        assert_eq!(table.try_into::<TrainConfig>().unwrap(), config);
    }
}
