//! Which parameters learn.

use anyhow::{Context, Result, ensure};
use glob::Pattern;

use crate::config::TrainConfig;
use crate::model::low_rank::is_adapter;
use crate::model::parameters::Parameters;

/// The parameters that learn, and those that stay: adapters learn alone where there are any; else all but those that a
/// pattern of `freeze` matches.
///
/// # Errors
/// A pattern that is none or matches nothing; nothing left to learn.
pub fn partition(config: &TrainConfig, parameters: &Parameters) -> Result<(Parameters, Parameters)> {
    if config.lora_rank > 0 {
        return Ok(parameters.partition(is_adapter));
    }
    let patterns = config
        .freeze
        .iter()
        .map(|pattern| Pattern::new(pattern).with_context(|| format!("freeze {pattern} is not a pattern")))
        .collect::<Result<Vec<_>>>()?;
    for pattern in &patterns {
        ensure!(
            parameters.names().iter().any(|name| pattern.matches(name)),
            "freeze {pattern} matches no parameter; names are such as wte.weight, h.0.attn.c_attn.weight, ln_f.bias, and * stands for any characters"
        );
    }
    let (frozen, learning) = parameters.partition(|name| patterns.iter().any(|pattern| pattern.matches(name)));
    ensure!(
        !learning.names().is_empty(),
        "freeze {} leaves no parameter that learns; freeze less",
        config.freeze.join(", ")
    );
    Ok((learning, frozen))
}
