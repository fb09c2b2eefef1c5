//! Day 8's comparison of vocabularies: the same model on bytes, on characters and on byte pairs.

use std::fmt::Write;

use anyhow::Result;

use crate::config::TrainConfig;
use crate::course::day01::BYTES;
use crate::course::day08::bits_per_byte;
use crate::data::corpus::Split;
use crate::lessons::Recipe;
use crate::lessons::arrays::{labels, largest};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;
use crate::terminal::console::say;
use crate::tokenizer::{Bpe, Pattern, train_merges};

/// A short training of the preset's model.
pub fn short(config: TrainConfig) -> TrainConfig {
    TrainConfig {
        steps: 300,
        warmup: 30,
        eval_every: 300,
        save_every: 300,
        ..config
    }
}

const fn recipe(folder: &'static str, what: &'static str) -> Recipe {
    Recipe {
        folder,
        what,
        change: short,
        starts_from: None,
        band: (0.0, f64::INFINITY),
    }
}

/// The experiment's models, and the size of their vocabulary where it is one of byte pairs.
const VOCABULARIES: [(Recipe, Option<usize>); 5] = [
    (recipe("day-08-bytes", "GPT-2 on bytes"), Some(256)),
    (recipe("day-08-characters", "GPT-2 on characters"), None),
    (recipe("day-08-512", "GPT-2 on 256 byte pairs"), Some(512)),
    (recipe("day-08-2048", "GPT-2 on 1792 byte pairs"), Some(2048)),
    (recipe("day-08-8192", "GPT-2 on 7936 byte pairs"), Some(8192)),
];

/// The section's figures and claims.
pub fn compare(page: &mut Page, workspace: &Workspace) -> Result<()> {
    let [bytes, _, pairs, ..] = &VOCABULARIES;
    page.figure("vocabularies.txt", || {
        say("day 8: the same model on five vocabularies");
        let mut text = String::from(
            "                                  param-  bytes a  kB of   MB of   ms a    ms a   nats a   bits a\n\
             model                    tokens   eters    token   text  logits   step      kB    token     byte\n",
        );
        let (train, val) = (workspace.text(Split::Train), workspace.text(Split::Val));
        let merges = train_merges(train, Pattern::Gpt2, 8192 - BYTES as usize, |_| ());
        for (recipe, size) in &VOCABULARIES {
            let tokenizer = match size {
                Some(size) => {
                    let merges = &merges[..merges.len().min(size - BYTES as usize)];
                    Bpe::from_merges(merges, Pattern::Gpt2, &[])?.into()
                }
                None => workspace.tokenizer()?.clone(),
            };
            let results = workspace.train_with_tokenizer(recipe, &tokenizer)?;
            let config = workspace.config(recipe)?;
            let (vocab_size, steps) = (tokenizer.vocab_size(), results.steps as f64);
            let bytes_a_token = |text: &str| anyhow::Ok(text.len() as f64 / tokenizer.encode(text)?.len() as f64);
            let tokens = config.tokens_per_step() as f64;
            let (seen, logits) = (
                steps * tokens * bytes_a_token(train)? / 1e3,
                4e-6 * tokens * vocab_size as f64,
            );
            let (name, parameters) = (recipe.what, results.parameters);
            let [a_step, a_kb] = [steps, seen].map(|count| 1e3 * results.seconds / count);
            write!(
                text,
                "{name:<24} {vocab_size:>6} {parameters:>7} {:>8.2}",
                bytes_a_token(val)?
            )?;
            write!(text, " {seen:>6.0} {logits:>7.2} {a_step:>6.1} {a_kb:>7.2}")?;
            writeln!(text, " {:>8.3} {:>8.3}", results.val_loss, results.bits_per_byte)?;
        }
        Ok(text)
    })?;
    page.figure("vocabularies-written.txt", || {
        let mut text = String::new();
        for (recipe, _) in &VOCABULARIES {
            let sample: String = workspace
                .results(recipe.folder)?
                .sample
                .trim_start()
                .chars()
                .take(72)
                .collect();
            writeln!(text, "{:<24} {}", recipe.what, labels(&sample).concat())?;
        }
        Ok(text)
    })?;
    page.claim(
        "bits per byte by hand are those of `eval`, for each vocabulary",
        "bits_per_byte in src/course/day08.rs, evaluate_checkpoint in src/evaluate/text.rs",
        || {
            let text = workspace.text(Split::Val);
            let mut off = Vec::new();
            for (recipe, _) in &VOCABULARIES {
                let (results, tokenizer) = (
                    workspace.results(recipe.folder)?,
                    workspace.load(recipe.folder)?.tokenizer,
                );
                let ids = tokenizer.encode(text)?;
                let first = tokenizer.token_bytes(ids[0]).map_or(0, |bytes| bytes.len()); // is not predicted
                let by_hand = bits_per_byte(results.val_loss, ids.len() - 1, text.len() - first);
                off.push((by_hand - results.bits_per_byte) as f32);
            }
            Ok(CheckResult::within_tolerance(largest(off), 1e-6))
        },
    )?;
    page.claim(
        "after as many steps, 256 byte pairs need fewer bits per byte than bytes alone",
        "the training of both: `lesson 8`",
        || {
            let [better, worse] = [pairs, bytes].map(|(recipe, _)| recipe);
            let [lower, higher] = [workspace.results(better.folder)?, workspace.results(worse.folder)?];
            let measured = format!("{:.3} against {:.3}", lower.bits_per_byte, higher.bits_per_byte);
            if !(workspace.is_fully_trained(better)? && workspace.is_fully_trained(worse)?) {
                return Ok(CheckResult::Skipped(format!("too few steps: {measured}")));
            }
            Ok(CheckResult::passes_if(
                lower.bits_per_byte < higher.bits_per_byte,
                measured,
            ))
        },
    )
}
