//! Day 12: the figures and claims of its chapter, in its order.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::checkpoint::run::Run;
use crate::config::{Optimizer, Preset, TrainConfig};
use crate::course::day07::{Shape, parameter_count};
use crate::course::day12::shared_windows;
use crate::data::corpus::Split;
use crate::disk::durable;
use crate::lessons::claims::CheckResult;
use crate::lessons::finetuned::{before_and_after, continued};
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::results::Results;
use crate::lessons::training::losses_during;
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::train::metrics::{self, Record};

/// Day 12.
pub const LESSON: Lesson = Lesson {
    day: 12,
    title: "Pretrain, then finetune",
    teaches: "a model of a large text learns a small one in fewer steps; what that costs; GPT-3's eight sizes",
    chapter: include_str!("../../../book/src/day-12.md"),
    models: &[PRETRAINED, SCRATCH, LONGER, FINETUNED],
    needs: &[],
    program,
};

/// Steps on the large text, and on the small one.
const PRETRAINING: u64 = 1000;
const FINETUNING: u64 = 250;

/// No losses are expected with a text that not everybody has.
const NO_BAND: (f64, f64) = (0.0, f64::INFINITY);

const PRETRAINED: Recipe = Recipe {
    folder: "day-12-pretrained",
    what: "GPT-2, pretrained on a larger text",
    change: |config| steps(config, PRETRAINING),
    starts_from: None,
    band: NO_BAND,
};

/// As many steps on the small text as finetuning takes.
const SCRATCH: Recipe = Recipe {
    folder: "day-12-scratch",
    what: "from scratch, as many steps",
    change: |config| steps(config, FINETUNING),
    starts_from: None,
    band: NO_BAND,
};

/// As many steps as pretraining and finetuning together.
const LONGER: Recipe = Recipe {
    folder: "day-12-scratch-longer",
    what: "from scratch, as much time",
    change: |config| steps(config, PRETRAINING + FINETUNING),
    starts_from: None,
    band: NO_BAND,
};

/// The pretrained model, trained on at a quarter of the rates.
const FINETUNED: Recipe = Recipe {
    folder: "day-12",
    what: "the pretrained model, finetuned",
    change: |config| {
        let config = steps(config, FINETUNING);
        TrainConfig {
            lr: config.lr / 4.0,
            min_lr: config.min_lr / 4.0,
            muon_lr: config.muon_lr / 4.0,
            ..config
        }
    },
    starts_from: Some(PRETRAINED.folder),
    band: NO_BAND,
};

/// The default recipe of `train`, with other steps.
fn steps(config: TrainConfig, steps: u64) -> TrainConfig {
    TrainConfig {
        steps,
        eval_every: 50,
        save_every: steps,
        ..config.with_optimizer(Optimizer::Muon)
    }
}

/// What `scripts/pretraining_text.py` writes, below the folder of lessons.
const TEXT: &str = "day-12-text.txt";

/// The text in its place: not of the plays' language at all.
const STAND_IN: &str = include_str!("../../../assets/rust.txt");

/// Bytes of the windows that no validation text may share with what a model is pretrained on.
const WINDOW: usize = 50;

/// By how much finetuning must be below training from scratch for as many steps, in nats per token.
const GAIN: f64 = 0.05;

/// Sizes of the GPT-3 paper's table 2.1, with the parameters that it gives.
const GPT3: [(&str, Preset, &str); 8] = [
    ("gpt3-small", Preset::Gpt3Small, "125M"),
    ("gpt3-medium", Preset::Gpt3Medium, "350M"),
    ("gpt3-large", Preset::Gpt3Large, "760M"),
    ("gpt3-xl", Preset::Gpt3Xl, "1.3B"),
    ("gpt3-2.7b", Preset::Gpt3B2_7, "2.7B"),
    ("gpt3-6.7b", Preset::Gpt3B6_7, "6.7B"),
    ("gpt3-13b", Preset::Gpt3B13, "13B"),
    ("gpt3-175b", Preset::Gpt3B175, "175B"),
];

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    let is_here = workspace.folder(TEXT).exists();
    let text = large_text(workspace)?;
    let unseen = workspace.text(Split::Val);
    let shared = || shared_windows(&text, unseen, WINDOW);
    page.figure("text.txt", || {
        let source = match is_here {
            true => format!("the larger text is {}", workspace.folder(TEXT).display()),
            false => format!(
                "{} is not here, so what follows is learned from a stand-in, Rust code:\nit has little to teach about plays. To make the larger text: python3 scripts/pretraining_text.py",
                workspace.folder(TEXT).display()
            ),
        };
        Ok(format!(
            "{source}\n\nbytes of it                        {:>9}\nbytes of the small training text   {:>9}\n\
             windows of {WINDOW} bytes of the validation text, {}, that are in it: {}\n",
            text.len(),
            workspace.text(Split::Train).len(),
            unseen.len().saturating_sub(WINDOW - 1),
            shared()
        ))
    })?;
    page.claim(
        "the validation text shares no passage with what the model is pretrained on",
        "shared_windows in src/course/day12.rs",
        || {
            let shared = shared();
            Ok(CheckResult::passes_if(shared == 0, format!("{shared} windows")))
        },
    )?;

    page.figure("pretraining.txt", || {
        let path = workspace.folder("day-12-learned.txt");
        let _made = durable::make_parents(&path)?;
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            durable::write_file(&path, text.as_bytes())?;
        }
        let tokenizer = workspace.tokenizer()?;
        Ok(workspace
            .train_on_corpus(&PRETRAINED, &path, Some(tokenizer))?
            .summary())
    })?;
    page.figure("finetuning.txt", || Ok(workspace.train(&FINETUNED)?.summary()))?;
    page.figure("comparison.txt", || {
        workspace.train(&SCRATCH)?;
        workspace.train(&LONGER)?;
        comparison(workspace)
    })?;
    page.claim(
        "finetuned, the loss is at least 0.05 below that from scratch after as many steps",
        "the training: `lesson 12`",
        || {
            let done = [&FINETUNED, &SCRATCH].map(|recipe| workspace.is_fully_trained(recipe));
            let [Ok(true), Ok(true)] = done else {
                return Ok(CheckResult::Skipped("it needs both models, fully trained".into()));
            };
            if !is_here {
                return Ok(CheckResult::Skipped("a stand-in was learned; see `lesson 12`".into()));
            }
            let [finetuned, scratch] = [&FINETUNED, &SCRATCH].map(|recipe| workspace.results(recipe.folder));
            let (finetuned, scratch) = (finetuned?.val_loss, scratch?.val_loss);
            let measured = format!("{finetuned:.4} against {scratch:.4}");
            Ok(CheckResult::passes_if(finetuned <= scratch - GAIN, measured))
        },
    )?;
    page.figure("losses.svg", || {
        let axes = Axes::new(
            "Validation loss on the small text",
            "step on the small text",
            "nats per token",
        );
        let series = [
            ("finetuned", FINETUNED.folder),
            ("from scratch", SCRATCH.folder),
            ("from scratch, longer", LONGER.folder),
        ];
        let series = series.map(|(name, folder)| {
            let [_, validation] = losses_during(workspace, &[folder])?;
            Ok(Series::new(name, validation.points))
        });
        curves(&axes, &series.into_iter().collect::<Result<Vec<_>>>()?)
    })?;
    page.figure("gap.txt", || gap(workspace))?;
    page.figure("samples.txt", || {
        let of = |recipe: &Recipe| continued(workspace, &workspace.load(recipe.folder)?, "\nKING:\n");
        Ok(before_and_after(&of(&PRETRAINED)?, &of(&FINETUNED)?))
    })?;

    page.figure("gpt3.txt", || {
        let mut out = String::from(
            "             layers  width  heads  head  in the paper     parameters  tokens a step   rate\n",
        );
        for (name, preset, published) in GPT3 {
            let (model, config) = (
                preset.model_config(50257),
                preset.train_config(crate::config::Device::Cpu),
            );
            let count = parameter_count(&Shape::from(&model));
            writeln!(
                out,
                "{name:<12} {:>6} {:>6} {:>6} {:>5}  {published:>12} {count:>14} {:>14}  {}",
                model.layers,
                model.embd,
                model.heads,
                model.embd / model.heads,
                config.tokens_per_step(),
                config.lr
            )?;
        }
        Ok(out)
    })?;
    page.claim(
        "counted by hand, GPT-3's eight sizes have the parameters of the paper's table, within 2 %",
        "parameter_count in src/course/day07.rs, Gpt3 in src/config/gpt3.rs",
        || {
            let mut measured = Vec::new();
            let mut near = true;
            for (name, preset, published) in GPT3 {
                let count = parameter_count(&Shape::from(&preset.model_config(50257))) as f64;
                let (number, unit) = published.split_at(published.len() - 1);
                let published = number.parse::<f64>()? * if unit == "M" { 1e6 } else { 1e9 };
                near &= (count / published - 1.0).abs() < 0.02;
                measured.push(format!("{name} {:.3}", count / published));
            }
            Ok(CheckResult::passes_if(near, measured.join(", ")))
        },
    )
}

/// The larger text, or its stand-in, without characters that the small text does not have: both have one vocabulary.
fn large_text(workspace: &Workspace) -> Result<String> {
    let path: PathBuf = workspace.folder(TEXT);
    let text = match path.exists() {
        true => fs::read_to_string(&path).with_context(|| {
            format!(
                "{} cannot be read; make it again with scripts/pretraining_text.py",
                path.display()
            )
        })?,
        false => STAND_IN.to_owned(),
    };
    let known: HashSet<char> = workspace.text(Split::All).chars().collect();
    Ok(text.chars().filter(|character| known.contains(character)).collect())
}

fn comparison(workspace: &Workspace) -> Result<String> {
    let pretraining = workspace.results(PRETRAINED.folder)?;
    let mut out = String::from("                                    steps on the text        seconds   validation\n");
    out += "                                     large      small   in all           loss\n";
    let row = |recipe: &Recipe, large: Option<&Results>| -> Result<String> {
        let results = workspace.results(recipe.folder)?;
        let (large_steps, large_seconds) = large.map_or((0, 0.0), |large| (large.steps, large.seconds));
        Ok(format!(
            "{:<36} {large_steps:>5} {:>10} {:>8.0} {:>14.4}\n",
            recipe.what,
            results.steps,
            results.seconds + large_seconds,
            results.val_loss
        ))
    };
    out += &format!(
        "{:<36} {:>5} {:>10} {:>8.0} {:>14.4}\n",
        PRETRAINED.what, pretraining.steps, 0, pretraining.seconds, pretraining.val_loss
    );
    out += &row(&FINETUNED, Some(&pretraining))?;
    out += &row(&SCRATCH, None)?;
    out += &row(&LONGER, None)?;
    Ok(out)
}

/// The last training and validation losses of pretraining, and of the longer training on the small text.
fn gap(workspace: &Workspace) -> Result<String> {
    let mut out = String::from("                                     training  validation  difference\n");
    for (name, recipe) in [
        ("on the larger text", &PRETRAINED),
        ("on the small text, as much time", &LONGER),
    ] {
        let mut last = None;
        for line in metrics::read(&Run::open(&workspace.folder(recipe.folder))?)? {
            if let Record::Evaluation(line) = line {
                last = Some((line.train_loss, line.val_loss));
            }
        }
        let (train, val) = last.context("there was no evaluation; train the day again")?;
        writeln!(out, "{name:<36} {train:>8.4} {val:>11.4} {:>11.4}", val - train)?;
    }
    Ok(out)
}
