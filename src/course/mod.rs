//! The course: ten days to GPT-2, and longer ones after them; a file a day with the functions that it teaches, and a program that shows and checks them.
//!
//! A day's file uses MLX and the days before it, nothing else of the library: the learner's workbook is made from it.
//!
//! | file | contents |
//! |---|---|
//! | `dayNN.rs` | what the day teaches, as plain functions on arrays |
//! | `programs/dayNN.rs` | figures and claims, in the order of the chapter in `book/src/` |
//! | `overview.rs` | overview of all days |
//!
//! ```
//! let day = mlx_gpt::course::find(4)?;
//! println!("{}: {}", day.title, day.teaches);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod day00;
pub mod day01;
pub mod day02;
pub mod day03;
pub mod day04;
pub mod day05;
pub mod day06;
pub mod day07;
pub mod day08;
pub mod day09;
pub mod day10;
pub mod day11;
pub mod day12;
pub mod day13;
pub mod day14;
pub mod overview;
pub mod programs;

use std::path::Path;

use anyhow::{Context, Result};

use crate::lessons::Lesson;
use crate::lessons::page::{Page, View};
use crate::lessons::screen::Screen;
use crate::lessons::workbook::{WORKBOOK_FOLDER, Workbook};
use crate::lessons::workspace::Workspace;
use crate::terminal::console::{program, quoted};

/// The days, in order; day 0 is optional.
pub const LESSONS: &[&Lesson] = &[
    &programs::day00::LESSON,
    &programs::day01::LESSON,
    &programs::day02::LESSON,
    &programs::day03::LESSON,
    &programs::day04::LESSON,
    &programs::day05::LESSON,
    &programs::day06::LESSON,
    &programs::day07::LESSON,
    &programs::day08::LESSON,
    &programs::day09::LESSON,
    &programs::day10::LESSON,
    &programs::day11::LESSON,
    &programs::day12::LESSON,
    &programs::day13::LESSON,
    &programs::day14::LESSON,
];

/// The lesson of a day.
///
/// # Errors
/// There is no such day.
pub fn find(day: u8) -> Result<&'static Lesson> {
    let found = LESSONS.iter().find(|lesson| lesson.day == day);
    found
        .copied()
        .with_context(|| format!("there is no day {day}; the days are 0 to {}", LESSONS.len() - 1))
}

/// Runs a lesson: prints the chapter, computes its figures, trains its models. With a workbook, the chapter's code is without what
/// the learner writes there.
///
/// # Errors
/// A missing checkpoint of an earlier day, or a figure that cannot be computed or written.
pub fn run(lesson: &Lesson, workspace: &Workspace, workbook: Option<&Workbook>) -> Result<()> {
    let view = match workbook {
        Some(_) => View::Exercises,
        None => View::Chapter,
    };
    Page::run(lesson, workspace, view)?;
    let mut screen = Screen::of_terminal();
    let (program, day) = (program(), lesson.day);
    screen.text(&format!(
        "Answers: `{program} lesson {day} --answer`. Check this day's claims on your machine: `{program} lesson check {day}`."
    ))?;
    if let Some(workbook) = workbook {
        let folder = match workbook.folder() == Path::new(WORKBOOK_FOLDER) {
            true => String::new(),
            false => format!(" {}", quoted(workbook.folder())),
        };
        screen.text(&format!(
            "What is left out here is yours to write, today's functions in `{}`, others in the files of their days. Are they right? `{program} lesson check {day} --mine{folder}`.",
            workbook.day(day).display()
        ))?;
    }
    match find(day + 1) {
        Ok(next) => screen.text(&format!("Next: `{program} lesson {}`, {}.", next.day, next.title)),
        Err(_) => screen.text(&format!("All days side by side: `{program} lesson compare`.")),
    }
}
