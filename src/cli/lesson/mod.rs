//! `mlx-gpt lesson`.

mod watch;
mod workbook;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Command, Subcommand, ValueEnum};

use super::signals::Signals;
use super::training_report::TrainingReport;
use crate::config::{DEFAULT_CORPUS, Device, Preset};
use crate::course::{self, overview};
use crate::lessons::claims::{Check, CheckResult};
use crate::lessons::page::{Page, View};
use crate::lessons::workbook::{WORKBOOK_FOLDER, Workbook};
use crate::lessons::workspace::{Interrupted, LESSONS_FOLDER, Workspace, WorkspaceOptions};
use crate::lessons::{Lesson, show_answers};
use crate::terminal::console::{self, fitting};
use crate::train::absolute_corpus;
use workbook::DayOptions;

/// Learn how GPT-2 is built, one day at a time
///
/// Each day is a text with figures that are computed as you read, a model that is trained in one to three minutes, and
/// exercises. Its checkpoint is saved in lessons/day-NN, for `generate` and `eval`. An interrupted day is resumed; a
/// finished day is shown again without training.
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    before_long_help = "\
Examples:

    mlx-gpt lesson list                               what each day teaches, how long it takes, what is done
    mlx-gpt lesson 3                                  the third day
    mlx-gpt lesson 3 --answer                         its exercises with their answers
    mlx-gpt lesson 3 --figures                        what its program computes, without the text
    mlx-gpt lesson check 3                            verify the day's claims
    mlx-gpt lesson start                              a workbook: your own GPT-2, function by function
    mlx-gpt lesson check 3 --mine                     is what you wrote right?
    mlx-gpt lesson 10 --yes                           day 10 with OpenAI's weights, 548 MB to download
    mlx-gpt lesson compare --prompt 'ROMEO:'          one prompt through every day's model
    mlx-gpt generate --checkpoint lessons/day-03      sample from day 3's model"
)]
pub struct Options {
    #[command(subcommand)]
    command: Option<LessonCommand>,
    /// The day, 0 to 14 [default: list the days]
    #[arg(value_name = "DAY", value_parser = parse_day)]
    day: Option<u8>,
    // Declared so that clap validates DAY first and shows its suggestion, not "unexpected argument".
    #[arg(hide = true)]
    trailing: Vec<String>,
    /// Show only the day's exercises, with their answers
    #[arg(long)]
    answer: bool,
    /// Show only what the day's program computes: its figures, and whether its claims hold
    #[arg(long, conflicts_with = "answer")]
    figures: bool,
    /// Leave out of the chapter's code what is yours to write in this workbook [default: my-gpt, where there is one]
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = WORKBOOK_FOLDER)]
    mine: Option<PathBuf>,
    #[command(flatten)]
    workspace: LessonOptions,
}

#[derive(Subcommand)]
enum LessonCommand {
    /// List the days: what each teaches, minutes on this machine, whether it is done
    ///
    /// Minutes are what a day took here or, with a ~, an estimate from the time of one training step, measured now.
    List {
        #[command(flatten)]
        workspace: LessonOptions,
    },
    /// Make a workbook: your own package, in which you write what the days teach
    ///
    /// It has a file a day, whose functions are empty, with a comment that says what goes in. `lesson check DAY --mine` checks
    /// them.
    Start {
        /// A new folder
        #[arg(value_name = "FOLDER", default_value = WORKBOOK_FOLDER)]
        folder: PathBuf,
    },
    /// Verify the day's claims: shapes, equalities, losses; or check your own functions
    Check {
        /// The day, 0 to 14
        #[arg(value_name = "DAY")]
        day: u8,
        /// Check the functions in your workbook
        #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = WORKBOOK_FOLDER)]
        mine: Option<PathBuf>,
        #[command(flatten)]
        workspace: LessonOptions,
    },
    /// Check a day of your workbook at every save
    Watch {
        /// The day, 0 to 14 [default: the one that was written last]
        #[arg(value_name = "DAY")]
        day: Option<u8>,
        /// The workbook's folder
        #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_value = WORKBOOK_FOLDER, default_missing_value = WORKBOOK_FOLDER)]
        mine: PathBuf,
    },
    /// Empty the day's functions in your workbook again; what you wrote is kept beside it
    Reset(DayOptions),
    /// Put the day's solutions into your workbook; what you wrote is kept beside it
    Solution(DayOptions),
    /// Continue one prompt with every day's model, beside their losses
    Compare {
        /// The text to continue
        #[arg(long, value_name = "TEXT", default_value = "\n")]
        prompt: String,
        #[command(flatten)]
        workspace: LessonOptions,
    },
}

/// Presets whose models have a vocabulary of characters: with GPT-2's, a bigram table alone has 2.5 billion numbers.
fn character_level() -> impl TypedValueParser<Value = Preset> {
    PossibleValuesParser::new(["nano", "baby"]).try_map(|name| Preset::from_str(&name, false))
}

#[derive(Args)]
struct LessonOptions {
    /// Folder of all days' checkpoints
    #[arg(long, value_name = "DIR", default_value = LESSONS_FOLDER)]
    out: PathBuf,
    /// Text to train on: a UTF-8 file, or a folder of them [default: Shakespeare's plays, built in]
    #[arg(long, value_name = "PATH")]
    corpus: Option<String>,
    /// Size and recipe that the days' models start from [default: nano on a CPU, baby on a GPU]
    #[arg(long, value_parser = character_level())]
    preset: Option<Preset>,
    /// Training steps of each model instead of the day's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    steps: Option<u64>,
    /// Random seed (initial weights, batches, samples)
    #[arg(long, value_name = "N", default_value_t = 1337)]
    seed: u64,
    /// Where MLX computes [default: its GPU where there is one]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Download what a day needs without asking: OpenAI's GPT-2 for day 10, 548 MB
    #[arg(long)]
    yes: bool,
}

/// Parses a day's number; suggests a command for a word, which is probably a mistyped one.
fn parse_day(word: &str) -> Result<u8, String> {
    if let Ok(day) = word.parse() {
        return Ok(day);
    }
    let commands = LessonCommand::augment_subcommands(Command::new("lesson"));
    let names = commands.get_subcommands().map(Command::get_name);
    let nearest = names
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(match nearest {
        Some((likeness, name)) if likeness > 0.8 => format!("there is no such lesson; did you mean `lesson {name}`?"),
        _ => "a lesson is a day, 0 to 14; `lesson --help` lists the commands".into(),
    })
}

pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(word) = options.trailing.first() {
        super::misuse(
            "lesson",
            format_args!("unexpected argument '{word}' found; lessons are read one at a time"),
        );
    }
    let signals = Signals::register()?;
    let result = match (&options.command, options.day) {
        (Some(LessonCommand::List { workspace }), _) => list(workspace, &signals),
        (Some(LessonCommand::Start { folder }), _) => workbook::start(folder),
        (
            Some(LessonCommand::Check {
                day,
                mine: Some(folder),
                ..
            }),
            _,
        ) => workbook::check(*day, folder),
        (Some(LessonCommand::Check { day, workspace, .. }), _) => check(*day, workspace, &signals),
        (Some(LessonCommand::Watch { day, mine }), _) => watch::watch(*day, mine),
        (Some(LessonCommand::Reset(options)), _) => workbook::reset(options),
        (Some(LessonCommand::Solution(options)), _) => workbook::solution(options),
        (Some(LessonCommand::Compare { prompt, workspace }), _) => compare(prompt, workspace, &signals),
        (None, Some(day)) => show(day, options, &signals),
        (None, None) => list(&options.workspace, &signals),
    };
    match result {
        Err(error) if error.is::<Interrupted>() => Ok(signals.code()),
        done => done,
    }
}

fn show(day: u8, options: &Options, signals: &Signals) -> Result<ExitCode> {
    let lesson = course::find(day)?;
    if options.answer {
        show_answers(lesson)?;
    } else if options.figures {
        report(
            lesson,
            &Page::run(lesson, &options.workspace.open(signals)?, View::Figures)?,
        )?;
    } else {
        let workbook = match &options.mine {
            Some(folder) => Some(Workbook::open(folder)?),
            None => Workbook::open(Path::new(WORKBOOK_FOLDER)).ok(),
        };
        course::run(lesson, &options.workspace.open(signals)?, workbook.as_ref())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(options: &LessonOptions, signals: &Signals) -> Result<ExitCode> {
    let workspace = options.open(signals)?;
    for lesson in course::LESSONS {
        console::print(fitting(&overview::line(lesson, &workspace)?, 4))?;
    }
    workbook::print_progress(Path::new(WORKBOOK_FOLDER))?;
    Ok(ExitCode::SUCCESS)
}

fn check(day: u8, options: &LessonOptions, signals: &Signals) -> Result<ExitCode> {
    let lesson = course::find(day)?;
    report(lesson, &Page::run(lesson, &options.open(signals)?, View::Claims)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what was checked, with a hint where a claim does not hold; then that is an error.
fn report(lesson: &Lesson, checks: &[Check]) -> Result<()> {
    let mut broken = 0;
    for Check {
        statement,
        result,
        hint,
    } in checks
    {
        let (word, measured) = match result {
            CheckResult::Passed(measured) => ("holds ", measured),
            CheckResult::Skipped(why) => ("open  ", why),
            CheckResult::Failed(measured) => ("BROKEN", measured),
        };
        console::print(fitting(&format!("{word}  {statement}: {measured}\n"), 8))?;
        if let CheckResult::Failed(_) = result {
            broken += 1;
            console::print(fitting(&format!("        look at {hint}\n"), 8))?;
        }
    }
    ensure!(broken == 0, "{broken} of the claims of day {} do not hold", lesson.day);
    Ok(())
}

fn compare(prompt: &str, options: &LessonOptions, signals: &Signals) -> Result<ExitCode> {
    overview::compare(&options.open(signals)?, prompt)?;
    Ok(ExitCode::SUCCESS)
}

impl LessonOptions {
    fn open(&self, signals: &Signals) -> Result<Workspace> {
        let device = Device::select_or_current(self.device)?;
        Workspace::new(
            WorkspaceOptions {
                root: self.out.clone(),
                corpus: match &self.corpus {
                    Some(path) => absolute_corpus(path)?,
                    None => DEFAULT_CORPUS.into(),
                },
                preset: self.preset.unwrap_or(Preset::for_device(device)),
                device,
                steps: self.steps,
                seed: self.seed,
                download: self.yes,
            },
            Box::new(TrainingReport::new(signals)),
        )
    }
}
