//! All days at once: which are done, and what their models came to.

use anyhow::{Result, bail};

use super::arrays::visible;
use super::lab::Lab;
use super::pictures::{Axes, Curve, curves};
use super::{LESSONS, Lesson, Recipe};
use crate::checkpoint::run::Run;
use crate::terminal::console;
use crate::terminal::progress::Spinner;
use crate::train::metrics::{self, Line};

/// Characters of a sample in a table.
const SAMPLE: usize = 60;

/// A line on a day: what it teaches, how long its models train here, whether it is done.
///
/// # Errors
/// A model that cannot be trained to measure its time.
pub fn line(lesson: &Lesson, lab: &Lab) -> Result<String> {
    let mut seconds = 0.0;
    let mut measured = true;
    for recipe in lesson.models {
        match lab.results(recipe.folder) {
            Ok(results) if lab.is_whole(recipe)? => seconds += results.seconds,
            _ => {
                let spinner = Spinner::start();
                spinner.stage(&format!("day {}: measuring a step", lesson.day));
                seconds += lab.estimate(recipe)?.as_secs_f64();
                measured = false;
            }
        }
    }
    let time = match lesson.models {
        [] => "–".into(),
        _ => format!("{}{:.1} min", if measured { "" } else { "~" }, seconds / 60.0),
    };
    let shown = |show: &super::Show| lab.shown(lesson.day, show.name).exists();
    let done = measured && lesson.shows.iter().all(shown);
    Ok(format!(
        "{:<2}  {time:>8}  {:<4}  {}: {}\n",
        lesson.day,
        if done { "done" } else { "" },
        lesson.title,
        lesson.teaches
    ))
}

/// Continues `prompt` with each day's model, draws all losses, and keeps both for the book.
///
/// # Errors
/// No day has a model yet; a prompt that a tokenizer cannot write.
pub fn compare(lab: &Lab, prompt: &str) -> Result<()> {
    let mut table = format!(
        "{:<4} {:<34} {:>10} {:>8} {:>9} {:>8}\n",
        "day", "model", "parameters", "val loss", "bits/byte", "seconds"
    );
    let mut samples = format!("\nday  continues {}\n", one_line(prompt));
    let mut losses = Vec::new();
    for lesson in LESSONS {
        for recipe in lesson.models {
            let Ok(results) = lab.results(recipe.folder) else {
                continue;
            };
            let sample = lab.sample(&lab.load(recipe.folder)?, prompt, SAMPLE)?;
            table += &format!(
                "{:<4} {:<34} {:>10} {:>8.4} {:>9.4} {:>8.1}\n",
                lesson.day, results.what, results.parameters, results.val_loss, results.bits_per_byte, results.seconds,
            );
            samples += &format!("{:<4} {}\n", lesson.day, one_line(&sample));
            losses.push(curve(lab, recipe, lesson.day)?);
        }
    }
    if losses.is_empty() {
        bail!(
            "no day has left a model in {} yet; begin with: {} lesson 2",
            lab.root().display(),
            console::program()
        );
    }
    table += &samples;
    let axes = Axes {
        title: "The days' losses on the validation text",
        x: "step",
        y: "nats per token",
    };
    lab.keep_for_all("losses.svg", &curves(&axes, &losses)?)?;
    lab.keep_for_all("table.txt", &table)?;
    console::print(&table)
}

fn one_line(sample: &str) -> String {
    let visible = |c| if c == '\n' { visible(c) } else { String::from(c) };
    sample.chars().take(SAMPLE).map(visible).collect()
}

/// The estimates of the validation loss as a model learned.
fn curve(lab: &Lab, recipe: &Recipe, day: u8) -> Result<Curve> {
    let lines = metrics::read(&Run::open(&lab.folder(recipe.folder))?)?;
    let evaluations = lines.iter().filter_map(|line| match line {
        Line::Evaluation(line) => Some((line.step as f64, line.val_loss)),
        _ => None,
    });
    Ok(Curve {
        name: format!("{day}: {}", recipe.what),
        points: evaluations.collect(),
    })
}
