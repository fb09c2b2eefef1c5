//! Day 8: training in detail: the step, the machine, failure modes.

use anyhow::Result;

use super::day07::NANO;
use super::{day08_fitting, day08_machine, day08_optimizer};
use crate::checkpoint::run::Run;
use crate::config::TrainConfig;
use crate::lessons::claims::lower_loss;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;
use crate::lessons::{Lesson, Recipe};
use crate::train::metrics::{self, Record};

/// Day 8.
pub const LESSON: Lesson = Lesson {
    day: 8,
    title: "Training for real",
    teaches: "AdamW, schedule, clipping, accumulation; compiled steps; over- and underfitting; resuming; fair comparisons",
    chapter: include_str!("../../book/src/day-08.md"),
    models: &[FURTHER],
    needs: &[NANO.folder],
    program,
};

fn program(page: &mut Page, workspace: &Workspace) -> Result<()> {
    page.figure("adamw.txt", || day08_optimizer::adamw(workspace))?;
    page.figure("bias.txt", || day08_optimizer::bias(workspace))?;
    page.figure("decay.txt", || day08_optimizer::decay(workspace))?;
    page.figure("schedule.svg", || day08_optimizer::schedule(workspace))?;
    page.figure("clipping.txt", || day08_optimizer::clipping(workspace))?;
    page.figure("accumulation.txt", || day08_optimizer::accumulation(workspace))?;
    page.figure("pytorch.txt", || day08_optimizer::pytorch(workspace))?;
    page.figure("lazy.txt", || day08_machine::lazy(workspace))?;
    page.figure("memory.txt", || day08_machine::memory(workspace))?;
    page.figure("compiled.txt", || day08_machine::compiled(workspace))?;
    page.figure("fitting.svg", || day08_fitting::fitting(workspace))?;
    page.figure("resume.txt", || day08_fitting::resume(workspace))?;
    page.figure("training.txt", || Ok(workspace.train(&FURTHER)?.summary()))?;
    page.figure("losses.svg", || losses(workspace))?;
    page.claim(
        "AdamW by hand equals the library's",
        "AdamW::parameter in src/train/optimizers/adamw.rs",
        || day08_optimizer::adamw_is_by_hand(workspace),
    )?;
    page.claim(
        "weight decay is decoupled from the gradient, and applies to matrices only",
        "AdamW::parameter in src/train/optimizers/adamw.rs",
        || day08_optimizer::decay_is_decoupled(workspace),
    )?;
    page.claim(
        "a clipped gradient's norm is the bound, and one below the bound is unchanged",
        "clip_coefficient in src/train/step/control.rs",
        || day08_optimizer::clipped_norms_are_bounded(workspace),
    )?;
    page.claim(
        "two micro-batches of six rows have the gradients of one batch of twelve",
        "gradient_work in src/train/step/workers.rs",
        || day08_optimizer::accumulated_is_whole(workspace),
    )?;
    page.claim(
        "ten steps of training have PyTorch's losses",
        "UpdateSpec::update in src/train/step/update.rs",
        || day08_optimizer::losses_are_pytorchs(workspace),
    )?;
    page.claim(
        "a clone of an array shares its memory",
        "Array::clone in mlx-rs copies a handle",
        || day08_machine::handles_share_memory(workspace),
    )?;
    page.claim(
        "a compiled step computes the same as an eager one",
        "a compiled function must be pure: src/compute/compiled.rs says why",
        || day08_machine::compiled_is_eager(workspace),
    )?;
    page.claim(
        "a small model memorises a thousand characters, and its validation loss rises",
        "the training step: a correct one can overfit",
        || day08_fitting::overfitted(workspace),
    )?;
    page.claim(
        "a run that was stopped and resumed equals one that was never stopped",
        "Session::resume in src/train/session.rs; batches and masks must be functions of the step",
        || day08_fitting::resumed_is_never_stopped(workspace),
    )?;
    page.claim(
        "the loss is lower than after day 7",
        "the training of both: `lesson 7`, `lesson 8`",
        || lower_loss(workspace, &FURTHER, &NANO),
    )?;
    Ok(())
}

pub(super) const FURTHER: Recipe = Recipe {
    folder: "day-08",
    what: "GPT-2, trained for as long again",
    // Batches are drawn by the seed and the step: with another seed, the model sees others than on day 7.
    change: |config| TrainConfig {
        seed: config.seed.wrapping_add(8),
        ..config
    },
    starts_from: Some(NANO.folder),
    band: (1.80, 1.85),
};

/// Losses of both days' trainings, one after the other.
fn losses(workspace: &Workspace) -> Result<String> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for folder in [NANO.folder, FURTHER.folder] {
        let mut last = 0;
        for line in metrics::read(&Run::open(&workspace.folder(folder))?)? {
            if let Record::Evaluation(line) = line {
                train.push(((before + line.step) as f64, line.train_loss));
                val.push(((before + line.step) as f64, line.val_loss));
                last = line.step;
            }
        }
        before += last;
    }
    let curve = |name: &str, points| Series {
        name: name.into(),
        points,
    };
    let axes = Axes {
        title: "Days 7 and 8, one after the other",
        x: "step",
        y: "nats per token",
        ..Axes::default()
    };
    curves(&axes, &[curve("train", train), curve("validation", val)])
}
