//! Training on conversations: the tokenizer and the template, and the sample of an evaluation.

use anyhow::{Result, ensure};

use crate::checkpoint::{self, Checkpoint, with_chat_tokens};
use crate::config::{BosEos, ModelConfig, TrainConfig};
use crate::data::conversations::ConversationRows;
use crate::data::dataset::Dataset;
use crate::generate::Generator;
use crate::generate::bos_eos::eos_tokens;
use crate::model::parameters::Parameters;
use crate::terminal::shell::quoted;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::ChatTemplate;

/// Conversations of the sample.
const SAMPLED: usize = 6;

/// The tokenizer of a run from random weights, with a chat template if it learns from conversations.
///
/// # Errors
/// As [`Dataset::tokenizer`].
pub fn tokenizer(config: &TrainConfig, dataset: &Dataset) -> Result<(Tokenizer, Option<ChatTemplate>)> {
    let tokenizer = dataset.tokenizer(&config.tokenizer)?;
    match dataset {
        Dataset::Chat(conversations) => {
            let extended = with_chat_tokens(&tokenizer, &conversations.characters())?;
            Ok((extended, Some(ChatTemplate::own()?)))
        }
        _ => Ok((tokenizer, None)),
    }
}

/// Eos of a new model: the end of a turn, if its tokenizer has that.
pub fn bos_eos(tokenizer: &Tokenizer) -> BosEos {
    BosEos {
        bos: None,
        eos: checkpoint::end_of_turn(tokenizer),
    }
}

/// The checkpoint that a run starts from, with a chat template if the run learns from conversations.
///
/// # Errors
/// As [`Checkpoint::with_chat_template`]; adapters for a model without a template, whose new tokens they could not learn.
pub fn finetuned(config: &TrainConfig, start: Checkpoint, dataset: &Dataset) -> Result<Checkpoint> {
    let Dataset::Chat(conversations) = dataset else {
        return Ok(start);
    };
    let folder = start.folder.clone();
    ensure!(
        config.lora_rank == 0 || start.chat_template.is_some(),
        "{} has no chat template, and adapters cannot learn the new tokens of one; finetune all of it first, without --lora-rank: mlx-gpt train --init-from {} --chat {}",
        folder.display(),
        quoted(&folder),
        quoted(std::path::Path::new(&conversations.path))
    );
    start.with_chat_template(&conversations.characters())
}

/// Logs what a split leaves out of its conversations.
///
/// # Errors
/// It has none.
pub fn ensure_any(config: &TrainConfig, name: &str, conversations: &ConversationRows) -> Result<()> {
    let path = config.chat.as_deref().unwrap_or_default();
    ensure!(
        conversations.count() > 0,
        "{path}: its {name} part has no conversation; at least two that differ are needed: add some"
    );
    if let Some(note) = conversations.note() {
        log::info!("{path}: {note}; --context changes it");
    }
    Ok(())
}

/// What a model answers to the last questions of some conversations.
///
/// # Errors
/// An error of MLX's.
pub fn sample(
    model: &ModelConfig,
    parameters: &Parameters,
    tokenizer: &Tokenizer,
    conversations: &ConversationRows,
) -> Result<String> {
    let ends = eos_tokens(model, tokenizer);
    if ends.is_empty() {
        return Ok(String::new()); // a template without one: answers have no end
    }
    let generator = Generator::new(model, parameters)?.for_tokenizer(tokenizer);
    let questions = conversations.questions(SAMPLED);
    let fits = questions.iter().map(|(question, _)| question.to_vec());
    let prompts: Vec<Vec<u32>> = fits.filter(|question| question.len() <= model.context).collect();
    let answers = generator.greedy(&prompts, &ends, |_| ())?;
    let mut text = String::new();
    for (prompt, answer) in prompts.iter().zip(answers) {
        text += &tokenizer.decode(&[&prompt[..], &answer].concat())?;
        text.push('\n');
    }
    Ok(text)
}
