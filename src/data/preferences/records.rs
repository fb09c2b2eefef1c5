//! Preference pairs as JSON lines: `{"prompt": "…", "chosen": "…", "rejected": "…"}`, all three texts or all three lists of messages.

use std::fmt;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::disk::hash::sha256;
use crate::tokenizer::chat::{Message, Role};

/// A prompt with two answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// What both answers go on from.
    pub prompt: Prompt,
    /// The preferred answer.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
}

/// What answers go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text, which an answer follows as it is.
    Text(String),
    /// A conversation, whose next message, the assistant's, an answer is.
    Messages(Vec<Message>),
}

/// As a person reads it.
impl fmt::Display for Prompt {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Messages(messages) => messages
                .iter()
                .try_for_each(|message| writeln!(formatter, "{}", message.content)),
        }
    }
}

impl Record {
    /// Whether the pair is for evaluation alone: one prompt in ten, whatever its answers.
    pub fn is_held_out(&self) -> bool {
        // Hexadecimal digits of a hash are as good as random: 26 of 256 are a tenth.
        let first = match &self.prompt {
            Prompt::Text(text) => sha256(text),
            Prompt::Messages(messages) => sha256(serde_json::to_vec(messages).unwrap_or_default()),
        };
        u8::from_str_radix(&first[..2], 16).is_ok_and(|byte| byte < 26)
    }

    fn parse(line: &str, number: usize) -> Result<Self> {
        let json: Value = serde_json::from_str(line).map_err(|error| {
            anyhow!(
                "not JSON from column {} on; each line must be an object with prompt, chosen and rejected",
                error.column()
            )
        })?;
        let (prompt, chosen, rejected) = match json["chosen"].is_array() {
            true => of_messages(&json)?,
            false => (
                Prompt::Text(text(&json, "prompt")?),
                text(&json, "chosen")?,
                text(&json, "rejected")?,
            ),
        };
        let record = Self {
            line: number,
            prompt,
            chosen,
            rejected,
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

/// A prompt and two answers that are lists of messages. Without a `prompt` (trl's implicit prompts), it is what both answers begin with.
fn of_messages(json: &Value) -> Result<(Prompt, String, String)> {
    let list = |key: &str| Message::list(&json[key]).with_context(|| format!("\"{key}\""));
    let (mut chosen, mut rejected) = (list("chosen")?, list("rejected")?);
    let prompt = match &json["prompt"] {
        Value::Null => {
            let pairs = chosen.iter().zip(&rejected);
            let common = pairs.take_while(|(a, b)| a == b).count();
            rejected.drain(..common);
            chosen.drain(..common).collect()
        }
        _ => list("prompt")?,
    };
    ensure!(
        !prompt.is_empty(),
        "the prompt has no message; begin with one of the user"
    );
    let answer = |key: &str, messages: Vec<Message>| match <[Message; 1]>::try_from(messages) {
        Ok(
            [
                Message {
                    role: Role::Assistant,
                    content,
                },
            ],
        ) => Ok(content),
        _ => bail!("\"{key}\" is no answer; after the prompt, write one message of the assistant"),
    };
    Ok((
        Prompt::Messages(prompt),
        answer("chosen", chosen)?,
        answer("rejected", rejected)?,
    ))
}

fn text(json: &Value, key: &str) -> Result<String> {
    match &json[key] {
        Value::String(text) => Ok(text.clone()),
        Value::Null => bail!("there is no \"{key}\"; each line must be an object with prompt, chosen and rejected"),
        _ => bail!(
            "\"{key}\" is not a text; write prompt, chosen and rejected all as texts, or all as lists of messages"
        ),
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
                "\"chosen\": messages[0]: its content is no text",
            ),
            (
                r#"{"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}"#,
                "\"rejected\": it is no list",
            ),
            (
                r#"{"chosen": [{"role": "assistant", "content": "b"}], "rejected": [{"role": "assistant", "content": "c"}]}"#,
                "the prompt has no message",
            ),
            (
                r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "user", "content": "b"}], "rejected": []}"#,
                "\"chosen\" is no answer",
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
    fn messages_have_a_prompt_of_their_own_or_the_one_that_both_begin_with() {
        let said = |role: &str, content: &str| format!(r#"{{"role": "{role}", "content": "{content}"}}"#);
        let (user, b, c) = (said("user", "a"), said("assistant", "b"), said("assistant", "c"));
        let explicit = format!(r#"{{"prompt": [{user}], "chosen": [{b}], "rejected": [{c}]}}"#);
        let implicit = format!(r#"{{"chosen": [{user}, {b}], "rejected": [{user}, {c}]}}"#);
        let records = parse(&format!("{explicit}\n{implicit}"), "x").unwrap();
        let prompt = Prompt::Messages(vec![Message::new(Role::User, "a")]);
        for record in records {
            assert_eq!(
                (&record.prompt, record.chosen.as_str(), record.rejected.as_str()),
                (&prompt, "b", "c")
            );
        }
    }

    #[test]
    fn one_prompt_in_ten_is_held_out() {
        let held_out = (0..10_000).filter(|number| {
            let prompt = format!("prompt {number}");
            Record {
                line: 1,
                prompt: Prompt::Text(prompt),
                chosen: String::new(),
                rejected: String::new(),
            }
            .is_held_out()
        });
        // Standard deviation of 10,000 draws of 26/256: 30.
        assert!((890..1150).contains(&held_out.count()));
    }
}
