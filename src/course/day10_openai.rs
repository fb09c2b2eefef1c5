//! Day 10's second half: OpenAI's weights, if available.

use std::path::Path;

use anyhow::Result;

use super::day10_endings::choices;
use super::day10_gpt2::continued;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::hub;
use crate::checkpoint::import::{import, origin};
use crate::config::{Preset, TrainConfig};
use crate::lessons::Recipe;
use crate::lessons::workspace::Workspace;
use crate::terminal::console::{program, say};
use crate::terminal::progress::{Progress, Unit};

/// The import's folder, below the folder of lessons.
const IMPORTED: &str = "day-10-openai";

/// The folder of the import in the README.
const IMPORTED_BEFORE: &str = "models/gpt2";

/// Few steps, because each takes seconds on a CPU, with llm.c's sizes (batch 4, context 64, 40 steps).
const FINETUNED: Recipe = Recipe {
    folder: "day-10-openai-finetuned",
    what: "OpenAI's GPT-2, finetuned on plays",
    change: |config| {
        let mut gpt2 = TrainConfig {
            corpus: config.corpus,
            seed: config.seed,
            ..Preset::Gpt2.train(config.device)
        };
        gpt2.finetune(true);
        TrainConfig {
            context: 64,
            steps: 40,
            warmup: 4,
            lora_rank: 8,
            lora_targets: ["c_attn", "c_proj", "c_fc"].map(String::from).into(),
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

/// Name and size of the download.
const DOWNLOAD: &str = "OpenAI's GPT-2, 548 MB, from Hugging Face's hub";

/// Figure: OpenAI's weights, finetuned with adapters.
pub fn openai(workspace: &Workspace) -> Result<String> {
    let program = program();
    let stand_in = "OpenAI's weights are not here, so what you saw is the stand-in alone.";
    match fetch(workspace) {
        Ok(true) => {}
        Ok(false) => {
            return Ok(format!(
                "{stand_in}\nTo download {DOWNLOAD}, and go on:\n\n{program} lesson 10 --yes\n"
            ));
        }
        Err(error) => {
            return Ok(format!(
                "{stand_in}\n{error:#}\n\nOnce you have them, go on with:\n\n{program} import gpt2 --out {IMPORTED_BEFORE}\n{program} lesson 10\n"
            ));
        }
    }
    say("OpenAI's GPT-2 is here; on a processor, measuring and finetuning it takes some minutes");
    let before = workspace.load(IMPORTED)?;
    let (loss, bits_per_byte) = workspace.measure(&before)?;
    let results = workspace.train(&FINETUNED)?;
    let after = workspace.load(FINETUNED.folder)?;
    Ok(format!(
        "OpenAI's GPT-2: {} parameters\n\n                        nats per token  bits per byte  right endings\nas it came              {loss:>14.4}  {bits_per_byte:>13.4}  {:>13.2}\nafter {:>3} steps         {:>14.4}  {:>13.4}  {:>13.2}\n\nbefore\n──────\n{}\n\nafter\n─────\n{}\n",
        before.parameters.count(),
        choices(&before)?.accuracy,
        results.steps,
        results.val_loss,
        results.bits_per_byte,
        choices(&after)?.accuracy,
        spoken(&before, workspace)?,
        spoken(&after, workspace)?
    ))
}

fn spoken(checkpoint: &Checkpoint, workspace: &Workspace) -> Result<String> {
    continued(checkpoint, "HAMLET:\n", workspace.seed())
}

/// Imports the weights, if necessary, from the hub's cache or, if allowed, from the hub. Returns whether they are available.
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
        (
            hub::download(repository, Progress::new("", 0, Unit::Bytes))?,
            repository.to_owned(),
        )
    } else {
        return Ok(false);
    };
    import(&folder, &workspace.folder(IMPORTED), None, &origin, || Ok(()))?;
    Ok(true)
}
