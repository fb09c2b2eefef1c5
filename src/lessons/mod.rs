//! The series, day by day: what each day shows is computed by the library as the learner reads.
//!
//! A day ([`Lesson`]) is a chapter of the book in `book/src/` and the functions that make what the chapter shows. The
//! terminal and the book are two renderings of that one text: where it includes `shown/day-03/one-hot.txt`, the terminal
//! computes, prints and keeps it, and the book takes what was kept. So no number stands in the text itself.
//!
//! | file | what it is |
//! |---|---|
//! | `chapter.rs` | a chapter's text, in pieces |
//! | `screen.rs` | Markdown on a terminal |
//! | `lab.rs` | where a day works: corpus, folders, training, checkpoints |
//! | `results.rs` | what a day's model came to |
//! | `pictures.rs` | heat maps, curves, points |
//! | `gradients.rs`, `pytorch.rs` | gradients as training computes them; PyTorch's answers |
//! | `overview.rs` | all days at once |
//! | `fact.rs` | what a day claims, to be checked |
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
mod day01_quirks;
mod day01_text;
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
pub mod fact;
mod gradients;
pub mod lab;
pub mod overview;
mod pictures;
pub mod pytorch;
pub mod results;
mod screen;

use anyhow::{Context, Result, ensure};

use crate::config::TrainConfig;
use crate::terminal::console::program;
use chapter::{Piece, answers, included_sources, pieces, source};
use fact::Fact;
use lab::Lab;
use screen::Screen;

/// A day of the series.
pub struct Lesson {
    pub day: u8,
    pub title: &'static str,
    /// What it teaches, in a line.
    pub teaches: &'static str,
    /// Its chapter of the book, in Markdown.
    pub chapter: &'static str,
    /// What the chapter shows.
    pub shows: &'static [Show],
    /// The models that it trains; the last is the day's own.
    pub models: &'static [Recipe],
    /// Folders of earlier days' checkpoints that it uses.
    pub needs: &'static [&'static str],
    /// What it claims.
    pub facts: &'static [Fact],
}

/// Something that a chapter shows: text where its name ends in `.txt`, a picture where it ends in `.svg`.
pub struct Show {
    pub name: &'static str,
    pub make: fn(&Lab) -> Result<String>,
}

/// How a day's model is trained: the preset's recipe with the day's change.
pub struct Recipe {
    /// Its run's name in the folder of lessons.
    pub folder: &'static str,
    /// What the model is, in a few words.
    pub what: &'static str,
    pub change: fn(TrainConfig) -> TrainConfig,
    /// The folder of the checkpoint that it starts from.
    pub starts_from: Option<&'static str>,
    /// Where its exact validation loss lies after all steps of the preset nano on the default corpus, for any seed.
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

/// Goes through a day: shows its chapter, computes what that shows, trains its models.
///
/// # Errors
/// An earlier day's checkpoint is missing, or something cannot be computed or written.
pub fn run(lesson: &Lesson, lab: &Lab) -> Result<()> {
    for folder in lesson.needs {
        lab.checkpoint(folder)?;
    }
    let mut screen = Screen::new();
    for piece in pieces(lesson.chapter) {
        match piece {
            Piece::Text(markdown) => screen.text(&markdown)?,
            Piece::Shown { before, name, after } => {
                let text = lab.keep(lesson, name)?;
                screen.text(&format!("{before}{}\n{after}", text.trim_end()))?;
            }
            Piece::Picture { caption, name } => {
                lab.keep(lesson, name)?;
                let place = lab.shown(lesson.day, name);
                screen.text(&format!("*Picture: {caption}: {}*", place.display()))?;
            }
        }
    }
    let (program, day) = (program(), lesson.day);
    screen.text(&format!(
        "The answers: `{program} lesson {day} --answer`. Whether all of it holds here: `{program} lesson check {day}`."
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
    /// Makes what the chapter shows under that name.
    ///
    /// # Errors
    /// Whatever its function meets.
    pub fn make(&self, name: &str, lab: &Lab) -> Result<String> {
        let show = self.shows.iter().find(|show| show.name == name);
        let show = show.with_context(|| format!("day {} shows no {name}", self.day))?;
        (show.make)(lab)
    }

    /// Every name that the chapter shows must be made, and nothing else; what it includes of the sources must be there.
    ///
    /// # Errors
    /// The first name of which that is not so.
    pub fn check_chapter(&self) -> Result<()> {
        for path in included_sources(self.chapter) {
            ensure!(
                source(path).is_some(),
                "the chapter of day {} includes {path}, which is not in the sources",
                self.day
            );
        }
        let named: Vec<String> = pieces(self.chapter)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Shown { name, .. } | Piece::Picture { name, .. } => Some(name.to_owned()),
                Piece::Text(_) => None,
            })
            .collect();
        for name in &named {
            ensure!(
                self.shows.iter().any(|show| show.name == name),
                "the chapter of day {} shows {name}, which nothing makes",
                self.day
            );
        }
        for show in self.shows {
            ensure!(
                named.iter().any(|name| name == show.name),
                "day {} makes {}, which its chapter does not show",
                self.day,
                show.name
            );
        }
        Ok(())
    }
}
