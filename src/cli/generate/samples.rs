//! `generate` without `--interactive`: some samples, as text or as JSON.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Task;
use super::in_order::InOrder;
use super::speed::Speed;
use crate::generate::{Completion, Writer};
use crate::terminal::console::{self, say};

#[derive(Serialize)]
struct Output<'a> {
    samples: Vec<&'a Completion>,
    prompt: String,
    seed: u64,
}

pub fn run(task: &Task, samples: u64, json: bool) -> Result<ExitCode> {
    let prompt = match &task.prompt {
        Some(text) => task.encode(text).context("prompt")?,
        None => task.default_prompt.clone(),
    };
    let mut writers = vec![Writer::new(task.tokenizer, &task.ending); samples as usize];
    let mut shown = InOrder::new((1..=samples).map(|number| {
        let heading = if samples > 1 {
            format!("── sample {number} ──\n")
        } else {
            String::new()
        };
        heading + task.prompt.as_deref().unwrap_or_default()
    }));
    let mut show = |number: usize, text: &str, finished: bool| {
        shown.push(number, text);
        if finished {
            shown.push(number, "\n");
            shown.finish(number);
        }
        match shown.take() {
            text if json || text.is_empty() => Ok(()),
            text => console::print(text),
        }
    };
    for (number, writer) in writers.iter().enumerate() {
        show(number, "", writer.is_finished())?;
    }

    let mut speed = Speed::start();
    if task.ending.max_new_tokens > 0 {
        let (generator, sampling) = (task.generator, &task.sampling);
        generator.generate(&prompt, 0..samples, sampling, task.seed, |number, choice| {
            let writer = &mut writers[number as usize];
            speed.token(writer.completion().ids.len());
            let text = writer.push(choice)?;
            show(number as usize, &text, writer.is_finished())?;
            Ok(!writer.is_finished())
        })?;
    }
    say(&speed);
    if json {
        let output = Output {
            samples: writers.iter().map(Writer::completion).collect(),
            prompt: task.tokenizer.decode(&prompt)?,
            seed: task.seed,
        };
        console::print(serde_json::to_string(&output)? + "\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
