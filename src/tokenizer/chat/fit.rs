//! A prompt of a conversation that is longer than a model's context: the oldest turns are left out.

use anyhow::{Result, ensure};

use super::message::{Message, Role};
use super::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// The tokens before an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatPrompt {
    /// Tokens of the messages, up to where the answer begins.
    pub ids: Vec<u32>,
    /// Messages that were left out, the oldest of the conversation after the system's.
    pub dropped: usize,
}

/// The tokens of `messages`, of which as many of the oldest turns are left out as leave `reserve` tokens for the answer in a
/// context of `context`. The system's message stays, and so does the last one.
///
/// # Errors
/// As [`ChatTemplate::encode`]; what stays is too long by itself.
pub fn fit(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &[Message],
    context: usize,
    reserve: usize,
) -> Result<ChatPrompt> {
    let room = context.saturating_sub(reserve);
    let system = usize::from(messages.first().is_some_and(|first| first.role == Role::System));
    let mut dropped = 0;
    loop {
        let kept = [&messages[..system], &messages[system + dropped..]].concat();
        let ids = template.encode(tokenizer, &kept, true)?;
        if ids.len() <= room {
            return Ok(ChatPrompt { ids, dropped });
        }
        // A turn ends where the next question begins.
        let rest = &messages[system + dropped..];
        let turn = rest.iter().skip(1).position(|message| message.role == Role::User);
        let Some(turn) = turn else {
            let length = ids.len();
            ensure!(
                length <= room,
                "the last message takes {length} tokens with what must be with it; the model's context of {context} has room for {room} before the answer; shorten it"
            );
            return Ok(ChatPrompt { ids, dropped });
        };
        dropped += turn + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::CharTokenizer;
    use crate::tokenizer::chat::CHAT_TOKENS;

    #[test]
    fn the_oldest_turns_give_way() {
        let tokenizer = CharTokenizer::from_text("abcdefs");
        let tokenizer: Tokenizer = tokenizer.with_special_tokens(&CHAT_TOKENS).unwrap().into();
        let template = ChatTemplate::own().unwrap();
        let said = [
            (Role::System, "s"),
            (Role::User, "a"),
            (Role::Assistant, "b"),
            (Role::User, "c"),
            (Role::Assistant, "d"),
            (Role::User, "e"),
        ];
        let messages = said.map(|(role, content)| Message::new(role, content));
        let prompt = |context, reserve| fit(&template, &tokenizer, &messages, context, reserve);
        // Three tokens a message, and one where the answer begins.
        for (context, reserve, dropped, length) in [(30, 11, 0, 19), (30, 12, 2, 13), (23, 10, 2, 13), (20, 8, 4, 7)] {
            let prompt = prompt(context, reserve).unwrap();
            assert_eq!(
                (prompt.dropped, prompt.ids.len()),
                (dropped, length),
                "{context} {reserve}"
            );
            let text = tokenizer.decode(&prompt.ids).unwrap();
            assert!(
                text.starts_with("<|system|>s") && text.ends_with("e<|end_of_turn|><|assistant|>"),
                "{text}"
            );
        }
        let error = prompt(10, 4).unwrap_err().to_string();
        assert!(
            error.contains("takes 7 tokens") && error.contains("room for 6"),
            "{error}"
        );
    }
}
