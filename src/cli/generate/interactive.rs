//! `generate --interactive`: the user and the model extend a text in turns.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::speed::TokenRate;
use super::{Input, LineReader};
use super::{MAX_PROMPT_BYTES, Request, special_token_note};
use crate::generate::{CompletionOptions, LanguageModel, TokenStream};
use crate::terminal::console::{self, say};

const HELP: &str = "\
TEXT               append TEXT on a new line and generate
(an empty line)    continue generating
//TEXT             append a text that begins with /
/set NAME VALUE    set temperature, top-k, top-p, min-p, repetition-penalty or max-new-tokens
/reset             clear the text
/help              show this
/quit              quit, as Ctrl-D does; Ctrl-C stops the model";

/// The text so far, and the options for continuing it.
struct Conversation<'a> {
    model: &'a LanguageModel,
    text: TokenStream<'a>,
    options: CompletionOptions,
    /// Whether the model is idle. Then Ctrl-C ends the program; while it generates, Ctrl-C sets this flag.
    idle: Arc<AtomicBool>,
}

/// What to do after a line of input.
enum Action {
    Generate,
    Prompt,
    Quit,
}

pub fn run(mut request: Request) -> Result<ExitCode> {
    let prompt = request.prompt.take();
    let mut conversation = Conversation::new(request)?;
    let mut lines = LineReader::new(MAX_PROMPT_BYTES)?;
    say("type text to append; the model continues it; /help lists the commands");
    if let Some(prompt) = prompt {
        conversation.append(&prompt).context("prompt")?;
        console::print(prompt)?;
        conversation.generate()?;
    }
    loop {
        match lines.read()? {
            Input::End => break,
            Input::Interrupted => say("press Ctrl-D to quit"),
            Input::Unreadable(why) => say(format_args!("rejected: {why}")),
            Input::Text(line) => match conversation.execute(&line) {
                Ok(Action::Generate) => conversation.generate()?,
                Ok(Action::Prompt) => {}
                Ok(Action::Quit) => break,
                Err(error) => say(format_args!("rejected: {error:#}")),
            },
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A flag that says whether the model is idle: true at first. While it is, Ctrl-C ends the program; otherwise Ctrl-C sets it.
///
/// # Errors
/// The system handles no signals.
pub fn watch_interrupts() -> Result<Arc<AtomicBool>> {
    let idle = Arc::new(AtomicBool::new(true));
    // The conditional shutdown must be registered first: it runs first, and sees the flag as it was before the signal.
    flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&idle))
        .and_then(|_| flag::register(SIGINT, Arc::clone(&idle)))
        .context("signals cannot be handled")?;
    Ok(idle)
}

impl<'a> Conversation<'a> {
    fn new(request: Request<'a>) -> Result<Self> {
        Ok(Self {
            model: request.model,
            text: request.model.interactive(&request.options)?,
            options: request.options,
            idle: watch_interrupts()?,
        })
    }

    /// Executes a command, or appends a text; the caller generates.
    fn execute(&mut self, line: &str) -> Result<Action> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["/set", name, value] => self.set(name, value)?,
            ["/reset"] => self.text = self.model.interactive(&self.options)?,
            ["/help"] => say(HELP),
            ["/quit"] => return Ok(Action::Quit),
            _ if line.starts_with('/') && !line.starts_with("//") => {
                bail!(
                    "unknown command {line}; /help lists the commands; to append a text that begins with /, write /{line}"
                )
            }
            _ => {
                self.append(line.strip_prefix('/').unwrap_or(line))?;
                return Ok(Action::Generate);
            }
        }
        Ok(Action::Prompt)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let what = || format!("{name} cannot be {value}");
        let mut sampling = self.options.sampling;
        match name {
            "temperature" => sampling.temperature = value.parse().with_context(what)?,
            "top-k" => sampling.top_k = value.parse().with_context(what)?,
            "top-p" => sampling.top_p = value.parse().with_context(what)?,
            "min-p" => sampling.min_p = value.parse().with_context(what)?,
            "repetition-penalty" => sampling.repetition_penalty = value.parse().with_context(what)?,
            "max-new-tokens" => self.options.max_new_tokens = value.parse().with_context(what)?,
            _ => bail!("unknown setting {name}; /help lists the settings"),
        }
        sampling.validate()?;
        self.options.sampling = sampling;
        Ok(())
    }

    /// Appends the user's text.
    fn append(&mut self, text: &str) -> Result<()> {
        let mut ids = if text.is_empty() {
            Vec::new()
        } else if self.needs_new_line()? {
            // A character tokenizer may have no new line.
            let has_new_line = self.model.tokenizer().encode("\n").is_ok();
            self.encode(&if has_new_line {
                format!("\n{text}")
            } else {
                text.to_owned()
            })?
        } else {
            self.encode(text)?
        };
        if ids.is_empty() && self.text.window().is_empty() {
            ids = self.encode("")?;
        }
        self.text.push(&ids);
        Ok(())
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let special = self.options.special;
        special_token_note(self.model, text, special);
        Ok(self.model.prompt(text, special)?)
    }

    /// Whether the text so far ends neither with a new line nor with an end-of-text token.
    fn needs_new_line(&self) -> Result<bool> {
        let tokenizer = self.model.tokenizer();
        let Some(&last) = self.text.window().last() else {
            return Ok(false);
        };
        Ok(!self.model.eos_tokens().contains(&last) && !tokenizer.decode(&[last])?.ends_with('\n'))
    }

    /// Generates until the text ends or Ctrl-C.
    fn generate(&mut self) -> Result<()> {
        self.idle.store(false, Ordering::Relaxed);
        let mut speed = TokenRate::start();
        self.text.begin_completion(&self.options)?;
        while let Some(token) = self.text.next() {
            speed.token(0);
            console::print(token?.text)?;
            if self.idle.load(Ordering::Relaxed) {
                console::print(self.text.stop()?)?;
                break;
            }
        }
        self.idle.store(true, Ordering::Relaxed);
        if !self.text.completion().text.ends_with('\n') {
            console::print("\n")?;
        }
        say(&speed);
        Ok(())
    }
}
