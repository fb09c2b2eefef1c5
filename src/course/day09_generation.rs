//! Day 9: from logits to text. Temperature, filters, seeds, log-probabilities.

use std::fmt::Write;
use std::ops::Range;

use anyhow::Result;

use super::day08::FURTHER;
use super::day09_sampling::bar;
use super::{day09_cache, day09_sampling};
use crate::checkpoint::Checkpoint;
use crate::data::batches::Batch;
use crate::data::corpus::Split;
use crate::evaluate::{Evaluation, Evaluator};
use crate::generate::Generator;
use crate::generate::sampler::{SampledToken, Sampling};
use crate::lessons::Lesson;
use crate::lessons::arrays::visible;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::workspace::Workspace;

/// Day 9.
pub const LESSON: Lesson = Lesson {
    day: 9,
    title: "Generation",
    teaches: "temperature, top-k, top-p, min-p, penalties and seeds on real logits; the key-value cache",
    chapter: include_str!("../../book/src/day-09.md"),
    models: &[],
    needs: &[FURTHER.folder],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("logits.txt", || logits(workspace))?;
    page.figure("temperature.txt", || day09_sampling::temperature(workspace))?;
    page.figure("temperature.svg", || day09_sampling::temperature_picture(workspace))?;
    page.figure("filters.txt", || day09_sampling::filters(workspace))?;
    page.figure("filters.svg", || day09_sampling::filters_picture(workspace))?;
    page.figure("greedy.txt", || greedy(workspace))?;
    page.figure("penalty.txt", || day09_sampling::penalty(workspace))?;
    page.figure("seeds.txt", || seeds(workspace))?;
    page.figure("logprobs.txt", || logprobs(workspace))?;
    page.figure("cache.txt", || day09_cache::sizes(workspace))?;
    page.figure("same.txt", || day09_cache::same(workspace))?;
    page.figure("timing.txt", || day09_cache::timing(workspace))?;
    page.figure("timing.svg", || day09_cache::timing_picture(workspace))?;
    page.figure("full.txt", || day09_cache::full(workspace))?;
    page.claim(
        "at temperature 1 and without filters, tokens are sampled from the softmax of the logits",
        "Sampling::candidates in src/generate/sampler.rs",
        || day09_sampling::plain_is_softmax(workspace),
    )?;
    page.claim(
        "top-k keeps k tokens, top-p the fewest that reach p, min-p those close to the most likely one",
        "Sampling::candidates in src/generate/sampler.rs",
        || day09_sampling::filters_leave_what_they_say(workspace),
    )?;
    page.claim(
        "the same seed gives the same text",
        "sample_rng in src/generate/mod.rs",
        || {
            let day8 = Day8Model::new(workspace)?;
            let write = |seed| day8.write(&Sampling::PLAIN, seed, 40);
            let same = write(1)? == write(1)? && write(1)? != write(2)?;
            Ok(CheckResult::passes_if(same, "seed 1 twice, then seed 2".into()))
        },
    )?;
    page.claim(
        "minus the mean log-probability of a text is the model's loss on it",
        "the log-probability in src/generate/sampler.rs, the loss in src/model/loss.rs",
        || {
            let day8 = Day8Model::new(workspace)?;
            let (ours, theirs) = (-mean(&day8.sample_log_probabilities()?), day8.loss_of_sample()?);
            // Float32 log-probabilities, by the cache and without it.
            Ok(CheckResult::within_tolerance(
                (f64::from(ours) - theirs).abs() as f32,
                1e-4,
            ))
        },
    )?;
    page.claim(
        "log-probabilities are the same with the cache and without it",
        "Gpt::forward_cached in src/model/gpt.rs, LayerCache::extend in src/model/kv_cache.rs",
        || day09_cache::cached_is_uncached(workspace),
    )?;
    page.claim(
        "the cache has as many bytes as counted by hand",
        "KvCache::new in src/model/kv_cache.rs",
        || day09_cache::bytes_are_counted(workspace),
    )?;
    page.claim(
        "a full context continues from its last half, as if the text had begun there",
        "ContextWindow::push in src/generate/window.rs, Sequences::push in src/generate/sequences.rs",
        || day09_cache::full_goes_on_with_half(workspace),
    )?;
    Ok(())
}

/// The beginning of the validation text, up to the beginning of a word, where many tokens are likely.
fn prompt(workspace: &Workspace) -> String {
    let beginning: String = workspace.text(Split::Val).chars().take(40).collect();
    match beginning.rfind(' ') {
        Some(blank) => beginning[..=blank].to_owned(),
        None => beginning,
    }
}

/// The model of day 8, and the beginning of a text.
pub(super) struct Day8Model {
    /// The model's checkpoint.
    pub checkpoint: Checkpoint,
    /// Its generator.
    pub generator: Generator,
    /// The ids of the prompt.
    pub prompt: Vec<u32>,
}

impl Day8Model {
    pub fn new(workspace: &Workspace) -> Result<Self> {
        let checkpoint = workspace.load(FURTHER.folder)?;
        Ok(Self {
            generator: checkpoint.generator()?,
            prompt: checkpoint.tokenizer.encode(&prompt(workspace))?,
            checkpoint,
        })
    }

    pub fn label(&self, id: u32) -> Result<String> {
        Ok(self.checkpoint.tokenizer.decode(&[id])?.chars().map(visible).collect())
    }

    /// The logits after the prompt, `[V]`.
    pub fn logits(&self) -> Result<Vec<f32>> {
        let mut sequence = self.generator.sequence()?;
        self.prompt.iter().for_each(|&id| sequence.push(&[id]));
        sequence.next_logits()
    }

    /// The probability of sampling each token after the prompt, `[V]`.
    pub fn probabilities(&self, sampling: &Sampling) -> Result<Vec<f64>> {
        let logits = self.logits()?;
        let kept = sampling.candidates(&logits, &self.prompt);
        let total: f64 = kept.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let mut probabilities = vec![0.0; logits.len()];
        for candidate in kept {
            probabilities[candidate.id as usize] = f64::from(candidate.weight) / total;
        }
        Ok(probabilities)
    }

    /// The ids of the most likely tokens after the prompt, the most likely first.
    pub fn most_likely(&self, count: usize) -> Result<Vec<u32>> {
        let logits = self.logits()?;
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        ids.truncate(count);
        Ok(ids)
    }

    fn choices(&self, sampling: &Sampling, seed: u64, tokens: usize) -> Result<Vec<SampledToken>> {
        let mut choices = Vec::with_capacity(tokens);
        self.generator
            .generate(&self.prompt, 0..1, sampling, seed, |_, choice| {
                choices.push(choice);
                Ok(choices.len() < tokens)
            })?;
        Ok(choices)
    }

    fn write(&self, sampling: &Sampling, seed: u64, tokens: usize) -> Result<String> {
        let ids: Vec<u32> = self
            .choices(sampling, seed, tokens)?
            .iter()
            .map(|choice| choice.id)
            .collect();
        self.checkpoint.tokenizer.decode(&ids)
    }

    /// A sample that fits into the context together with the prompt.
    fn sample_log_probabilities(&self) -> Result<Vec<SampledToken>> {
        let room = self.checkpoint.model.context - self.prompt.len();
        self.choices(&Sampling::PLAIN, 1, room.min(24))
    }

    /// The loss on that sample after the prompt, computed as in evaluation.
    fn loss_of_sample(&self) -> Result<f64> {
        let mut ids = self.prompt.clone();
        ids.extend(self.sample_log_probabilities()?.iter().map(|choice| choice.id));
        let mut evaluator = Evaluator::of_checkpoint(&self.checkpoint)?;
        let losses = evaluator.losses(&self.checkpoint.parameters, [Batch::padded(&[ids])])?;
        let mut sample_log_probabilities = Evaluation::default();
        sample_log_probabilities.add(&losses[0][self.prompt.len() - 1..]);
        Ok(sample_log_probabilities.loss())
    }
}

fn mean(choices: &[SampledToken]) -> f32 {
    choices.iter().map(|choice| choice.logprob).sum::<f32>() / choices.len() as f32
}

fn logits(workspace: &Workspace) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let (logits, probabilities) = (day8.logits()?, day8.probabilities(&Sampling::PLAIN)?);
    let prompt: String = prompt(workspace).chars().map(visible).collect();
    let mut text = format!("after  {prompt}\n\ntoken    logit   probability\n");
    for id in day8.most_likely(12)? {
        let probability = probabilities[id as usize];
        writeln!(
            text,
            "{:<6} {:>7.2} {:>8.1} %    {}",
            day8.label(id)?,
            logits[id as usize],
            100.0 * probability,
            bar(probability, 40)
        )?;
    }
    Ok(text)
}

/// Start and period of a repetition that lasts to the end, at least twice, if there is one.
fn repetition(ids: &[u32]) -> Option<(usize, usize)> {
    let from = |period: usize| -> usize {
        let repeats = (period..ids.len()).rev().take_while(|&at| ids[at] == ids[at - period]);
        ids.len() - repeats.count() - period
    };
    let period = (1..=ids.len() / 3).find(|&period| ids.len() - from(period) >= 3 * period)?;
    Some((from(period), period))
}

fn greedy(workspace: &Workspace) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let penalized = Sampling {
        repetition_penalty: 1.3,
        ..Sampling::GREEDY
    };
    let warm = Sampling {
        temperature: 0.8,
        ..Sampling::PLAIN
    };
    let mut text = String::new();
    for (name, sampling) in [
        ("greedy", Sampling::GREEDY),
        ("greedy, repetition penalty 1.3", penalized),
        ("temperature 0.8", warm),
    ] {
        let ids: Vec<u32> = day8
            .choices(&sampling, 1, 400)?
            .iter()
            .map(|choice| choice.id)
            .collect();
        let found = match repetition(&ids) {
            Some((from, period)) => format!("from token {from} on it repeats {period} tokens"),
            None => "it ends in no loop".into(),
        };
        let shown = day8.checkpoint.tokenizer.decode(&ids[..ids.len().min(240)])?;
        writeln!(text, "— {name}; {found}:\n{}\n", shown.trim_matches('\n'))?;
    }
    Ok(text)
}

fn seeds(workspace: &Workspace) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let mut text = String::new();
    for seed in [1, 2, 3, 1] {
        let sample: String = day8.write(&Sampling::PLAIN, seed, 60)?.chars().map(visible).collect();
        writeln!(text, "seed {seed}  {sample}")?;
    }
    Ok(text)
}

fn logprobs(workspace: &Workspace) -> Result<String> {
    let day8 = Day8Model::new(workspace)?;
    let choices = day8.sample_log_probabilities()?;
    let mut text = String::from("token  log-probability  probability\n");
    let shown: Range<usize> = 0..choices.len().min(12);
    for choice in &choices[shown] {
        let probability = f64::from(choice.logprob).exp();
        writeln!(
            text,
            "{:<6} {:>15.3} {:>10.1} %  {}",
            day8.label(choice.id)?,
            choice.logprob,
            100.0 * probability,
            bar(probability, 30)
        )?;
    }
    writeln!(
        text,
        "\nminus the mean of all {}    {:.5}\nthe loss on the same tokens {:.5}",
        choices.len(),
        -mean(&choices),
        day8.loss_of_sample()?
    )?;
    Ok(text)
}
