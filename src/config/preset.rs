//! Named sizes and recipes.

use serde::Deserialize;

use super::gpt3::{self, Gpt3};
use super::train::{default_decay_share, default_lora_alpha, default_lora_targets, default_muon_lr, default_threads};
use super::{
    Architecture, BatchRamp, BosEos, Components, DEFAULT_CORPUS, ModelConfig, OnNan, Optimizer, Precision, Schedule,
    SpecialTokens, TrainConfig, Windows,
};
use crate::config::Device;

/// Named sizes and recipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// 0.8 million parameters, minutes on a CPU: nanoGPT's shakespeare_char sizes for CPUs; train's default optimizer
    /// is Muon.
    Nano,
    /// 10.7 million parameters, for a GPU: nanoGPT's shakespeare_char recipe for GPUs.
    Baby,
    /// OpenAI's 124 million parameters.
    Gpt2,
    /// 355 million parameters.
    Gpt2Medium,
    /// 774 million parameters.
    Gpt2Large,
    /// 1.56 billion parameters.
    Gpt2Xl,
    /// GPT-3's smallest size: 125 million parameters.
    Gpt3Small,
    /// 356 million parameters.
    Gpt3Medium,
    /// 760 million parameters.
    Gpt3Large,
    /// 1.3 billion parameters.
    Gpt3Xl,
    /// 2.7 billion parameters.
    #[serde(rename = "gpt3-2.7b")]
    #[cfg_attr(feature = "cli", value(name = "gpt3-2.7b"))]
    Gpt3B2_7,
    /// 6.7 billion parameters.
    #[serde(rename = "gpt3-6.7b")]
    #[cfg_attr(feature = "cli", value(name = "gpt3-6.7b"))]
    Gpt3B6_7,
    /// 13 billion parameters.
    #[serde(rename = "gpt3-13b")]
    #[cfg_attr(feature = "cli", value(name = "gpt3-13b"))]
    Gpt3B13,
    /// 175 billion parameters.
    #[serde(rename = "gpt3-175b")]
    #[cfg_attr(feature = "cli", value(name = "gpt3-175b"))]
    Gpt3B175,
}

/// Decay of the n-gram table in a pass over the training text, where there is a table.
const NGRAM_DECAY: f32 = 1.0;

impl TrainConfig {
    /// Sets the components of the model, and the decay that they train best with.
    pub fn set_components(&mut self, components: Components) {
        self.position = components.position;
        self.norm = components.norm;
        self.qk_norm = components.qk_norm;
        self.activation = components.activation;
        self.tie_head = components.tie_head;
        self.kv_heads = components.kv_heads;
        self.convolution = components.convolution;
        self.ngram_rows = components.ngram_rows;
        self.ngram_size = components.ngram_size;
        self.ngram_decay = if components.ngram_rows == 0 { 0.0 } else { NGRAM_DECAY };
    }

    /// Selects an architecture, with its components and the sizes that it fixes.
    pub fn with_architecture(mut self, arch: Architecture) -> Self {
        let [layers, heads, embd] = arch.fixed_sizes();
        self.arch = arch;
        self.set_components(if arch == Architecture::Modern {
            Components::MODERN
        } else {
            Components::GPT2
        });
        self.windows = if arch == Architecture::Modern {
            Windows::Shuffled
        } else {
            Windows::Random
        };
        self.layers = layers.unwrap_or(self.layers);
        self.heads = heads.unwrap_or(self.heads);
        self.embd = embd.unwrap_or(self.embd);
        self
    }

    /// Selects an optimizer and its learning rates.
    ///
    /// Under Muon, the parameters that AdamW updates train best at four times nanoGPT's rate, as `sweeps/long.toml` found for preset nano
    /// with a warm-up of 20 steps.
    pub fn with_optimizer(mut self, optimizer: Optimizer) -> Self {
        if optimizer == Optimizer::Muon {
            self.lr *= 4.0;
            self.min_lr *= 4.0;
            self.warmup /= 5;
        }
        self.optimizer = optimizer;
        self
    }

    /// Fine-tuning defaults for a large model: few steps of few tokens, at the low rate that llm.c fine-tunes GPT-2 with
    /// (1e-4), or twice that for adapters (Hu et al. 2021, table 11).
    pub fn finetune(&mut self, adapters: bool) {
        (self.steps, self.batch_size, self.grad_accum) = (200, 4, 1);
        self.context = self.context.min(256);
        self.lr = if adapters { 2e-4 } else { 1e-4 };
        self.min_lr = self.lr / 10.0;
        self.muon_lr = default_muon_lr() / 10.0;
        self.warmup = 20;
        (self.eval_every, self.save_every) = (50, 100);
        self.keep_last = 3;
        self.dropout = 0.0;
    }
}

impl Preset {
    /// The default preset of a device: the one that trains in minutes on it.
    pub fn for_device(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Nano,
            Device::Gpu => Self::Baby,
        }
    }

    /// The row of GPT-3's table, if it is one.
    fn gpt3(self) -> Option<Gpt3> {
        match self {
            Self::Gpt3Small => Some(gpt3::SMALL),
            Self::Gpt3Medium => Some(gpt3::MEDIUM),
            Self::Gpt3Large => Some(gpt3::LARGE),
            Self::Gpt3Xl => Some(gpt3::XL),
            Self::Gpt3B2_7 => Some(gpt3::B2_7),
            Self::Gpt3B6_7 => Some(gpt3::B6_7),
            Self::Gpt3B13 => Some(gpt3::B13),
            Self::Gpt3B175 => Some(gpt3::B175),
            _ => None,
        }
    }

    /// The model's configuration, with a vocabulary of that size.
    pub fn model_config(self, vocab_size: usize) -> ModelConfig {
        let (layers, heads, embd, context, dropout) = match (self, self.gpt3()) {
            (
                _,
                Some(Gpt3 {
                    layers, heads, embd, ..
                }),
            ) => (layers, heads, embd, gpt3::CONTEXT, 0.0),
            (Self::Nano, _) => (4, 4, 128, 64, 0.0),
            (Self::Baby, _) => (6, 6, 384, 256, 0.2),
            (Self::Gpt2Medium, _) => (24, 16, 1024, 1024, 0.0),
            (Self::Gpt2Large, _) => (36, 20, 1280, 1024, 0.0),
            (Self::Gpt2Xl, _) => (48, 25, 1600, 1024, 0.0),
            _ => (12, 12, 768, 1024, 0.0), // gpt2
        };
        ModelConfig {
            architecture: Architecture::Gpt2,
            components: Components::GPT2,
            layers,
            heads,
            embd,
            context,
            vocab_size,
            dropout,
            lora: None,
            quantization: None,
            bos_eos: BosEos::default(),
        }
    }

    /// The default optimizer of `train`: Muon where it was measured to be better.
    pub fn optimizer(self) -> Optimizer {
        match self {
            Self::Nano => Optimizer::Muon,
            _ => Optimizer::Adamw,
        }
    }

    /// The preset's training recipe, with AdamW.
    pub fn train_config(self, device: Device) -> TrainConfig {
        let model = self.model_config(0);
        let character_level = matches!(self, Self::Nano | Self::Baby);
        let (steps, batch_size, grad_accum) = match self {
            Self::Nano => (2000, 12, 1),
            Self::Baby => (5000, 64, 1),
            _ => (600_000, 4, 8),
        };
        let every = if character_level { 250 } else { 1000 };
        let mut config = TrainConfig {
            special: SpecialTokens::default(),
            corpus: DEFAULT_CORPUS.into(),
            tokenizer: if character_level { "char" } else { "gpt2" }.into(),
            task: None,
            digits: None,
            reverse_digits: None,
            mask_prompt: None,
            chat: None,
            init_from: None,
            rl: None,
            group_size: None,
            kl_coef: None,
            clip_range: None,
            preferences: None,
            dpo_beta: None,
            arch: model.architecture,
            position: model.components.position,
            norm: model.components.norm,
            qk_norm: model.components.qk_norm,
            activation: model.components.activation,
            tie_head: model.components.tie_head,
            kv_heads: model.components.kv_heads,
            convolution: model.components.convolution,
            ngram_rows: model.components.ngram_rows,
            ngram_size: model.components.ngram_size,
            ngram_decay: 0.0,
            layers: model.layers,
            heads: model.heads,
            embd: model.embd,
            context: model.context,
            dropout: model.dropout,
            windows: Windows::Random,
            minutes: None,
            steps,
            batch_size,
            batch_start: BatchRamp::default(),
            batch_ramp: BatchRamp::default(),
            grad_accum,
            optimizer: Optimizer::Adamw,
            lr: if character_level { 1e-3 } else { 6e-4 },
            min_lr: if character_level { 1e-4 } else { 6e-5 },
            muon_lr: default_muon_lr(),
            warmup: if character_level { 100 } else { 2000 },
            schedule: Schedule::Cosine,
            schedule_steps: None,
            decay_share: default_decay_share(),
            freeze: Vec::new(),
            lora_rank: 0,
            lora_alpha: default_lora_alpha(),
            lora_targets: default_lora_targets(),
            weight_decay: 0.1,
            beta2: if character_level { 0.99 } else { 0.95 },
            grad_clip: 1.0,
            dtype: Precision::Float32,
            recompute: false,
            device,
            threads: default_threads(device),
            seed: 1337,
            sync_every: 0,
            eval_every: every,
            patience: 0,
            eval_batches: 20,
            save_every: every,
            keep_last: if character_level { 0 } else { 3 },
            keep_every: 0,
            on_nan: OnNan::Stop,
        };
        if let Some(gpt3) = self.gpt3() {
            gpt3.set_recipe(&mut config);
        }
        config
    }
}
