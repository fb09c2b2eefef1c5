//! Preference pairs as JSON lines: `{"prompt": "…", "chosen": "…", "rejected": "…"}`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::disk::hash::sha256;

/// A prompt with two answers, as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// What both answers go on from.
    pub prompt: String,
    /// The preferred answer.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
}

impl Record {
    /// Whether the pair is for evaluation alone: one prompt in ten, whatever its answers.
    pub fn is_held_out(&self) -> bool {
        // Hexadecimal digits of a hash are as good as random: 26 of 256 are a tenth.
        let first = sha256(&self.prompt);
        u8::from_str_radix(&first[..2], 16).is_ok_and(|byte| byte < 26)
    }

    fn parse(line: &str, number: usize) -> Result<Self> {
        let json: Value = serde_json::from_str(line).map_err(|error| {
            anyhow!(
                "not JSON from column {} on; each line must be an object with prompt, chosen and rejected",
                error.column()
            )
        })?;
        let record = Self {
            line: number,
            prompt: text(&json, "prompt")?,
            chosen: text(&json, "chosen")?,
            rejected: text(&json, "rejected")?,
        };
        ensure!(
            record.chosen != record.rejected,
            "chosen and rejected are the same text, so neither is preferred; leave the pair out"
        );
        Ok(record)
    }
}

/// The records of a file's text, empty lines left out; errors call it `name`.
///
/// # Errors
/// The number of a line that is no pair of texts; no pairs.
pub fn parse(text: &str, name: &str) -> Result<Vec<Record>> {
    let records: Vec<Record> = text
        .lines()
        // Some programs put a byte-order mark before a file's first line, which joined files have inside.
        .map(|line| line.trim_start_matches('\u{feff}'))
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| Record::parse(line, index + 1).with_context(|| format!("{name}, line {}", index + 1)))
        .collect::<Result<_>>()?;
    ensure!(
        !records.is_empty(),
        "{name} is empty; give a file of preference pairs: one JSON object per line"
    );
    Ok(records)
}

fn text(json: &Value, key: &str) -> Result<String> {
    match &json[key] {
        Value::String(text) => Ok(text.clone()),
        Value::Null => bail!("there is no \"{key}\"; each line must be an object with prompt, chosen and rejected"),
        Value::Array(_) => bail!("\"{key}\" is a list of messages; write prompt, chosen and rejected as texts"),
        _ => bail!("\"{key}\" is not a text; write prompt, chosen and rejected as texts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pair_is_named_by_its_line() {
        let good = r#"{"prompt": "a", "chosen": "b", "rejected": "c", "score": 1}"#;
        assert_eq!(parse(&format!("\u{feff}{good}\r\n\n{good}\n"), "x").unwrap()[1].line, 3);
        for (line, expected) in [
            ("{\"prompt\": \"a\", ", "not JSON from column"),
            ("[]", "there is no \"prompt\""),
            (r#"{"prompt": "a", "chosen": "b"}"#, "there is no \"rejected\""),
            (
                r#"{"prompt": "a", "chosen": [{"role": "user"}], "rejected": "c"}"#,
                "\"chosen\" is a list of messages",
            ),
            (
                r#"{"prompt": "a", "chosen": 1, "rejected": "c"}"#,
                "\"chosen\" is not a text",
            ),
            (r#"{"prompt": "a", "chosen": "c", "rejected": "c"}"#, "the same text"),
        ] {
            let error = format!("{:#}", parse(&format!("{good}\n{line}"), "x.jsonl").unwrap_err());
            assert!(
                error.starts_with("x.jsonl, line 2: ") && error.contains(expected),
                "{error}"
            );
            assert_eq!(error.lines().count(), 1);
        }
        assert!(parse("\n \n", "x").unwrap_err().to_string().contains("x is empty"));
    }

    #[test]
    fn one_prompt_in_ten_is_held_out() {
        let held_out = (0..10_000).filter(|number| {
            let prompt = format!("prompt {number}");
            Record {
                line: 1,
                prompt,
                chosen: String::new(),
                rejected: String::new(),
            }
            .is_held_out()
        });
        // Standard deviation of 10,000 draws of 26/256: 30.
        assert!((890..1150).contains(&held_out.count()));
    }
}
