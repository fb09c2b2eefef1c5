//! Day 13: conversations as text and as targets, and new tokens for a trained vocabulary.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops;

// ANCHOR: chat_text
/// Messages as one text: roles and contents, each message between the special token of its role and that of its end. With
/// `prompt`, up to where the assistant's answer begins.
pub fn chat_text(messages: &[(&str, &str)], prompt: bool) -> String {
    let mut text = String::new();
    for (role, content) in messages {
        text += &format!("<|{role}|>{content}<|end_of_turn|>");
    }
    if prompt {
        text += "<|assistant|>";
    }
    text
}
// ANCHOR_END: chat_text

// ANCHOR: add_tokens
/// An embedding `[V, C]` with `count` new rows, `[V + count, C]`. Each is the mean of the old rows, which stay as they are.
///
/// # Exercise
/// The mean over the first axis that keeps it, `mean_axis(0, true)`, is `[1, C]`; `ops::broadcast_to` repeats it to `[count, C]`, and
/// `ops::concatenate` puts both below each other.
pub fn add_tokens(embedding: &Array, count: i32) -> Result<Array> {
    let mean = embedding.mean_axis(0, true)?; // [1, C]
    let new = ops::broadcast_to(&mean, &[count, embedding.dim(1)])?;
    ops::concatenate(&[embedding, &new], 0)
}
// ANCHOR_END: add_tokens

// ANCHOR: answer_targets
/// The target at each token of a conversation but the last: the next token if the assistant writes it, else none. An answer begins
/// after the token `assistant`, and its `end_of_turn` belongs to it.
///
/// # Exercise
/// Go through the tokens, and remember whether the assistant is speaking: it begins at `assistant`, and stops at `end_of_turn`. At each
/// token, first find out whether it is speaking; if so, the next token is a target.
pub fn answer_targets(ids: &[u32], assistant: u32, end_of_turn: u32) -> Vec<Option<u32>> {
    let mut speaking = false;
    let mut targets = Vec::new();
    for pair in ids.windows(2) {
        if pair[0] == assistant {
            speaking = true;
        } else if pair[0] == end_of_turn {
            speaking = false;
        }
        targets.push(speaking.then_some(pair[1]));
    }
    targets
}
// ANCHOR_END: answer_targets
