//! Rows of conversations.

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Conversation, Conversations};
use crate::data::batches::{Batch, IGNORE_INDEX};
use crate::data::corpus::Split;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{ChatTemplate, ChatTokens};

/// The conversations of a split as rows of tokens, each a row of its own: it begins at the first position and after nothing, as it
/// does where the model is used. The rest of the row is padding. Targets are the assistant's answers alone, each with the token
/// that ends it.
///
/// Several conversations in a row would be read as one: nothing but a mask of the attention could tell the model that a
/// question begins another one.
pub struct ConversationRows {
    conversations: Vec<ChatTokens>,
    cut: usize,
    left_out: usize,
}

impl ConversationRows {
    /// Those of a split; what is longer than a row of `context` tokens and the token after it is cut there.
    ///
    /// # Errors
    /// By its line: a conversation that the template or the tokenizer refuses. No answer begins within the context.
    pub fn new(
        conversations: &Conversations,
        split: Split,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        context: usize,
    ) -> Result<Self> {
        let path = &conversations.path;
        let encode = |conversation: &Conversation| {
            let tokens = template.encode_answers(tokenizer, &conversation.messages);
            tokens.with_context(|| format!("{path}, line {}", conversation.line))
        };
        let mut rows = Self {
            conversations: conversations.of(split).map(encode).collect::<Result<_>>()?,
            cut: 0,
            left_out: 0,
        };
        let all = rows.conversations.len();
        let longest = rows
            .conversations
            .iter()
            .map(|tokens| tokens.ids.len())
            .max()
            .unwrap_or(0);
        for tokens in &mut rows.conversations {
            rows.cut += usize::from(cut(tokens, context + 1));
        }
        // The first token is never predicted.
        rows.conversations
            .retain(|tokens| tokens.answers.iter().any(|range| range.end > 1));
        rows.left_out = all - rows.conversations.len();
        ensure!(
            all == 0 || !rows.conversations.is_empty(),
            "{path}: in none of {all} conversations an answer begins within a context of {context} tokens; the longest has {longest}: give more with --context"
        );
        Ok(rows)
    }

    /// A note on conversations that are longer than a row, if there are any.
    pub fn note(&self) -> Option<String> {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!(", {count} of them before their first answer: these are left out"),
        };
        let all = self.conversations.len() + self.left_out;
        (self.cut > 0).then(|| {
            format!(
                "{} of {all} conversations are longer than the context, and are cut at its end{left_out}",
                self.cut
            )
        })
    }

    /// Number of conversations.
    pub fn count(&self) -> usize {
        self.conversations.len()
    }

    /// Number of tokens that are learned.
    pub fn target_count(&self) -> usize {
        let ranges = self.conversations.iter().flat_map(|tokens| &tokens.answers);
        ranges.map(|range| range.len() - usize::from(range.start == 0)).sum()
    }

    /// The tokens before the last answer of conversations that are spread over all, and that answer.
    pub fn questions(&self, count: usize) -> Vec<(&[u32], &[u32])> {
        let last = |row: usize| {
            let ChatTokens { ids, answers } = &self.conversations[row];
            let range = answers.last()?;
            (range.start > 0).then(|| (&ids[..range.start], &ids[range.clone()]))
        };
        self.spread(count).into_iter().filter_map(last).collect()
    }

    /// Random rows of `context` tokens, which must be the context that they were made for.
    pub fn batch(&self, rng: &mut ChaCha8Rng, rows: usize, context: usize) -> Batch {
        let numbers: Vec<usize> = (0..rows)
            .map(|_| rng.random_range(0..self.conversations.len()))
            .collect();
        self.gather(&numbers, context)
    }

    /// Batches of at most `rows` rows, `count` rows in all or as many as there are, the same at every evaluation.
    pub fn eval_batches(&self, count: usize, rows: usize, context: usize) -> Vec<Batch> {
        let numbers = self.spread(count);
        numbers
            .chunks(rows)
            .map(|numbers| self.gather(numbers, context))
            .collect()
    }

    /// The numbers of up to `count` conversations, evenly spread.
    fn spread(&self, count: usize) -> Vec<usize> {
        let all = self.conversations.len();
        let total = count.min(all);
        (0..total).map(|row| row * all / total).collect()
    }

    fn gather(&self, numbers: &[usize], context: usize) -> Batch {
        let rows = numbers.len();
        let (mut inputs, mut targets) = (Vec::with_capacity(rows * context), vec![IGNORE_INDEX; rows * context]);
        for (row, &number) in numbers.iter().enumerate() {
            let ChatTokens { ids, answers } = &self.conversations[number];
            let start = inputs.len();
            inputs.extend(&ids[..ids.len().min(context)]);
            inputs.resize(start + context, 0);
            // The target of a position is the token after it.
            for position in answers.iter().flat_map(Clone::clone).filter(|&position| position > 0) {
                targets[row * context + position - 1] = ids[position];
            }
        }
        Batch { inputs, targets, rows }
    }
}

/// Cuts a conversation after `length` tokens; whether it was longer.
fn cut(tokens: &mut ChatTokens, length: usize) -> bool {
    let longer = tokens.ids.len() > length;
    tokens.ids.truncate(length);
    tokens.answers.retain(|range| range.start < length);
    for range in &mut tokens.answers {
        range.end = range.end.min(length);
    }
    longer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::batches::step_rng;
    use crate::tokenizer::CharTokenizer;
    use crate::tokenizer::chat::CHAT_TOKENS;

    const FILE: &str = "{\"prompt\": \"ab\", \"completion\": \"xy\"}
{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"yyyyyy\"}]}
{\"prompt\": \"aaaaaaaaaaaaaaa\", \"completion\": \"x\"}
";

    fn rows(context: usize) -> (ConversationRows, Tokenizer) {
        let tokenizer: Tokenizer = CharTokenizer::from_text("abxy")
            .with_special_tokens(&CHAT_TOKENS)
            .unwrap()
            .into();
        let conversations = Conversations::parse(FILE, "c.jsonl").unwrap();
        let template = ChatTemplate::own().unwrap();
        let rows = ConversationRows::new(&conversations, Split::All, &template, &tokenizer, context);
        (rows.unwrap(), tokenizer)
    }

    /// A row's tokens and targets, a letter each: U and A begin messages, E ends them, dots are ignored.
    fn shown(batch: &Batch, row: usize) -> [String; 2] {
        let letter = |&id: &u32| match id {
            IGNORE_INDEX => '.',
            id => "abxySUAE".chars().nth(id as usize).unwrap(),
        };
        let range = row * batch.context()..(row + 1) * batch.context();
        [&batch.inputs, &batch.targets].map(|ids| ids[range.clone()].iter().map(letter).collect())
    }

    #[test]
    fn each_row_is_a_conversation_of_which_answers_are_learned() {
        let (rows, _) = rows(20);
        assert_eq!(
            (rows.count(), rows.target_count(), rows.note()),
            (3, 3 + 2 + 7 + 2, None)
        );
        let batches = rows.eval_batches(10, 2, 20);
        assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(shown(&batches[0], 0), ["UabEAxyEaaaaaaaaaaaa", "....xyE............."]);
        assert_eq!(shown(&batches[0], 1), ["UaEAxEUbEAyyyyyyEaaa", "...xE....yyyyyyE...."]);
        let counted: usize = batches.iter().map(Batch::target_count).sum();
        assert_eq!(counted, rows.target_count());
    }

    #[test]
    fn what_is_longer_than_a_row_is_cut() {
        let (rows, _) = rows(12);
        assert_eq!((rows.count(), rows.target_count()), (2, 3 + 2 + 3));
        let note = rows.note().unwrap();
        assert!(
            note.contains("2 of 3 conversations are longer") && note.contains("1 of them before"),
            "{note}"
        );
        assert_eq!(
            shown(&rows.eval_batches(2, 2, 12)[0], 1),
            ["UaEAxEUbEAyy", "...xE....yyy"]
        );
        let questions = rows.questions(2);
        assert_eq!(
            (questions[0].0.len(), questions[0].1.len(), questions[1].1.len()),
            (5, 3, 3)
        );
    }

    #[test]
    fn rows_are_a_function_of_the_step() {
        let (rows, _) = rows(20);
        let batch = |step| rows.batch(&mut step_rng(7, step), 8, 20);
        assert_eq!(batch(3), batch(3));
        assert!((0..10).any(|step| batch(step) != batch(step + 1)));
    }
}
