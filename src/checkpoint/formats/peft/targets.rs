//! Resolves the target modules of `adapter_config.json` to linear layers.

use anyhow::{Context, Result, ensure};
use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

use crate::checkpoint::formats::hugging_face::PREFIX;
use crate::config::{LINEAR_LAYERS, ModelConfig};

/// Selects every linear layer except the head.
const ALL: &str = "all-linear";

/// Layers by name, or by a regular expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModuleFilter {
    /// Full names, or suffixes after a dot.
    Names(Vec<String>),
    /// A regular expression for the full name, or `all-linear`.
    Pattern(String),
}

/// Indices of blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BlockIndices {
    /// A single one.
    One(usize),
    /// Several; all if empty.
    Several(Vec<usize>),
}

/// Selects the layers with adapters, as `peft.tuners.tuners_utils.check_target_module_exists` does.
pub struct TargetSelection<'a> {
    /// The layers to select.
    pub target: &'a ModuleFilter,
    /// Layers to exclude from them.
    pub exclude: Option<&'a ModuleFilter>,
    /// The blocks that suffixes apply to; all if `None`.
    pub blocks: Option<&'a BlockIndices>,
}

impl TargetSelection<'_> {
    /// The targets of [`Lora`](crate::config::Lora): a plain list of names is kept as given; patterns, exclusions and block
    /// indices are expanded to full layer names.
    ///
    /// # Errors
    /// An invalid regular expression, or no layer is selected.
    pub fn targets(&self, model: &ModelConfig) -> Result<Vec<String>> {
        let canonical_name = |name: &String| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        if let (ModuleFilter::Names(names), None, None) = (self.target, self.exclude, self.blocks) {
            ensure!(!names.is_empty(), "target_modules is empty, so there are no adapters");
            return Ok(names.iter().map(canonical_name).collect());
        }
        let target = ModuleMatcher::new(self.target, "target_modules")?;
        let exclude = self
            .exclude
            .map(|modules| ModuleMatcher::new(modules, "exclude_modules"))
            .transpose()?;
        let mut targets = Vec::new();
        for block in 0..model.layers {
            for linear in LINEAR_LAYERS {
                let name = format!("{PREFIX}h.{block}.{linear}");
                if exclude.as_ref().is_some_and(|exclude| exclude.has(&name)) {
                    continue;
                }
                if target.has_whole(&name) || (target.has(&name) && self.has_block(block)) {
                    targets.push(canonical_name(&name));
                }
            }
        }
        ensure!(
            !targets.is_empty(),
            "target_modules and exclude_modules leave no linear layer with adapters"
        );
        Ok(targets)
    }

    fn has_block(&self, block: usize) -> bool {
        match self.blocks {
            None => true,
            Some(BlockIndices::One(one)) => *one == block,
            Some(BlockIndices::Several(several)) => several.is_empty() || several.contains(&block),
        }
    }
}

/// A compiled [`ModuleFilter`].
enum ModuleMatcher<'a> {
    All,
    Names(&'a [String]),
    Pattern(Regex),
}

impl<'a> ModuleMatcher<'a> {
    fn new(modules: &'a ModuleFilter, key: &str) -> Result<Self> {
        Ok(match modules {
            ModuleFilter::Names(names) => Self::Names(names),
            ModuleFilter::Pattern(pattern) if pattern.eq_ignore_ascii_case(ALL) => Self::All,
            ModuleFilter::Pattern(pattern) => {
                let whole = Regex::new(&format!(r"\A(?:{pattern})\z"));
                Self::Pattern(
                    whole.with_context(|| {
                        format!("{key} is {pattern:?}, which is not a supported regular expression")
                    })?,
                )
            }
        })
    }

    /// Whether it selects the layer of that full name.
    fn has(&self, name: &str) -> bool {
        let ends = |end: &String| name.strip_suffix(end.as_str()).is_some_and(|rest| rest.ends_with('.'));
        match self {
            Self::All => true,
            Self::Names(names) => self.has_whole(name) || names.iter().any(ends),
            // An expression that exceeds the backtracking limit counts as not matching; reading then fails on unexpected tensors.
            Self::Pattern(pattern) => pattern.is_match(name).unwrap_or(false),
        }
    }

    fn has_whole(&self, name: &str) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|whole| whole == name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::Preset;

    /// The targets in a model of two blocks.
    fn targets(target: Value, exclude: Value, blocks: Value) -> Result<Vec<String>> {
        let model = ModelConfig {
            layers: 2,
            ..Preset::Nano.model_config(65)
        };
        let exclude: Option<ModuleFilter> = serde_json::from_value(exclude)?;
        let blocks: Option<BlockIndices> = serde_json::from_value(blocks)?;
        let choice = TargetSelection {
            target: &serde_json::from_value(target)?,
            exclude: exclude.as_ref(),
            blocks: blocks.as_ref(),
        };
        choice.targets(&model)
    }

    #[test]
    fn layers_are_named_in_every_way() {
        let all: Vec<String> = (0..2)
            .flat_map(|block| LINEAR_LAYERS.map(|linear| format!("h.{block}.{linear}")))
            .collect();
        let of = |block: usize| all[4 * block..4 * block + 4].to_vec();
        for (target, exclude, blocks, expected) in [
            (json!("all-linear"), Value::Null, Value::Null, all.clone()),
            (json!("All-Linear"), json!(r".*\.h\.0\..*"), Value::Null, of(1)),
            (
                json!(["c_attn", "transformer.h.1.mlp.c_fc"]),
                Value::Null,
                Value::Null,
                vec!["c_attn".into(), "h.1.mlp.c_fc".into()],
            ),
            (
                json!(r"transformer\.h\.[01]\.attn\.c_(?!proj).*"),
                Value::Null,
                Value::Null,
                vec!["h.0.attn.c_attn".into(), "h.1.attn.c_attn".into()],
            ),
            (
                json!(["c_attn", "c_proj"]),
                json!(["mlp.c_proj", "transformer.h.0.attn.c_attn"]),
                Value::Null,
                vec![
                    "h.0.attn.c_proj".into(),
                    "h.1.attn.c_attn".into(),
                    "h.1.attn.c_proj".into(),
                ],
            ),
            (
                json!(["c_attn", "transformer.h.0.mlp.c_fc"]),
                Value::Null,
                json!([1]),
                vec!["h.0.mlp.c_fc".into(), "h.1.attn.c_attn".into()],
            ),
            (
                json!(["attn.c_attn"]),
                Value::Null,
                json!(0),
                vec!["h.0.attn.c_attn".into()],
            ),
        ] {
            assert_eq!(targets(target.clone(), exclude, blocks).unwrap(), expected, "{target}");
        }
        for (target, exclude, expected) in [
            (json!([]), Value::Null, "target_modules is empty"),
            (json!("c_attn"), Value::Null, "no linear layer"), // a whole name must match
            (json!(["c_attn"]), json!(["attn.c_attn"]), "no linear layer"),
            (json!("(c_attn"), Value::Null, "not a supported regular expression"),
        ] {
            let error = targets(target.clone(), exclude, Value::Null).unwrap_err().to_string();
            assert!(error.contains(expected), "{target}: {error}");
        }
    }
}
