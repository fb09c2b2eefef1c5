//! The options of `train` that set keys of [`TrainConfig`], one option for each key.

use anyhow::Result;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches};
use toml::Table;

use crate::config::{ConfigOverrides, Device, Preset, TrainConfig};

/// Those that were given on the command line.
pub struct ConfigArgs(ArgMatches);

impl ConfigArgs {
    /// Their values, by the key of each.
    ///
    /// # Errors
    /// None in practice: clap has read the same values once already.
    pub fn overrides(&self) -> Result<ConfigOverrides> {
        let mut config = Preset::Nano.train_config(Device::Cpu); // any preset: what was not given is left out below
        config.update_from_arg_matches(&self.0)?;
        let all = Table::try_from(&config)?.into_iter();
        let given = all.filter(|(key, _)| self.0.try_contains_id(key).unwrap_or(false));
        Ok(given.collect::<Table>().into())
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self(matches.clone()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0 = matches.clone();
        Ok(())
    }
}

impl Args for ConfigArgs {
    fn augment_args(command: Command) -> Command {
        TrainConfig::augment_args_for_update(command) // "for update": no option is required
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
