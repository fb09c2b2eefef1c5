//! What a training needs and comes to, said before it begins.

use std::sync::Mutex;

use anyhow::{Context, Result};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::text;
use super::training::{Goal, TEXT_BYTES, program};
use crate::compute::memory;
use crate::config::{Architecture, DEFAULT_CORPUS, Device, Preset, TrainConfig};
use crate::data::corpus::{Corpus, Split};
use crate::model::init;
use crate::studio::http::answer::{self, Failure};
use crate::studio::http::body;
use crate::tokenizer::CharTokenizer;

/// Measuring the machine for a plan: one at a time, or each would measure the others.
static PLANNING: Mutex<()> = Mutex::new(());

/// `POST /api/needs` with `text` and `minutes`, or `preset` and `steps`: the model's parameters and the bytes of memory that its training
/// takes; for minutes also `steps`, `passes` over the text, the `loss` to expect and its `band`, as `plan` says, which measures this machine
/// for some seconds.
///
/// # Errors
/// A text that cannot be trained on, a parameter that is wrong, another plan that is being made.
pub async fn needs(request: Request) -> Result<Response, Failure> {
    let body = body::object(request.into_body(), 2 * TEXT_BYTES).await?;
    let corpus = text(&body, "text", TEXT_BYTES)?.to_owned();
    let goal = Goal::of(&body)?;
    let needs = tokio::task::spawn_blocking(move || match goal {
        Goal::Steps(preset, _) => of_config(&preset.train_config(Device::Cpu), &corpus).map_err(failed),
        Goal::Minutes(minutes) => of_minutes(minutes, &corpus),
    });
    let needs = needs.await.map_err(|error| Failure::bad(error.to_string()))??;
    Ok(answer::ok(&needs))
}

fn of_config(config: &TrainConfig, corpus: &str) -> Result<Value> {
    let vocabulary = match corpus {
        "" => CharTokenizer::from_text(Corpus::open(DEFAULT_CORPUS)?.text(Split::All)).vocab_size(),
        text => CharTokenizer::from_text(text).vocab_size(),
    };
    let model = config.model_config(vocabulary);
    let parameters = init::parameter_count(&model);
    let bytes = memory::training_step_bytes(config, &model, parameters, parameters);
    Ok(json!({"parameters": parameters, "memory": bytes}))
}

fn of_minutes(minutes: u64, corpus: &str) -> Result<Value, Failure> {
    let Ok(_alone) = PLANNING.try_lock() else {
        let message = "another training is being planned; try again in half a minute";
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, message));
    };
    let chosen = plan(minutes, corpus).map_err(failed)?;
    let size = |key: &str| chosen[key].as_u64().unwrap_or_default() as usize;
    let mut config = Preset::Nano
        .train_config(Device::Cpu)
        .with_architecture(Architecture::Modern);
    config.layers = size("layers");
    config.heads = size("heads");
    config.embd = size("embd");
    config.context = size("context");
    config.batch_size = size("batch_size");
    let mut needs = of_config(&config, corpus).map_err(failed)?;
    for key in ["layers", "embd", "context", "steps", "passes", "loss", "band"] {
        needs[key] = chosen[key].clone();
    }
    Ok(needs)
}

fn failed(error: anyhow::Error) -> Failure {
    Failure::bad(crate::error::line(&error))
}

/// What `plan` of this program chooses.
fn plan(minutes: u64, corpus: &str) -> Result<Value> {
    let folder = tempfile::tempdir().context("no temporary folder can be made for the text")?;
    let mut command = program("plan").map_err(|_| anyhow::anyhow!("the program's path is not known"))?;
    command.args(["--json", "--minutes", &minutes.to_string()]);
    if !corpus.is_empty() {
        let file = folder.path().join("text.txt");
        std::fs::write(&file, corpus).context("the text cannot be written into a temporary folder")?;
        command.arg("--corpus").arg(file);
    }
    let output = command.output().context("plan cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find_map(|line| line.strip_prefix("error: "));
    anyhow::ensure!(output.status.success(), "{}", error.unwrap_or("plan failed"));
    let plan: Value = serde_json::from_slice(&output.stdout).context("plan said no JSON")?;
    Ok(plan["chosen"].clone())
}
