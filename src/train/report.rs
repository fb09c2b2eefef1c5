//! Messages and progress of a run on stderr, and the lines of `metrics.jsonl`.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::metrics::{Line, StepLine};
use super::session::Session;
use super::step::StepReport;
use crate::checkpoint::Losses;
use crate::compute::kernels::{self, Compiler, NO_COMPILER};
use crate::config::{DEFAULT_CORPUS, Device, TrainConfig};
use crate::terminal::amount::amount;
use crate::terminal::console::{program, quoted, say, say_unbroken, warn};
use crate::terminal::escape::visible;
use crate::terminal::layout::{cut, stderr_columns, width};
use crate::terminal::progress::{Lines, Spinner};

/// Steps between two logged ones; the first and the last are logged too.
pub(super) const LOG_EVERY: u64 = 10;

/// Columns of a line of text that the model wrote, beside the losses.
const QUOTE: usize = 48;

/// Shown while the step is traced, and its kernels are compiled if they are not yet.
const COMPILING: &str =
    "compiling the training step (the first time on a machine: up to half a minute; kept afterwards)";

pub struct Report {
    bar: ProgressBar,
    /// A terminal gets a bar that moves; a file or a pipe a line every few seconds, and at each evaluation.
    lines: Option<Lines>,
    /// Time spent in steps since the last logged one.
    clock: Duration,
    running_since: Instant,
    tokens_since: usize,
    tokens_per_second: f64,
}

impl Report {
    /// Announces the run: what is trained, the time that it needs by a measured step, memory and disk.
    pub fn start(session: &mut Session) -> Result<Self> {
        let interactive = stderr_columns().is_some();
        let config = &session.config;
        let learning = session.state.parameters.count();
        let parameters = learning + session.state.frozen.count();
        let corpus = match config.corpus.as_str() {
            DEFAULT_CORPUS => "Shakespeare's plays (built in)",
            path => path,
        };
        say(format_args!("run      {}", session.run.folder.display()));
        say(format_args!(
            "corpus   {}: {} training tokens, {} validation tokens, vocabulary {}",
            corpus,
            session.train_tokens.len(),
            session.val_tokens.len(),
            session.model.vocab_size
        ));
        say(format_args!(
            "model    {}: {} parameters",
            session.model.shape(),
            amount(parameters)
        ));
        if learning < parameters {
            say(format_args!(
                "learning {} of them ({:.1} %); the others stay as they are",
                amount(learning),
                100.0 * learning as f64 / parameters as f64
            ));
        }
        say(format_args!(
            "training {} steps of {} tokens on the {}, {} thread(s), {}",
            config.steps,
            config.tokens_per_step(),
            config.device,
            session.stepper.threads(),
            config.dtype
        ));

        if config.device == Device::Cpu && kernels::compiler() == Some(Compiler::Missing) {
            warn(NO_COMPILER);
        }
        let spinner = Spinner::start();
        spinner.stage(COMPILING);
        let step = session.measure_step()?;
        drop(spinner);

        let left = session.config.steps.saturating_sub(session.state.step);
        let saves = kept_checkpoints(&session.config, session.state.step);
        say(format_args!(
            "needs    about {} of training ({:.0} ms a step) besides evaluations, {} of memory, {} of disk for {saves} checkpoint(s)",
            HumanDuration(step * left.min(u64::from(u32::MAX)) as u32),
            step.as_secs_f64() * 1e3,
            HumanBytes(mlx_rs::memory::peak_memory()? as u64),
            HumanBytes(saves * session.checkpoint_bytes())
        ));
        if session.state.step > 0 {
            say(format_args!("resuming after step {}", session.state.step));
        }

        let bar = if interactive {
            ProgressBar::new(session.config.steps)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len}  {wide_msg}")?);
        bar.set_position(session.state.step);
        Ok(Self::new(bar, (!interactive).then(Lines::new)))
    }

    /// One that logs and shows nothing.
    pub fn quiet() -> Self {
        Self::new(ProgressBar::hidden(), None)
    }

    fn new(bar: ProgressBar, lines: Option<Lines>) -> Self {
        Self {
            bar,
            lines,
            clock: Duration::ZERO,
            running_since: Instant::now(),
            tokens_since: 0,
            tokens_per_second: 0.0,
        }
    }

    /// Shows a step, and logs every tenth.
    pub fn step(&mut self, session: &mut Session, step: &StepReport) -> Result<()> {
        self.count(session);
        let (now, last) = (step.step, session.config.steps);
        if now == 1 || now.is_multiple_of(LOG_EVERY) || now == last {
            self.log(session, step)?;
        }
        self.bar.set_position(now);
        if self.lines.as_ref().is_some_and(Lines::is_due) {
            say(format_args!("step {now:>6}/{last}  {}", self.state(session, step)));
        }
        Ok(())
    }

    /// Where training is, in a few words.
    fn state(&self, session: &Session, step: &StepReport) -> String {
        let speed = match self.tokens_per_second {
            0.0 => self.tokens_since as f64 / self.clock.as_secs_f64(), // nothing was logged yet
            speed => speed,
        };
        let left = session.config.steps.saturating_sub(step.step) as f64 * session.config.tokens_per_step() as f64;
        format!(
            "loss {:.4}  {:.1}k tokens/s  {} left",
            step.loss,
            speed / 1e3,
            HumanDuration(Duration::try_from_secs_f64(left / speed).unwrap_or(Duration::MAX))
        )
    }

    /// Logs a step.
    pub fn log(&mut self, session: &mut Session, step: &StepReport) -> Result<()> {
        let now = step.step;
        self.tokens_per_second = self.tokens_since as f64 / self.clock.as_secs_f64();
        session.metrics.log(Line::Step(StepLine {
            step: now,
            loss: step.loss,
            lr: step.lr,
            grad_norm: step.grad_norm,
            tokens_per_second: self.tokens_per_second,
            memory: mlx_rs::memory::active_memory()? + mlx_rs::memory::cache_memory()?,
        }))?;
        (self.clock, self.tokens_since) = (Duration::ZERO, 0);
        self.bar.set_message(self.state(session, step));
        Ok(())
    }

    /// A step begins: from here to its report, time counts as training.
    pub fn start_clock(&mut self) {
        self.running_since = Instant::now();
    }

    pub fn evaluation(&mut self, session: &Session, losses: Losses) {
        let speed = if self.tokens_per_second > 0.0 {
            format!("  {:.1}k tokens/s", self.tokens_per_second / 1e3)
        } else {
            String::new()
        };
        let line = format!(
            "step {:>6}/{}  train {:.4}  validation {:.4}{speed}",
            session.state.step, session.config.steps, losses.train, losses.val
        );
        let Some(columns) = stderr_columns() else {
            self.lines.iter().for_each(Lines::said);
            return say(&line);
        };
        let quote = session.sample.lines().find(|line| line.chars().count() > 10);
        let room = columns.saturating_sub(width(&line) + 4).min(QUOTE);
        let quote = quote.filter(|_| room >= 10).map(|quote| cut(&visible(quote), room));
        let quote = quote.map_or(String::new(), |quote| format!("  “{quote}”"));
        self.bar.suspend(|| say_unbroken(format_args!("{line}{quote}")));
    }

    /// A step that changed nothing is counted.
    pub fn skipped(&mut self, session: &Session, step: &StepReport) {
        self.count(session);
        self.bar.set_position(step.step);
    }

    fn count(&mut self, session: &Session) {
        self.clock += self.running_since.elapsed();
        self.start_clock();
        self.tokens_since += session.config.tokens_per_step();
    }

    /// Says what went wrong without ending the run.
    pub fn warn(&self, line: impl Display) {
        self.bar.suspend(|| warn(line));
    }

    pub fn interrupted(&self, session: &Session) {
        self.bar.finish_and_clear();
        say_unbroken(format_args!(
            "stopped and saved after step {}; go on with: {} train --resume {}",
            session.state.step,
            program(),
            quoted(&session.run.folder)
        ));
    }

    pub fn finished(&self, session: &Session) {
        self.bar.finish_and_clear();
        let folder = session.run.folder.display();
        if session.state.skipped > 0 {
            say(format_args!(
                "skipped  {} step(s) whose numbers were not finite; {folder}/metrics.jsonl names their batches",
                session.state.skipped
            ));
        }
        if let Some(best) = session.progress.best {
            say(format_args!(
                "best     validation loss {:.4} after step {}",
                best.val_loss, best.step
            ));
        }
        say(format_args!(
            "sample   {}",
            session.sample.trim().replace('\n', "\n         ")
        ));
        let best = session
            .run
            .best()
            .map_or(String::new(), |best| format!(", {}", best.display()));
        say(format_args!("saved    {folder}/latest{best}; curve: {folder}/loss.svg"));
        let (program, folder) = (program(), quoted(&session.run.folder));
        say_unbroken(format_args!("next     {program} generate --checkpoint {folder}"));
        say_unbroken(format_args!("         {program} eval --checkpoint {folder}"));
    }
}

/// For a run that was resumed and has no steps left.
pub fn already_complete(session: &Session) {
    say_unbroken(format_args!(
        "run {} is complete at step {}; train it for longer, at the lowest rate, with: {} train --resume {} --steps {4} (--schedule-steps {4} plans the rates anew)",
        session.run.folder.display(),
        session.state.step,
        program(),
        quoted(&session.run.folder),
        2 * session.config.steps
    ));
}

/// How many checkpoints a run leaves from `step` on, without the best one.
fn kept_checkpoints(config: &TrainConfig, step: u64) -> u64 {
    let all = config.steps.div_ceil(config.save_every) - step / config.save_every;
    if config.keep_last == 0 {
        return all;
    }
    let every = [config.steps, step].map(|step| step.checked_div(config.keep_every).unwrap_or(0));
    all.min(config.keep_last as u64 + every[0] - every[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Device;
    use crate::config::Preset;

    #[test]
    fn a_run_that_goes_on_between_two_checkpoints_leaves_both() {
        let config = |keep_last, keep_every| TrainConfig {
            steps: 25,
            save_every: 10,
            keep_last,
            keep_every,
            ..Preset::Nano.train(Device::Cpu)
        };
        assert_eq!(kept_checkpoints(&config(0, 0), 0), 3); // after steps 10, 20 and 25
        assert_eq!(kept_checkpoints(&config(0, 0), 5), 3);
        assert_eq!(kept_checkpoints(&config(0, 0), 10), 2);
        assert_eq!(kept_checkpoints(&config(1, 20), 15), 2);
    }
}
