//! What runs the days of the [`course`](crate::course), keeps their results and draws their pictures.
//!
//! A day ([`Lesson`]) is a chapter of the book in `book/src/` and a program that computes its figures. Terminal and book
//! render the same text: where it includes `figures/day-03/one-hot.txt`, the terminal computes, prints and saves the figure,
//! and the book includes the saved file. So no number is written in the text itself.
//!
//! | file | contents |
//! |---|---|
//! | `page.rs` | a day's program as it runs, between the text of its chapter |
//! | `chapter.rs` | parsing of chapters into sections |
//! | `screen.rs` | Markdown on a terminal |
//! | `workspace/` | working environment of a lesson: corpus, folders, checkpoints; training of its models |
//! | `results.rs` | the results of a day's model |
//! | `tokens.rs`, `finetuned.rs` | texts as published tokenizers cut them; finetuned models |
//! | `pictures.rs` | heat maps, curves, points |
//! | `gradients.rs`, `pytorch.rs` | gradients as training computes them; reference values from PyTorch |
//! | `training.rs` | the library's training in parts |
//! | `world.rs` | conversations about a small world, and how many of its questions a model answers |
//! | `workbook.rs` | the learner's own package, made from the days |
//! | `claims.rs` | results of the checks of a day's claims |
//!
//! ```
//! use mlx_gpt::course;
//! use mlx_gpt::lessons::chapter::figures;
//!
//! let names: Vec<&str> = figures(course::find(4)?.chapter).collect();
//! assert!(names.contains(&"scores.txt"));
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod arrays;
pub mod attention_maps;
pub mod chapter;
pub mod claims;
pub mod finetuned;
pub mod gradients;
pub mod page;
pub mod pictures;
pub mod pytorch;
pub mod results;
pub mod screen;
pub mod tokens;
pub mod training;
pub mod workbook;
pub mod workspace;
pub mod world;

use anyhow::Result;

use crate::config::{Device, Preset, TrainConfig};
use chapter::answers;
use page::Page;
use screen::Screen;
use workspace::Workspace;

/// A day of the course.
pub struct Lesson {
    /// Its number.
    pub day: u8,
    /// Its title.
    pub title: &'static str,
    /// One-line summary.
    pub teaches: &'static str,
    /// Its chapter of the book, in Markdown.
    pub chapter: &'static str,
    /// The models that it trains; the last is the day's own.
    pub models: &'static [Recipe],
    /// Folders of earlier days' checkpoints that it requires.
    pub needs: &'static [&'static str],
    /// Its program, in the order of the chapter: makes the figures, and checks the claims.
    pub program: fn(&mut Page, &Workspace) -> Result<()>,
}

/// How a day's model is trained: the preset's recipe with the day's change.
pub struct Recipe {
    /// Its run's name in the folder of lessons.
    pub folder: &'static str,
    /// What the model is, in a few words.
    pub what: &'static str,
    /// The day's change to the preset's recipe.
    pub change: fn(TrainConfig) -> TrainConfig,
    /// The folder of the checkpoint that it starts from.
    pub starts_from: Option<&'static str>,
    /// Expected range of the exact validation loss after all steps, with the preset nano and the built-in corpus, for any seed; of
    /// a task or of conversations, of the accuracy. Up to infinity where none is expected.
    pub band: (f64, f64),
}

impl Recipe {
    /// Whether it trains on a task or on conversations, whose answers are right or wrong, not on a text.
    pub fn has_answers(&self) -> bool {
        let config = (self.change)(Preset::Nano.train_config(Device::Cpu));
        config.task.is_some() || config.chat.is_some()
    }
}

/// Shows a day's exercises with their answers.
///
/// # Errors
/// Standard output is closed.
pub fn show_answers(lesson: &Lesson) -> Result<()> {
    let mut screen = Screen::of_terminal();
    answers(lesson.chapter)
        .iter()
        .try_for_each(|paragraph| screen.text(paragraph))
}
