//! The shape of a model, and what is done to its matrices.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Activation, Parts, Position};

/// The linear layers of a block, by their names under it.
pub const LINEAR_LAYERS: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// Which network it is: GPT-2, or one of those on the way to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// GPT-2.
    #[default]
    Gpt2,
    /// GPT-2 with other parts: rotary positions, RMS norms, normalised queries and keys, squared ReLU.
    Modern,
    /// A table of which token follows which.
    Bigram,
    /// Embeddings, averaged over the tokens so far.
    Averaging,
    /// Embeddings and one layer of attention, without the rest of a block.
    Attention,
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub architecture: Architecture,
    /// What its blocks are made of: GPT-2's own, unless it is [`Modern`](Architecture::Modern).
    pub parts: Parts,
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
    /// Low-rank adapters beside some of the linear layers.
    pub lora: Option<Lora>,
    /// How matrices are stored, if not as floating-point numbers.
    pub quantization: Option<Quantization>,
    pub boundaries: Boundaries,
}

/// The ids that begin and end a text, where a model's files name them; elsewhere they are the tokenizer's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundaries {
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
}

/// Low-rank adapters (Hu et al. 2021, section 4.1): a linear layer `x W + b` becomes `x W + b + alpha/rank · x Aᵀ Bᵀ`, of
/// which only A and B learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    pub alpha: f32,
    /// Names of linear layers, or their last parts: `c_attn`, `mlp.c_proj`, `h.0.attn.c_attn`.
    pub targets: Vec<String>,
}

/// MLX's affine quantization: of each group of numbers along a row, whole numbers of `bits` bits, a scale and a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    pub group_size: usize,
    pub bits: usize,
}

impl Lora {
    /// The factor of the adapters' product.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Whether the linear layer of that name, such as `h.0.attn.c_attn`, has an adapter.
    pub fn adapts(&self, linear: &str) -> bool {
        self.targets.iter().any(|target| {
            linear
                .strip_suffix(target.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

impl Quantization {
    /// The numbers of bits that a weight may be given.
    pub const BITS: [usize; 2] = [4, 8];
    /// Those that MLX computes with, and that other programs may have given.
    const READ_BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
    /// The sizes that a group may have.
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];

    /// # Errors
    /// Bits that are not offered, or as [`validate`](Self::validate).
    pub fn validate_new(&self, embd: usize) -> Result<()> {
        let bits = self.bits;
        ensure!(Self::BITS.contains(&bits), "{bits} bits are not offered; choose 4 or 8");
        self.validate(embd)
    }

    /// # Errors
    /// Bits or a group size that MLX does not know, or a width that does not divide into groups.
    pub fn validate(&self, embd: usize) -> Result<()> {
        let Self { group_size, bits } = *self;
        ensure!(
            Self::READ_BITS.contains(&bits),
            "{bits} bits are not offered; choose 4 or 8"
        );
        ensure!(
            Self::GROUP_SIZES.contains(&group_size),
            "a group size of {group_size} is not offered; choose 32, 64 or 128"
        );
        ensure!(
            embd.is_multiple_of(group_size),
            "a width of {embd} does not divide into groups of {group_size}; {}",
            match Self::GROUP_SIZES.iter().rev().find(|&&size| embd.is_multiple_of(size)) {
                Some(size) => format!("choose a group size of {size}"),
                None => "only widths that are multiples of 32 can be quantized".into(),
            }
        );
        Ok(())
    }
}

impl Architecture {
    /// What it is called in settings and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Modern => "modern",
            Self::Bigram => "bigram",
            Self::Averaging => "averaging",
            Self::Attention => "attention",
        }
    }

    /// The numbers of layers, of heads and of channels that it has in any case; none for what can be chosen.
    pub fn fixed_sizes(self) -> [Option<usize>; 3] {
        match self {
            Self::Gpt2 | Self::Modern => [None, None, None],
            Self::Bigram => [Some(1), Some(1), Some(1)],
            Self::Averaging => [Some(1), Some(1), None],
            Self::Attention => [Some(1), None, None],
        }
    }
}

impl ModelConfig {
    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        self.parts.kv_heads.unwrap_or(self.heads)
    }

    /// Hidden channels of the MLP: four times the width; of gated ones two thirds of that, in whole eights, so that there
    /// are as many parameters.
    pub fn hidden(&self) -> usize {
        match self.parts.activation {
            Activation::Swiglu => (8 * self.embd / 3).next_multiple_of(8),
            Activation::Gelu | Activation::Relu2 => 4 * self.embd,
        }
    }

    /// The outputs of each matrix that is fused, side by side, in the linear layer's weight of that name, which has
    /// `outputs` in all: of queries, keys and values, or of a gated MLP's two halves.
    pub fn fused_outputs(&self, name: &str, outputs: i32) -> Vec<i32> {
        if name.ends_with("attn.c_attn.weight") {
            let keys = (self.embd / self.heads * self.kv_heads()) as i32;
            return vec![outputs - 2 * keys, keys, keys];
        }
        if name.ends_with("mlp.c_fc.weight") && self.parts.activation == Activation::Swiglu {
            return vec![outputs / 2; 2];
        }
        vec![outputs]
    }

    /// Its sizes in words, for people.
    pub fn shape(&self) -> String {
        let Self {
            layers,
            heads,
            embd,
            context,
            ..
        } = self;
        match self.architecture {
            Architecture::Gpt2 => format!("{layers} layers, {heads} heads, {embd} wide, context {context}"),
            Architecture::Modern => format!("modern, {layers} layers, {heads} heads, {embd} wide, context {context}"),
            Architecture::Bigram => "bigram table".into(),
            Architecture::Averaging => format!("averaging, {embd} wide, context {context}"),
            Architecture::Attention => format!("attention, {heads} heads, {embd} wide, context {context}"),
        }
    }

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
        ensure!(
            self.kv_heads() >= 1 && self.heads.is_multiple_of(self.kv_heads()),
            "kv-heads {} does not divide heads {}; choose a number that does, such as {}",
            self.kv_heads(),
            self.heads,
            largest_divisor_up_to(self.heads, self.kv_heads())
        );
        ensure!(
            self.parts.position == Position::Learned || (self.embd / self.heads).is_multiple_of(2),
            "rotary positions turn pairs of channels, and heads of {} channels have one left over; choose other --heads or --embd",
            self.embd / self.heads
        );
        ensure!(
            (self.parts == Parts::GPT2) != (self.architecture == Architecture::Modern),
            "the parts are not those of the architecture {}; leave --arch out",
            self.architecture.name()
        );
        let name = self.architecture.name();
        for (fixed, (size, given)) in self.architecture.fixed_sizes().iter().zip([
            ("layers", self.layers),
            ("heads", self.heads),
            ("embd", self.embd),
        ]) {
            ensure!(
                fixed.is_none_or(|fixed| fixed == given),
                "{size} is {given}; the architecture {name} has 1; leave --{size} out"
            );
        }
        ensure!(
            self.architecture == Architecture::Gpt2 || (self.lora.is_none() && self.quantization.is_none()),
            "the architecture is {name}; only gpt2 has low-rank adapters and quantized weights"
        );
        if let Some(lora) = &self.lora {
            ensure!(
                (1..=self.embd).contains(&lora.rank),
                "a rank of {} is not from 1 to the model's width of {}; choose one that is",
                lora.rank,
                self.embd
            );
        }
        if let Some(quantization) = &self.quantization {
            quantization.validate(self.embd)?;
        }
        Ok(())
    }
}

fn largest_divisor_up_to(n: usize, limit: usize) -> usize {
    (1..=limit.min(n)).rev().find(|d| n.is_multiple_of(*d)).unwrap_or(1)
}
