//! Conversations to learn from, instead of a text.

use anyhow::{Result, ensure};

use super::TrainConfig;

/// Tokens of a row, where the model's context is not that of a checkpoint: some turns of conversations in characters.
const CONTEXT: usize = 256;
/// Rows of a batch, each of which is a conversation.
const BATCH_SIZE: usize = 16;

impl TrainConfig {
    /// Selects conversations. With `recipe`, sizes are those that short ones are learned with.
    pub(super) fn set_chat(&mut self, recipe: bool) {
        self.corpus.clear();
        if recipe {
            (self.context, self.batch_size) = (CONTEXT, BATCH_SIZE);
        }
    }

    pub(super) fn validate_chat(&self) -> Result<()> {
        let Some(chat) = &self.chat else { return Ok(()) };
        ensure!(
            self.task.is_none(),
            "chat {chat} and a task are two kinds of data; leave out --chat or --task"
        );
        ensure!(
            self.corpus.is_empty(),
            "chat {chat} is what is learned, and no text is read; leave out corpus {} or --chat",
            self.corpus
        );
        ensure!(
            self.sync_every == 0,
            "conversations are trained with a sum over all machines in each step; leave out sync-every {} or --chat",
            self.sync_every
        );
        Ok(())
    }
}
