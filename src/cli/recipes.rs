//! The configurations of the trainings that `bench sweep` and `bench speedrun` compare.

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::config::{ConfigOverrides, Preset, TrainConfig};
use crate::data::dataset::Dataset;
use crate::measure::contest::plan::ensure_seeds;
use crate::train::configure;

/// The configuration of each recipe (a table of settings that overrides `base`) with each seed, and their dataset. Ordered
/// by seed, then recipe, so that an interrupted comparison has results of every recipe.
///
/// # Errors
/// An unknown key or an invalid value; no seed, or one twice; a corpus that cannot be read.
pub fn resolve(preset: Preset, base: &Table, recipes: &[&Table], seeds: &[u64]) -> Result<(Vec<TrainConfig>, Dataset)> {
    ensure_seeds(seeds)?;
    let mut configs = Vec::with_capacity(recipes.len() * seeds.len());
    let mut dataset = None;
    for seed in seeds {
        for recipe in recipes {
            let mut table = base.clone();
            table.extend((*recipe).clone());
            table.insert("seed".into(), Value::Integer(i64::try_from(*seed)?));
            let overrides = ConfigOverrides::from(table);
            let (mut config, _) = configure(&overrides, &ConfigOverrides::default(), Some(preset))?;
            let dataset = match &dataset {
                Some(dataset) => dataset,
                None => dataset.insert(Dataset::of_config(&config)?),
            };
            if let (false, Some(own)) = (overrides.has("tokenizer"), dataset.own_tokenizer()) {
                config.tokenizer = own;
            }
            config.validate()?;
            configs.push(config);
        }
    }
    Ok((configs, dataset.context("there is nothing to train")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::contest::plan::{SpeedrunPlan, SweepPlan};

    #[test]
    fn the_plans_that_come_with_the_program_are_valid() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
        for (file, trainings) in [
            ("adamw.toml", 16),
            ("muon.toml", 22),
            ("long.toml", 14),
            ("ablation.toml", 42),
        ] {
            let plan = SweepPlan::read(&folder.join(file)).unwrap();
            let points = plan.points().unwrap();
            let points: Vec<&Table> = points.iter().collect();
            let (configs, _) = resolve(plan.preset, &plan.base, &points, &plan.seeds).unwrap();
            assert_eq!(configs.len(), trainings, "{file}");
        }

        // The plain recipe is nanoGPT's, whatever the preset becomes.
        let plan = SpeedrunPlan::read(&folder.join("speedrun.toml")).unwrap();
        let recipes: Vec<&Table> = plan.recipes.iter().map(|recipe| &recipe.settings).collect();
        let (configs, _) = resolve(plan.preset, &plan.base, &recipes, &[7]).unwrap();
        let plain = &configs[0];
        assert_eq!(plan.recipes[0].name, "plain");
        assert_eq!(
            (plain.lr, plain.min_lr, plain.warmup, plain.steps, plain.seed),
            (1e-3, 1e-4, 100, 2000, 7)
        );
    }
}
