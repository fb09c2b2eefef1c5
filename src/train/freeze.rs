//! Trainable and frozen parameters.

use anyhow::{Context, Result, ensure};
use glob::Pattern;

use crate::config::{ModelConfig, TrainConfig};
use crate::model::init::layout;
use crate::model::linear::lora::is_adapter;
use crate::model::parameters::Parameters;

/// The trainable and the frozen parameters: adapters alone are trainable if there are any; otherwise all parameters that no
/// pattern of `freeze` matches.
///
/// # Errors
/// An invalid pattern, one that matches nothing, or no trainable parameter.
pub fn partition(config: &TrainConfig, parameters: &Parameters) -> Result<(Parameters, Parameters)> {
    let patterns = patterns(config)?;
    for pattern in &patterns {
        ensure!(
            parameters.names().iter().any(|name| pattern.matches(name)),
            "freeze {pattern} matches no parameter; names are such as wte.weight, h.0.attn.c_attn.weight, ln_f.bias, and * stands for any characters"
        );
    }
    let (trainable, frozen) = parameters.partition(|name, _| is_trainable(config, &patterns, name));
    ensure!(
        !trainable.names().is_empty(),
        "freeze {} freezes all parameters; freeze fewer",
        config.freeze.join(", ")
    );
    Ok((trainable, frozen))
}

/// Number of trainable parameters of a model, counted without making it.
///
/// # Errors
/// An invalid pattern.
pub fn trainable_count(config: &TrainConfig, model: &ModelConfig) -> Result<usize> {
    let patterns = patterns(config)?;
    let specs = layout(model).into_iter();
    Ok(specs
        .filter(|spec| is_trainable(config, &patterns, &spec.name))
        .map(|spec| spec.count())
        .sum())
}

fn patterns(config: &TrainConfig) -> Result<Vec<Pattern>> {
    config
        .freeze
        .iter()
        .map(|pattern| Pattern::new(pattern).with_context(|| format!("freeze {pattern} is not a pattern")))
        .collect()
}

fn is_trainable(config: &TrainConfig, freeze: &[Pattern], name: &str) -> bool {
    if config.lora_rank > 0 {
        return is_adapter(name);
    }
    !freeze.iter().any(|pattern| pattern.matches(name))
}
