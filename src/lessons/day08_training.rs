//! Day 8: training in detail: the step, the machine, failure modes.

use anyhow::Result;

use super::claims::{Claim, lower_loss};
use super::day07_gpt2::NANO;
use super::pictures::{Axes, Series, curves};
use super::workspace::Workspace;
use super::{Figure, Lesson, Recipe, day08_fitting, day08_machine, day08_optimizer};
use crate::checkpoint::run::Run;
use crate::config::TrainConfig;
use crate::train::metrics::{self, Record};

/// Day 8.
pub const LESSON: Lesson = Lesson {
    day: 8,
    title: "Training for real",
    teaches: "AdamW, schedule, clipping, accumulation; compiled steps; over- and underfitting; resuming; fair comparisons",
    chapter: include_str!("../../book/src/day-08.md"),
    figures: &[
        Figure {
            name: "adamw.txt",
            render: day08_optimizer::adamw,
        },
        Figure {
            name: "bias.txt",
            render: day08_optimizer::bias,
        },
        Figure {
            name: "decay.txt",
            render: day08_optimizer::decay,
        },
        Figure {
            name: "schedule.svg",
            render: day08_optimizer::schedule,
        },
        Figure {
            name: "clipping.txt",
            render: day08_optimizer::clipping,
        },
        Figure {
            name: "accumulation.txt",
            render: day08_optimizer::accumulation,
        },
        Figure {
            name: "pytorch.txt",
            render: day08_optimizer::pytorch,
        },
        Figure {
            name: "lazy.txt",
            render: day08_machine::lazy,
        },
        Figure {
            name: "memory.txt",
            render: day08_machine::memory,
        },
        Figure {
            name: "compiled.txt",
            render: day08_machine::compiled,
        },
        Figure {
            name: "fitting.svg",
            render: day08_fitting::fitting,
        },
        Figure {
            name: "resume.txt",
            render: day08_fitting::resume,
        },
        Figure {
            name: "training.txt",
            render: |workspace| Ok(workspace.train(&FURTHER)?.summary()),
        },
        Figure {
            name: "losses.svg",
            render: losses,
        },
    ],
    models: &[FURTHER],
    needs: &[NANO.folder],
    claims: &[
        Claim {
            statement: "AdamW by hand equals the library's",
            hint: "AdamW::parameter in src/train/optimizers/adamw.rs",
            verify: day08_optimizer::adamw_is_by_hand,
        },
        Claim {
            statement: "weight decay is decoupled from the gradient, and applies to matrices only",
            hint: "AdamW::parameter in src/train/optimizers/adamw.rs",
            verify: day08_optimizer::decay_is_decoupled,
        },
        Claim {
            statement: "a clipped gradient's norm is the bound, and one below the bound is unchanged",
            hint: "clip_coefficient in src/train/step/control.rs",
            verify: day08_optimizer::clipped_norms_are_bounded,
        },
        Claim {
            statement: "two micro-batches of six rows have the gradients of one batch of twelve",
            hint: "gradient_work in src/train/step/workers.rs",
            verify: day08_optimizer::accumulated_is_whole,
        },
        Claim {
            statement: "ten steps of training have PyTorch's losses",
            hint: "UpdateSpec::update in src/train/step/update.rs",
            verify: day08_optimizer::losses_are_pytorchs,
        },
        Claim {
            statement: "a clone of an array shares its memory",
            hint: "Array::clone in mlx-rs copies a handle",
            verify: day08_machine::handles_share_memory,
        },
        Claim {
            statement: "a compiled step computes the same as an eager one",
            hint: "a compiled function must be pure: src/compute/compiled.rs says why",
            verify: day08_machine::compiled_is_eager,
        },
        Claim {
            statement: "a small model memorises a thousand characters, and its validation loss rises",
            hint: "the training step: a correct one can overfit",
            verify: day08_fitting::overfitted,
        },
        Claim {
            statement: "a run that was stopped and resumed equals one that was never stopped",
            hint: "Session::resume in src/train/session.rs; batches and masks must be functions of the step",
            verify: day08_fitting::resumed_is_never_stopped,
        },
        Claim {
            statement: "the loss is lower than after day 7",
            hint: "the training of both: `lesson 7`, `lesson 8`",
            verify: |workspace| lower_loss(workspace, FURTHER.folder, NANO.folder),
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
