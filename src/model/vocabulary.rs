//! New tokens in a trained model: rows for them in its tables of tokens, and those rows apart from all else, to be trained alone.
//!
//! ```
//! use mlx_gpt::config::{ModelConfig, Preset};
//! use mlx_gpt::model::{init::initialize, vocabulary::{add_tokens, join_rows, split_rows}};
//!
//! let model = ModelConfig { layers: 1, embd: 16, heads: 2, ..Preset::Nano.model_config(65) };
//! let (model, parameters) = add_tokens(&model, &initialize(&model, 1337)?, 65, 2)?;
//! assert_eq!(model.vocab_size, 67);
//! let (rest, rows) = split_rows(&parameters, 65, 2)?;
//! assert_eq!(rows.get("wte.weight")?.shape(), [2, 16]);
//! assert_eq!(join_rows(&rest, &rows, 65)?.get("wte.weight")?.shape(), [67, 16]);
//! # Ok::<(), anyhow::Error>(())
//! ```

use anyhow::{Result, ensure};
use mlx_rs::error::Result as MlxResult;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

use super::parameters::Parameters;
use crate::config::{Architecture, ModelConfig};

/// The parameters with a row for each token: the embedding and, where it is not tied to it, the head; both `[V, C]`.
const TABLES: [&str; 2] = ["wte.weight", "lm_head.weight"];

/// The model with `count` new tokens, whose ids begin at `first`, the number of tokens so far. Each new row is the mean of the
/// rows before it; all other numbers stay as they are, to the bit.
///
/// With the mean, a new token's logit is the mean of the others' (Hewitt 2021, "Initializing new word embeddings for pretrained
/// language models"), so that no new token is likelier than one of the old ones is on average.
///
/// A table that was padded to more rows than there are tokens keeps its size as long as the new tokens fit.
///
/// # Errors
/// A model without GPT-2's tables, or with quantized ones; fewer rows than `first`; those of MLX.
pub fn add_tokens(
    model: &ModelConfig,
    parameters: &Parameters,
    first: usize,
    count: usize,
) -> Result<(ModelConfig, Parameters)> {
    ensure!(
        matches!(model.architecture, Architecture::Gpt2 | Architecture::Modern),
        "a {:?} model cannot get new tokens; only GPT-2 and modern ones can",
        model.architecture
    );
    ensure!(
        model.quantization.is_none(),
        "a quantized model cannot get new tokens; add them before it is quantized"
    );
    ensure!(
        (1..=model.vocab_size).contains(&first),
        "the model has {} tokens, so new ones cannot begin at {first}",
        model.vocab_size
    );
    let vocab_size = model.vocab_size.max(first + count);
    let (first, count) = (first as i32, count as i32);
    let mut entries = Vec::new();
    for (name, array) in parameters.iter() {
        let extended = if TABLES.contains(&name) {
            let old = array.try_index(..first)?; // [first, C]
            let mean = old.mean_axis(0, true)?; // [1, C]
            let new = ops::broadcast_to(&mean, &[count, array.dim(1)])?;
            let padding = array.try_index((first + count).min(array.dim(0))..)?;
            ops::concatenate(&[old, new, padding], 0)?
        } else {
            array.clone()
        };
        entries.push((name.to_owned(), extended));
    }
    let model = ModelConfig {
        vocab_size,
        ..model.clone()
    };
    Ok((model, Parameters::from_entries(entries)))
}

/// All parameters without the rows of `count` tokens from the id `first` on, and those rows, `[count, C]`, under their tables'
/// names.
///
/// # Errors
/// Those of MLX.
pub fn split_rows(parameters: &Parameters, first: i32, count: i32) -> MlxResult<(Parameters, Parameters)> {
    let (mut rest, mut rows) = (Vec::new(), Vec::new());
    for (name, array) in parameters.iter() {
        if TABLES.contains(&name) {
            let others = [array.try_index(..first)?, array.try_index(first + count..)?];
            rest.push((name.to_owned(), ops::concatenate(&others, 0)?));
            rows.push((name.to_owned(), array.try_index(first..first + count)?));
        } else {
            rest.push((name.to_owned(), array.clone()));
        }
    }
    Ok((Parameters::from_entries(rest), Parameters::from_entries(rows)))
}

/// What [`split_rows`] split. A gradient by `rows` alone leaves `rest` as it is.
///
/// # Errors
/// Those of MLX.
pub fn join_rows(rest: &Parameters, rows: &Parameters, first: i32) -> MlxResult<Parameters> {
    let join = |(name, array): (&str, &Array)| {
        let joined = match rows.get(name) {
            Ok(rows) => {
                let parts = [array.try_index(..first)?, rows.clone(), array.try_index(first..)?];
                ops::concatenate(&parts, 0)?
            }
            Err(_) => array.clone(),
        };
        Ok((name.to_owned(), joined))
    };
    Ok(Parameters::from_entries(
        rest.iter().map(join).collect::<MlxResult<_>>()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Components, Preset};
    use crate::model::init::initialize;

    fn small(tie_head: bool) -> (ModelConfig, Parameters) {
        let model = ModelConfig {
            layers: 1,
            heads: 2,
            embd: 8,
            context: 4,
            components: Components {
                tie_head,
                ..Components::GPT2
            },
            architecture: if tie_head {
                Architecture::Gpt2
            } else {
                Architecture::Modern
            },
            ..Preset::Nano.model_config(10)
        };
        let parameters = initialize(&model, 7).unwrap();
        (model, parameters)
    }

    fn equal(a: &Array, b: &Array) -> bool {
        a.shape() == b.shape() && a.eq_values(b).unwrap()
    }

    #[test]
    fn new_rows_are_the_mean_and_the_old_ones_stay() {
        for tie_head in [true, false] {
            let (model, before) = small(tie_head);
            let (bigger, after) = add_tokens(&model, &before, 10, 3).unwrap();
            assert_eq!(bigger.vocab_size, 13);
            assert_eq!(after.names(), before.names());
            for (name, array) in before.iter() {
                let new = after.get(name).unwrap();
                if TABLES.contains(&name) {
                    assert!(equal(&new.try_index(..10).unwrap(), array), "{name}");
                    let mean = array.mean_axis(0, false).unwrap();
                    for row in 10..13 {
                        assert!(equal(&new.try_index(row).unwrap(), &mean), "{name} {row}");
                    }
                } else {
                    assert!(equal(new, array), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_padded_table_keeps_its_size() {
        let (model, before) = small(true);
        let (bigger, after) = add_tokens(&model, &before, 7, 2).unwrap();
        let [old, new] = [&before, &after].map(|parameters| parameters.get("wte.weight").unwrap().clone());
        assert_eq!((bigger.vocab_size, new.dim(0)), (10, 10));
        assert!(equal(&new.try_index(9).unwrap(), &old.try_index(9).unwrap()));
        let mean = old.try_index(..7).unwrap().mean_axis(0, false).unwrap();
        assert!(equal(&new.try_index(8).unwrap(), &mean));
        assert_eq!(add_tokens(&model, &before, 9, 3).unwrap().0.vocab_size, 12);
    }

    #[test]
    fn split_and_joined_it_is_the_same() {
        let (_, parameters) = small(false);
        for (first, count) in [(8, 2), (0, 3), (4, 1)] {
            let (rest, rows) = split_rows(&parameters, first, count).unwrap();
            assert_eq!(rows.names().len(), 2);
            assert_eq!(rest.count() + rows.count(), parameters.count());
            let joined = join_rows(&rest, &rows, first).unwrap();
            assert_eq!(joined.names(), parameters.names());
            let mut pairs = joined.arrays().iter().zip(parameters.arrays());
            assert!(pairs.all(|(a, b)| equal(a, b)));
        }
    }

    #[test]
    fn models_without_rows_to_add_are_refused() {
        let (model, parameters) = small(true);
        let bigram = ModelConfig {
            architecture: Architecture::Bigram,
            ..model.clone()
        };
        assert!(add_tokens(&bigram, &parameters, 10, 1).is_err());
        assert!(add_tokens(&model, &parameters, 11, 1).is_err());
    }
}
