//! Conversations, of which the assistant's answers are learned: a JSONL file with `messages`, as Hugging Face and mlx-lm have
//! it, or with `prompt` and `completion`.
//!
//! ```
//! use mlx_gpt::data::conversations::Conversations;
//! use mlx_gpt::data::corpus::Split;
//!
//! let file = concat!(
//!     r#"{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#, "\n",
//!     r#"{"prompt": "Hi", "completion": "Hello."}"#, "\n",
//! );
//! let conversations = Conversations::parse(file, "chat.jsonl")?;
//! assert_eq!(conversations.of(Split::All).count(), 2);
//! # anyhow::Ok(())
//! ```

mod file;
mod rows;

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::corpus::Split;
use crate::disk::files;
use crate::disk::hash::sha256;
use crate::tokenizer::chat::Message;
pub use rows::ConversationRows;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its number, from 1.
    pub line: usize,
    /// What is said; one message at least is the assistant's.
    pub messages: Vec<Message>,
    held_out: bool,
}

/// The conversations of a file.
#[derive(Clone, Debug)]
pub struct Conversations {
    /// The file's path, as it was given.
    pub path: String,
    conversations: Vec<Conversation>,
    sha256: String,
}

impl Conversations {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is no conversation, by its number.
    pub fn read(path: &str) -> Result<Self> {
        let read = || anyhow::Ok(String::from_utf8(files::read(Path::new(path))?)?);
        let text = read().with_context(|| format!("{path} cannot be read; give a file of conversations, in JSONL"))?;
        Self::parse(&text, path)
    }

    /// The conversations of a file's text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(text: &str, path: &str) -> Result<Self> {
        let mut conversations = Vec::new();
        // Some programs put a byte-order mark before a file's first line, which joined files have inside.
        let lines = text.lines().map(|line| line.trim_start_matches('\u{feff}'));
        for (line, json) in (1..).zip(lines).filter(|(_, line)| !line.trim().is_empty()) {
            let messages = file::messages(json).with_context(|| format!("{path}, line {line}"))?;
            conversations.push(Conversation {
                line,
                messages,
                held_out: false,
            });
        }
        ensure!(
            !conversations.is_empty(),
            "{path} is empty; give a file of conversations, in JSONL"
        );
        hold_out(&mut conversations)?;
        Ok(Self {
            path: path.into(),
            conversations,
            sha256: sha256(text),
        })
    }

    /// Those of a split, in the order of the file.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &Conversation> {
        self.conversations.iter().filter(move |conversation| match split {
            Split::Train => !conversation.held_out,
            Split::Val => conversation.held_out,
            Split::All => true,
        })
    }

    /// SHA-256 of the file's text.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its name in the names of runs: the file's without extension.
    pub fn name(&self) -> String {
        let path = Path::new(&self.path);
        path.file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// Every character that is said, once.
    pub fn characters(&self) -> String {
        let messages = self
            .conversations
            .iter()
            .flat_map(|conversation| &conversation.messages);
        let characters: BTreeSet<char> = messages.flat_map(|message| message.content.chars()).collect();
        characters.into_iter().collect()
    }
}

/// Holds out the tenth of all different conversations with the smallest hashes, one at least: so all copies of a conversation
/// are on one side, and the order of the file doesn't matter. Of a single one, nothing is held out.
fn hold_out(conversations: &mut [Conversation]) -> Result<()> {
    let mut hashes = Vec::with_capacity(conversations.len());
    for conversation in conversations.iter() {
        hashes.push(sha256(serde_json::to_vec(&conversation.messages)?));
    }
    let different: BTreeSet<&String> = hashes.iter().collect();
    let count = match different.len() {
        1 => 0,
        all => (all / 10).max(1),
    };
    let smallest: HashSet<&String> = different.into_iter().take(count).collect();
    for (conversation, hash) in conversations.iter_mut().zip(&hashes) {
        conversation.held_out = smallest.contains(hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_on_one_side_and_a_tenth_is_held_out() {
        let line = |n: usize| format!("{{\"prompt\": \"{}\", \"completion\": \"x\"}}\n", n % 50);
        let of = |numbers: &mut dyn Iterator<Item = usize>| {
            let text: String = numbers.map(line).collect();
            let conversations = Conversations::parse(&text, "c.jsonl").unwrap();
            let prompts = |split| -> BTreeSet<String> {
                let of = conversations.of(split);
                of.map(|conversation| conversation.messages[0].content.clone())
                    .collect()
            };
            (prompts(Split::Train), prompts(Split::Val))
        };
        let (train, val) = of(&mut (0..100));
        assert_eq!((train.len(), val.len()), (45, 5));
        assert!(train.is_disjoint(&val));
        assert_eq!(of(&mut (0..100).rev()), (train, val), "the order doesn't matter");
        let (train, val) = of(&mut (0..2));
        assert_eq!((train.len(), val.len()), (1, 1));
        let (train, val) = of(&mut [0, 0].into_iter());
        assert_eq!((train.len(), val.len()), (1, 0));
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n\n";
        for (line, expected) in [
            ("{", "not JSON from column 1"),
            ("7", "neither messages nor prompt and completion"),
            ("{\"messages\": 7}", "messages: it is no list"),
            ("{\"messages\": []}", "no answer"),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
                "no answer",
            ),
            (
                "{\"messages\": [{\"role\": \"tool\", \"content\": \"a\"}]}",
                "messages[0]: its role is \"tool\"",
            ),
            ("{\"messages\": [{\"content\": \"a\"}]}", "messages[0]: it has no role"),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": null}]}",
                "messages[0]: its content is no text",
            ),
            (
                "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"system\", \"content\": \"\"}]}",
                "messages[1]: its role is system",
            ),
            ("{\"prompt\": \"a\"}", "there is no text under \"completion\""),
            (
                "{\"prompt\": [], \"completion\": \"b\"}",
                "there is no list under \"completion\"",
            ),
        ] {
            let error = Conversations::parse(&format!("{good}{line}"), "c.jsonl").unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.starts_with("c.jsonl, line 3: ") && error.contains(expected),
                "{line}: {error}"
            );
        }
        assert!(
            Conversations::parse("\n \n", "c.jsonl")
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
    }

    #[test]
    fn prompts_are_texts_or_messages() {
        let text = "\u{feff}{\"prompt\": [{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"a\"}], \"completion\": [{\"role\": \"assistant\", \"content\": \"b\"}]}\r\n{\"prompt\": \"c\", \"completion\": \"d\", \"other\": 1}";
        let conversations = Conversations::parse(text, "folder/c.jsonl").unwrap();
        let said: Vec<Vec<&str>> = conversations
            .of(Split::All)
            .map(|conversation| {
                conversation
                    .messages
                    .iter()
                    .map(|message| message.content.as_str())
                    .collect()
            })
            .collect();
        assert_eq!(said, [vec!["s", "a", "b"], vec!["c", "d"]]);
        assert_eq!(
            (conversations.name().as_str(), conversations.characters().as_str()),
            ("c", "abcds")
        );
    }
}
