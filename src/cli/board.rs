//! `mlx-gpt board`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::Args;

use super::clock::Clock;
use super::display::DisplayOptions;
use super::generate::SamplingOptions;
use super::signals::Signals;
use crate::checkpoint::{Checkpoint, runs};
use crate::config::Device;
use crate::frame::{Bitmap, Display, KeptFrame, draw};
use crate::generate::{CompletionOptions, FinishReason, LanguageModel};
use crate::terminal::console::say;

/// Write a new text on a frame every so many minutes
///
/// For an e-ink panel on a small computer: docs/board.md says how to build one. Each text has a place in the day and is
/// generated from the date and that place, in UTC: after a restart it is the same. An empty line on standard input asks for
/// another text at once. The last frame of a device is kept on disk, and is shown again when the program starts, before the
/// model is loaded.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt board                                           on the terminal, a text an hour; Enter for the next
    mlx-gpt board --display png:frame.png --panel 7.5       in a picture
    mlx-gpt board --display /dev/spidev0.0 --panel 4.2 --every 15
    mlx-gpt board --frames 1 --seed 1                       one text, always the same")]
pub struct Options {
    /// A run, or one of its step folders [default: the newest run below runs/]
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    display: DisplayOptions,
    /// Minutes from one text to the next
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    every: u64,
    /// Number of texts to show [default: until it is stopped]
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Text to continue [default: the token that begins a text; with a character tokenizer, a new line]
    #[arg(long, value_name = "TEXT", default_value = "")]
    prompt: String,
    /// Maximum number of tokens to generate; the text ends with its last whole sentence
    #[arg(long, value_name = "N", default_value_t = 120)]
    max_new_tokens: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Random seed, instead of the date and the place in the day: the texts are the same at any time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let sampling = options.sampling.sampling()?;
    Signals::register()?; // nothing is ever unsaved: a signal ends it at once, with its code
    Device::select_or_current(options.device)?;
    let mut display = options.display.open()?;
    let kept = match display.is_device() {
        true => Some(KeptFrame::at(kept_path(&display)?)),
        false => None, // a picture is whole at any time
    };
    let mut shown = kept.as_ref().and_then(|kept| kept.read(display.panel()));
    if let Some(frame) = &shown {
        display.show(frame)?;
    }
    let checkpoint = runs::read_checkpoint(options.checkpoint.as_deref(), Checkpoint::load)?;
    let model = checkpoint.language_model()?;
    say(format_args!(
        "{} · a text every {} minutes",
        checkpoint.folder.display(),
        options.every
    ));
    let clock = Clock::every_minutes(options.every);
    let keys = keys();
    let (mut slot, mut asked_again) = (None, 0);
    for frame in 0..options.frames.unwrap_or(u64::MAX) {
        if frame > 0 {
            wait(&keys, clock.until_next(SystemTime::now()));
        }
        let now = clock.slot(SystemTime::now());
        asked_again = if slot == Some(now) { asked_again + 1 } else { 0 };
        slot = Some(now);
        let (seed, number) = match options.seed {
            Some(seed) => (seed, frame),
            None => (now.day, now.number + asked_again * Clock::MOST_SLOTS),
        };
        let completion = CompletionOptions {
            max_new_tokens: options.max_new_tokens,
            sampling,
            seed,
            ..CompletionOptions::default()
        };
        let frame = draw(&text(&model, &options.prompt, number, &completion)?, display.panel());
        show(&mut display, kept.as_ref(), &mut shown, frame)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps a frame, then shows it, unless it is there already.
fn show(display: &mut Display, kept: Option<&KeptFrame>, shown: &mut Option<Bitmap>, frame: Bitmap) -> Result<()> {
    if shown.as_ref() != Some(&frame) {
        kept.map_or(Ok(()), |kept| kept.write(&frame))?;
        display.show(&frame)?;
        *shown = Some(frame);
    }
    Ok(())
}

/// Where the last frame of a panel is kept, for each user.
fn kept_path(display: &Display) -> Result<PathBuf> {
    let folder = dirs::data_dir().context("this user has no home for the last frame; set XDG_DATA_HOME to a folder")?;
    let name = format!("frame-{}.pbm", display.panel().name());
    Ok(folder.join("mlx-gpt").join(name))
}

/// The text with that number.
fn text(model: &LanguageModel, prompt: &str, number: u64, options: &CompletionOptions) -> Result<String> {
    let written = model.complete_many(prompt, number..number + 1, options, |_, _, _| anyhow::Ok(()))?;
    let completion = written.into_iter().next().unwrap_or_default();
    let text = prompt.to_owned() + &completion.text;
    Ok(match completion.finish_reason {
        Some(FinishReason::Length) => whole_sentences(&text).to_owned(),
        _ => text,
    })
}

/// A text up to the end of its last sentence, or else of its last line; all of it if that would be less than half.
fn whole_sentences(text: &str) -> &str {
    let text = text.trim_end();
    let sentence = text
        .rfind(['.', '!', '?', '…'])
        .map(|at| at + text[at..].chars().next().map_or(0, char::len_utf8));
    let ends = [sentence, text.rfind('\n')];
    let far_enough = ends.into_iter().flatten().find(|&end| 2 * end >= text.len());
    &text[..far_enough.unwrap_or(text.len())]
}

/// Lines of standard input.
fn keys() -> Receiver<()> {
    let (send, keys) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) && send.send(()).is_ok() {
            line.clear();
        }
    });
    keys
}

/// Waits that long, or for a key.
fn wait(keys: &Receiver<()>, time: Duration) {
    if keys.recv_timeout(time) == Err(RecvTimeoutError::Disconnected) {
        thread::sleep(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_with_a_sentence_or_a_line_unless_little_is_left() {
        for (text, expected) in [
            ("Speak, speak. First, yo", "Speak, speak."),
            (
                "To be, or not\nto be, that is the question\nWheth",
                "To be, or not\nto be, that is the question",
            ),
            (
                "Ay. But what if there is nothing after",
                "Ay. But what if there is nothing after",
            ),
            ("", ""),
            ("one… two", "one…"),
        ] {
            assert_eq!(whole_sentences(text), expected);
        }
    }
}
