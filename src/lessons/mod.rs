//! The ten-day course. The figures of each day are computed by the library while the learner reads.
//!
//! A day ([`Lesson`]) is a chapter of the book in `book/src/` and the functions that compute its figures. Terminal and book
//! render the same text: where it includes `figures/day-03/one-hot.txt`, the terminal computes, prints and saves the figure,
//! and the book includes the saved file. So no number is written in the text itself.
//!
//! | file | contents |
//! |---|---|
//! | `chapter.rs` | parsing of chapters into sections |
//! | `screen.rs` | Markdown on a terminal |
//! | `workspace.rs` | working environment of a lesson: corpus, folders, training, checkpoints |
//! | `results.rs` | the results of a day's model |
//! | `pictures.rs` | heat maps, curves, points |
//! | `gradients.rs`, `pytorch.rs` | gradients as training computes them; reference values from PyTorch |
//! | `overview.rs` | overview of all lessons |
//! | `claims.rs` | verification of a lesson's claims |
//! | `dayNN_*.rs` | the days |
//!
//! ```
//! let day = mlx_gpt::lessons::find(4)?;
//! println!("{}: {}", day.title, day.teaches);
//! # Ok::<(), anyhow::Error>(())
//! ```

mod arrays;
mod attention_maps;
mod chapter;
pub mod claims;
mod day01_quirks;
mod day01_text;
mod day02_batches;
mod day02_bigram;
mod day03_embeddings;
mod day04_by_hand;
mod day04_communication;
mod day04_self_attention;
mod day05_heads;
mod day06_block;
mod day06_depth;
mod day06_norms;
mod day07_gpt2;
mod day07_pytorch;
mod day07_weights;
mod day08_fitting;
mod day08_machine;
mod day08_optimizer;
mod day08_training;
mod day09_cache;
mod day09_generation;
mod day09_sampling;
mod day10_endings;
mod day10_gpt2;
mod day10_openai;
mod gradients;
pub mod overview;
mod pictures;
pub mod pytorch;
pub mod results;
mod screen;
pub mod workspace;

use anyhow::{Context, Result, ensure};

use crate::config::TrainConfig;
use crate::terminal::console::program;
use chapter::{Section, answers, included_sources, sections, source};
use claims::Claim;
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
    /// The chapter's figures.
    pub figures: &'static [Figure],
    /// The models that it trains; the last is the day's own.
    pub models: &'static [Recipe],
    /// Folders of earlier days' checkpoints that it requires.
    pub needs: &'static [&'static str],
    /// Its claims.
    pub claims: &'static [Claim],
}

/// A figure of a chapter: text if its name ends in `.txt`, a picture if it ends in `.svg`.
pub struct Figure {
    /// File name.
    pub name: &'static str,
    /// Computes its contents.
    pub render: fn(&Workspace) -> Result<String>,
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
    /// Expected range of the exact validation loss after all steps, with the preset nano and the built-in corpus, for any seed.
    pub band: (f64, f64),
}

/// The days, in order.
pub const LESSONS: &[&Lesson] = &[
    &day01_text::LESSON,
    &day02_bigram::LESSON,
    &day03_embeddings::LESSON,
    &day04_self_attention::LESSON,
    &day05_heads::LESSON,
    &day06_block::LESSON,
    &day07_gpt2::LESSON,
    &day08_training::LESSON,
    &day09_generation::LESSON,
    &day10_gpt2::LESSON,
];

/// The lesson of a day.
///
/// # Errors
/// There is no such day.
pub fn find(day: u8) -> Result<&'static Lesson> {
    let found = LESSONS.iter().find(|lesson| lesson.day == day);
    found
        .copied()
        .with_context(|| format!("there is no day {day}; the days are 1 to {}", LESSONS.len()))
}

/// Runs a lesson: prints the chapter, computes its figures, trains its models.
///
/// # Errors
/// A missing checkpoint of an earlier day, or a figure that cannot be computed or written.
pub fn run(lesson: &Lesson, workspace: &Workspace) -> Result<()> {
    for folder in lesson.needs {
        workspace.checkpoint(folder)?;
    }
    let mut screen = Screen::new();
    for piece in sections(lesson.chapter) {
        match piece {
            Section::Text(markdown) => screen.text(&markdown)?,
            Section::Figure { before, name, after } => {
                let text = workspace.save_figure(lesson, name)?;
                screen.text(&format!("{before}{}\n{after}", text.trim_end()))?;
            }
            Section::Picture { caption, name } => {
                workspace.save_figure(lesson, name)?;
                let place = workspace.figure_path(lesson.day, name);
                screen.text(&format!("*Picture: {caption}: {}*", place.display()))?;
            }
        }
    }
    let (program, day) = (program(), lesson.day);
    screen.text(&format!(
        "Answers: `{program} lesson {day} --answer`. Check this day's claims on your machine: `{program} lesson check {day}`."
    ))?;
    match find(day + 1) {
        Ok(next) => screen.text(&format!("Next: `{program} lesson {}`, {}.", next.day, next.title)),
        Err(_) => screen.text(&format!("All days side by side: `{program} lesson compare`.")),
    }
}

/// Shows a day's exercises with their answers.
///
/// # Errors
/// Standard output is closed.
pub fn show_answers(lesson: &Lesson) -> Result<()> {
    let mut screen = Screen::new();
    answers(lesson.chapter)
        .iter()
        .try_for_each(|paragraph| screen.text(paragraph))
}

impl Lesson {
    /// Renders the figure of that name.
    ///
    /// # Errors
    /// Those of its function.
    pub fn render(&self, name: &str, workspace: &Workspace) -> Result<String> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        let figure = figure.with_context(|| format!("day {} has no figure {name}", self.day))?;
        (figure.render)(workspace)
    }

    /// Checks that the chapter's figures and this lesson's figures match one to one, and that every included source exists;
    /// for the tests.
    ///
    /// # Errors
    /// The first that doesn't.
    pub fn check_chapter(&self) -> Result<()> {
        for path in included_sources(self.chapter) {
            ensure!(
                source(path).is_some(),
                "the chapter of day {} includes {path}, which is not in the sources",
                self.day
            );
        }
        let named: Vec<String> = sections(self.chapter)
            .into_iter()
            .filter_map(|piece| match piece {
                Section::Figure { name, .. } | Section::Picture { name, .. } => Some(name.to_owned()),
                Section::Text(_) => None,
            })
            .collect();
        for name in &named {
            ensure!(
                self.figures.iter().any(|figure| figure.name == name),
                "the chapter of day {} shows {name}, which is not one of its figures",
                self.day
            );
        }
        for figure in self.figures {
            ensure!(
                named.iter().any(|name| name == figure.name),
                "day {} has the figure {}, which its chapter does not show",
                self.day,
                figure.name
            );
        }
        Ok(())
    }
}
