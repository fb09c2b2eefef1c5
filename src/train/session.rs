//! A training run in memory: made new, or read back from its newest checkpoint.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::evaluate::Evaluator;
use super::metrics::Metrics;
use super::report::Report;
use super::step::{Stepper, TrainState};
use crate::checkpoint::run::Run;
use crate::checkpoint::{Checkpoint, CorpusRecord, Losses, Moments, Progress};
use crate::config::{ModelConfig, TrainConfig};
use crate::data::batches;
use crate::data::corpus::{Corpus, Split};
use crate::generate::Generator;
use crate::generate::sampler::Sampling;
use crate::model::init;
use crate::tokenizer::CharTokenizer;

/// Tokens of the sample that an evaluation writes.
const SAMPLE_TOKENS: usize = 300;

/// Everything that the loop works on.
pub struct Session {
    pub config: TrainConfig,
    pub model: ModelConfig,
    pub tokenizer: CharTokenizer,
    pub train_tokens: Vec<u32>,
    pub val_tokens: Vec<u32>,
    pub run: Run,
    pub state: TrainState,
    pub stepper: Stepper,
    pub evaluator: Evaluator,
    pub progress: Progress,
    pub metrics: Metrics,
    /// Text of the last evaluation.
    pub sample: String,
}

impl Session {
    /// A new run in `folder`.
    ///
    /// # Errors
    /// A configuration, corpus or checkpoint that cannot be trained with; a folder that holds a run already. Nothing
    /// is left behind.
    pub fn start(config: TrainConfig, corpus: &Corpus, folder: &Path) -> Result<Self> {
        config.validate()?;
        let (model, tokenizer, state) = match &config.init_from {
            None => {
                let tokenizer = CharTokenizer::from_text(corpus.text(Split::All));
                let model = config.model(tokenizer.vocab_size());
                model.validate()?;
                check_length(&config, corpus)?;
                let state = TrainState::new(init::initialize(&model, config.seed)?)?;
                (model, tokenizer, state)
            }
            Some(path) => {
                let Checkpoint {
                    mut model,
                    tokenizer,
                    parameters,
                    ..
                } = Checkpoint::load(Path::new(path))?;
                model.dropout = config.dropout;
                (model, tokenizer, TrainState::new(parameters)?)
            }
        };
        ensure!(
            config.context <= model.context,
            "context {} is over the {} of the model that the run starts from; choose --context {1} or less",
            config.context,
            model.context
        );
        check_length(&config, corpus)?;
        let tokens = encode(&tokenizer, corpus)?;
        let record = CorpusRecord {
            sha256: corpus.sha256(),
            cut: corpus.cut(),
        };
        let progress = Progress::new(config.seed, record);
        let run = Run::create(folder, &config)?;
        Self::assemble(config, model, tokenizer, tokens, run, state, progress)
    }

    /// The run again, as its newest checkpoint has it, with `config` from now on.
    ///
    /// # Errors
    /// The run has no complete checkpoint, or its corpus is not the one that it learned from.
    pub fn resume(run: Run, config: TrainConfig, corpus: &Corpus) -> Result<Self> {
        config.validate()?;
        run.clean()?;
        let checkpoint = Checkpoint::load(&run.newest_checkpoint()?)?;
        let (progress, Moments { m, v }) = checkpoint.load_progress()?;
        ensure!(
            progress.corpus.sha256 == corpus.sha256(),
            "corpus {} is not the text that the run learned from; put the old text back, or start a new run with --init-from {}",
            config.corpus,
            checkpoint.folder.display()
        );
        let tokens = encode(&checkpoint.tokenizer, corpus)?;
        run.write_config(&config)?;
        let state = TrainState {
            step: progress.step,
            parameters: checkpoint.parameters,
            m,
            v,
        };
        Self::assemble(
            config,
            checkpoint.model,
            checkpoint.tokenizer,
            tokens,
            run,
            state,
            progress,
        )
    }

    fn assemble(
        config: TrainConfig,
        model: ModelConfig,
        tokenizer: CharTokenizer,
        (train_tokens, val_tokens): (Vec<u32>, Vec<u32>),
        run: Run,
        state: TrainState,
        progress: Progress,
    ) -> Result<Self> {
        let names = state.parameters.names();
        Ok(Self {
            stepper: Stepper::new(&config, &model, names)?,
            evaluator: Evaluator::new(&model, names),
            metrics: Metrics::open(&run, state.step)?,
            config,
            model,
            tokenizer,
            train_tokens,
            val_tokens,
            run,
            state,
            progress,
            sample: String::new(),
        })
    }

    /// Says what will be trained, how long it will take and what it needs.
    pub(super) fn announce(&mut self) -> Result<Report> {
        Report::start(self)
    }

    /// How long a step takes: one micro-batch is computed twice, the first time to compile, and forgotten.
    pub(super) fn measure_step(&mut self) -> Result<Duration> {
        let mut seconds = Duration::ZERO;
        for _ in 0..2 {
            let mut trial = self.state.clone();
            let mut batches = self.stepper.micro_batches(&self.train_tokens, self.state.step);
            batches.truncate(1);
            let started = std::time::Instant::now();
            self.stepper.step(&mut trial, batches)?;
            seconds = started.elapsed();
        }
        Ok(seconds * self.config.grad_accum as u32)
    }

    /// Losses over the same `eval_batches` batches of either split each time.
    pub(super) fn estimate_losses(&mut self) -> Result<Losses> {
        let (count, rows, context) = (self.config.eval_batches, self.config.batch_size, self.config.context);
        let [train, val] = [&self.train_tokens, &self.val_tokens].map(|tokens| {
            let batches = batches::spread(tokens, count, rows, context);
            self.evaluator.evaluate(&self.state.parameters, batches, |_| ())
        });
        Ok(Losses {
            train: train?.loss(),
            val: val?.loss(),
        })
    }

    /// What the model says now.
    pub(super) fn write_sample(&self) -> Result<String> {
        let generator = Generator::new(&self.model, &self.state.parameters)?;
        let sampling = Sampling {
            temperature: 0.8,
            top_k: 0,
        };
        let mut ids = Vec::with_capacity(SAMPLE_TOKENS);
        let prompt = self.tokenizer.default_prompt();
        generator.generate(&prompt, SAMPLE_TOKENS, &sampling, self.config.seed, 0, |choice| {
            ids.push(choice.id);
            Ok(true)
        })?;
        self.tokenizer.decode(&ids)
    }

    pub(super) fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        self.progress.step = step;
        let evaluated_now = self.metrics.evaluations().last().is_some_and(|line| line.step == step);
        if !evaluated_now {
            self.progress.evaluation = None;
            self.sample = self.write_sample()?;
        }
        let checkpoint = Checkpoint {
            folder: self.run.step_folder(step),
            model: self.model.clone(),
            parameters: self.state.parameters.clone(),
            tokenizer: self.tokenizer.clone(),
        };
        let moments = Moments {
            m: self.state.m.clone(),
            v: self.state.v.clone(),
        };
        self.run
            .save(&checkpoint, &moments, self.progress.clone(), &self.sample)
    }
}

/// Both splits must hold a row and the token after it.
fn check_length(config: &TrainConfig, corpus: &Corpus) -> Result<()> {
    for (name, split) in [("training", Split::Train), ("validation", Split::Val)] {
        let characters = corpus.text(split).chars().count();
        ensure!(
            characters > config.context,
            "corpus {} is too short: its {name} part has {characters} characters, a context of {} needs more than that; use more text or a smaller --context",
            config.corpus,
            config.context
        );
    }
    Ok(())
}

fn encode(tokenizer: &CharTokenizer, corpus: &Corpus) -> Result<(Vec<u32>, Vec<u32>)> {
    let part = |split| {
        tokenizer
            .encode(corpus.text(split))
            .with_context(|| format!("corpus {}", corpus.name))
    };
    Ok((part(Split::Train)?, part(Split::Val)?))
}
