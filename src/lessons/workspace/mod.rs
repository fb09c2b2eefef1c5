//! Working environment of a lesson: its corpus, folders and training.

mod training;

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mlx_rs::Array;

use super::Recipe;
use super::arrays::token_labels;
use crate::checkpoint::run::Run;
use crate::checkpoint::{Checkpoint, has_hashes};
use crate::config::{DEFAULT_CORPUS, Device, ModelConfig, Preset};
use crate::data::batches::{Batch, eval_batches};
use crate::data::corpus::Split;
use crate::data::dataset::Dataset;
use crate::disk::durable;
use crate::evaluate::text::evaluate_checkpoint;
use crate::generate::CompletionOptions;
use crate::generate::sampler::Sampling;
use crate::model::init::initialize;
use crate::model::parameters::Parameters;
use crate::terminal::console::{confirm, program, quoted};
use crate::tokenizer::Tokenizer;
use crate::train::Observer;

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

    /// Held-out problems of a task that a lesson's model is measured on: fewer after fewer steps, which solve none.
    pub fn problems(&self) -> usize {
        self.settings.steps.map_or(2000, |steps| steps.clamp(20, 2000) as usize)
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
