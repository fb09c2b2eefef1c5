//! `generate` without `--interactive`: prints samples as text or as JSON.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::in_order::OrderedOutput;
use super::speed::TokenRate;
use super::{Request, special_token_note};
use crate::frame::{Display, draw};
use crate::generate::Completion;
use crate::terminal::console::{self, say};

#[derive(Serialize)]
struct Output {
    samples: Vec<Completion>,
    prompt: String,
    seed: u64,
}

pub fn run(request: &Request, samples: u64, json: bool, display: Option<Display>) -> Result<ExitCode> {
    ensure!(
        request.prompt.as_deref() != Some(""),
        "the prompt is empty; give at least one character, or leave it out"
    );
    let (model, prompt) = (request.model, request.prompt.as_deref().unwrap_or_default());
    let mut shown = OrderedOutput::new((1..=samples).map(|number| {
        let heading = if samples > 1 {
            format!("── sample {number} ──\n")
        } else {
            String::new()
        };
        heading + prompt
    }));
    let ids = model.prompt(prompt, request.options.special).context("prompt")?;
    special_token_note(model, prompt, request.options.special);
    let mut speed = TokenRate::start();
    let written = model.complete_many(prompt, 0..samples, &request.options, |number, text, finished| {
        if request.options.max_new_tokens > 0 {
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
    if let (Some(mut display), Some(completion)) = (display, written.first()) {
        let text = prompt.to_owned() + &completion.text;
        display.show(&draw(&text, display.panel()))?;
    }
    if json {
        let output = Output {
            samples: written,
            prompt: model.tokenizer().decode(&ids)?,
            seed: request.options.seed,
        };
        console::print(serde_json::to_string(&output)? + "\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
