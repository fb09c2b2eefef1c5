//! Speed of training and generation on this machine, compared with its peak rates.
//!
//! Training is bounded by matrix products ([`machine::sgemm`]), generation by memory bandwidth ([`machine::bandwidth`]), as
//! each token reads every weight once. Both bounds are measured in the same process, through MLX, with as many threads as
//! training uses.

pub mod distributed;
pub mod flops;
pub mod generation;
pub mod machine;
pub mod scaling;
pub mod scaling_plot;
pub mod table;
pub mod timing;
pub mod training;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::config::{Device, Preset, TrainConfig};
use crate::data::dataset::Dataset;
use crate::model::init::parameter_count;
use crate::terminal::progress::Spinner;
use generation::Generation;
use machine::{Machine, Peaks};
use timing::Rounds;
use training::Training;

/// A section of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchSection {
    /// Matrix products and memory, which shares are of
    Machine,
    /// Training steps
    Training,
    /// Writing text
    Generation,
}

/// Options of the benchmark.
pub struct BenchOptions {
    /// The model sizes.
    pub presets: Vec<Preset>,
    /// The sections to run.
    pub sections: Vec<BenchSection>,
    /// How often each measurement is repeated.
    pub rounds: Rounds,
    /// The device to measure.
    pub device: Device,
    /// CPU threads that compute gradients.
    pub threads: usize,
}

/// Results of the benchmark.
#[derive(Serialize)]
pub struct BenchReport {
    /// The machine.
    pub machine: Machine,
    /// Its peak rates, if they were measured.
    pub peaks: Option<Peaks>,
    /// One entry for each preset.
    pub sizes: Vec<Size>,
}

/// Speed of a model size.
#[derive(Serialize)]
pub struct Size {
    /// Name of the preset.
    pub preset: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Of a training step, if that was measured.
    pub training: Option<Training>,
    /// Of generation, if that was measured.
    pub generation: Option<Generation>,
}

/// Runs the benchmark, size by size.
///
/// # Errors
/// A size that this machine's memory cannot hold, or an error of MLX's.
pub fn measure(settings: &BenchOptions) -> Result<BenchReport> {
    let progress = Spinner::start();
    let measures = |part| settings.sections.contains(&part);
    let peaks = measures(BenchSection::Machine).then(|| {
        progress.stage("measuring the machine: matrix products, memory");
        Peaks::measure(settings.threads)
    });
    let peaks = peaks.transpose()?;
    let mut sizes = Vec::with_capacity(settings.presets.len());
    for &preset in &settings.presets {
        let config = TrainConfig {
            threads: settings.threads,
            ..training_shape(preset, settings.device)
        };
        let dataset = Dataset::open(&config.corpus)?;
        let model = preset.model_config(dataset.tokenizer(&config.tokenizer)?.vocab_size());
        let name = name(preset);
        let training = measures(BenchSection::Training).then(|| {
            progress.stage(&format!(
                "measuring {name}: training (the first time on a machine, compiling takes longest)"
            ));
            Training::measure(config, &dataset, settings.rounds, peaks.as_ref())
        });
        let training = training.transpose()?;
        let generation = measures(BenchSection::Generation).then(|| {
            progress.stage(&format!("measuring {name}: generation"));
            Generation::measure(&model, peaks.as_ref())
        });
        sizes.push(Size {
            preset: name,
            parameters: parameter_count(&model),
            training,
            generation: generation.transpose()?,
        });
    }
    Ok(BenchReport {
        machine: Machine::this(settings.device, settings.threads),
        peaks,
        sizes,
    })
}

/// The preset's recipe, with a batch that takes seconds on the device. OpenAI's sizes get llm.c's 4 rows of 64 tokens, for
/// comparison with published figures.
fn training_shape(preset: Preset, device: Device) -> TrainConfig {
    let recipe = preset.train_config(device);
    match (preset, device) {
        (Preset::Nano, _) | (Preset::Baby, Device::Gpu) => recipe,
        (Preset::Baby, Device::Cpu) => TrainConfig {
            batch_size: 8,
            ..recipe
        },
        _ => TrainConfig {
            batch_size: 4,
            grad_accum: 1,
            context: 64,
            ..recipe
        },
    }
}

fn name(preset: Preset) -> String {
    preset
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().into())
}
