//! Day 8: training for real. What a step is made of, what the machine does, what can go wrong.

use anyhow::Result;

use super::day07_gpt2::NANO;
use super::fact::{Fact, lower_loss};
use super::lab::Lab;
use super::pictures::{Axes, Curve, curves};
use super::{Lesson, Recipe, Show, day08_fitting, day08_machine, day08_optimizer};
use crate::checkpoint::run::Run;
use crate::config::TrainConfig;
use crate::train::metrics::{self, Line};

pub const LESSON: Lesson = Lesson {
    day: 8,
    title: "Training for real",
    teaches: "AdamW, schedule, clipping, accumulation; compiled steps; over- and underfitting; resuming; fair comparisons",
    chapter: include_str!("../../book/src/day-08.md"),
    shows: &[
        Show {
            name: "adamw.txt",
            make: day08_optimizer::adamw,
        },
        Show {
            name: "bias.txt",
            make: day08_optimizer::bias,
        },
        Show {
            name: "decay.txt",
            make: day08_optimizer::decay,
        },
        Show {
            name: "schedule.svg",
            make: day08_optimizer::schedule,
        },
        Show {
            name: "clipping.txt",
            make: day08_optimizer::clipping,
        },
        Show {
            name: "accumulation.txt",
            make: day08_optimizer::accumulation,
        },
        Show {
            name: "pytorch.txt",
            make: day08_optimizer::pytorch,
        },
        Show {
            name: "lazy.txt",
            make: day08_machine::lazy,
        },
        Show {
            name: "memory.txt",
            make: day08_machine::memory,
        },
        Show {
            name: "compiled.txt",
            make: day08_machine::compiled,
        },
        Show {
            name: "fitting.svg",
            make: day08_fitting::fitting,
        },
        Show {
            name: "resume.txt",
            make: day08_fitting::resume,
        },
        Show {
            name: "training.txt",
            make: |lab| Ok(lab.train(&FURTHER)?.summary()),
        },
        Show {
            name: "losses.svg",
            make: losses,
        },
    ],
    models: &[FURTHER],
    needs: &[NANO.folder],
    facts: &[
        Fact {
            claim: "AdamW by hand equals the library's",
            hint: "AdamW::parameter in src/train/optimizers/adamw.rs",
            verify: day08_optimizer::adamw_is_by_hand,
        },
        Fact {
            claim: "weight decay is decoupled from the gradient, and applies to matrices only",
            hint: "AdamW::parameter in src/train/optimizers/adamw.rs",
            verify: day08_optimizer::decay_is_decoupled,
        },
        Fact {
            claim: "a clipped gradient's norm is the bound, and one below the bound is unchanged",
            hint: "clip_coefficient in src/train/step/control.rs",
            verify: day08_optimizer::clipped_norms_are_bounded,
        },
        Fact {
            claim: "two micro-batches of six rows have the gradients of one batch of twelve",
            hint: "gradient_work in src/train/step/workers.rs",
            verify: day08_optimizer::accumulated_is_whole,
        },
        Fact {
            claim: "ten steps of training have PyTorch's losses",
            hint: "UpdateSpec::update in src/train/step/update.rs",
            verify: day08_optimizer::losses_are_pytorchs,
        },
        Fact {
            claim: "a clone of an array shares its memory",
            hint: "Array::clone in mlx-rs copies a handle",
            verify: day08_machine::handles_share_memory,
        },
        Fact {
            claim: "a compiled step computes the same as an eager one",
            hint: "a compiled function must be pure: src/compute/compiled.rs says why",
            verify: day08_machine::compiled_is_eager,
        },
        Fact {
            claim: "a small model memorises a thousand characters, and gets worse at all others",
            hint: "the training step: it should be able to overfit",
            verify: day08_fitting::overfitted,
        },
        Fact {
            claim: "a run that was stopped and resumed equals one that was never stopped",
            hint: "Session::resume in src/train/session.rs; batches and masks must be functions of the step",
            verify: day08_fitting::resumed_is_never_stopped,
        },
        Fact {
            claim: "the loss is lower than after day 7",
            hint: "the training of both: `lesson 7`, `lesson 8`",
            verify: |lab| lower_loss(lab, FURTHER.folder, NANO.folder),
        },
    ],
};

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

/// Both days' losses as they learned, one after the other.
fn losses(lab: &Lab) -> Result<String> {
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let mut before = 0;
    for folder in [NANO.folder, FURTHER.folder] {
        let mut last = 0;
        for line in metrics::read(&Run::open(&lab.folder(folder))?)? {
            if let Line::Evaluation(line) = line {
                train.push(((before + line.step) as f64, line.train_loss));
                val.push(((before + line.step) as f64, line.val_loss));
                last = line.step;
            }
        }
        before += last;
    }
    let curve = |name: &str, points| Curve {
        name: name.into(),
        points,
    };
    let axes = Axes {
        title: "Days 7 and 8, one after the other",
        x: "step",
        y: "nats per token",
    };
    curves(&axes, &[curve("train", train), curve("validation", val)])
}
