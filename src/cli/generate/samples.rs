//! `generate` without `--interactive`: some samples, as text or as JSON.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::in_order::InOrder;
use super::speed::Speed;
use super::{Task, note_on_special_tokens};
use crate::generate::Completion;
use crate::terminal::console::{self, say};

#[derive(Serialize)]
struct Output {
    samples: Vec<Completion>,
    prompt: String,
    seed: u64,
}

pub fn run(task: &Task, samples: u64, json: bool) -> Result<ExitCode> {
    ensure!(
        task.prompt.as_deref() != Some(""),
        "the prompt is empty; give at least one character, or leave it out"
    );
    let (model, prompt) = (task.model, task.prompt.as_deref().unwrap_or_default());
    let mut shown = InOrder::new((1..=samples).map(|number| {
        let heading = if samples > 1 {
            format!("── sample {number} ──\n")
        } else {
            String::new()
        };
        heading + prompt
    }));
    let ids = model.prompt(prompt, task.options.special).context("prompt")?;
    note_on_special_tokens(model, prompt, task.options.special);
    let mut speed = Speed::start();
    let written = model.samples(prompt, 0..samples, &task.options, |number, text, finished| {
        if task.options.max_new_tokens > 0 {
            speed.token(number);
        }
        shown.push(number as usize, text);
        if finished {
            shown.push(number as usize, "\n");
            shown.finish(number as usize);
        }
        match shown.take() {
            text if json || text.is_empty() => anyhow::Ok(()),
            text => console::print(text),
        }
    })?;
    say(&speed);
    if json {
        let output = Output {
            samples: written,
            prompt: model.tokenizer().decode(&ids)?,
            seed: task.options.seed,
        };
        console::print(serde_json::to_string(&output)? + "\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
