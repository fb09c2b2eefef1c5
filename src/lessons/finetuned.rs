//! Finetuned models: what they write and choose; and OpenAI's GPT-2, where it is or may be downloaded.

use std::path::Path;

use anyhow::Result;

use super::Recipe;
use super::workspace::Workspace;
use crate::checkpoint::import::{import, origin};
use crate::checkpoint::{Checkpoint, hub};
use crate::config::{Lora, Preset, TrainConfig};
use crate::evaluate::hellaswag::{Example, HellaSwagResult, parse, score};
use crate::generate::CompletionOptions;
use crate::generate::sampler::Sampling;
use crate::terminal::console::{program, say};
use crate::terminal::progress::{Progress, Unit};

/// The adapters that the chapter shows.
pub fn adapters() -> Lora {
    Lora {
        rank: 8,
        alpha: 16.0,
        targets: ["c_attn", "c_proj", "c_fc"].map(String::from).into(),
    }
}

/// A completion of a prompt, with a lower temperature, because samples of a weak model are too random.
///
/// # Errors
/// A prompt that its tokenizer cannot encode.
pub fn continued(workspace: &Workspace, checkpoint: &Checkpoint, prompt: &str) -> Result<String> {
    let options = CompletionOptions {
        max_new_tokens: 60,
        sampling: Sampling {
            temperature: 0.8,
            top_k: 50,
            ..Sampling::PLAIN
        },
        ignore_eos: true,
        seed: workspace.seed(),
        ..CompletionOptions::default()
    };
    let written = checkpoint.language_model()?.complete(prompt, &options)?;
    Ok(prompt.to_owned() + &written.text)
}

/// Two completions, one below the other.
pub fn before_and_after(before: &str, after: &str) -> String {
    format!("before\n──────\n{before}\n\nafter\n─────\n{after}\n")
}

/// The built-in questions, tokenized for a model, and the endings that it chooses.
///
/// # Errors
/// Losses that are not finite.
pub fn choices(checkpoint: &Checkpoint) -> Result<(Vec<Example>, HellaSwagResult)> {
    let (file, text) = ("assets/endings.jsonl", include_str!("../../assets/endings.jsonl"));
    let questions = parse(text, file, &checkpoint.tokenizer, checkpoint.model.context)?;
    let result = score(checkpoint, &questions, |_| ())?;
    Ok((questions, result))
}

/// OpenAI's model, finetuned. Few steps, because each takes seconds on a CPU, with llm.c's sizes (batch 4, context 64, 40 steps).
const OPENAI: Recipe = Recipe {
    folder: "day-10-openai-finetuned",
    what: "OpenAI's GPT-2, finetuned on plays",
    change: |config| {
        let mut gpt2 = Preset::Gpt2.train_config(config.device);
        gpt2.finetune(true);
        TrainConfig {
            corpus: config.corpus,
            seed: config.seed,
            context: 64,
            steps: 40,
            warmup: 4,
            lora_rank: 8,
            lora_targets: adapters().targets,
            lr: 5e-4,
            min_lr: 5e-5,
            eval_every: 20,
            eval_batches: 2,
            save_every: 20,
            ..gpt2
        }
    },
    starts_from: Some(IMPORTED),
    // No claims about a model that not everybody has.
    band: (0.0, f64::INFINITY),
};

/// OpenAI's model before and after finetuning with adapters; or how to get it.
///
/// # Errors
/// A model that cannot be imported, or those of training.
pub fn openai(workspace: &Workspace) -> Result<String> {
    if let Some(how) = missing(workspace) {
        return Ok(how);
    }
    say("OpenAI's GPT-2 is here; on a processor, measuring and finetuning it takes some minutes");
    let before = workspace.load(IMPORTED)?;
    let (loss, bits_per_byte) = workspace.measure(&before)?;
    let results = workspace.train(&OPENAI)?;
    let after = workspace.load(OPENAI.folder)?;
    let speech = |checkpoint: &Checkpoint| continued(workspace, checkpoint, "HAMLET:\n");
    Ok(format!(
        "OpenAI's GPT-2: {} parameters\n\n                        nats per token  bits per byte  right endings\n\
         as it came              {loss:>14.4}  {bits_per_byte:>13.4}  {:>13.2}\n\
         after {:>3} steps         {:>14.4}  {:>13.4}  {:>13.2}\n\n{}",
        before.parameters.count(),
        choices(&before)?.1.accuracy,
        results.steps,
        results.val_loss,
        results.bits_per_byte,
        choices(&after)?.1.accuracy,
        before_and_after(&speech(&before)?, &speech(&after)?)
    ))
}

/// The folder of OpenAI's model, below the folder of lessons.
const IMPORTED: &str = "day-10-openai";

/// Its folder in the README.
const IMPORTED_BEFORE: &str = "models/gpt2";

/// Name and size of the download.
const DOWNLOAD: &str = "OpenAI's GPT-2, 548 MB, from Hugging Face's hub";

/// Imports the weights, if necessary; if that is impossible, says how to get them.
fn missing(workspace: &Workspace) -> Option<String> {
    let program = program();
    let stand_in = "OpenAI's weights are not here, so what you saw is the stand-in alone.";
    match fetch(workspace) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "{stand_in}\nTo download {DOWNLOAD}, and go on:\n\n{program} lesson 10 --yes\n"
        )),
        Err(error) => Some(format!(
            "{stand_in}\n{error:#}\n\nOnce you have them, go on with:\n\n\
             {program} import gpt2 --out {IMPORTED_BEFORE}\n{program} lesson 10\n"
        )),
    }
}

/// Imports the weights from the hub's cache or, if allowed, from the hub. Returns whether they are available.
fn fetch(workspace: &Workspace) -> Result<bool> {
    if workspace.checkpoint(IMPORTED).is_ok() {
        return Ok(true);
    }
    let before = Path::new(IMPORTED_BEFORE);
    let repository = hub::repository("gpt2").unwrap_or_default();
    let (folder, origin) = if before.is_dir() {
        (before.to_owned(), origin(before))
    } else if let Some(folder) = hub::cached(repository) {
        (folder, repository.to_owned())
    } else if workspace.confirm_download(DOWNLOAD)? {
        say(format_args!("downloading {DOWNLOAD}"));
        let folder = hub::download(repository, Progress::new("", 0, Unit::Bytes))?;
        (folder, repository.to_owned())
    } else {
        return Ok(false);
    };
    import(&folder, &workspace.folder(IMPORTED), None, &origin, || Ok(()))?;
    Ok(true)
}
