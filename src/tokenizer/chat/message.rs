//! Who says what in a conversation.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says something in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who tells the assistant how to answer, before all else.
    System,
    /// Who asks.
    User,
    /// Who answers: the model.
    Assistant,
}

/// A message, with the names of Hugging Face and OpenAI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { role, content }
    }

    /// The messages of a JSON list of objects with `role` and `content`; the errors name the place in the list.
    ///
    /// # Errors
    /// Another value, an unknown role, a content that is no text, a system message that is not the first.
    pub fn list(value: &Value) -> Result<Vec<Self>> {
        let list = value
            .as_array()
            .context("it is no list; give a list of objects with role and content")?;
        let message = |(index, value)| Self::of_json(value, index).with_context(|| format!("messages[{index}]"));
        list.iter().enumerate().map(message).collect()
    }

    fn of_json(value: &Value, index: usize) -> Result<Self> {
        let role = match value["role"].as_str() {
            Some("system") => Role::System,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some(other) => bail!("its role is {other:?}; it must be system, user or assistant"),
            None => bail!("it has no role; give system, user or assistant"),
        };
        ensure!(
            role != Role::System || index == 0,
            "its role is system, which only the first message can have; move it there"
        );
        let content = value["content"]
            .as_str()
            .context("its content is no text; write it as a string")?;
        Ok(Self::new(role, content))
    }
}
