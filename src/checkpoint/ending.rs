//! The tokens that end a text, as `config.json` names them. What ends one here is the tokenizer's own token for it.

use anyhow::{Result, bail};
use serde_json::Value;

/// The ids under `eos_token_id`: none, one, or a list of them. They need not be in the vocabulary: `transformers` writes
/// GPT-2's 50256 for any GPT-2 that was not told otherwise.
///
/// # Errors
/// What is no id.
pub fn ids(config: &Value) -> Result<Vec<u32>> {
    let value = &config["eos_token_id"];
    let ids = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    match ids {
        Some(ids) => Ok(ids),
        None => bail!("eos_token_id is {value}; it must be the id of a token, a list of ids, or null"),
    }
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_none_one_or_several() {
        let of = |value: Value| ids(&json!({ "eos_token_id": value })).ok();
        assert_eq!(of(Value::Null), Some(vec![]));
        assert_eq!(ids(&json!({})).unwrap().len(), 0);
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
}
