//! Day 10: OpenAI's vocabulary, and finetuning.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use mlx_rs::Array;

use super::day10_endings::endings;
use super::day10_openai as openai;
use crate::checkpoint::Checkpoint;
use crate::config::Device;
use crate::config::{Lora, ModelConfig, Preset, TrainConfig};
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::generate::CompletionOptions;
use crate::generate::sampler::Sampling;
use crate::lessons::arrays::largest_difference;
use crate::lessons::chapter::sources;
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::results::Results;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::model::Model;
use crate::model::init::{ParameterSpec, initialize, initialize_adapters, layout};
use crate::model::linear::lora::{self, is_adapter};
use crate::model::parameters::Parameters;
use crate::tokenizer::Tokenizer;

/// Day 10.
pub const LESSON: Lesson = Lesson {
    day: 10,
    title: "OpenAI's GPT-2, and finetuning",
    teaches: "a model trained on one thing is trained on another, and measured before and after",
    chapter: include_str!("../../book/src/day-10.md"),
    models: &[BASE, FINETUNED],
    needs: &[],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("vocabulary.txt", || vocabulary(workspace))?;
    page.figure("base.txt", || base(workspace))?;
    page.figure("before.txt", || before(workspace))?;
    page.figure("training.txt", || training(workspace))?;
    page.figure("comparison.txt", || comparison(workspace))?;
    page.figure("samples.txt", || samples(workspace))?;
    page.figure("endings.txt", || endings(workspace))?;
    page.figure("adapters.txt", || adapters(workspace))?;
    page.figure("openai.txt", || openai::openai(workspace))?;
    page.claim(
        "GPT-2's vocabulary is 256 bytes, 50000 merges and one special token",
        "gpt2 in src/tokenizer/published.rs",
        || {
            let gpt2 = Tokenizer::gpt2()?;
            let count = gpt2.vocab_size();
            Ok(CheckResult::passes_if(
                count == 256 + 50_000 + 1 && gpt2.special_tokens().len() == 1,
                format!("{count} tokens"),
            ))
        },
    )?;
    page.claim(
        "new adapters change nothing",
        "layout in src/model/init.rs: B starts at zero",
        || {
            // A vocabulary of a few tokens is enough to compare.
            let without = small(Preset::Nano.train(Device::Cpu)).model(16);
            let with = ModelConfig {
                lora: Some(lora()),
                ..without.clone()
            };
            let parameters = initialize(&without, workspace.seed())?;
            let adapted = parameters.with(&initialize_adapters(&with, workspace.seed())?);
            let ids = Array::from_slice(&[0u32, 1, 2, 3], &[1, 4]);
            let plain = Model::new(&without, &parameters)?.forward(&ids, None)?;
            let beside = Model::new(&with, &adapted)?.forward(&ids, None)?;
            // What is added is a product with zeros.
            Ok(CheckResult::within_tolerance(largest_difference(&plain, &beside)?, 0.0))
        },
    )?;
    page.claim(
        "adapters merged into the weights are the same model as adapters beside them",
        "merge in src/model/linear/lora.rs",
        || {
            let ids = Tokenizer::gpt2()?.encode("To be, or not to be")?;
            let ids = Array::from_slice(&ids, &[1, ids.len() as i32]);
            let (model, parameters) = adapted(workspace)?;
            let beside = Model::new(&model, &parameters)?.forward(&ids, None)?;
            let (model, parameters) = lora::merge(&model, &parameters)?;
            let merged = Model::new(&model, &parameters)?.forward(&ids, None)?;
            let size = beside.abs()?.max(None)?.try_item_exact::<f32>()?;
            // Sums of some hundred products in float32, in another order, through two layers.
            Ok(CheckResult::within_tolerance(
                largest_difference(&beside, &merged)? / size,
                1e-5,
            ))
        },
    )?;
    page.claim(
        "bits per byte are the loss times tokens, divided by bytes and ln 2",
        "measure in src/evaluate/text.rs",
        || {
            let results = workspace.results(FINETUNED.folder)?;
            let (tokenizer, text) = (Tokenizer::gpt2()?, workspace.text(Split::Val));
            let ids = tokenizer.encode(text)?;
            // The first token is given, not predicted.
            let bytes = text.len() - tokenizer.token_bytes(ids[0]).map_or(0, |bytes| bytes.len());
            let bits = results.val_loss * (ids.len() - 1) as f64 / std::f64::consts::LN_2 / bytes as f64;
            // The same numbers in float64, divided in another order.
            Ok(CheckResult::within_tolerance(
                (bits - results.bits_per_byte).abs() as f32,
                1e-9,
            ))
        },
    )?;
    page.claim(
        "finetuning lowers the bits per byte of plays that it has not seen",
        "the training: `lesson 10`",
        || {
            let (before, after) = (workspace.results(BASE.folder)?, workspace.results(FINETUNED.folder)?);
            let text = format!("{:.3} before, {:.3} after", before.bits_per_byte, after.bits_per_byte);
            Ok(
                if workspace.is_fully_trained(&BASE)? && workspace.is_fully_trained(&FINETUNED)? {
                    CheckResult::passes_if(after.bits_per_byte < before.bits_per_byte, text)
                } else {
                    CheckResult::Skipped(format!("it needs both models fully trained; {text}"))
                },
            )
        },
    )?;
    Ok(())
}

/// Small enough that a vocabulary of 50257 can be trained in a minute: nearly all of it is the table of tokens.
fn small(config: TrainConfig) -> TrainConfig {
    TrainConfig {
        tokenizer: "gpt2".into(),
        layers: 2,
        heads: 4,
        embd: 64,
        context: 32,
        batch_size: 8,
        dropout: 0.0,
        steps: 150,
        warmup: 15,
        eval_every: 50,
        eval_batches: 5,
        save_every: 150,
        ..config
    }
}

pub(super) const BASE: Recipe = Recipe {
    folder: "day-10-base",
    what: "GPT-2's vocabulary, Rust code",
    change: |config| TrainConfig {
        lr: 4e-3,
        min_lr: 4e-4,
        ..small(config)
    },
    starts_from: None,
    band: (8.0, 11.0),
};

pub(super) const FINETUNED: Recipe = Recipe {
    folder: "day-10",
    what: "the same, finetuned on plays",
    change: |config| TrainConfig {
        lr: 2e-3,
        min_lr: 2e-4,
        ..small(config)
    },
    starts_from: Some(BASE.folder),
    band: (6.0, 8.0),
};

/// The adapters that the chapter shows.
fn lora() -> Lora {
    Lora {
        rank: 8,
        alpha: 16.0,
        targets: ["c_attn", "c_proj", "c_fc"].map(String::from).into(),
    }
}

/// The stand-in's parameters with adapters that are not zero.
fn adapted(workspace: &Workspace) -> Result<(ModelConfig, Parameters)> {
    let base = workspace.load(BASE.folder)?;
    let model = ModelConfig {
        lora: Some(lora()),
        ..base.model
    };
    let fresh = initialize_adapters(&model, workspace.seed())?;
    let learned = fresh.map(|array| array.add(Array::from_f32(0.01)))?;
    Ok((model, base.parameters.with(&learned)))
}

/// Prompt of the samples.
const PROMPT: &str = "HAMLET:\nTo be, or not to be";

/// Tokens of a sample.
const SAMPLE: usize = 60;

fn vocabulary(workspace: &Workspace) -> Result<String> {
    let gpt2 = Tokenizer::gpt2()?;
    let text = workspace.text(Split::Train);
    let ids = gpt2.encode(text)?;
    let mut met = vec![false; gpt2.vocab_size()];
    ids.iter().for_each(|&id| met[id as usize] = true);
    let different = met.iter().filter(|&&met| met).count();
    let mut out = format!(
        "tokens in the vocabulary       {:>9}\nln(vocabulary)                 {:>9.2}\ntokens of the training text    {:>9}, {:.2} bytes each\ndifferent ones among them      {:>9}\n",
        gpt2.vocab_size(),
        (gpt2.vocab_size() as f64).ln(),
        ids.len(),
        text.len() as f64 / ids.len() as f64,
        different
    );
    out += "\nparameters, in millions               all   its table of tokens\n";
    for (name, preset) in [
        ("gpt2", Preset::Gpt2),
        ("gpt2-medium", Preset::Gpt2Medium),
        ("gpt2-large", Preset::Gpt2Large),
        ("gpt2-xl", Preset::Gpt2Xl),
    ] {
        let model = preset.model(gpt2.vocab_size());
        let all = count(&layout(&model));
        let wte = (model.vocab_size * model.embd) as f64;
        writeln!(
            out,
            "{name:<12}                   {:>10.1}  {:>10.1}  {:>3.0} %",
            all as f64 / 1e6,
            wte / 1e6,
            100.0 * wte / all as f64
        )?;
    }
    Ok(out)
}

/// Numbers in parameters of these shapes.
fn count(specs: &[ParameterSpec]) -> i64 {
    let numbers = |spec: &ParameterSpec| spec.shape.iter().map(|&n| i64::from(n)).product::<i64>();
    specs.iter().map(numbers).sum()
}

/// The text that the stand-in is trained on: this program's sources, saved so that a run can be resumed after they change.
fn source_text(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.folder("day-10-sources.txt");
    if !place.exists() {
        let _made = durable::make_parents(&place)?;
        durable::write_file(&place, sources().as_bytes())?;
    }
    Ok(place)
}

fn base(workspace: &Workspace) -> Result<String> {
    let place = source_text(workspace)?;
    let results = workspace.train_on_corpus(&BASE, &place)?;
    Ok(format!(
        "learned from {}, {} bytes\n{} parameters, {} steps in {:.0} s\n\n{}\n",
        place.display(),
        fs::metadata(&place)?.len(),
        results.parameters,
        results.steps,
        results.seconds,
        continued(&workspace.load(BASE.folder)?, "pub fn ", workspace.seed())?
    ))
}

fn before(workspace: &Workspace) -> Result<String> {
    let Results {
        val_loss,
        bits_per_byte,
        ..
    } = workspace.results(BASE.folder)?;
    Ok(format!(
        "on the validation text of the plays: {val_loss:.4} nats per token, {bits_per_byte:.4} bits per byte\nguessing among all tokens alike:     {:.4} nats per token\n",
        (Tokenizer::gpt2()?.vocab_size() as f64).ln()
    ))
}

fn adapters(workspace: &Workspace) -> Result<String> {
    let model = workspace.load(BASE.folder)?.model;
    let mut out = format!("rank {}\n\nbeside                 W          A and B\n", lora().rank);
    let specs = layout(&ModelConfig {
        lora: Some(lora()),
        ..model
    });
    let shape = |name: &str| {
        specs
            .iter()
            .find(|spec| spec.name == name)
            .map(|spec| spec.shape.clone())
    };
    for linear in ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"] {
        let of = |part: &str| format!("{:?}", shape(&format!("h.0.{linear}.{part}")).unwrap_or_default());
        writeln!(
            out,
            "{linear:<12}  {:>10}  {:>9} and {}",
            of("weight"),
            of("lora_A.weight"),
            of("lora_B.weight")
        )?;
    }
    let (learning, frozen): (Vec<_>, Vec<_>) = specs.into_iter().partition(|spec| is_adapter(&spec.name));
    let (learning, frozen) = (count(&learning), count(&frozen));
    writeln!(
        out,
        "\n{learning} parameters learn, {:.1} % of all; {frozen} stay as they are",
        100.0 * learning as f64 / (learning + frozen) as f64
    )?;
    Ok(out)
}

fn training(workspace: &Workspace) -> Result<String> {
    Ok(workspace.train(&FINETUNED)?.summary())
}

fn comparison(workspace: &Workspace) -> Result<String> {
    let mut out = String::from("                                     nats per token  bits per byte\n");
    let mut row = |name: &str, results: &Results| {
        writeln!(
            out,
            "{name:<35}  {:>14.4}  {:>13.4}",
            results.val_loss, results.bits_per_byte
        )
    };
    row("before: learned from Rust code", &workspace.results(BASE.folder)?)?;
    row("after: finetuned on the plays", &workspace.results(FINETUNED.folder)?)?;
    for (name, folder) in [("day 2, of characters", "day-02"), ("day 8, of characters", "day-08")] {
        if let Ok(results) = workspace.results(folder) {
            row(name, &results)?;
        }
    }
    Ok(out)
}

/// A completion of the prompt, with a lower temperature, because samples of a weak model are too random.
pub fn continued(checkpoint: &Checkpoint, prompt: &str, seed: u64) -> Result<String> {
    let options = CompletionOptions {
        max_new_tokens: SAMPLE,
        sampling: Sampling {
            temperature: 0.8,
            top_k: 50,
            ..Sampling::PLAIN
        },
        ignore_end_of_text: true,
        seed,
        ..CompletionOptions::default()
    };
    let written = checkpoint.language_model()?.complete(prompt, &options)?;
    Ok(prompt.to_owned() + &written.text)
}

fn samples(workspace: &Workspace) -> Result<String> {
    let before = continued(&workspace.load(BASE.folder)?, PROMPT, workspace.seed())?;
    let after = continued(&workspace.load(FINETUNED.folder)?, PROMPT, workspace.seed())?;
    Ok(format!("before\n──────\n{before}\n\nafter\n─────\n{after}\n"))
}
