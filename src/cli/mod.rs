//! The command line: parses options and calls the library. `docs/cli.md` is made from the comments here.
//!
//! ```
//! let names: Vec<String> = mlx_gpt::cli::command()
//!     .get_subcommands()
//!     .map(|command| command.get_name().to_owned())
//!     .collect();
//! assert!(names.contains(&"train".to_owned()));
//! ```

mod bench;
mod board;
mod calculate;
mod chat;
mod clock;
mod command;
mod completions;
mod config_args;
mod data;
mod display;
mod distributed;
mod doctor;
mod eval;
mod eval_chat;
mod export;
mod generate;
mod hosts;
mod import;
#[cfg(feature = "lessons")]
mod lesson;
mod messages;
mod output;
mod plan;
mod ranks;
mod recipes;
mod runs;
mod scaling;
#[cfg(feature = "studio")]
mod serve;
mod signals;
mod speedrun;
#[cfg(feature = "studio")]
mod studio;
mod sweep;
mod tokenizer;
mod train;
mod training_report;

use std::fmt::Display;
use std::panic;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use command::command;

use crate::compute::device::disable_tf32;
use crate::tokenizer::panic_is_caught;
use crate::train::OwnTraining;

/// What `--version` prints: this program's version and that of the MLX it is linked with.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (MLX ", env!("MLX_VERSION"), ")");

/// Builds, trains and samples GPT-2 from scratch on Apple's MLX.
///
/// Start with `mlx-gpt train`, which trains a small GPT on Shakespeare in minutes, then `mlx-gpt generate`.
///
/// Results go to standard output, progress to standard error. Exit codes: 0 success, 1 error, 2
/// wrong usage; 130, 143 or 129 stopped by Ctrl-C, SIGTERM or a closed terminal, after saving. Repeated signals are
/// ignored, except a Ctrl-C more than two seconds after an earlier one: it stops at once, without saving.
#[derive(Parser)]
#[command(name = "mlx-gpt", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::Options>),
    Plan(plan::Options),
    Generate(generate::Options),
    Chat(chat::Options),
    Eval(eval::Options),
    Calculate(calculate::Options),
    Board(board::Options),
    Export(export::Options),
    Import(import::Options),
    #[cfg(feature = "lessons")]
    Lesson(lesson::Options),
    Data(data::Options),
    Tokenizer(tokenizer::Options),
    Runs(runs::Options),
    #[cfg(feature = "studio")]
    Serve(serve::Options),
    #[cfg(feature = "studio")]
    Studio(studio::Options),
    Bench(bench::Options),
    Doctor(doctor::Options),
    Completions(completions::Options),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    disable_tf32();
    report_only_uncaught_panics();
    messages::show();
    let matches = command().get_matches();
    let Cli { command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    signals::outlive_file_limits();
    let result = match command {
        Command::Train(options) => train::run(*options),
        Command::Plan(options) => plan::run(&options),
        Command::Generate(options) => generate::run(&options),
        Command::Chat(options) => chat::run(&options),
        Command::Eval(options) => eval::run(&options),
        Command::Calculate(options) => calculate::run(&options),
        Command::Board(options) => board::run(&options),
        Command::Export(options) => export::run(&options),
        Command::Import(options) => import::run(&options),
        #[cfg(feature = "lessons")]
        Command::Lesson(options) => lesson::run(&options),
        Command::Data(options) => data::run(&options),
        Command::Tokenizer(options) => tokenizer::run(&options),
        Command::Runs(options) => runs::run(&options),
        #[cfg(feature = "studio")]
        Command::Serve(options) => serve::run(&options),
        #[cfg(feature = "studio")]
        Command::Studio(options) => studio::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completions(options) => completions::run(&options),
    };
    result.unwrap_or_else(|error| output::report_error(&error))
}

/// Runs the command `train`, with a model and an optimizer of one's own, and these options of it.
pub fn train_own(options: &[String], own: Box<dyn OwnTraining>) -> ExitCode {
    #[derive(Parser)]
    struct OwnCli {
        #[command(flatten)]
        options: train::Options,
    }
    disable_tf32();
    report_only_uncaught_panics();
    messages::show();
    signals::outlive_file_limits();
    let name = String::from("train");
    let matches = command::like_train(OwnCli::command()).get_matches_from([&name].into_iter().chain(options));
    let OwnCli { options } = OwnCli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    train::train_with(options, Some(own)).unwrap_or_else(|error| output::report_error(&error))
}

/// Exits as clap does for wrong usage of a command.
fn misuse(subcommand: &str, message: impl Display) -> ! {
    let mut command = command();
    command.build();
    let error = |command: &mut clap::Command| command.error(ErrorKind::UnknownArgument, &message);
    match command.find_subcommand_mut(subcommand) {
        Some(subcommand) => error(subcommand).exit(),
        None => error(&mut command).exit(),
    }
}

/// Panics in some calls into other libraries are caught and turned into errors: those are reported once, as errors.
fn report_only_uncaught_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !panic_is_caught() {
            before(panic);
        }
    }));
}
