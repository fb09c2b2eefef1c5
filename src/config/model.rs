//! The configuration of a model, its adapters and its quantization.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Activation, Components, Position};

/// The linear layers of a block, by their names under it.
pub const LINEAR_LAYERS: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

/// The architecture: GPT-2, a variant of it, or one of the lessons' simpler models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// GPT-2.
    #[default]
    Gpt2,
    /// GPT-2 with newer components: rotary positions, RMS norms, QK-norm, a convolution, n-gram embeddings.
    Modern,
    /// A bigram table: the next-token logits depend on the last token alone.
    Bigram,
    /// The causal mean of the embeddings, and an output head.
    Averaging,
    /// Embeddings and one attention layer, without the rest of a block.
    Attention,
}

/// The configuration of a model. In GPT-2's `config.json` and nanoGPT, `embd`, `layers`, `heads` and `context` are called
/// `n_embd`, `n_layer`, `n_head`, and `n_positions` or `block_size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Which network it is.
    pub architecture: Architecture,
    /// The components of its blocks: GPT-2's, unless it is [`Modern`](Architecture::Modern).
    pub components: Components,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; they divide `embd`.
    pub heads: usize,
    /// Embedding dimension: channels of the residual stream.
    pub embd: usize,
    /// Maximum context length in tokens.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Dropout probability, of embeddings, attention weights and residual branches.
    pub dropout: f32,
    /// Low-rank adapters of some linear layers.
    pub lora: Option<Lora>,
    /// How matrices are stored, if not as floating-point numbers.
    pub quantization: Option<Quantization>,
    /// The ids of its bos and eos tokens.
    pub bos_eos: BosEos,
}

/// The ids of the bos and eos tokens, if the model's files name them; otherwise the tokenizer's are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BosEos {
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// The tokens that end a text.
    pub eos: Vec<u32>,
}

/// Low-rank adapters (Hu et al. 2021, section 4.1): a linear layer `x W + b` becomes `x W + b + alpha/rank · x Aᵀ Bᵀ`, of
/// which only A and B are trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The adapters' product is scaled by `alpha / rank`.
    pub alpha: f32,
    /// Names of linear layers, or their last parts: `c_attn`, `mlp.c_proj`, `h.0.attn.c_attn`.
    pub targets: Vec<String>,
}

/// MLX's affine quantization: each group of numbers along a row is stored as integers of `bits` bits with one scale and
/// one bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantization {
    /// Numbers per group.
    pub group_size: usize,
    /// Bits per number.
    pub bits: usize,
}

impl Lora {
    /// The factor of the adapters' product.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Whether the linear layer of that name, such as `h.0.attn.c_attn`, has an adapter.
    pub fn targets_layer(&self, linear: &str) -> bool {
        self.targets.iter().any(|target| {
            linear
                .strip_suffix(target.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

impl Quantization {
    /// Bits that new quantized weights can have.
    pub const BITS: [usize; 2] = [4, 8];
    /// Bits that can be read: all that MLX supports.
    const READABLE_BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
    /// Supported group sizes.
    pub const GROUP_SIZES: [usize; 3] = [32, 64, 128];

    /// Checks it for weights that are to be quantized here.
    ///
    /// # Errors
    /// Other bits than 4 or 8, or as [`validate`](Self::validate).
    pub fn validate_new(&self, embd: usize) -> Result<()> {
        let bits = self.bits;
        ensure!(
            Self::BITS.contains(&bits),
            "{bits} bits are not supported; choose 4 or 8"
        );
        self.validate(embd)
    }

    /// Checks it for weights that are read from a file.
    ///
    /// # Errors
    /// Bits or a group size that MLX does not support, or an embedding dimension that the group size does not divide.
    pub fn validate(&self, embd: usize) -> Result<()> {
        let Self { group_size, bits } = *self;
        ensure!(
            Self::READABLE_BITS.contains(&bits),
            "{bits}-bit quantization is not supported; 2, 3, 4, 5, 6 and 8 bits are"
        );
        ensure!(
            Self::GROUP_SIZES.contains(&group_size),
            "a group size of {group_size} is not supported; choose 32, 64 or 128"
        );
        ensure!(
            embd.is_multiple_of(group_size),
            "an embedding dimension of {embd} does not divide into groups of {group_size}; {}",
            match Self::GROUP_SIZES.iter().rev().find(|&&size| embd.is_multiple_of(size)) {
                Some(size) => format!("choose a group size of {size}"),
                None => "only multiples of 32 can be quantized".into(),
            }
        );
        Ok(())
    }
}

impl Architecture {
    /// Its name in configurations and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Modern => "modern",
            Self::Bigram => "bigram",
            Self::Averaging => "averaging",
            Self::Attention => "attention",
        }
    }

    /// The layers, heads and embedding dimension that the architecture fixes; `None` for those that can be chosen.
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
    /// Key/value heads.
    pub fn kv_heads(&self) -> usize {
        self.components.kv_heads.unwrap_or(self.heads)
    }

    /// Hidden channels of the MLP: `4 · embd`; of a gated one `8/3 · embd`, rounded up to a multiple of 8, which keeps the
    /// number of parameters.
    pub fn mlp_hidden(&self) -> usize {
        match self.components.activation {
            Activation::Swiglu => (8 * self.embd / 3).next_multiple_of(8),
            Activation::Gelu | Activation::Relu2 => 4 * self.embd,
        }
    }

    /// The output sizes, in order, of the matrices that are fused in the linear weight of that name with `outputs` outputs:
    /// queries, keys and values, or the two halves of a gated MLP.
    pub fn fused_output_sizes(&self, name: &str, outputs: i32) -> Vec<i32> {
        if name.ends_with("attn.c_attn.weight") {
            let keys = (self.embd / self.heads * self.kv_heads()) as i32;
            return vec![outputs - 2 * keys, keys, keys];
        }
        if name.ends_with("mlp.c_fc.weight") && self.components.activation == Activation::Swiglu {
            return vec![outputs / 2; 2];
        }
        vec![outputs]
    }

    /// A one-line summary of its sizes, such as `4 layers, 4 heads, 128 wide, context 64`.
    pub fn summary(&self) -> String {
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

    /// Checks that such a model is possible.
    ///
    /// # Errors
    /// A value that is out of range or does not fit the others, with a fix.
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
            self.components.position == Position::Learned || (self.embd / self.heads).is_multiple_of(2),
            "rotary positions need an even number of channels per head, and these heads have {}; choose other --heads or --embd",
            self.embd / self.heads
        );
        self.components.validate()?;
        ensure!(
            (self.components == Components::GPT2) != (self.architecture == Architecture::Modern),
            "the components are not those of the architecture {}; leave --arch out",
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
                "{size} is {given}; the architecture {name} has {}; leave --{size} out",
                fixed.unwrap_or_default()
            );
        }
        ensure!(
            self.architecture == Architecture::Gpt2 || (self.lora.is_none() && self.quantization.is_none()),
            "the architecture is {name}; only gpt2 has low-rank adapters and quantized weights"
        );
        if let Some(lora) = &self.lora {
            ensure!(
                (1..=self.embd).contains(&lora.rank),
                "lora-rank {} is not from 1 to the model's embedding dimension of {}; choose one that is",
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
