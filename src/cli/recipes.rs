//! Configurations of several trainings that are compared, from tables of settings.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::train_options::Settings;
use crate::config::{Preset, TrainConfig};
use crate::data::dataset::Dataset;

/// The configuration of each recipe, a table of settings over those of `base`, with each seed, and the dataset of them
/// all. By seed first, so that work which is stopped half-way has seen every recipe.
///
/// # Errors
/// A key or a value that no configuration has; a corpus that cannot be read.
pub fn resolve(preset: Preset, base: &Table, recipes: &[&Table], seeds: &[u64]) -> Result<(Vec<TrainConfig>, Dataset)> {
    let mut configs = Vec::with_capacity(recipes.len() * seeds.len());
    let mut dataset = None;
    for seed in seeds {
        for recipe in recipes {
            let mut table = base.clone();
            table.extend((*recipe).clone());
            table.insert("seed".into(), Value::Integer(i64::try_from(*seed)?));
            let settings: Settings = table.try_into()?;
            let (mut config, _) = settings.resolve(&Settings::default(), Some(preset))?;
            let dataset = match &dataset {
                Some(dataset) => dataset,
                None => dataset.insert(Dataset::open(&config.corpus)?),
            };
            if let (false, Some(own)) = (settings.names_tokenizer(), dataset.own_tokenizer()) {
                config.tokenizer = own;
            }
            config.validate()?;
            configs.push(config);
        }
    }
    Ok((configs, dataset.context("there is nothing to train")?))
}
