//! What all commands have in common: short options, and a help that begins with examples.

use clap::{Command, CommandFactory};

use super::Cli;

/// Letters of the five options that are typed most. A letter is the same option in every command that has it.
const SHORT: [(&str, char); 5] = [
    ("checkpoint", 'c'),
    ("out", 'o'),
    ("prompt", 'p'),
    ("steps", 's'),
    ("max-new-tokens", 'n'),
];

/// The options of `train` that `-h` lists; `--help` lists them all.
const TRAIN_IN_SHORT: [&str; 16] = [
    "preset",
    "corpus",
    "tokenizer",
    "init-from",
    "out",
    "resume",
    "config",
    "steps",
    "batch-size",
    "context",
    "layers",
    "heads",
    "embd",
    "lr",
    "device",
    "help",
];

/// Examples, which are a command's `before_long_help`, between usage and options.
const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";

/// The command line as clap has it.
pub fn command() -> Command {
    let command = Cli::command().mut_subcommand("train", |train| {
        train.mut_args(|arg| {
            let listed = TRAIN_IN_SHORT.iter().any(|&name| arg.get_long() == Some(name));
            arg.hide_short_help(!listed)
        })
    });
    uniform(command)
}

fn uniform(command: Command) -> Command {
    let command = command.help_template(TEMPLATE).mut_args(|arg| {
        let letter = SHORT.iter().find(|(name, _)| arg.get_long() == Some(name));
        match letter {
            Some(&(_, letter)) => arg.short(letter),
            None => arg,
        }
    });
    command.mut_subcommands(uniform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_that_clap_can_read() {
        command().debug_assert();
    }

    /// An option that was renamed would lose its letter, or its line in `train -h`, without a word.
    #[test]
    fn the_lists_name_options_that_exist() {
        fn longs(command: &Command) -> Vec<&str> {
            let own = command.get_arguments().filter_map(|arg| arg.get_long());
            own.chain(command.get_subcommands().flat_map(longs)).collect()
        }
        let mut command = command();
        command.build();
        let all = longs(&command);
        for (name, _) in SHORT {
            assert!(all.contains(&name), "{name}");
        }
        let train = command.find_subcommand("train").unwrap();
        for name in TRAIN_IN_SHORT {
            assert!(longs(train).contains(&name), "{name}");
        }
    }
}
