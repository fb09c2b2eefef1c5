//! The command line: options to library calls, nothing else. `docs/cli.md` is made from the comments here.
//!
//! ```
//! let names: Vec<String> = mlx_gpt::cli::command()
//!     .get_subcommands()
//!     .map(|command| command.get_name().to_owned())
//!     .collect();
//! assert!(names.contains(&"train".to_owned()));
//! ```

mod bench;
mod clock;
mod command;
mod completions;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod import;
#[cfg(feature = "lessons")]
mod lesson;
mod messages;
mod output;
mod recipes;
mod runs;
mod scaling;
mod settings;
mod signals;
mod speedrun;
mod sweep;
mod tokenizer;
mod train;
mod training_report;

use std::fmt::Display;
use std::panic;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{FromArgMatches, Parser, Subcommand};

pub use command::command;

use crate::tokenizer::panic_is_caught;

/// What `--version` says: this program's version and that of the MLX it is linked with.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (MLX ", env!("MLX_VERSION"), ")");

/// Builds, trains and samples GPT-2 from scratch on Apple's MLX.
///
/// Start with `mlx-gpt train`, which trains a small GPT on Shakespeare in minutes, then `mlx-gpt generate`.
///
/// Results go to standard output, progress to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
/// 130, 143 or 129 stopped by Ctrl-C, SIGTERM or a closed terminal after a save. Further signals are the same request;
/// only a Ctrl-C more than two seconds after an earlier one stops at once.
#[derive(Parser)]
#[command(name = "mlx-gpt", version = VERSION, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(Box<train::Options>),
    Generate(generate::Options),
    Eval(eval::Options),
    Export(export::Options),
    Import(import::Options),
    #[cfg(feature = "lessons")]
    Lesson(lesson::Options),
    Data(data::Options),
    Tokenizer(tokenizer::Options),
    Runs(runs::Options),
    Bench(bench::Options),
    Doctor(doctor::Options),
    Completions(completions::Options),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    say_only_panics_that_are_not_caught();
    messages::show();
    let matches = command().get_matches();
    let Cli { command } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    signals::outlive_file_limits();
    let result = match command {
        Command::Train(options) => train::run(*options),
        Command::Generate(options) => generate::run(&options),
        Command::Eval(options) => eval::run(&options),
        Command::Export(options) => export::run(&options),
        Command::Import(options) => import::run(&options),
        #[cfg(feature = "lessons")]
        Command::Lesson(options) => lesson::run(&options),
        Command::Data(options) => data::run(&options),
        Command::Tokenizer(options) => tokenizer::run(&options),
        Command::Runs(options) => runs::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Completions(options) => completions::run(&options),
    };
    result.unwrap_or_else(|error| output::failure(&error))
}

/// Ends the program as clap does when a command is used in a way that it does not know.
fn misuse(subcommand: &str, message: impl Display) -> ! {
    let mut command = command();
    command.build();
    let error = |command: &mut clap::Command| command.error(ErrorKind::UnknownArgument, &message);
    match command.find_subcommand_mut(subcommand) {
        Some(subcommand) => error(subcommand).exit(),
        None => error(&mut command).exit(),
    }
}

/// Some calls into other libraries catch panics and make errors of them, which are said once, as errors.
fn say_only_panics_that_are_not_caught() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !panic_is_caught() {
            before(panic);
        }
    }));
}
