//! Reports a training run on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::signals::Signals;
use crate::checkpoint::Losses;
use crate::compute::kernels::{self, Compiler, NO_COMPILER};
use crate::compute::memory;
use crate::config::{DEFAULT_CORPUS, Device, Objective};
use crate::disk::bytes::Bytes;
use crate::terminal::amount::amount;
use crate::terminal::console::{program, quoted, say, say_unbroken, warn};
use crate::terminal::escape::visible;
use crate::terminal::layout::{stderr_columns, truncate, width};
use crate::terminal::progress::{RateLimiter, Spinner};
use crate::train::metrics::ObjectiveRecord;
use crate::train::step::StepReport;
use crate::train::{Interrupt, LOG_EVERY, Observer, Session, diagnose};

/// Maximum width of the sample's line that is printed beside the losses, in columns.
const SAMPLE_COLUMNS: usize = 48;

/// Shown while the step is traced and, the first time, its kernels are compiled.
const COMPILING: &str =
    "compiling the training step (the first time on a machine: up to half a minute; kept afterwards)";

/// Reports a run, and stops it on a signal.
pub struct TrainingReport {
    signals: Signals,
    /// Shown while the step is compiled.
    spinner: Option<Spinner>,
    bar: ProgressBar,
    /// For a file or a pipe, instead of a bar: a line every few seconds, and one at each evaluation.
    lines: Option<RateLimiter>,
}

impl TrainingReport {
    pub fn new(signals: &Signals) -> Self {
        Self {
            signals: signals.clone(),
            spinner: None,
            bar: ProgressBar::hidden(),
            lines: None,
        }
    }
}

/// What a step tells of its progress.
fn progress_of(step: &StepReport) -> String {
    match &step.objective {
        Some(ObjectiveRecord::Grpo(of)) => format!("reward {:.3}  KL {:.4}", of.answers.reward, of.kl),
        Some(ObjectiveRecord::Dpo(of)) => format!("loss {:.4}  margin {:.3}", step.loss, of.margin),
        None => format!("loss {:.4}", step.loss),
    }
}

impl Interrupt for TrainingReport {
    fn requested(&self) -> bool {
        self.signals.requested()
    }

    fn set_unsaved_work(&self, what: Option<String>) {
        self.signals.set_unsaved_work(what);
    }
}

impl Observer for TrainingReport {
    fn preparing(&mut self, session: &Session) {
        let config = session.config();
        let (trainable, parameters) = session.parameter_counts();
        for change in session.changes() {
            say(format_args!("changed  {change}"));
        }
        say(format_args!("run      {}", session.run().folder.display()));
        let vocabulary = session.model().vocab_size;
        if let Some(task) = session.task() {
            let (name, summary) = (task.name(), task.summary());
            say(format_args!("task     {name}: {summary}, vocabulary {vocabulary}"));
        }
        if let Objective::Grpo { kl_coef, .. } = config.objective() {
            let (group, answers) = (config.group_size(), config.batch_size * config.grad_accum);
            say(format_args!(
                "rl       grpo: {group} answers to each of {} problems in a step, KL coefficient {kl_coef}",
                answers / group
            ));
        }
        if let (Some([train, val]), Some(file)) = (session.pair_counts(), &config.preferences) {
            say(format_args!("pairs    {file}: {train} to train on, {val} held out"));
        }
        if let (Some(chat), Some([train, val])) = (&config.chat, session.conversation_counts()) {
            say(format_args!(
                "chat     {chat}: {train} training conversations, {val} validation conversations, vocabulary {vocabulary}"
            ));
        }
        if let Some([train, val]) = session.token_counts() {
            let corpus = match config.corpus.as_str() {
                DEFAULT_CORPUS => "Shakespeare's plays (built in)",
                path => path,
            };
            say(format_args!(
                "corpus   {corpus}: {train} training tokens, {val} validation tokens, vocabulary {vocabulary}"
            ));
        }
        say(format_args!(
            "model    {}: {} parameters",
            session.model().summary(),
            amount(parameters)
        ));
        if trainable < parameters {
            say(format_args!(
                "trained  {} of them ({:.1} %); the others are frozen",
                amount(trainable),
                100.0 * trainable as f64 / parameters as f64
            ));
        }
        say(format_args!(
            "training {} steps of {} tokens on the {}, {} thread(s), {}",
            config.steps,
            config.tokens_per_step(),
            config.device,
            session.threads(),
            config.dtype
        ));
        if config.device == Device::Cpu && kernels::compiler() == Some(Compiler::Missing) {
            warn(NO_COMPILER);
        }
        let spinner = Spinner::start();
        spinner.stage(COMPILING);
        self.spinner = Some(spinner);
    }

    fn starting(&mut self, session: &Session, step: Duration) {
        self.spinner = None;
        let left = session.total_steps().saturating_sub(session.step());
        let saves = session.checkpoints_left();
        let peak = mlx_rs::memory::peak_memory().unwrap_or_default() as u64;
        let gpu = memory::gpu_memory().filter(|_| session.config().device == Device::Gpu);
        let of_gpu = gpu.map_or(String::new(), |gpu| format!("the GPU's {} of ", Bytes(gpu)));
        say(format_args!(
            "needs    about {} of training ({:.0} ms a step), evaluations excluded; {} of {of_gpu}memory; {} of disk for {saves} checkpoint(s)",
            HumanDuration(step * left.min(u64::from(u32::MAX)) as u32),
            step.as_secs_f64() * 1e3,
            Bytes(peak),
            Bytes(saves * session.checkpoint_bytes())
        ));
        if let Some(gpu) = gpu.filter(|&gpu| peak > gpu) {
            warn(format_args!(
                "that is more than the {} that the GPU holds at once: steps will be slow, or fail; {}",
                Bytes(gpu),
                session.less_memory()
            ));
        }
        if session.step() > 0 {
            say(format_args!("resuming after step {}", session.step()));
        }
        if std::io::stderr().is_terminal() {
            self.bar = ProgressBar::new(session.total_steps());
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len}  {wide_msg}") {
                self.bar.set_style(style);
            }
            self.bar.set_position(session.step());
        } else {
            self.lines = Some(RateLimiter::new());
        }
    }

    fn step(&mut self, session: &Session, step: &StepReport, tokens_per_second: f64) {
        let config = session.config();
        let left = session.total_steps().saturating_sub(step.step) as f64 * config.tokens_per_step() as f64;
        let state = format!(
            "{}  {:.1}k tokens/s  {} left",
            progress_of(step),
            tokens_per_second / 1e3,
            HumanDuration(Duration::try_from_secs_f64(left / tokens_per_second).unwrap_or(Duration::MAX))
        );
        if self.lines.as_ref().is_some_and(RateLimiter::is_due) {
            say(format_args!("step {:>6}/{}  {state}", step.step, session.total_steps()));
        }
        if step.step == 1 || step.step.is_multiple_of(LOG_EVERY) {
            self.bar.set_message(state);
        }
        self.bar.set_length(session.total_steps());
        self.bar.set_position(step.step);
    }

    fn skipped(&mut self, _session: &Session, step: &StepReport) {
        self.bar.set_position(step.step);
    }

    fn evaluated(&mut self, session: &Session, losses: Losses, tokens_per_second: f64) {
        let speed = if tokens_per_second > 0.0 {
            format!("  {:.1}k tokens/s", tokens_per_second / 1e3)
        } else {
            String::new()
        };
        let accuracy = session.accuracy();
        let accuracy = accuracy.map_or(String::new(), |accuracy| format!("  accuracy {accuracy:.3}"));
        let line = format!(
            "step {:>6}/{}  train {:.4}  validation {:.4}{accuracy}{speed}",
            session.step(),
            session.total_steps(),
            losses.train,
            losses.val
        );
        let Some(columns) = stderr_columns() else {
            self.lines.iter().for_each(RateLimiter::reset);
            return say(&line);
        };
        let quote = session.sample().lines().find(|line| line.chars().count() > 10);
        let room = columns.saturating_sub(width(&line) + 4).min(SAMPLE_COLUMNS);
        let quote = quote
            .filter(|_| room >= 10)
            .map(|quote| truncate(&visible(quote), room));
        let quote = quote.map_or(String::new(), |quote| format!("  “{quote}”"));
        self.bar.suspend(|| say_unbroken(format_args!("{line}{quote}")));
    }

    fn warning(&mut self, message: &str) {
        self.bar.suspend(|| warn(message));
    }

    fn stopped(&mut self, session: &Session) {
        self.bar.finish_and_clear();
        say_unbroken(format_args!(
            "stopped and saved after step {}; continue with: {} train --resume {}",
            session.step(),
            program(),
            quoted(&session.run().folder)
        ));
    }

    fn finished(&mut self, session: &Session) {
        self.bar.finish_and_clear();
        let run = session.run();
        let folder = run.folder.display();
        if session.steps_skipped() > 0 {
            say(format_args!(
                "skipped  {} step(s) with a non-finite loss or gradients; their batches are in {folder}/metrics.jsonl",
                session.steps_skipped()
            ));
        }
        if let Some(best) = session.best() {
            say(format_args!(
                "best     validation loss {:.4} after step {}",
                best.val_loss, best.step
            ));
        }
        report_patience(session);
        for finding in diagnose(session) {
            say(format_args!("noticed  {finding}"));
        }
        say(format_args!(
            "sample   {}",
            session.sample().trim().replace('\n', "\n         ")
        ));
        let best = run.best().map_or(String::new(), |best| format!(", {}", best.display()));
        say(format_args!("saved    {folder}/latest{best}; curve: {folder}/loss.svg"));
        let (program, folder) = (program(), quoted(&run.folder));
        say_unbroken(format_args!("next     {program} generate --checkpoint {folder}"));
        say_unbroken(format_args!("         {program} eval --checkpoint {folder}"));
    }

    fn nothing_to_do(&mut self, session: &Session) {
        for change in session.changes() {
            say(format_args!("changed  {change}"));
        }
        if session.out_of_patience() {
            return report_patience(session);
        }
        if let Some(minutes) = session.config().minutes {
            return say_unbroken(format_args!(
                "run {} is complete at step {}, after its {minutes} minutes",
                session.run().folder.display(),
                session.step()
            ));
        }
        say_unbroken(format_args!(
            "run {} is complete at step {}; train it longer, at min-lr, with: {} train --resume {} --steps {4} (--schedule-steps {4} also extends the schedule)",
            session.run().folder.display(),
            session.step(),
            program(),
            quoted(&session.run().folder),
            2 * session.config().steps
        ));
    }
}

/// Says that patience ended the run, if it did.
fn report_patience(session: &Session) {
    if session.out_of_patience() {
        say(format_args!(
            "patience the validation loss has not fallen for {} evaluations, so the run ends after step {} (a resume with --patience 0 goes on)",
            session.config().patience,
            session.step()
        ));
    }
}
