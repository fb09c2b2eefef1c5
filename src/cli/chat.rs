//! `mlx-gpt chat`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::generate::{Input, LineReader, SamplingOptions, random_seed, watch_interrupts};
use crate::checkpoint::{Checkpoint, runs};
use crate::config::Device;
use crate::generate::{CompletionOptions, FinishReason, LanguageModel, TokenStream};
use crate::terminal::console::{self, say};
use crate::tokenizer::chat::{ChatTemplate, Message, Role, fit};

const HELP: &str = "\
TEXT          say TEXT; the model answers
//TEXT        say a text that begins with /
/reset        begin another conversation
/save FILE    append the conversation to FILE, as a line that train --chat reads
/help         show this
/quit         quit, as Ctrl-D does; Ctrl-C stops an answer";

/// Longest line that is said, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Talk with a model that was trained on conversations
///
/// Each line is a turn, which the model answers as its chat template has it, up to the token that ends a turn. When the
/// context is full, the oldest turns are left out, which is said. Standard output has the answers alone; lines may come
/// from a file or a pipe.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt chat                                    with the newest run
    mlx-gpt chat --checkpoint runs/world --temperature 0
    mlx-gpt chat --system 'Answer in one word.'
    printf 'What is 2+3?\\n' | mlx-gpt chat          answers on standard output")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// A message before all others that tells the model how to answer
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Maximum number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 500)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Random seed of the sampling [default: a new one each time, printed on standard error]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

/// The conversation so far.
struct Conversation<'a> {
    model: &'a LanguageModel,
    template: &'a ChatTemplate,
    /// What the model has read and written, with its key-value cache.
    text: TokenStream<'a>,
    options: CompletionOptions,
    system: Option<Message>,
    messages: Vec<Message>,
    /// Messages that the context had no room for, so far.
    dropped: usize,
    /// As [`watch_interrupts`].
    idle: Arc<AtomicBool>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let sampling = options.sampling.sampling()?;
    Device::select_or_current(options.device)?;
    let checkpoint = runs::read_checkpoint(options.checkpoint.as_deref(), Checkpoint::load)?;
    let folder = checkpoint.folder.display();
    let template = checkpoint.chat_template.as_ref().with_context(|| {
        format!(
            "{folder} has no chat template: it was not trained on conversations; finetune it with `mlx-gpt train --init-from {folder} --chat FILE`, or use `mlx-gpt generate`"
        )
    })?;
    let seed = options.seed.unwrap_or_else(|| u64::from(random_seed()));
    let completion = CompletionOptions {
        max_new_tokens: options.max_new_tokens,
        sampling,
        seed,
        ..CompletionOptions::default()
    };
    let model = checkpoint.language_model()?;
    let mut conversation = Conversation {
        text: model.interactive(&completion)?,
        model: &model,
        template,
        options: completion,
        system: options.system.as_ref().map(|text| Message::new(Role::System, text)),
        messages: Vec::new(),
        dropped: 0,
        idle: watch_interrupts()?,
    };
    conversation.reset()?;
    say(format_args!("{folder} · seed {seed}"));
    say("each line is a turn; /help lists the commands");
    let mut lines = LineReader::new(MAX_LINE_BYTES)?;
    loop {
        match lines.read()? {
            Input::End => break,
            Input::Interrupted => say("press Ctrl-D to quit"),
            Input::Unreadable(why) => say(format_args!("rejected: {why}")),
            Input::Text(line) if line.trim() == "/quit" => break,
            Input::Text(line) => {
                if let Err(why) = conversation.execute(&line)? {
                    say(format_args!("rejected: {why:#}"));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Conversation<'_> {
    /// Executes a command, or takes a turn; the inner error is of the line, and nothing has changed.
    fn execute(&mut self, line: &str) -> Result<Result<()>> {
        let command = line.trim();
        if let Some(file) = command.strip_prefix("/save ") {
            return Ok(self.save(Path::new(file.trim())));
        }
        match command {
            "" => return Ok(Ok(())),
            "/reset" => self.reset()?,
            "/help" => say(HELP),
            _ if command.starts_with('/') && !command.starts_with("//") => {
                let unknown = || {
                    bail!(
                        "unknown command {command}; /help lists the commands; to say a text that begins with /, write /{command}"
                    )
                };
                return Ok(unknown());
            }
            _ => return self.turn(line.strip_prefix('/').unwrap_or(line)),
        }
        Ok(Ok(()))
    }

    fn reset(&mut self) -> Result<()> {
        self.messages = self.system.clone().into_iter().collect();
        self.dropped = 0;
        self.text = self.model.interactive(&self.options)?;
        Ok(())
    }

    /// Appends the conversation to a file, which so loses nothing.
    fn save(&self, file: &Path) -> Result<()> {
        let line = format!("{}\n", json!({ "messages": self.messages }));
        let append = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)?
                .write_all(line.as_bytes())
        };
        append().with_context(|| format!("{} cannot be written", file.display()))?;
        say(format_args!("appended to {}", file.display()));
        Ok(())
    }

    fn turn(&mut self, said: &str) -> Result<Result<()>> {
        self.messages.push(Message::new(Role::User, said));
        let context = self.model.config().context;
        // An answer has room for a quarter of the context at least, unless it is to be shorter.
        let reserve = self.options.max_new_tokens.min(context / 4);
        let prompt = match fit(self.template, self.model.tokenizer(), &self.messages, context, reserve) {
            Ok(prompt) => prompt,
            Err(error) => {
                self.messages.pop();
                return Ok(Err(error));
            }
        };
        if prompt.dropped > self.dropped {
            say(format_args!(
                "note: the context of {context} tokens is full; the model no longer sees the {} oldest messages",
                prompt.dropped
            ));
        }
        self.dropped = prompt.dropped;
        let options = CompletionOptions {
            max_new_tokens: self.options.max_new_tokens.min(context - prompt.ids.len()),
            seed: self.options.seed.wrapping_add(self.messages.len() as u64),
            ..self.options.clone()
        };
        match prompt.ids.strip_prefix(self.text.window()) {
            Some(new) => self.text.push(new), // keys and values of what was said before are kept
            None => {
                self.text = self.model.interactive(&options)?;
                self.text.push(&prompt.ids);
            }
        }
        self.answer(&options)?;
        Ok(Ok(()))
    }

    /// Streams the answer, up to its end or Ctrl-C.
    fn answer(&mut self, options: &CompletionOptions) -> Result<()> {
        self.idle.store(false, Ordering::Relaxed);
        self.text.begin_completion(options)?;
        while let Some(token) = self.text.next() {
            console::print(token?.text)?;
            if self.idle.load(Ordering::Relaxed) {
                console::print(self.text.stop()?)?;
                break;
            }
        }
        self.idle.store(true, Ordering::Relaxed);
        console::print("\n")?;
        let completion = self.text.completion();
        if completion.finish_reason == Some(FinishReason::Length) {
            say(format_args!(
                "note: the answer ends after {} tokens",
                completion.ids.len()
            ));
        }
        self.messages.push(Message::new(Role::Assistant, &completion.text));
        Ok(())
    }
}
