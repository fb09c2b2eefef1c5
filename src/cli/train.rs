//! `mlx-gpt train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::clock::stamp;
use super::config_args::ConfigArgs;
use super::plan::plan;
use super::signals::Signals;
use super::training_report::TrainingReport;
use super::{hosts, ranks};
use crate::checkpoint::run::Run;
use crate::checkpoint::runs::{self, RUNS};
use crate::compute::ranks::{Backend, Ranks};
use crate::config::{ConfigOverrides, Preset, TrainConfig};
use crate::data::dataset::Dataset;
use crate::terminal::console::{quoted, say};
use crate::train::{Outcome, OwnTraining, Session, configure, configure_resumed, follow, train};

/// Train a GPT, from scratch or from a checkpoint
///
/// Trains on a text and writes a run: a folder with checkpoints, metrics and a loss curve. A preset sets every option;
/// the file of --config overrides the preset, and options override both. Ctrl-C, SIGTERM and a closed terminal save a
/// checkpoint before they stop training, and --resume continues exactly there. Only a Ctrl-C more than two seconds
/// after an earlier one stops at once; the first one's message says what that loses.
#[derive(Args)]
#[command(
    before_long_help = "\
Examples:

    mlx-gpt train                                   a small GPT on Shakespeare, in minutes
    mlx-gpt train --corpus notes/ --minutes 30      the best model for your own text in that time
    mlx-gpt train --corpus notes/ --steps 5000      for so many steps
    mlx-gpt train --task addition --digits 3        on sums that are made on the fly
    mlx-gpt train --task calculator                 on problems with their working
    mlx-gpt train --init-from runs/x --task calculator --rl grpo
                                                    reward right answers
    mlx-gpt train --init-from runs/x --preferences pairs.jsonl
                                                    prefer chosen answers to rejected ones
    mlx-gpt train --init-from runs/x --chat c.jsonl on conversations: finetune runs/x to chat
    mlx-gpt train --layers 6 --embd 192 --heads 6   another shape
    mlx-gpt train --init-from models/gpt2 --lora-rank 8 --corpus notes/
                                                    fine-tune OpenAI's GPT-2 with low-rank adapters
    mlx-gpt train --resume                          continue the newest run
    mlx-gpt train --resume runs/x --steps 4000      train it longer; the extra steps use min-lr",
    after_long_help = "\
Presets:

                layers  heads  embd  context  batch  steps   lr           dropout
    nano             4      4   128       64     12   2000   4e-3..4e-4   0
    baby             6      6   384      256     64   5000   1e-3..1e-4   0.2
    gpt2            12     12   768     1024    4x8   600000 6e-4..6e-5   0
    gpt2-medium     24     16  1024     1024    4x8   600000 6e-4..6e-5   0
    gpt2-large      36     20  1280     1024    4x8   600000 6e-4..6e-5   0
    gpt2-xl         48     25  1600     1024    4x8   600000 6e-4..6e-5   0
    gpt3-small      12     12   768     2048    4x61  600000 6e-4..6e-5   0
    gpt3-medium     24     16  1024     2048    4x61  600000 3e-4..3e-5   0
    gpt3-large      24     16  1536     2048    4x61  600000 2.5e-4..     0
    gpt3-xl         24     16  2048     2048    4x122 300000 2e-4..2e-5   0
    gpt3-2.7b       32     32  2560     2048    4x122 300000 1.6e-4..     0
    gpt3-6.7b       32     32  4096     2048    4x244 150000 1.2e-4..     0
    gpt3-13b        40     40  5120     2048    4x244 150000 1e-4..1e-5   0
    gpt3-175b       96     96 12288     2048    4x391  93750 6e-5..6e-6   0

    gpt3-*: table 2.1 of Brown et al. 2020, without attention in bands; warm-up of 375 million tokens,
    cosine to a tenth of the rate over 260 of 300 billion tokens; 175b needs terabytes of memory.
    All: weight decay 0.1, gradients clipped to norm 1, seed 1337.
    nano and baby: characters, warm-up 100 steps, beta2 0.99, evaluated and saved every 250 steps;
    the others: GPT-2's tokenizer, 2000 (gpt3-*: 375 million tokens), 0.95, 1000.
    nano: Muon at 0.02 for the blocks' matrices, AdamW as above for the rest, warm-up 20. With
    --optimizer adamw it is nanoGPT's recipe for CPUs, 1e-3..1e-4, warm-up 100.

    With --init-from and no --preset, a model of 50 million parameters or more is fine-tuned: 200 steps of
    4 x 256 tokens, lr 1e-4..1e-5 (low-rank adapters 2e-4..2e-5), warm-up 20, evaluated every 50 and saved
    every 100 steps.

    --rl and --preferences: 200 steps with AdamW, no weight decay and no dropout, warm-up 10, evaluated and saved
    every 50 steps; --rl: 16 problems of --group-size answers a step, lr 2e-4..2e-5; --preferences: 8 pairs,
    1e-4..1e-5. clip_range = 0.2 is set in the file of --config.

    The single components of --arch modern are set in the file of --config, not by options:

    position = \"learned\" or \"rotary\"              norm = \"layer\" or \"rms\"
    activation = \"gelu\", \"relu2\" or \"swiglu\"     qk_norm, tie_head = true or false
    kv_heads = 2 (key/value heads, each shared by a group of query heads)
    convolution = 3 (tokens that the convolution before each block takes in; 0: none)
    ngram_rows = 32768 (of the table of hashed n-grams, a power of two; 0: none)
    ngram_size = 4 (tokens of the longest n-grams)
    ngram_decay = 1.0 (of the table, in a pass over the training text; 0: none)
    windows = \"shuffled\" or \"random\" (rows of batches: passes over the text, or from anywhere in it)"
)]
pub struct Options {
    /// Size and recipe to start from [default: nano on a CPU, baby on a GPU]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Folder of the run [default: runs/CORPUS-PRESET-TIME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume a run from its newest checkpoint [without DIR: the one in --out, or the newest]
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with_all = ["preset", "init_from", "config"])]
    resume: Option<Option<PathBuf>>,
    /// Configuration file: the options below as TOML keys, such as a run's config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Hours instead of --minutes
    #[arg(
        long,
        value_name = "H",
        conflicts_with = "minutes",
        allow_negative_numbers = true,
        help_heading = "Training"
    )]
    hours: Option<f64>,
    /// How the processes that train together are connected
    #[arg(
        long,
        value_enum,
        value_name = "BACKEND",
        default_value = "any",
        help_heading = "Several machines"
    )]
    distributed: Backend,
    /// Start a process on each host of this file, [{"ssh": "mac1", "ips": ["10.0.0.1"]}, …], and train on all together
    #[arg(long, value_name = "FILE", help_heading = "Several machines")]
    hosts: Option<PathBuf>,
    #[command(flatten)]
    overrides: ConfigArgs,
}

pub fn run(options: Options) -> Result<ExitCode> {
    train_with(options, None)
}

/// The same with a model and an optimizer of one's own, if any.
pub fn train_with(options: Options, own: Option<Box<dyn OwnTraining>>) -> Result<ExitCode> {
    let started = Instant::now();
    let signals = Signals::register()?;
    if let Some(file) = &options.hosts {
        return hosts::launch(&hosts::read(file)?, &signals);
    }
    match ranks::join(options.distributed)? {
        None => train_among(None, options, own, &signals, started),
        Some(ranks) => {
            let result = train_among(Some(Rc::clone(&ranks)), options, own, &signals, started);
            ranks::finish(&ranks, result)
        }
    }
}

/// As one rank of several, if there are any.
fn train_among(
    ranks: Option<Rc<Ranks>>,
    options: Options,
    own: Option<Box<dyn OwnTraining>>,
    signals: &Signals,
    started: Instant,
) -> Result<ExitCode> {
    let file = match &options.config {
        Some(path) => ConfigOverrides::read(path)?,
        None => ConfigOverrides::default(),
    };
    let mut given = options.overrides.overrides()?;
    if let Some(hours) = options.hours {
        given.set_default("minutes", 60.0 * hours);
    }
    // A run's config.toml has minutes and what they chose.
    let chosen = file.has("minutes") && file.has("steps");
    let on_time = given.has("minutes") || (file.has("minutes") && !chosen);
    ensure!(!on_time || own.is_none(), "--minutes are for models of this program");
    ensure!(
        !on_time || ranks.is_none(),
        "--minutes and --hours are planned for one machine; give --steps, or start one process, without --hosts or mpirun"
    );
    if let Some(ranks) = &ranks {
        let resumes = options.resume.is_some();
        let settings = format!("{:?} {resumes} {} {}", options.preset, given.shared(), file.shared());
        ranks
            .ensure_same("other options", settings)
            .context("start all with the same options")?;
        if !ranks.is_first() {
            return Ok(match follow(ranks, &given, signals)? {
                Outcome::Finished => ExitCode::SUCCESS,
                Outcome::Stopped => signals.code_or_of_others(),
            });
        }
    }
    let mut session = match &options.resume {
        Some(folder) => resume(ranks, folder.as_deref().or(options.out.as_deref()), &given)?,
        None if on_time => {
            let (planned, dataset) = plan(&mut given, &file, options.preset, started)?;
            planned.say();
            let preset = options.preset.unwrap_or(Preset::Nano);
            let folder = options
                .out
                .unwrap_or_else(|| default_folder(&dataset.name(), preset, SystemTime::now()));
            Session::start(planned.config, &dataset, &folder)?
        }
        None => {
            let (mut config, preset) = configure(&given, &file, options.preset)?;
            config.device.select()?;
            let dataset = open_dataset(&config)?;
            let named = given.has("tokenizer") || file.has("tokenizer");
            if let (false, Some(own)) = (named, dataset.own_tokenizer()) {
                config.tokenizer = own;
            }
            let folder = options
                .out
                .unwrap_or_else(|| default_folder(&dataset.name(), preset, SystemTime::now()));
            Session::start_among(ranks, config, &dataset, &folder)?
        }
    };
    session.use_clock(Box::new(move || started.elapsed()));
    if let Some(own) = own {
        session = session.with_own(own)?;
    }
    Ok(match train(&mut session, &mut TrainingReport::new(signals))? {
        Outcome::Finished => ExitCode::SUCCESS,
        Outcome::Stopped => signals.code_or_of_others(),
    })
}

fn resume(ranks: Option<Rc<Ranks>>, folder: Option<&Path>, overrides: &ConfigOverrides) -> Result<Session> {
    let run = match folder {
        Some(folder) => open_run(folder)?,
        None => runs::newest(Path::new(RUNS))?,
    };
    let config = configure_resumed(overrides, &run.config()?)?;
    config.device.select()?;
    let dataset = open_dataset(&config)?;
    Session::resume_among(ranks, run, config, &dataset)
}

/// A run's folder, or its newest checkpoint's.
fn open_run(folder: &Path) -> Result<Run> {
    let Some(run) = runs::run_of(folder) else {
        return Run::open(folder);
    };
    ensure!(
        run.newest_checkpoint()?.canonicalize()? == folder.canonicalize()?,
        "{} is an older checkpoint of its run; resume from the newest with --resume {}, or start a new run from this one with --init-from",
        folder.display(),
        quoted(&run.folder)
    );
    Ok(run)
}

pub fn open_dataset(config: &TrainConfig) -> Result<Dataset> {
    let dataset = Dataset::of_config(config)?;
    for note in dataset.notes() {
        say(format_args!("note     corpus {}: {note}", config.corpus));
    }
    Ok(dataset)
}

fn default_folder(corpus: &str, preset: Preset, now: SystemTime) -> PathBuf {
    let preset = clap::ValueEnum::to_possible_value(&preset).map_or_else(String::new, |value| value.get_name().into());
    let name = format!("{corpus}-{preset}-{}", stamp(now));
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut folders = std::iter::once(name.clone())
        .chain(numbered)
        .map(|name| Path::new(RUNS).join(name));
    folders
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| Path::new(RUNS).join(&name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_is_far_off_names_a_run_all_the_same() {
        let name = |seconds| {
            default_folder(
                "notes",
                Preset::Nano,
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            )
        };
        assert_eq!(name(0), Path::new("runs/notes-nano-19700101-000000"));
        assert_eq!(name(300_000_000_000), Path::new("runs/notes-nano-114760815-052000"));
    }
    /// The training that a command's options configure on a CPU, beginning at random weights.
    #[cfg(feature = "lessons")]
    fn configured(command: &str) -> TrainConfig {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            options: Options,
        }
        let program: Program = clap::Parser::try_parse_from(command.split_whitespace()).unwrap();
        let given = program.options.overrides.overrides().unwrap();
        let none = ConfigOverrides::default();
        given.resolve(&none, None, crate::config::Device::Cpu, None).unwrap().0
    }

    #[cfg(feature = "lessons")]
    #[test]
    fn the_chapters_say_the_commands_that_train_what_the_days_train() {
        for lesson in crate::course::LESSONS.iter().filter(|lesson| lesson.day <= 8) {
            let spans = lesson.chapter.split('`').skip(1).step_by(2);
            let commands = spans.filter_map(|span| span.strip_prefix("mlx-gpt train "));
            let configs: Vec<TrainConfig> = commands
                .map(|options| options.replace("--init-from lessons/day-07", ""))
                .filter(|options| !options.contains('…') && !options.contains("MODEL") && !options.contains("lessons/"))
                .map(|options| configured(&format!("train {options}")))
                .collect();
            for recipe in lesson.models {
                let expected = (recipe.change)(Preset::Nano.train_config(crate::config::Device::Cpu));
                assert!(configs.contains(&expected), "{}: {configs:#?}", recipe.folder);
            }
        }
    }
}
