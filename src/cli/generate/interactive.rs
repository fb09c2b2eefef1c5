//! `generate --interactive`: a text that a person and the model write in turns.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::line_reader::{Line, LineReader};
use super::speed::Speed;
use super::{MOST_PROMPT, Task, note_on_special_tokens};
use crate::generate::{CompletionOptions, LanguageModel, TokenStream};
use crate::terminal::console::{self, say};

const HELP: &str = "\
TEXT               the text goes on with this, on a new line, and then the model goes on
(an empty line)    the model goes on
//TEXT             a text that begins with /
/set NAME VALUE    sets temperature, top-k, top-p, min-p, repetition-penalty or max-new-tokens
/reset             forgets the text so far
/help              shows this
/quit              ends it, as Ctrl-D does; Ctrl-C stops the model";

/// The text so far, and how it goes on.
struct Conversation<'a> {
    model: &'a LanguageModel,
    text: TokenStream<'a>,
    options: CompletionOptions,
    /// Nothing is being written: so Ctrl-C ends the program. While something is, Ctrl-C raises this.
    idle: Arc<AtomicBool>,
}

/// What follows a line.
enum Next {
    Speak,
    Listen,
    End,
}

pub fn run(mut task: Task) -> Result<ExitCode> {
    let prompt = task.prompt.take();
    let mut conversation = Conversation::new(task)?;
    let mut lines = LineReader::new(MOST_PROMPT)?;
    say("what you type goes on from the text so far, and the model from there; /help says more");
    if let Some(prompt) = prompt {
        conversation.hear(&prompt).context("prompt")?;
        console::print(prompt)?;
        conversation.speak()?;
    }
    loop {
        match lines.read()? {
            Line::End => break,
            Line::Interrupted => say("Ctrl-D ends it"),
            Line::Unreadable(why) => say(format_args!("not taken: {why}")),
            Line::Text(line) => match conversation.obey(&line) {
                Ok(Next::Speak) => conversation.speak()?,
                Ok(Next::Listen) => {}
                Ok(Next::End) => break,
                Err(error) => say(format_args!("not taken: {error:#}")),
            },
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Conversation<'a> {
    fn new(task: Task<'a>) -> Result<Self> {
        let idle = Arc::new(AtomicBool::new(true));
        // In this order: a signal that finds the flag down only raises it.
        flag::register_conditional_shutdown(SIGINT, 128 + SIGINT, Arc::clone(&idle))
            .and_then(|_| flag::register(SIGINT, Arc::clone(&idle)))
            .context("signals cannot be handled")?;
        Ok(Self {
            model: task.model,
            text: task.model.text(&task.options)?,
            options: task.options,
            idle,
        })
    }

    /// Does what a line says, short of letting the model write.
    fn obey(&mut self, line: &str) -> Result<Next> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["/set", name, value] => self.set(name, value)?,
            ["/reset"] => self.text = self.model.text(&self.options)?,
            ["/help"] => say(HELP),
            ["/quit"] => return Ok(Next::End),
            _ if line.starts_with('/') && !line.starts_with("//") => {
                bail!("{line} is no command; /help lists them, and a text that begins with / is given as /{line}")
            }
            _ => {
                self.hear(line.strip_prefix('/').unwrap_or(line))?;
                return Ok(Next::Speak);
            }
        }
        Ok(Next::Listen)
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
            _ => bail!("there is nothing to set that is called {name}; /help lists what there is"),
        }
        sampling.validate()?;
        self.options.sampling = sampling;
        Ok(())
    }

    /// Puts what a person wrote behind the text so far.
    fn hear(&mut self, text: &str) -> Result<()> {
        let mut ids = if text.is_empty() {
            Vec::new()
        } else if self.is_in_a_line()? {
            // Not every tokenizer has a new line.
            let with_line_end = self.model.tokenizer().encode("\n").is_ok();
            self.encode(&if with_line_end {
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
        note_on_special_tokens(self.model, text, special);
        Ok(self.model.prompt(text, special)?)
    }

    /// Whether the text so far ends neither with a new line nor with the end of a text.
    fn is_in_a_line(&self) -> Result<bool> {
        let tokenizer = self.model.tokenizer();
        let Some(&last) = self.text.window().last() else {
            return Ok(false);
        };
        Ok(!self.model.end_tokens().contains(&last) && !tokenizer.decode(&[last])?.ends_with('\n'))
    }

    /// Lets the model write, until the text ends or Ctrl-C.
    fn speak(&mut self) -> Result<()> {
        self.idle.store(false, Ordering::Relaxed);
        let mut speed = Speed::start();
        self.text.go_on(&self.options)?;
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
