//! Which parameters learn.

use anyhow::{Context, Result, ensure};
use glob::Pattern;

use crate::config::{ModelConfig, TrainConfig};
use crate::model::init::layout;
use crate::model::linear::lora::is_adapter;
use crate::model::parameters::Parameters;

/// The parameters that learn, and those that do not: adapters learn alone where there are any; else all but those that
/// a pattern of `freeze` matches.
///
/// # Errors
/// A pattern that is none or matches nothing; nothing left to learn.
pub fn partition(config: &TrainConfig, parameters: &Parameters) -> Result<(Parameters, Parameters)> {
    let patterns = patterns(config)?;
    for pattern in &patterns {
        ensure!(
            parameters.names().iter().any(|name| pattern.matches(name)),
            "freeze {pattern} matches no parameter; names are such as wte.weight, h.0.attn.c_attn.weight, ln_f.bias, and * stands for any characters"
        );
    }
    let (learning, frozen) = parameters.partition(|name, _| learns(config, &patterns, name));
    ensure!(
        !learning.names().is_empty(),
        "freeze {} leaves no parameter that learns; freeze less",
        config.freeze.join(", ")
    );
    Ok((learning, frozen))
}

/// How many numbers of a model learn, by its configuration alone.
///
/// # Errors
/// A pattern that is none.
pub fn learning_count(config: &TrainConfig, model: &ModelConfig) -> Result<usize> {
    let patterns = patterns(config)?;
    let specs = layout(model).into_iter();
    Ok(specs
        .filter(|spec| learns(config, &patterns, &spec.name))
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

fn learns(config: &TrainConfig, freeze: &[Pattern], name: &str) -> bool {
    if config.lora_rank > 0 {
        return is_adapter(name);
    }
    !freeze.iter().any(|pattern| pattern.matches(name))
}
