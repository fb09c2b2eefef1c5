//! `mlx-gpt plan`, and the plan of `mlx-gpt train --minutes`.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::config_args::ConfigArgs;
use super::train::open_dataset;
use crate::config::{Architecture, ConfigOverrides, Device, Preset, TrainConfig};
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::measure::budget::choice::Candidate;
use crate::measure::budget::{Survey, configured, ensure_open, given, quality, survey};
use crate::terminal::amount::amount;
use crate::terminal::console::{self, say};
use crate::train::configure;

/// Minutes that `plan` plans for unless told otherwise.
const MINUTES: f64 = 10.0;

/// Show what train --minutes would train on a text
///
/// Measures this machine with the text for some seconds, and prints what each size of model would come to in the time: its steps,
/// how often it would see the text, and the loss to expect. Trains nothing. The line with an arrow is what `train --minutes` takes.
#[derive(Args)]
#[command(before_long_help = "\
Examples:

    mlx-gpt plan --minutes 30                        Shakespeare's plays
    mlx-gpt plan --corpus notes/ --minutes 5         your own text
    mlx-gpt plan --minutes 30 --json                 for programs")]
pub struct Options {
    /// Print one JSON object: minutes, the text, and the sizes, one of them chosen
    #[arg(long)]
    json: bool,
    /// Hours instead of --minutes
    #[arg(long, value_name = "H", conflicts_with = "minutes", allow_negative_numbers = true)]
    hours: Option<f64>,
    #[command(flatten)]
    overrides: ConfigArgs,
}

/// What is to be trained in a time.
pub struct Planned {
    survey: Survey,
    /// The configuration that trains the best of it.
    pub config: TrainConfig,
    /// Bytes of text per token, if known.
    bytes_per_token: Option<f64>,
    minutes: f64,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let mut given = options.overrides.overrides()?;
    given.set_default("minutes", options.hours.map_or(MINUTES, |hours| 60.0 * hours));
    let file = ConfigOverrides::default();
    let (planned, _) = plan(&mut given, &file, None, started)?;
    if options.json {
        console::print(format_args!("{}\n", planned.json()))?;
    } else {
        planned.say_text();
        console::print(planned.table())?;
        console::print(format_args!("\n{}\n", planned.sentence()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Plans the training that `options` and a `file` with minutes ask for, and opens its text.
///
/// # Errors
/// Options that do not go with minutes, a text that cannot be trained on, too few minutes for anything.
pub fn plan(
    options: &mut ConfigOverrides,
    file: &ConfigOverrides,
    preset: Option<Preset>,
    started: Instant,
) -> Result<(Planned, Dataset)> {
    ensure_open(options, file)?;
    if !file.has("arch") {
        options.set_default("arch", "modern");
    }
    // The recipe of nano, which the law was fitted with, also on a GPU.
    let (mut config, _) = configure(options, file, Some(preset.unwrap_or(Preset::Nano)))?;
    let minutes = config.minutes.context("minutes")?;
    config.validate()?;
    config.device.select()?;
    let dataset = open_dataset(&config)?;
    let named = options.has("tokenizer") || file.has("tokenizer");
    if let (false, Some(own)) = (named, dataset.own_tokenizer()) {
        config.tokenizer = own;
    }
    let sizes = given(options, file, preset.is_some(), &config);
    say(format_args!(
        "plan     measuring this machine with the text, for some seconds"
    ));
    let survey = survey(&config, sizes, &dataset, minutes, || started.elapsed())?;
    let best = survey.best.with_context(|| {
        format!("{minutes} minutes are too few to train anything with on this machine; give more --minutes")
    })?;
    let config = configured(&config, &survey.candidates[best], options, file);
    let train = dataset.tokens_with(&dataset.tokenizer(&config.tokenizer)?, Split::Train, config.special)?;
    let bytes_per_token = train.bytes.map(|bytes| bytes as f64 / train.tokens.len() as f64);
    let planned = Planned {
        survey,
        config,
        bytes_per_token,
        minutes,
    };
    Ok((planned, dataset))
}

impl Planned {
    fn best(&self) -> Option<&Candidate> {
        self.survey.best.map(|best| &self.survey.candidates[best])
    }

    /// Says what will be trained, what it will come to, and what cannot be done with it.
    pub fn say(&self) {
        self.say_text();
        say(format_args!("plan     {}", self.sentence()));
        if self.config.device == Device::Gpu {
            say(format_args!(
                "note     the expected losses were fitted on CPUs, with small models; on a GPU they are a guess"
            ));
        }
        if self.config.model_config(1).architecture == Architecture::Modern {
            say(format_args!(
                "note     the architecture is modern, which transformers does not open; --arch gpt2 does, at a higher loss"
            ));
        }
    }

    fn say_text(&self) {
        let measured = &self.survey.measured;
        say(format_args!(
            "text     {} training tokens; a short training came to {:.2} nats",
            amount(measured.tokens),
            measured.pilot_loss
        ));
    }

    /// What is chosen, with the loss to expect and how samples will read.
    fn sentence(&self) -> String {
        let Some(best) = self.best() else {
            return String::new();
        };
        let bits = self
            .bytes_per_token
            .map(|bytes| best.loss / std::f64::consts::LN_2 / bytes);
        format!(
            "{} minutes: {} layers, {} heads, {} wide, context {}, about {} steps of {} tokens ({:.1} passes), dropout {}; expected validation loss {:.2} ± {:.2}. {}",
            self.minutes,
            best.size.layers,
            best.size.heads,
            best.size.embd,
            best.size.context,
            best.steps,
            best.size.tokens(),
            best.passes,
            best.dropout,
            best.loss,
            best.band,
            bits.map_or("", quality)
        )
    }

    fn table(&self) -> String {
        let mut table = String::from("  layers heads embd context   ms/step    steps  passes   minutes   loss\n");
        for (index, candidate) in self.survey.candidates.iter().enumerate() {
            let size = &candidate.size;
            table += &format!(
                "{} {:>6} {:>5} {:>4} {:>7} {:>9.1} {:>8} {:>7.1} {:>9} {:>6.2} ± {:.2}\n",
                if self.survey.best == Some(index) { "→" } else { " " },
                size.layers,
                size.heads,
                size.embd,
                size.context,
                1e3 * candidate.step_seconds,
                candidate.steps,
                candidate.passes,
                self.minutes,
                candidate.loss,
                candidate.band
            );
        }
        table
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "minutes": self.minutes,
            "training_tokens": self.survey.measured.tokens,
            "pilot_loss": self.survey.measured.pilot_loss,
            "fitted_device": self.survey.measured.is_fitted_device,
            "sizes": self.survey.candidates,
            "chosen": self.best(),
        })
    }
}
