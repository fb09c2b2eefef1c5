//! A line of a file of conversations.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::tokenizer::chat::{Message, Role};

/// The messages of a line: an object with `messages`, or with `prompt` and `completion`, which are both texts or both lists of
/// messages. Other keys are ignored.
///
/// # Errors
/// Another line; no answer.
pub fn messages(line: &str) -> Result<Vec<Message>> {
    let json: Value = serde_json::from_str(line).map_err(|error| {
        anyhow!(
            "not JSON from column {} on; each line must be an object with messages, or with prompt and completion",
            error.column()
        )
    })?;
    let messages = if json.get("messages").is_some() {
        Message::list(&json["messages"]).context("messages")?
    } else {
        prompt_and_completion(&json)?
    };
    ensure!(
        messages.iter().any(|message| message.role == Role::Assistant),
        "there is no answer to learn; add a message of the assistant, or leave the line out"
    );
    Ok(messages)
}

fn prompt_and_completion(json: &Value) -> Result<Vec<Message>> {
    let (prompt, completion) = (&json["prompt"], &json["completion"]);
    match prompt {
        Value::String(prompt) => {
            let completion = completion
                .as_str()
                .context("there is no text under \"completion\"; it must be the answer to \"prompt\"")?;
            Ok(vec![
                Message::new(Role::User, prompt),
                Message::new(Role::Assistant, completion),
            ])
        }
        Value::Array(prompt) => {
            let completion = completion
                .as_array()
                .context("there is no list under \"completion\"; it must have messages, as \"prompt\" has")?;
            Message::list(&Value::Array([&prompt[..], completion].concat())).context("prompt and completion")
        }
        _ => Err(anyhow!(
            "it has neither messages nor prompt and completion; write one of them"
        )),
    }
}
