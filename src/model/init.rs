//! A model's parameters, and their initialisation.

use mlx_rs::error::Result;
use mlx_rs::{Array, random};

use super::linear::lora;
use super::ngrams;
use super::parameters::Parameters;
use crate::config::{Activation, Architecture, LINEAR_LAYERS, ModelConfig, NormKind, Position};

/// Initialisation of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// N(0, std²).
    Normal {
        /// Standard deviation.
        std: f32,
    },
}

/// Name, shape and initialisation of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// GPT-2's, `h.0.attn.c_attn.weight`.
    pub name: String,
    /// A linear layer's weight is `[in, out]`, an embedding `[V, C]` or `[context, C]`.
    pub shape: Vec<i32>,
    /// What it is before training.
    pub init: Init,
}

impl ParameterSpec {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().map(|&n| n as usize).product()
    }
}

/// Every parameter of a model, in the order of random initialisation: the single source for initialisation, strict loading
/// and parameter counts.
///
/// Initialisation is GPT-2's (Radford et al. 2019, section 2.3, and OpenAI's code): N(0, 0.02) for matrices and
/// embeddings, with the projections back into the residual stream scaled down by √(2 · layers), as that many branches
/// add up there; zero biases. Convolutions and n-gram vectors are zero at first.
pub fn layout(config: &ModelConfig) -> Vec<ParameterSpec> {
    let [c, v, t] = [config.embd, config.vocab_size, config.context].map(|n| n as i32);
    let normal = Init::Normal { std: 0.02 };
    let residual = Init::Normal {
        std: 0.02 / (2.0 * config.layers as f32).sqrt(),
    };
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[i32], init: Init| {
        specs.push(ParameterSpec {
            name,
            shape: shape.to_vec(),
            init,
        });
    };

    if config.architecture == Architecture::Bigram {
        add("wte.weight".into(), &[v, v], normal);
        return specs;
    }
    add("wte.weight".into(), &[v, c], normal);
    if config.components.position == Position::Learned {
        add("wpe.weight".into(), &[t, c], normal);
    }
    if [Architecture::Averaging, Architecture::Attention].contains(&config.architecture) {
        let attends = config.architecture == Architecture::Attention;
        let linears = [("attn.c_attn", 3 * c), ("attn.c_proj", c), ("lm_head", v)];
        for (linear, to) in linears.into_iter().skip(if attends { 0 } else { 2 }) {
            add(format!("{linear}.weight"), &[c, to], normal);
            add(format!("{linear}.bias"), &[to], Init::Zeros);
        }
        return specs;
    }
    if config.components.ngram_rows > 0 {
        add(
            ngrams::TABLE.into(),
            &[config.components.ngram_rows as i32, c],
            Init::Zeros,
        );
    }
    let kv = c / config.heads as i32 * config.kv_heads() as i32;
    let hidden = config.mlp_hidden() as i32;
    let gated = config.components.activation == Activation::Swiglu;
    let has_gains = config.components.norm == NormKind::Layer;
    for layer in 0..config.layers {
        let linears = [
            (c, c + 2 * kv, normal),                              // attn.c_attn
            (c, c, residual),                                     // attn.c_proj
            (c, if gated { 2 * hidden } else { hidden }, normal), // mlp.c_fc
            (hidden, c, residual),                                // mlp.c_proj
        ];
        if config.components.convolution > 0 {
            // Nothing at first: the block's input passes unchanged.
            add(
                format!("h.{layer}.conv.weight"),
                &[config.components.convolution as i32, c],
                Init::Zeros,
            );
        }
        for norm in ["ln_1", "ln_2"].into_iter().filter(|_| has_gains) {
            add(format!("h.{layer}.{norm}.weight"), &[c], Init::Ones);
            add(format!("h.{layer}.{norm}.bias"), &[c], Init::Zeros);
        }
        for (name, (from, to, init)) in LINEAR_LAYERS.iter().zip(linears) {
            let linear = format!("h.{layer}.{name}");
            add(format!("{linear}.weight"), &[from, to], init);
            add(format!("{linear}.bias"), &[to], Init::Zeros);
            if let Some(lora) = config.lora.as_ref().filter(|lora| lora.targets_layer(&linear)) {
                let rank = lora.rank as i32;
                // A normal, with the standard deviation of peft's uniform draw; B is zero, so that an adapter adds nothing at
                // first.
                let a = Init::Normal {
                    std: (3.0 * from as f32).powf(-0.5),
                };
                add(format!("{linear}.{}", lora::A), &[rank, from], a);
                add(format!("{linear}.{}", lora::B), &[to, rank], Init::Zeros);
            }
        }
    }
    if has_gains {
        add("ln_f.weight".into(), &[c], Init::Ones);
        add("ln_f.bias".into(), &[c], Init::Zeros);
    }
    if !config.components.tie_head {
        add("lm_head.weight".into(), &[v, c], normal);
    }
    specs
}

/// Number of parameters of a model of this configuration, counted without making it.
pub fn parameter_count(config: &ModelConfig) -> usize {
    layout(config).iter().map(ParameterSpec::count).sum()
}

/// Initial parameters, float32; the same for the same seed.
pub fn initialize(config: &ModelConfig, seed: u64) -> Result<Parameters> {
    draw(layout(config).into_iter(), seed)
}

/// Initial adapters of a model whose other parameters are loaded.
pub fn initialize_adapters(config: &ModelConfig, seed: u64) -> Result<Parameters> {
    draw(
        layout(config).into_iter().filter(|spec| lora::is_adapter(&spec.name)),
        seed,
    )
}

fn draw(specs: impl Iterator<Item = ParameterSpec>, seed: u64) -> Result<Parameters> {
    let mut state = random::RandomState::with_seed(seed)?;
    let entries = specs
        .map(|ParameterSpec { name, shape, init }| {
            let array = match init {
                Init::Zeros => Array::zeros::<f32>(&shape)?,
                Init::Ones => Array::ones::<f32>(&shape)?,
                Init::Normal { std } => random::normal::<f32>(&shape, None, std, &state.next_key()?)?,
            };
            Ok((name, array))
        })
        .collect::<Result<_>>()?;
    Ok(Parameters::from_entries(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Preset;

    /// The published sizes, biases and position embeddings counted, the tied head once.
    #[test]
    fn parameter_counts_are_the_published_ones() {
        let count = |preset: Preset| parameter_count(&preset.model_config(50257));
        assert_eq!(count(Preset::Gpt2), 124_439_808);
        assert_eq!(count(Preset::Gpt2Medium), 354_823_168);
        assert_eq!(count(Preset::Gpt2Large), 774_030_080);
        assert_eq!(count(Preset::Gpt2Xl), 1_557_611_200);
    }

    /// Brown et al. 2020, table 2.1, to the digits that it gives: 125M, 350M, 760M, 1.3B, 2.7B, 6.7B, 13B, 175B.
    #[test]
    fn gpt3_has_the_parameters_of_its_table() {
        // In billions, and half of the last digit; 350M is 356M as counted here.
        for (preset, table, within) in [
            (Preset::Gpt3Small, 0.125, 0.001),
            (Preset::Gpt3Medium, 0.350, 0.0065),
            (Preset::Gpt3Large, 0.760, 0.005),
            (Preset::Gpt3Xl, 1.3, 0.05),
            (Preset::Gpt3B2_7, 2.7, 0.05),
            (Preset::Gpt3B6_7, 6.7, 0.05),
            (Preset::Gpt3B13, 13.0, 0.5),
            (Preset::Gpt3B175, 175.0, 0.5),
        ] {
            let model = preset.model_config(50257);
            model.validate().unwrap();
            let billions = parameter_count(&model) as f64 / 1e9;
            assert!((billions - table).abs() <= within, "{preset:?}: {billions} of {table}");
        }
    }
}
