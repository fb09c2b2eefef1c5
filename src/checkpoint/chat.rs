//! What a model needs to be finetuned on conversations: a chat template, and the tokens of it.

use anyhow::Result;

use super::Checkpoint;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{CHAT_TOKENS, ChatTemplate, END_OF_TURN};

impl Checkpoint {
    /// The same model with a chat template: its own, if it has one; or else this program's, whose special tokens are added to the
    /// vocabulary, and to that of a tokenizer of characters also those of `characters` that it lacks. New rows of the embedding
    /// and the head are the means of the others; all other weights stay as they are. Eos is the end of a turn then.
    ///
    /// # Errors
    /// Adapters, or a quantized model, without a template.
    pub fn with_chat_template(self, characters: &str) -> Result<Self> {
        if self.chat_template.is_some() {
            return Ok(self);
        }
        let tokenizer = with_chat_tokens(&self.tokenizer, characters)?;
        let mut extended = self.with_tokens_of(tokenizer)?;
        extended.model.bos_eos.eos = end_of_turn(&extended.tokenizer);
        extended.chat_template = Some(ChatTemplate::own()?);
        Ok(extended)
    }
}

/// The tokenizer with the special tokens of this program's template, as far as it lacks them; one of characters also with those
/// of `characters` that it lacks, before them.
///
/// # Errors
/// As [`Tokenizer::with_special_tokens`].
pub fn with_chat_tokens(tokenizer: &Tokenizer, characters: &str) -> Result<Tokenizer> {
    let extended = match tokenizer {
        Tokenizer::Char(own) if own.added_tokens().tokens().is_empty() => {
            let known = own.characters();
            let new: Vec<char> = characters.chars().filter(|new| !known.contains(new)).collect();
            own.with_characters(&new)?.into()
        }
        other => other.clone(),
    };
    let known = extended.special_tokens();
    let new: Vec<&str> = CHAT_TOKENS
        .into_iter()
        .filter(|&token| !known.contains_key(token))
        .collect();
    extended.with_special_tokens(&new)
}

/// The token that ends a turn.
pub fn end_of_turn(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer
        .special_tokens()
        .get(END_OF_TURN)
        .copied()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ModelConfig, Preset};
    use crate::model::init::initialize;
    use crate::tokenizer::CharTokenizer;
    use mlx_rs::ops::indexing::TryIndexOp;

    #[test]
    fn new_tokens_are_means_and_all_other_weights_stay() {
        let tokenizer: Tokenizer = CharTokenizer::from_text("abc").into();
        let model = ModelConfig {
            layers: 1,
            heads: 2,
            embd: 8,
            context: 8,
            ..Preset::Nano.model_config(3)
        };
        let parameters = initialize(&model, 7).unwrap();
        let base = Checkpoint {
            folder: "base".into(),
            model,
            parameters: parameters.clone(),
            tokenizer,
            chat_template: None,
            base: None,
        };
        let chat = base.with_chat_template("a?c").unwrap();
        assert_eq!((chat.model.vocab_size, chat.tokenizer.vocab_size()), (8, 8));
        assert_eq!(chat.model.bos_eos.eos, [7]);
        assert_eq!(chat.tokenizer.decode(&[3, 4, 7]).unwrap(), "?<|system|><|end_of_turn|>");
        for (name, before) in parameters.iter() {
            let after = chat.parameters.get(name).unwrap();
            if name != "wte.weight" {
                assert!(after.eq_values(before).unwrap(), "{name}");
                continue;
            }
            assert!(after.try_index(..3).unwrap().eq_values(before).unwrap());
            let mean = before.mean_axis(0, false).unwrap();
            for row in 3..8 {
                assert!(after.try_index(row).unwrap().eq_values(&mean).unwrap(), "{row}");
            }
        }
        // A second finetuning finds them.
        assert_eq!(chat.with_chat_template("x").unwrap().model.vocab_size, 8);
    }
}
