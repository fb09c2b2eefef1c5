//! Bos and eos tokens in `config.json`, `generation_config.json` and `tokenizer_config.json`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::config::{BosEos, ModelConfig};
use crate::disk::files;
use crate::generate::bos_eos::{bos_token, eos_tokens};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::ids::id;

/// Generation settings of `transformers`, which take precedence over `config.json`.
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";

/// The bos and eos ids in a folder's `config.json`, whose contents are `config`, and its `generation_config.json`. They may
/// be outside the vocabulary: `transformers` writes GPT-2's 50256 by default, whatever the vocabulary.
///
/// As in mlx-lm, `config.json` is the fallback if `generation_config.json` has no eos token; `transformers` would then
/// generate without eos.
///
/// # Errors
/// A value that is not an id, or a `generation_config.json` that is not JSON.
pub fn read(folder: &Path, config: &Value) -> Result<BosEos> {
    let named = |config: &Value, shown: &Path| {
        let broken = || format!("{} is broken", shown.display());
        let bos = ids(config, "bos_token_id").with_context(broken)?;
        let eos = ids(config, "eos_token_id").with_context(broken)?;
        anyhow::Ok(BosEos {
            bos: bos.first().copied(),
            eos,
        })
    };
    let of_model = named(config, &folder.join(super::MODEL_CONFIG))?;
    let path = folder.join(GENERATION_CONFIG);
    if !path.exists() {
        return Ok(of_model);
    }
    let generation = files::read_json(&path, "valid JSON")?;
    let of_generation = named(&generation, &path)?;
    Ok(BosEos {
        bos: of_generation.bos.or(of_model.bos),
        eos: if of_generation.eos.is_empty() {
            of_model.eos
        } else {
            of_generation.eos
        },
    })
}

/// The ids under a key: none, one, or a list of them.
fn ids(config: &Value, key: &str) -> Result<Vec<u32>> {
    let value = &config[key];
    let ids = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    match ids {
        Some(ids) => Ok(ids),
        None => bail!("{key} is {value}; it must be a token id, a list of ids, or null"),
    }
}

/// Splits off the ids that are out of range for a vocabulary of that size.
pub fn within(bos_eos: BosEos, vocab_size: usize) -> (BosEos, Vec<u32>) {
    let is_within = |id: &u32| (*id as usize) < vocab_size;
    let (eos, mut others): (Vec<u32>, Vec<u32>) = bos_eos.eos.into_iter().partition(is_within);
    others.extend(bos_eos.bos.filter(|id| !is_within(id)));
    others.sort_unstable();
    others.dedup();
    let bos = bos_eos.bos.filter(is_within);
    (BosEos { bos, eos }, others)
}

/// Writes them into a `config.json`. An explicit null keeps `transformers` from assuming GPT-2's.
pub fn write(config: &mut Value, model: &ModelConfig, tokenizer: &Tokenizer) {
    config["bos_token_id"] = json!(bos_token(model, tokenizer));
    config["eos_token_id"] = match &eos_tokens(model, tokenizer)[..] {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
}

/// Writes their text into a `tokenizer_config.json`, if they are special tokens. An ordinary token would become special
/// there, and would no longer be matched inside words.
pub fn write_names(config: &mut Value, model: &ModelConfig, tokenizer: &Tokenizer) {
    let name = |id: &u32| {
        let mut specials = tokenizer.special_tokens().iter();
        specials.find_map(|(name, special)| (special == id).then(|| name.clone()))
    };
    let Some(entries) = config.as_object_mut() else { return };
    for (key, name) in [
        ("bos_token", bos_token(model, tokenizer).as_ref().and_then(name)),
        ("eos_token", eos_tokens(model, tokenizer).iter().find_map(name)),
    ] {
        match name {
            Some(name) => entries.insert(key.into(), name.into()),
            None => entries.shift_remove(key),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Preset;

    #[test]
    fn ids_are_none_one_or_several() {
        let of = |value: Value| ids(&json!({ "eos_token_id": value }), "eos_token_id").ok();
        assert_eq!(of(Value::Null), Some(vec![]));
        assert_eq!(ids(&json!({}), "eos_token_id").unwrap().len(), 0);
        assert_eq!(of(json!(50256)), Some(vec![50256]));
        assert_eq!(of(json!([1, 2])), Some(vec![1, 2]));
        for odd in [
            json!(-1),
            json!(1.5),
            json!("2"),
            json!([1, -1]),
            json!(4294967296_u64),
            json!({}),
        ] {
            assert_eq!(of(odd.clone()), None, "{odd}");
        }
    }

    #[test]
    fn generation_config_comes_first_where_it_names_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({ "bos_token_id": 1, "eos_token_id": 3 });
        let of = |generation: Value| {
            fs::write(folder.path().join(GENERATION_CONFIG), generation.to_string()).unwrap();
            let BosEos { bos, eos } = read(folder.path(), &config).unwrap();
            (bos, eos)
        };
        assert_eq!(of(json!({ "eos_token_id": [5, 6] })), (Some(1), vec![5, 6]));
        assert_eq!(
            of(json!({ "bos_token_id": 2, "eos_token_id": null })),
            (Some(2), vec![3])
        );
        fs::write(folder.path().join(GENERATION_CONFIG), "{").unwrap();
        assert!(read(folder.path(), &config).is_err());
    }

    #[test]
    fn what_the_vocabulary_has_not_is_left_out() {
        let bos_eos = BosEos {
            bos: Some(50256),
            eos: vec![50256, 3, 70],
        };
        let (kept, others) = within(bos_eos, 65);
        assert_eq!((kept.bos, kept.eos), (None, vec![3]));
        assert_eq!(others, [70, 50256]);
    }

    #[test]
    fn the_tokenizers_own_count_where_none_is_named() {
        let gpt2 = Tokenizer::gpt2().unwrap();
        let written = |bos_eos: BosEos| {
            let model = ModelConfig {
                bos_eos,
                ..Preset::Nano.model_config(50257)
            };
            let (mut config, mut names) = (json!({}), gpt2.config_json(64));
            write(&mut config, &model, &gpt2);
            write_names(&mut names, &model, &gpt2);
            let prompt = crate::generate::bos_eos::default_prompt(&model, &gpt2);
            json!([
                config["bos_token_id"],
                config["eos_token_id"],
                names["bos_token"],
                names["eos_token"],
                prompt
            ])
        };
        let end = "<|endoftext|>";
        assert_eq!(written(BosEos::default()), json!([50256, 50256, end, end, [50256]]));
        // An ordinary token, such as a full stop, must not become a special one.
        let one = BosEos {
            bos: None,
            eos: vec![13],
        };
        assert_eq!(written(one), json!([null, 13, null, null, [50256]]));
        let several = BosEos {
            bos: Some(7),
            eos: vec![13, 50256],
        };
        assert_eq!(written(several), json!([7, [13, 50256], null, end, [7]]));
    }
}
