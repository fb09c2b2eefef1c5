//! The files that define the recipes to compare.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::config::Preset;
use crate::terminal::escape::visible;

/// Keys that a grid can't vary: they are set elsewhere, depend on the machine, or change what the loss means.
const FIXED_KEYS: [&str; 5] = ["corpus", "tokenizer", "device", "threads", "seed"];

/// Limit of a grid's combinations; more are a mistake.
const MAX_GRID_POINTS: f64 = 1000.0;

/// A file of `bench sweep`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepPlan {
    /// The preset that all trainings start from.
    pub preset: Preset,
    /// The seeds of each combination.
    pub seeds: Vec<u64>,
    /// Options of all trainings.
    #[serde(default)]
    pub base: Table,
    /// `[grid]`, or several as `[[grid]]`: lists of values by key.
    grid: Value,
}

/// A file of `bench speedrun`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedrunPlan {
    /// The preset that all recipes start from.
    pub preset: Preset,
    /// The seeds of each recipe.
    pub seeds: Vec<u64>,
    /// Options of all recipes.
    #[serde(default)]
    pub base: Table,
    /// The recipes, `[[recipe]]`.
    #[serde(rename = "recipe")]
    pub recipes: Vec<RecipeOverride>,
}

/// A recipe: its name and how it differs from the others.
#[derive(Clone, Debug, Deserialize)]
pub struct RecipeOverride {
    /// Its name.
    pub name: String,
    /// Its options.
    #[serde(flatten)]
    pub settings: Table,
}

impl SweepPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a plan.
    pub fn read(path: &Path) -> Result<Self> {
        let plan: Self = read(path)?;
        ensure_no_seed(&plan.base).with_context(|| path.display().to_string())?;
        Ok(plan)
    }

    /// The options of each training: every combination of a grid's values, grid by grid, without duplicates.
    ///
    /// # Errors
    /// An empty list, or a key that can't be compared.
    pub fn points(&self) -> Result<Vec<Table>> {
        let grids = match &self.grid {
            Value::Table(grid) => vec![grid],
            Value::Array(grids) if grids.iter().all(Value::is_table) => {
                grids.iter().filter_map(Value::as_table).collect()
            }
            _ => bail!("grid is not a table; begin it with [grid], or several with [[grid]]"),
        };
        let sizes = grids.iter().map(|grid| {
            let lists = grid.values().filter_map(Value::as_array);
            lists.map(|values| values.len() as f64).product::<f64>()
        });
        let size: f64 = sizes.sum();
        ensure!(
            size <= MAX_GRID_POINTS,
            "the grid has {size} combinations, each to be trained with every seed; give at most {MAX_GRID_POINTS}"
        );
        let mut points = Vec::new();
        for grid in grids {
            for point in combinations(grid)? {
                if !points.contains(&point) {
                    points.push(point);
                }
            }
        }
        ensure!(
            !points.is_empty(),
            "grid is empty; give keys with lists of values below [grid]"
        );
        Ok(points)
    }
}

impl SpeedrunPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a plan.
    pub fn read(path: &Path) -> Result<Self> {
        let plan: Self = read(path)?;
        let check = || {
            ensure_no_seed(&plan.base)?;
            ensure!(!plan.recipes.is_empty(), "there is no [[recipe]]; give at least one");
            for (index, recipe) in plan.recipes.iter().enumerate() {
                let name = &recipe.name;
                ensure!(
                    !name.trim().is_empty() && *visible(name) == **name && !name.contains('\n'),
                    "recipe name {name:?} must be a single printable line"
                );
                recipe.settings.keys().try_for_each(|key| ensure_can_vary(key))?;
                ensure!(
                    plan.recipes[..index].iter().all(|other| other.name != recipe.name),
                    "two recipes are called {name}; call one another name"
                );
            }
            Ok(())
        };
        check().with_context(|| path.display().to_string())?;
        Ok(plan)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = crate::disk::files::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_slice(&bytes).with_context(|| format!("{} is not valid", path.display()))
}

fn ensure_no_seed(base: &Table) -> Result<()> {
    ensure!(
        !base.contains_key("seed"),
        "seed is below [base]; give seeds = […] above it"
    );
    Ok(())
}

/// Checks the list of seeds.
///
/// # Errors
/// An empty list, or a duplicate.
pub fn ensure_seeds(seeds: &[u64]) -> Result<()> {
    ensure!(
        !seeds.is_empty(),
        "seeds is empty; give at least one, such as seeds = [1337]"
    );
    for (index, seed) in seeds.iter().enumerate() {
        ensure!(
            !seeds[..index].contains(seed),
            "seed {seed} is there twice, and would count as two; give each once"
        );
    }
    Ok(())
}

fn ensure_can_vary(key: &str) -> Result<()> {
    ensure!(
        !FIXED_KEYS.contains(&key),
        "{key} cannot differ between recipes that are compared; seeds have a list of their own, the rest belongs below [base]"
    );
    Ok(())
}

/// The cartesian product of a grid's lists; a value alone is a list of one.
fn combinations(grid: &Table) -> Result<Vec<Table>> {
    let mut points = vec![Table::new()];
    for (key, values) in grid {
        ensure_can_vary(key)?;
        let values = match values {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        ensure!(!values.is_empty(), "{key} has no values in the grid; give at least one");
        points = points
            .iter()
            .flat_map(|point| {
                values.iter().map(|value| {
                    let mut point = point.clone();
                    point.insert(key.clone(), value.clone());
                    point
                })
            })
            .collect();
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(text: &str) -> Result<Vec<Table>> {
        toml::from_str::<SweepPlan>(&format!("preset = \"nano\"\nseeds = [1]\n{text}"))?.points()
    }

    #[test]
    fn every_combination_of_each_grid_once() {
        let lines = |text: &str| -> Vec<String> {
            let points = points(text).unwrap();
            points
                .iter()
                .map(|point| point.to_string().replace('\n', " "))
                .collect()
        };
        assert_eq!(
            lines("[grid]\nlr = [0.1, 0.2]\nwarmup = [5, 6]\nschedule = \"wsd\""),
            [
                "lr = 0.1 schedule = \"wsd\" warmup = 5 ",
                "lr = 0.1 schedule = \"wsd\" warmup = 6 ",
                "lr = 0.2 schedule = \"wsd\" warmup = 5 ",
                "lr = 0.2 schedule = \"wsd\" warmup = 6 ",
            ]
        );
        assert_eq!(
            lines("[[grid]]\nlr = [0.1, 0.2]\n[[grid]]\nlr = [0.2, 0.3]"),
            ["lr = 0.1 ", "lr = 0.2 ", "lr = 0.3 "]
        );
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for (text, expected) in [
            ("[grid]\nseed = [1, 2]", "seed cannot differ"),
            ("[grid]\nthreads = [1, 2]", "threads cannot differ"),
            ("[grid]\ntokenizer = [\"char\", \"gpt2\"]", "tokenizer cannot differ"),
            ("[grid]\nlr = []", "lr has no values"),
            ("grid = 5", "grid is not a table"),
            ("grid = []", "grid is empty"),
            ("grid = [5, {lr = 0.1}]", "grid is not a table"),
            (
                &format!("[grid]\nlr = {0:?}\nwarmup = {0:?}", vec![1; 40]),
                "1600 combinations",
            ),
        ] {
            let error = points(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
