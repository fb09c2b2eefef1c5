//! Working environment of a lesson: its corpus, folders and training.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mlx_rs::Array;

use super::Recipe;
use super::arrays::token_labels;
use super::results::Results;
use crate::checkpoint::run::Run;
use crate::checkpoint::{Checkpoint, has_hashes};
use crate::config::Device;
use crate::config::{DEFAULT_CORPUS, ModelConfig, Preset, TrainConfig};
use crate::data::batches::{Batch, eval_batches};
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::disk::durable;
use crate::evaluate::text::evaluate_checkpoint;
use crate::generate::CompletionOptions;
use crate::generate::sampler::Sampling;
use crate::model::init::initialize;
use crate::model::parameters::Parameters;
use crate::terminal::console::{confirm, program, quoted, say};
use crate::tokenizer::Tokenizer;
use crate::train::{Observer, Outcome, Session, time_of_step, train};

/// Where lessons leave their checkpoints unless `--out` says otherwise.
pub const LESSONS_FOLDER: &str = "lessons";

/// Options of a lesson.
#[derive(Clone, Debug)]
pub struct WorkspaceOptions {
    /// The folder of all days.
    pub root: PathBuf,
    /// The text: [`DEFAULT_CORPUS`] or a path.
    pub corpus: String,
    /// Size and recipe that the models start from.
    pub preset: Preset,
    /// The device.
    pub device: Device,
    /// Replaces the number of steps of the recipes.
    pub steps: Option<u64>,
    /// The seed of initial weights, batches and samples.
    pub seed: u64,
    /// Whether to download without asking.
    pub download: bool,
}

/// Working environment of a lesson.
pub struct Workspace {
    settings: WorkspaceOptions,
    dataset: Dataset,
    tokenizer: OnceCell<Tokenizer>,
    /// Observes the trainings, and may stop them.
    observer: RefCell<Box<dyn Observer>>,
}

/// The training of a lesson was interrupted, after saving.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted, after a save")
    }
}

impl std::error::Error for Interrupted {}

impl Workspace {
    /// Opens the corpus.
    ///
    /// # Errors
    /// The corpus cannot be read, or is a folder of tokens: the lessons begin with text.
    pub fn new(settings: WorkspaceOptions, observer: Box<dyn Observer>) -> Result<Self> {
        let dataset = Dataset::open(&settings.corpus)?;
        ensure!(
            matches!(dataset, Dataset::Text(_)),
            "corpus {} is a folder of tokens; the lessons need text",
            settings.corpus
        );
        Ok(Self {
            settings,
            dataset,
            tokenizer: OnceCell::new(),
            observer: RefCell::new(observer),
        })
    }

    /// The seed of initial weights, batches and samples.
    pub fn seed(&self) -> u64 {
        self.settings.seed
    }

    /// Whether a download is allowed: by the options, or else by the user; false if not interactive.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn confirm_download(&self, what: &str) -> Result<bool> {
        Ok(self.settings.download || confirm(format_args!("Download {what}?"))?.unwrap_or(false))
    }

    /// A split of the corpus.
    pub fn text(&self, split: Split) -> &str {
        match &self.dataset {
            Dataset::Text(corpus) => corpus.text(split),
            _ => "", // refused by `new`
        }
    }

    /// The name or path of the training corpus.
    pub fn corpus(&self) -> &str {
        &self.settings.corpus
    }

    /// The training corpus.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Steps of a small experiment: `whole`, or fewer if `--steps` is less.
    pub fn at_most(&self, whole: u64) -> u64 {
        self.settings.steps.map_or(whole, |steps| steps.min(whole))
    }

    /// The corpus's character tokenizer.
    ///
    /// # Errors
    /// None for a corpus of text.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        if self.tokenizer.get().is_none() {
            let _ = self.tokenizer.set(self.dataset.tokenizer("char")?);
        }
        self.tokenizer.get().context("there is no tokenizer")
    }

    /// The tokens of texts of equal length, `[B, T]`.
    ///
    /// # Errors
    /// A character that the corpus does not have.
    pub fn ids(&self, texts: &[&str]) -> Result<Array> {
        let tokenizer = self.tokenizer()?;
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<_>>()?;
        let columns = rows.first().map_or(0, Vec::len);
        Ok(Array::from_slice(&rows.concat(), &[rows.len() as i32, columns as i32]))
    }

    /// Rows of the validation text, evenly spaced.
    ///
    /// # Errors
    /// The text is shorter than a row.
    pub fn validation_batch(&self, rows: usize, context: usize) -> Result<Batch> {
        let tokens = self.dataset.tokens(self.tokenizer()?, Split::Val)?.tokens;
        let batch = eval_batches(&tokens, rows, rows, context).next();
        batch.context("the validation text is too short")
    }

    /// The configuration and the random parameters of a day's model before training.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn untrained(&self, recipe: &Recipe) -> Result<(ModelConfig, Parameters)> {
        let model = self.config(recipe)?.model_config(self.tokenizer()?.vocab_size());
        let parameters = initialize(&model, self.seed())?;
        Ok((model, parameters))
    }

    /// The same with larger parameters: a new model's are so small that all attention scores are nearly zero.
    ///
    /// # Errors
    /// As [`untrained`](Self::untrained).
    pub fn untrained_enlarged(&self, recipe: &Recipe) -> Result<(ModelConfig, Parameters)> {
        let (model, parameters) = self.untrained(recipe)?;
        let parameters = parameters.map(|array| array.multiply(Array::from_f32(12.0)))?;
        Ok((model, parameters))
    }

    /// The token embedding `[V, C]` of a day's model, with a label for each token.
    ///
    /// # Errors
    /// There is no such checkpoint.
    pub fn embedding(&self, folder: &str) -> Result<(Vec<String>, Array)> {
        let checkpoint = self.load(folder)?;
        let ids: Vec<u32> = (0..checkpoint.model.vocab_size as u32).collect();
        let labels = token_labels(&checkpoint.tokenizer, &ids)?;
        Ok((labels, checkpoint.parameters.get("wte.weight")?.clone()))
    }

    /// A folder of that name below the folder of all days.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.settings.root.join(name)
    }

    /// The path of a figure of a chapter.
    pub fn figure_path(&self, day: u8, name: &str) -> PathBuf {
        self.folder("figures").join(format!("day-{day:02}")).join(name)
    }

    /// Saves a figure of a chapter for the book, and returns its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_figure(&self, day: u8, name: &str, figure: &str) -> Result<PathBuf> {
        let path = self.figure_path(day, name);
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, figure.as_bytes())?;
        Ok(path)
    }

    /// Saves a figure of all days for the book.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save_summary(&self, name: &str, text: &str) -> Result<()> {
        let place = self.folder("figures").join("all").join(name);
        let _made = durable::make_parents(&place)?;
        durable::write_file(&place, text.as_bytes())
    }

    /// The newest checkpoint of a day's model, by its folder's name.
    ///
    /// # Errors
    /// There is none, with the command that makes it.
    pub fn checkpoint(&self, folder: &str) -> Result<PathBuf> {
        let day = folder.trim_start_matches("day-").split('-').next().unwrap_or_default();
        Run::open(&self.folder(folder))
            .and_then(|run| run.newest_checkpoint())
            .ok()
            // An imported checkpoint is not a run.
            .or_else(|| Some(self.folder(folder)).filter(|folder| has_hashes(folder)))
            .with_context(|| {
                format!(
                    "there is no checkpoint in {}; make it with: {}",
                    self.folder(folder).display(),
                    self.command(day.trim_start_matches('0'))
                )
            })
    }

    /// The command that runs a day with these folders and this text.
    pub fn command(&self, day: &str) -> String {
        let WorkspaceOptions { root, corpus, .. } = &self.settings;
        let mut command = format!("{} lesson {day}", program());
        if root != Path::new(LESSONS_FOLDER) {
            command += &format!(" --out {}", quoted(root));
        }
        if corpus != DEFAULT_CORPUS {
            command += &format!(" --corpus {}", quoted(Path::new(corpus)));
        }
        command
    }

    /// That checkpoint, read.
    ///
    /// # Errors
    /// There is none, or it is broken.
    pub fn load(&self, folder: &str) -> Result<Checkpoint> {
        Checkpoint::load(&self.checkpoint(folder)?)
    }

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
        let config = self.config_without_init(recipe);
        Ok(time_of_step(&config, &self.dataset)? * config.steps as u32)
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
        self.train_on(self.config(recipe)?, recipe, &self.dataset)
    }

    /// The same with another tokenizer, which is written to a file, for a small experiment: `--steps` only makes it shorter.
    ///
    /// # Errors
    /// As [`train`](Self::train), or the tokenizer cannot be written.
    pub fn train_with_tokenizer(&self, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Results> {
        let path = self.folder("tokenizers").join(recipe.folder).with_extension("json");
        let _made = durable::make_parents(&path)?;
        durable::write_file(&path, &serde_json::to_vec(&tokenizer.to_json())?)?;
        let config = TrainConfig {
            tokenizer: fs::canonicalize(path)?.to_string_lossy().into_owned(),
            steps: self.at_most(self.whole(recipe).steps),
            ..self.config(recipe)?
        };
        self.train_on(config, recipe, &self.dataset)
    }

    /// The same on another text; the results are measured on the lesson's corpus.
    ///
    /// # Errors
    /// As [`train`](Self::train), or that text cannot be read.
    pub fn train_on_corpus(&self, recipe: &Recipe, corpus: &Path) -> Result<Results> {
        let corpus = fs::canonicalize(corpus)?.to_string_lossy().into_owned();
        let dataset = Dataset::open(&corpus)?;
        let config = TrainConfig {
            corpus,
            ..self.config(recipe)?
        };
        self.train_on(config, recipe, &dataset)
    }

    fn train_on(&self, config: TrainConfig, recipe: &Recipe, dataset: &Dataset) -> Result<Results> {
        let folder = self.folder(recipe.folder);
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
        say(format_args!("training {}", recipe.what));
        // If the last step was interrupted, the training is complete, but the day is not.
        let mut observer = self.observer.borrow_mut();
        if train(&mut session, &mut **observer)? == Outcome::Stopped || observer.requested() {
            return Err(Interrupted.into());
        }
        drop(session);
        let results = Results::of(self, recipe)?;
        results.write(&folder)?;
        Ok(results)
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

    /// A model's exact loss on the validation text, in nats per token, and its bits per byte.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn measure(&self, checkpoint: &Checkpoint) -> Result<(f64, f64)> {
        let part = self.dataset.tokens(&checkpoint.tokenizer, Split::Val)?;
        let (evaluation, bits_per_byte) = evaluate_checkpoint(checkpoint, &part, checkpoint.model.context, |_| ())?;
        Ok((
            evaluation.loss(),
            bits_per_byte.context("the size of the text is not known")?,
        ))
    }

    /// A model's completion of a prompt.
    ///
    /// # Errors
    /// A prompt that its tokenizer cannot encode.
    pub fn sample(&self, checkpoint: &Checkpoint, prompt: &str, tokens: usize) -> Result<String> {
        let options = CompletionOptions {
            max_new_tokens: tokens,
            sampling: Sampling::PLAIN,
            ignore_eos: true,
            seed: self.seed(),
            ..CompletionOptions::default()
        };
        Ok(checkpoint.language_model()?.complete(prompt, &options)?.text)
    }

    /// The folder of all days.
    pub fn root(&self) -> &Path {
        &self.settings.root
    }
}
