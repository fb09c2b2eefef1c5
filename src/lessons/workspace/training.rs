//! Training of the days' models.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Interrupted, Workspace};
use crate::checkpoint::run::Run;
use crate::config::{DEFAULT_CORPUS, Preset, TrainConfig};
use crate::data::conversations::Conversations;
use crate::data::dataset::Dataset;
use crate::data::preferences::PreferenceData;
use crate::data::tasks::TaskData;
use crate::disk::durable;
use crate::lessons::Recipe;
use crate::lessons::results::Results;
use crate::lessons::world;
use crate::terminal::console::say;
use crate::tokenizer::Tokenizer;
use crate::train::{Outcome, Session, time_of_step, train};

impl Workspace {
    /// The configuration of a day's training.
    ///
    /// # Errors
    /// The checkpoint that it starts from is missing.
    pub fn config(&self, recipe: &Recipe) -> Result<TrainConfig> {
        let mut config = self.config_without_init(recipe);
        if let Some(folder) = recipe.starts_from {
            let folder = fs::canonicalize(self.checkpoint(folder)?)?;
            config.init_from = Some(folder.to_string_lossy().into_owned());
        }
        Ok(config)
    }

    /// The same, without the initial checkpoint.
    fn config_without_init(&self, recipe: &Recipe) -> TrainConfig {
        let mut config = (recipe.change)(TrainConfig {
            corpus: self.settings.corpus.clone(),
            seed: self.settings.seed,
            ..self.settings.preset.train_config(self.settings.device)
        });
        for file in [&mut config.chat, &mut config.preferences].into_iter().flatten() {
            let path = self.folder(file);
            *file = std::path::absolute(&path)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned();
        }
        if let Some(steps) = self.settings.steps {
            config.steps = steps;
            config.warmup = config.warmup.min(steps / 10);
        }
        config
    }

    /// Estimated time of a day's training, from one step whose result is dropped.
    ///
    /// # Errors
    /// A corpus that cannot be trained with.
    pub fn estimate(&self, recipe: &Recipe) -> Result<Duration> {
        let config = TrainConfig {
            rl: None, // without the answers of a step, which need the model that it starts from
            group_size: None,
            ..self.config_without_init(recipe)
        };
        let step = match own_dataset(&config)? {
            Some(dataset) => time_of_step(&config, &dataset)?,
            None => time_of_step(&config, &self.dataset)?,
        };
        Ok(step * config.steps as u32)
    }

    /// Whether the lessons' expected losses apply to this corpus and preset.
    pub fn has_expected_losses(&self) -> bool {
        self.settings.corpus == DEFAULT_CORPUS && self.settings.preset == Preset::Nano
    }

    /// Whether a day's model is fully trained.
    ///
    /// # Errors
    /// It was not trained yet.
    pub fn is_fully_trained(&self, recipe: &Recipe) -> Result<bool> {
        Ok(self.results(recipe.folder)?.steps >= self.whole(recipe).steps)
    }

    /// The configuration of a day's training without the lesson's options.
    fn whole(&self, recipe: &Recipe) -> TrainConfig {
        (recipe.change)(self.settings.preset.train_config(self.settings.device))
    }

    /// Trains a day's model, or resumes its training, and returns its results.
    ///
    /// # Errors
    /// Those of training; a folder that holds a run with different options; [`Interrupted`].
    pub fn train(&self, recipe: &Recipe) -> Result<Results> {
        let config = self.config(recipe)?;
        match own_dataset(&config)? {
            Some(dataset) => self.train_on(config, recipe.folder, recipe.what, &dataset),
            None => self.train_on(config, recipe.folder, recipe.what, &self.dataset),
        }
    }

    /// Trains on a task in a folder below that of all days, for a small experiment; returns what it left there if it was done
    /// before.
    ///
    /// # Errors
    /// As [`train`](Self::train), or a configuration without a task.
    pub fn train_on_task(&self, folder: &str, what: &str, config: TrainConfig) -> Result<Results> {
        if let Ok(results) = Results::read(&self.folder(folder))
            && results.steps >= config.steps
        {
            return Ok(results);
        }
        let task = TaskData::of_config(&config)?.context("there is no task to train on")?;
        let _made = durable::make_parents(&self.folder(folder))?;
        self.train_on(config, folder, what, &Dataset::Task(task))
    }

    /// The same with another tokenizer, which is written to a file, for a small experiment: `--steps` only makes it shorter.
    ///
    /// # Errors
    /// As [`train`](Self::train), or the tokenizer cannot be written.
    pub fn train_with_tokenizer(&self, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Results> {
        let config = TrainConfig {
            tokenizer: self.tokenizer_file(recipe, tokenizer)?,
            steps: self.at_most(self.whole(recipe).steps),
            ..self.config(recipe)?
        };
        self.train_on(config, recipe.folder, recipe.what, &self.dataset)
    }

    /// Writes a recipe's tokenizer, and returns the path.
    fn tokenizer_file(&self, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<String> {
        let path = self.folder("tokenizers").join(recipe.folder).with_extension("json");
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, &serde_json::to_vec(&tokenizer.to_json())?)?;
        Ok(fs::canonicalize(path)?.to_string_lossy().into_owned())
    }

    /// The same on another text, with another tokenizer if one is given; the results are measured on the lesson's corpus.
    ///
    /// # Errors
    /// As [`train`](Self::train), or that text cannot be read.
    pub fn train_on_corpus(&self, recipe: &Recipe, corpus: &Path, tokenizer: Option<&Tokenizer>) -> Result<Results> {
        let corpus = fs::canonicalize(corpus)?.to_string_lossy().into_owned();
        let dataset = Dataset::open(&corpus)?;
        let mut config = TrainConfig {
            corpus,
            ..self.config(recipe)?
        };
        if let Some(tokenizer) = tokenizer {
            config.tokenizer = self.tokenizer_file(recipe, tokenizer)?;
        }
        self.train_on(config, recipe.folder, recipe.what, &dataset)
    }

    /// Trains on preference pairs, for a small experiment: `--steps` only makes it shorter.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_on_pairs(&self, recipe: &Recipe, pairs: PreferenceData) -> Result<()> {
        let config = TrainConfig {
            steps: self.at_most(self.whole(recipe).steps),
            ..self.config(recipe)?
        };
        self.train_in(config, recipe.folder, recipe.what, &Dataset::Preferences(pairs))
    }

    fn train_on(&self, config: TrainConfig, name: &str, what: &str, dataset: &Dataset) -> Result<Results> {
        self.train_in(config, name, what, dataset)?;
        let results = Results::of(self, name, what)?;
        results.write(&self.folder(name))?;
        Ok(results)
    }

    /// Trains in a folder below that of all days, or goes on there.
    fn train_in(&self, config: TrainConfig, name: &str, what: &str, dataset: &Dataset) -> Result<()> {
        let folder = self.folder(name);
        let mut session = match Run::open(&folder) {
            Ok(run) => {
                let before = run.config()?;
                let steps = config.steps.max(before.steps);
                let config = TrainConfig {
                    steps,
                    // A lesson's schedule ends with its steps, however many there were before.
                    schedule_steps: if steps == before.steps {
                        before.schedule_steps
                    } else {
                        Some(steps)
                    },
                    init_from: before.init_from.clone(), // read once, at the beginning
                    ..config
                };
                let same = TrainConfig {
                    corpus: config.corpus.clone(), // whose text is compared
                    steps: config.steps,
                    schedule_steps: config.schedule_steps,
                    warmup: config.warmup,
                    threads: config.threads,
                    ..before
                };
                ensure!(
                    same == config,
                    "{} was trained with different options; use another --out, or move it away to train it again",
                    folder.display()
                );
                Session::resume(run, config, dataset)?
            }
            Err(_) => Session::start(config, dataset, &folder)?,
        };
        say(format_args!("training {what}"));
        // If the last step was interrupted, the training is complete, but the day is not.
        let mut observer = self.observer.borrow_mut();
        if train(&mut session, &mut **observer)? == Outcome::Stopped || observer.requested() {
            return Err(Interrupted.into());
        }
        Ok(())
    }

    /// The same, with a checkpoint of the model before its first step.
    ///
    /// # Errors
    /// Those of [`train`](Self::train).
    pub fn train_with_initial_checkpoint(&self, recipe: &Recipe) -> Result<Results> {
        let folder = self.folder(recipe.folder);
        if Run::open(&folder).is_err() {
            Session::start(self.config(recipe)?, &self.dataset, &folder)?.save()?;
        }
        self.train(recipe)
    }

    /// The results of a day's model.
    ///
    /// # Errors
    /// It was not trained yet.
    pub fn results(&self, folder: &str) -> Result<Results> {
        self.checkpoint(folder)?;
        Results::read(&self.folder(folder))
    }
}

/// What a configuration trains on, unless it is the text of all lessons.
fn own_dataset(config: &TrainConfig) -> Result<Option<Dataset>> {
    Ok(match (TaskData::of_config(config)?, &config.chat) {
        (Some(task), _) => Some(Dataset::Task(task)),
        // Before the day that writes the file, its time is estimated.
        (None, Some(chat)) => Some(Dataset::Chat(Conversations::parse(&world::text(world::TRAIN)?, chat)?)),
        (None, None) => None,
    })
}
