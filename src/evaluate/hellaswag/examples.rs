//! Examples in HellaSwag's format (Zellers et al. 2019, <https://rowanzellers.com/hellaswag>): the beginning of a text
//! and some endings, one of which is the right one.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::disk::files;
use crate::tokenizer::Tokenizer;

/// An example as tokens, which fits into the context of the model that it was read for.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Tokens of the context, at least one.
    pub ctx: Vec<u32>,
    /// Candidate endings: each at least one token, with the space before it.
    pub endings: Vec<Vec<u32>>,
    /// The right ending.
    pub label: usize,
    /// Tokens at the beginning of `ctx` that were left out because the longest ending would not fit otherwise.
    pub dropped: usize,
}

/// The examples of a file, one JSON object per line, of whose fields `ctx`, `endings` and `label` (a number, or one written
/// as a string) are read. An ending is tokenized with a space before it and apart from `ctx`, as in Karpathy's
/// build-nanogpt (`hellaswag.py`) and llm.c.
///
/// # Errors
/// The file and the line of what cannot be scored: not JSON, a field that is missing or of another kind, a label
/// without its ending, text that gives no tokens or that the tokenizer cannot write, an ending longer than the context.
/// A file without examples.
pub fn read(file: &Path, tokenizer: &Tokenizer, context: usize) -> Result<Vec<Example>> {
    let name = file.display().to_string();
    let text = files::read(file)
        .and_then(|bytes| Ok(String::from_utf8(bytes)?))
        .with_context(|| {
            format!("{name} cannot be read; give a file of HellaSwag's format: one JSON object per line")
        })?;
    parse(&text, &name, tokenizer, context)
}

/// The examples of a file's text; errors call it `name`.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, name: &str, tokenizer: &Tokenizer, context: usize) -> Result<Vec<Example>> {
    let examples: Vec<Example> = text
        .lines()
        // Some programs put a byte-order mark before a file's first line, which joined files have inside.
        .map(|line| line.trim_start_matches('\u{feff}'))
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            Example::parse(line, tokenizer, context).with_context(|| format!("{name}, line {}", index + 1))
        })
        .collect::<Result<_>>()?;
    ensure!(
        !examples.is_empty(),
        "{name} is empty; give a file of HellaSwag's format: one JSON object per line"
    );
    Ok(examples)
}

impl Example {
    /// `ctx` and an ending, one after the other.
    pub fn sequence(&self, ending: usize) -> Vec<u32> {
        [&self.ctx[..], &self.endings[ending]].concat()
    }

    /// How many of a sequence's tokens the model reads to score it: all but the last.
    pub fn inputs(&self, ending: usize) -> usize {
        self.ctx.len() + self.endings[ending].len() - 1
    }

    fn parse(line: &str, tokenizer: &Tokenizer, context: usize) -> Result<Self> {
        let json: Value = serde_json::from_str(line).map_err(|error| {
            anyhow!(
                "not JSON from column {} on; each line must be an object with ctx, endings and label",
                error.column()
            )
        })?;
        let ctx = json["ctx"]
            .as_str()
            .context("there is no text under \"ctx\"; it must be the beginning that the endings go on from")?;
        let endings = json["endings"]
            .as_array()
            .filter(|endings| endings.len() > 1)
            .context("there is no list under \"endings\"; it must hold two texts or more to choose from")?;
        let label = label(&json["label"], endings.len())?;

        let ctx = tokens(ctx, tokenizer).context("ctx")?;
        let endings = endings
            .iter()
            .enumerate()
            .map(|(index, ending)| {
                let name = || format!("endings[{index}]");
                let ending = ending.as_str().context("it is not a text").with_context(name)?;
                let spaced = if ending.is_empty() { "" } else { &format!(" {ending}") };
                let ending = tokens(spaced, tokenizer).with_context(name)?;
                ensure!(
                    ending.len() <= context,
                    "{} has {} tokens, the model's context is {context}; leave the example out",
                    name(),
                    ending.len()
                );
                Ok(ending)
            })
            .collect::<Result<_>>()?;
        Ok(Self::fit(ctx, endings, label, context))
    }

    /// Keeps as much of the end of `ctx` as there is room for with the longest ending, so that all endings are scored
    /// after the same text. The last token of a row is predicted and never an input: a row is one longer than the
    /// context.
    fn fit(mut ctx: Vec<u32>, endings: Vec<Vec<u32>>, label: usize, context: usize) -> Self {
        let longest = endings.iter().map(Vec::len).max().unwrap_or(0);
        let dropped = (ctx.len() + longest).saturating_sub(context + 1);
        ctx.drain(..dropped);
        Self {
            ctx,
            endings,
            label,
            dropped,
        }
    }
}

/// The number of an ending, as HellaSwag's copies write it: `3`, or `"3"`.
fn label(value: &Value, endings: usize) -> Result<usize> {
    ensure!(
        !value.is_null(),
        "there is no \"label\"; it must be the number of the right ending (HellaSwag's test file has none)"
    );
    let number = match value {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    };
    number
        .filter(|&number| number < endings as u64)
        .map(|number| number as usize)
        .with_context(|| {
            format!(
                "label is {value}; it must be the number of an ending, from 0 to {}",
                endings - 1
            )
        })
}

fn tokens(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    ensure!(!ids.is_empty(), "it has no tokens; it must have one at least");
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::CharTokenizer;

    #[test]
    fn byte_order_marks_are_no_part_of_a_line() {
        let tokenizer: Tokenizer = CharTokenizer::from_text(" abcdefghij").into();
        let line = "{\"ctx\": \"abcdefg\", \"endings\": [\"h\", \"hij\"], \"label\": 1}";
        let plain = parse(&format!("{line}\n{line}\n"), "x", &tokenizer, 16).unwrap();
        let marked = format!("\u{feff}{line}\r\n\u{feff}{line}\n\u{feff}"); // two files, joined
        assert_eq!(parse(&marked, "x", &tokenizer, 16).unwrap(), plain);
    }

    #[test]
    fn labels_are_numbers_or_strings_of_digits() {
        let label = |json: &str| label(&serde_json::from_str(json).unwrap(), 4).ok();
        assert_eq!(["0", "3", "\"2\""].map(label), [Some(0), Some(3), Some(2)]);
        for wrong in [
            "4",
            "-1",
            "1.5",
            "\"\"",
            "\"x\"",
            "null",
            "[1]",
            "\"18446744073709551616\"",
        ] {
            assert_eq!(label(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_beginning_is_dropped_for_all_endings_alike_as_far_as_the_longest_demands() {
        let tokenizer = CharTokenizer::from_text(" abcdefghij").into();
        let line = r#"{"ctx": "abcdefg", "endings": ["h", "hij"], "label": 1, "ctx_a": 7}"#;
        let text = |ids: &[u32]| Tokenizer::decode(&tokenizer, ids).unwrap();
        for (context, ctx) in [(20, "abcdefg"), (10, "abcdefg"), (9, "bcdefg"), (5, "fg"), (4, "g")] {
            let example = Example::parse(line, &tokenizer, context).unwrap();
            assert_eq!(text(&example.ctx), ctx);
            assert_eq!(example.dropped, 7 - ctx.len());
            assert_eq!(
                example.endings.iter().map(|e| text(e)).collect::<Vec<_>>(),
                [" h", " hij"]
            );
        }
        let error = format!("{:#}", Example::parse(line, &tokenizer, 3).unwrap_err());
        assert!(
            error.contains("endings[1] has 4 tokens, the model's context is 3"),
            "{error}"
        );
    }
}
