//! Preference pairs as rows of tokens.

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Prompt, Record};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{ChatTemplate, Message, Role};

/// An answer to a prompt as tokens.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    /// Prompt and answer.
    ids: Vec<u32>,
    /// Tokens of the prompt, which are given and not learned.
    prompt: usize,
}

/// A pair as tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The chosen answer, then the rejected one.
    answers: [Answer; 2],
}

/// Pairs that fit into rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pairs {
    /// In the order of the file.
    pub pairs: Vec<Pair>,
}

impl Pair {
    /// A record's rows. This is the one place that knows how a record becomes tokens, and which of them are learned. After a text,
    /// prompt and answer are encoded apart, as by trl, and an answer ends with the tokenizer's eos token, if it has one; in a
    /// conversation, an answer is what the chat template lets the assistant write. Of a prompt that is too long for the context, the
    /// end is kept, for both answers alike.
    ///
    /// # Errors
    /// A text that the tokenizer cannot write; a conversation without a template; a prompt or an answer without tokens; an answer
    /// longer than the context.
    pub fn encode(
        record: &Record,
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        context: usize,
    ) -> Result<Self> {
        let (prompt, chosen) = encode_answer(&record.prompt, &record.chosen, tokenizer, template)?;
        let (_, rejected) = encode_answer(&record.prompt, &record.rejected, tokenizer, template)?;
        ensure!(!prompt.is_empty(), "prompt has no tokens; it must have one at least");
        let answers = [("chosen", chosen), ("rejected", rejected)];
        for (key, ids) in &answers {
            ensure!(!ids.is_empty(), "{key} has no tokens; it must have one at least");
            // The last token is predicted and never an input, and one token of the prompt is needed.
            ensure!(
                ids.len() <= context,
                "{key} has {} tokens, a row has {context}; leave the pair out, or give a larger --context",
                ids.len()
            );
        }
        let answers = answers.map(|(_, ids)| ids);
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let kept = &prompt[(prompt.len() + longest).saturating_sub(context + 1)..];
        Ok(Self {
            answers: answers.map(|answer| Answer {
                ids: [kept, &answer].concat(),
                prompt: kept.len(),
            }),
        })
    }
}

/// The tokens of a prompt and of an answer to it.
fn encode_answer(
    prompt: &Prompt,
    answer: &str,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
) -> Result<(Vec<u32>, Vec<u32>)> {
    match prompt {
        Prompt::Text(prompt) => {
            let mut ids = tokenizer.encode(answer)?;
            ids.extend(tokenizer.eos_token());
            Ok((tokenizer.encode(prompt)?, ids))
        }
        Prompt::Messages(messages) => {
            let template = template.context(
                "messages need a model with a chat template; take one that was trained with --chat, or write the pair as texts",
            )?;
            let said = [&messages[..], &[Message::new(Role::Assistant, answer)]].concat();
            let tokens = template.encode_answers(tokenizer, &said)?;
            let answer = tokens.answers.last().context("there is no answer")?;
            Ok((tokens.ids[..answer.start].to_vec(), tokens.ids[answer.clone()].to_vec()))
        }
    }
}

impl Pairs {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Indices of random pairs.
    pub fn draw(&self, rng: &mut ChaCha8Rng, count: usize) -> Vec<usize> {
        (0..count).map(|_| rng.random_range(0..self.len())).collect()
    }

    /// Indices of `count` pairs, evenly spaced, or of all there are: the same at every evaluation.
    pub fn evenly_spaced(&self, count: usize) -> Vec<usize> {
        let count = count.min(self.len());
        (0..count).map(|index| index * self.len() / count).collect()
    }

    /// The rows of the pairs of these indices, two for each: the chosen answer, then the rejected one; padded to `context` inputs.
    /// Targets are the tokens of answers.
    pub fn batch(&self, indices: &[usize], context: usize) -> Batch {
        let rows = 2 * indices.len();
        let (mut inputs, mut targets) = (Vec::with_capacity(rows * context), Vec::with_capacity(rows * context));
        for Answer { ids, prompt } in indices.iter().flat_map(|&index| &self.pairs[index].answers) {
            let row = inputs.len();
            inputs.extend(&ids[..ids.len() - 1]);
            inputs.resize(row + context, 0);
            targets.resize(row + prompt - 1, IGNORE_INDEX);
            targets.extend(&ids[*prompt..]);
            targets.resize(row + context, IGNORE_INDEX);
        }
        Batch { inputs, targets, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PreferenceData;
    use super::*;
    use crate::tokenizer::chat::CHAT_TOKENS;
    use crate::tokenizer::{CharTokenizer, SpecialTokenPolicy};

    fn pairs(prompt: &str, chosen: &str, rejected: &str, context: usize) -> Result<Batch> {
        let tokenizer: Tokenizer = CharTokenizer::from_text("abcdefgh").into(); // ids 0 to 7
        let line = serde_json::json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string();
        let data = PreferenceData::parse(&line, "x.jsonl")?;
        Ok(data
            .pairs(&data.records, &tokenizer, None, context)?
            .batch(&[0], context))
    }

    #[test]
    fn only_answers_are_targets() {
        let no = IGNORE_INDEX;
        let batch = pairs("ab", "c", "def", 6).unwrap();
        assert_eq!(batch.inputs, [0, 1, 0, 0, 0, 0, 0, 1, 3, 4, 0, 0]);
        assert_eq!(batch.targets, [no, 2, no, no, no, no, no, 3, 4, 5, no, no]);
    }

    #[test]
    fn in_a_conversation_the_template_writes_the_answer() {
        let line = r#"{"prompt": [{"role": "user", "content": "a"}], "chosen": [{"role": "assistant", "content": "b"}], "rejected": [{"role": "assistant", "content": "c"}]}"#;
        let data = PreferenceData::parse(line, "x.jsonl").unwrap();
        let tokenizer = CharTokenizer::from_text("abc")
            .with_special_tokens(&CHAT_TOKENS)
            .unwrap();
        let tokenizer: Tokenizer = tokenizer.into();
        let own = ChatTemplate::own().unwrap();
        let batch = data
            .pairs(&data.records, &tokenizer, Some(&own), 5)
            .unwrap()
            .batch(&[0], 5);
        let ids = tokenizer.encode_with("<|user|><|assistant|><|end_of_turn|>", &SpecialTokenPolicy::ALLOW);
        let [user, assistant, end] = ids.unwrap()[..] else {
            panic!("a token each")
        };
        assert_eq!(batch.inputs, [user, 0, end, assistant, 1, user, 0, end, assistant, 2]);
        let no = IGNORE_INDEX;
        assert_eq!(batch.targets, [no, no, no, 1, end, no, no, no, 2, end]);
        let error = data.pairs(&data.records, &tokenizer, None, 5).unwrap_err();
        assert!(
            format!("{error:#}").contains("line 1: messages need a model"),
            "{error:#}"
        );
    }

    #[test]
    fn the_beginning_of_a_long_prompt_is_left_out_for_both_answers_alike() {
        let no = IGNORE_INDEX;
        let batch = pairs("abcd", "g", "hg", 3).unwrap();
        assert_eq!(batch.inputs, [2, 3, 0, 2, 3, 7]);
        assert_eq!(batch.targets, [no, 6, no, no, 7, 6]);
        let error = format!("{:#}", pairs("a", "bcde", "f", 3).unwrap_err());
        assert!(
            error.contains("x.jsonl, line 1: chosen has 4 tokens, a row has 3"),
            "{error}"
        );
        let error = format!("{:#}", pairs("", "b", "f", 3).unwrap_err());
        assert!(error.contains("prompt has no tokens"), "{error}");
        assert!(pairs("a", "?", "f", 3).is_err());
    }
}
