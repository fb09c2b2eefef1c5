//! Overview of all lessons: which are done, and the results of their models.

use anyhow::{Result, bail};

use super::LESSONS;
use crate::checkpoint::run::Run;
use crate::lessons::arrays::visible;
use crate::lessons::chapter::figures;
use crate::lessons::pictures::Axes;
use crate::lessons::results::Results;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::terminal::console;
use crate::terminal::plot::{COLOURS, Curve, curves};
use crate::terminal::progress::Spinner;
use crate::train::metrics::{self, Record};

/// Characters of a sample in a table.
const SAMPLE: usize = 60;

/// A day in one line: its summary, the estimated time of its training, whether it is done.
///
/// # Errors
/// A model that cannot be trained to measure its time.
pub fn line(lesson: &Lesson, workspace: &Workspace) -> Result<String> {
    let mut seconds = 0.0;
    let mut measured = true;
    for recipe in lesson.models {
        match workspace.results(recipe.folder) {
            Ok(results) if workspace.is_fully_trained(recipe)? => seconds += results.seconds,
            _ => {
                let spinner = Spinner::start();
                spinner.stage(&format!("day {}: measuring a step", lesson.day));
                seconds += workspace.estimate(recipe)?.as_secs_f64();
                measured = false;
            }
        }
    }
    let time = match lesson.models {
        [] => "–".into(),
        _ => format!("{}{:.1} min", if measured { "" } else { "~" }, seconds / 60.0),
    };
    let done = measured && figures(lesson.chapter).all(|name| workspace.figure_path(lesson.day, name).exists());
    Ok(format!(
        "{:<2}  {time:>8}  {:<4}  {}: {}\n",
        lesson.day,
        if done { "done" } else { "" },
        lesson.title,
        lesson.teaches
    ))
}

/// Completes `prompt` with each day's model, draws all loss curves, and saves both for the book.
///
/// # Errors
/// No trained model, or a prompt that a tokenizer cannot encode.
pub fn compare(workspace: &Workspace, prompt: &str) -> Result<()> {
    let mut table = format!(
        "{:<4} {:<34} {:>10} {:>8} {:>9} {:>8}\n",
        "day", "model", "parameters", "val loss", "bits/byte", "seconds"
    );
    let mut samples = format!("\nday  continues {}\n", one_line(prompt));
    let mut losses = Vec::new();
    for lesson in LESSONS {
        for recipe in lesson.models {
            let Ok(results) = workspace.results(recipe.folder) else {
                continue;
            };
            let (measured, sample) = match &results.accuracy {
                None => (
                    format!("{:>8.4} {:>9.4}", results.val_loss, results.bits_per_byte),
                    workspace.sample(&workspace.load(recipe.folder)?, prompt, SAMPLE)?,
                ),
                // It knows no text that could be continued.
                Some(accuracy) => (
                    format!("{:>8} {:>9.4}", "accuracy", accuracy.total.accuracy()),
                    results.sample.lines().next().unwrap_or_default().to_owned(),
                ),
            };
            table += &format!(
                "{:<4} {:<34} {:>10} {measured} {:>8.1}\n",
                lesson.day, results.what, results.parameters, results.seconds,
            );
            samples += &format!("{:<4} {}\n", lesson.day, one_line(&sample));
            // A model trained on another text was validated on that text during training.
            let run = Run::open(&workspace.folder(recipe.folder))?;
            if run.config()?.corpus == workspace.corpus() {
                losses.push(curve(&run, recipe, lesson.day, &results)?);
            }
        }
    }
    if table.lines().count() == 1 {
        bail!(
            "no trained lesson models in {}; start with: {}",
            workspace.root().display(),
            workspace.command("2")
        );
    }
    table += &samples;
    let axes = Axes {
        title: "Validation loss of each day's model",
        x: "step",
        y: "bits per byte",
        ..Axes::default()
    };
    workspace.save_summary("losses.svg", &curves(&axes, &losses)?)?;
    workspace.save_summary("table.txt", &table)?;
    console::print(&table)
}

fn one_line(sample: &str) -> String {
    let visible = |c| if c == '\n' { visible(c) } else { String::from(c) };
    sample.chars().take(SAMPLE).map(visible).collect()
}

/// Estimated validation losses during training, in bits per byte, because tokenizers differ. Each day has a colour; of two
/// models of one day the first is dashed.
fn curve(run: &Run, recipe: &Recipe, day: u8, results: &Results) -> Result<Curve> {
    let lines = metrics::read(run)?;
    let bits_per_nat = results.bits_per_byte / results.val_loss;
    let evaluations = lines.iter().filter_map(|line| match line {
        Record::Evaluation(line) => Some((line.step as f64, line.val_loss * bits_per_nat)),
        _ => None,
    });
    let days: Vec<&&Lesson> = LESSONS.iter().filter(|lesson| !lesson.models.is_empty()).collect();
    let number = days.iter().position(|lesson| lesson.day == day).unwrap_or_default();
    let is_last = days[number]
        .models
        .last()
        .is_some_and(|last| last.folder == recipe.folder);
    let label = format!("{day}: {} {:.2}", recipe.what, results.bits_per_byte);
    let colour = COLOURS[number % COLOURS.len()];
    Ok(Curve {
        tag: Some(day.to_string()),
        dashed: !is_last,
        ..Curve::new(Some(label), evaluations.collect(), colour, 2)
    })
}
