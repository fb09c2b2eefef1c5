//! Conventions of all commands: short options, and help that begins with examples.

use clap::{Command, CommandFactory};

use super::Cli;

/// Short forms of the five most used options, the same in every command.
const SHORT_OPTIONS: [(&str, char); 5] = [
    ("checkpoint", 'c'),
    ("out", 'o'),
    ("prompt", 'p'),
    ("steps", 's'),
    ("max-new-tokens", 'n'),
];

/// The options of `train` and `plan` that `-h` lists; `--help` lists them all.
const TRAIN_SHORT_HELP: [&str; 17] = [
    "preset",
    "corpus",
    "tokenizer",
    "init-from",
    "out",
    "resume",
    "minutes",
    "steps",
    "batch-size",
    "context",
    "layers",
    "heads",
    "embd",
    "lr",
    "device",
    "json",
    "help",
];

/// Examples, which are a command's `before_long_help`, between usage and options.
const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";

/// The command line as a `clap` command.
pub fn command() -> Command {
    let few = Cli::command().mut_subcommand("train", list_few_in_short_help);
    apply_conventions(few.mut_subcommand("plan", list_few_in_short_help))
}

/// A command with the options of `train`, by the same conventions.
pub fn like_train(command: Command) -> Command {
    apply_conventions(list_few_in_short_help(command))
}

fn list_few_in_short_help(train: Command) -> Command {
    train.mut_args(|arg| {
        let listed = TRAIN_SHORT_HELP.iter().any(|&name| arg.get_long() == Some(name));
        arg.hide_short_help(!listed)
    })
}

fn apply_conventions(command: Command) -> Command {
    let command = command.help_template(TEMPLATE).mut_args(|arg| {
        let letter = SHORT_OPTIONS.iter().find(|(name, _)| arg.get_long() == Some(name));
        match letter {
            Some(&(_, letter)) => arg.short(letter),
            None => arg,
        }
    });
    command.mut_subcommands(apply_conventions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_that_clap_can_read() {
        command().debug_assert();
        let own = like_train(Cli::command().find_subcommand("train").unwrap().clone());
        own.clone().debug_assert();
        assert!(own.get_arguments().any(|arg| arg.get_short() == Some('o')));
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
        for (name, _) in SHORT_OPTIONS {
            assert!(all.contains(&name), "{name}");
        }
        let both = ["train", "plan"].map(|name| command.find_subcommand(name).unwrap());
        for name in TRAIN_SHORT_HELP {
            assert!(both.iter().any(|command| longs(command).contains(&name)), "{name}");
        }
    }
}
