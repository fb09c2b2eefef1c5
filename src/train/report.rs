//! What a run tells its user: on stderr as it goes, in `metrics.jsonl` for later.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::metrics::{Line, StepLine};
use super::session::Session;
use super::step::StepReport;
use crate::checkpoint::Losses;

/// Steps between two logged ones; the first and the last are logged too.
const LOG_EVERY: u64 = 10;

/// A compilation that takes longer than this gets an explanation.
const COMPILING: &str =
    "compiling the training step (the first time on a machine: up to half a minute; kept afterwards)";

pub struct Report {
    bar: ProgressBar,
    /// A terminal gets a bar that moves, a file or a pipe a line at each evaluation.
    interactive: bool,
    /// Time spent in steps since the last logged one.
    clock: Duration,
    running_since: Instant,
    steps_since: u64,
    tokens_per_second: f64,
}

impl Report {
    /// Announces the run: what, how long by a measured step, memory and disk.
    pub fn start(session: &mut Session) -> Result<Self> {
        let interactive = std::io::stderr().is_terminal();
        let config = &session.config;
        let parameters = session.state.parameters.count();
        eprintln!("run      {}", session.run.folder.display());
        eprintln!(
            "corpus   {}: {} training tokens, {} validation tokens, vocabulary {}",
            config.corpus,
            session.train_tokens.len(),
            session.val_tokens.len(),
            session.model.vocab_size
        );
        eprintln!(
            "model    {} layers, {} heads, {} wide, context {}: {:.2} million parameters",
            session.model.layers,
            session.model.heads,
            session.model.embd,
            session.model.context,
            parameters as f64 / 1e6
        );
        eprintln!(
            "training {} steps of {} tokens on the {}, {} thread(s), {:?}",
            config.steps,
            config.tokens_per_step(),
            config.device,
            config.threads,
            config.dtype
        );

        let spinner = ProgressBar::new_spinner().with_message(COMPILING);
        if interactive {
            spinner.enable_steady_tick(Duration::from_millis(120));
        } else {
            eprintln!("{COMPILING}");
        }
        let step = session.measure_step()?;
        spinner.finish_and_clear();

        let left = session.config.steps.saturating_sub(session.state.step);
        let saves = session.config.steps.div_ceil(session.config.save_every);
        let checkpoint = 3 * 4 * parameters as u64; // weights and two moments, float32
        eprintln!(
            "needs    about {} ({:.0} ms a step), {} of memory, {} of disk for {saves} checkpoint(s)",
            HumanDuration(step * left.min(u64::from(u32::MAX)) as u32),
            step.as_secs_f64() * 1e3,
            HumanBytes(mlx_rs::memory::peak_memory()? as u64),
            HumanBytes(saves * checkpoint)
        );
        if session.state.step > 0 {
            eprintln!("resuming after step {}", session.state.step);
        }

        let bar = if interactive {
            ProgressBar::new(session.config.steps)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left")?);
        bar.set_position(session.state.step);
        bar.reset_eta();
        Ok(Self {
            bar,
            interactive,
            clock: Duration::ZERO,
            running_since: Instant::now(),
            steps_since: 0,
            tokens_per_second: 0.0,
        })
    }

    /// Shows a step, and logs it when its turn has come.
    pub fn step(&mut self, session: &mut Session, step: &StepReport) -> Result<()> {
        self.clock += self.running_since.elapsed();
        self.running_since = Instant::now();
        self.steps_since += 1;
        let (now, last) = (session.state.step, session.config.steps);
        if now == 1 || now.is_multiple_of(LOG_EVERY) || now == last {
            let tokens = self.steps_since as f64 * session.config.tokens_per_step() as f64;
            self.tokens_per_second = tokens / self.clock.as_secs_f64();
            session.metrics.log(Line::Step(StepLine {
                step: now,
                loss: step.loss,
                lr: step.lr,
                grad_norm: step.grad_norm,
                tokens_per_second: self.tokens_per_second,
                memory: mlx_rs::memory::active_memory()? + mlx_rs::memory::cache_memory()?,
            }))?;
            (self.clock, self.steps_since) = (Duration::ZERO, 0);
            self.bar.set_message(format!(
                "loss {:.4}  {:.1}k tokens/s ",
                step.loss,
                self.tokens_per_second / 1e3
            ));
        }
        self.bar.set_position(now);
        Ok(())
    }

    /// Evaluation and saving are over: time counts as training again.
    pub fn resume_clock(&mut self) {
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
        if self.interactive {
            let first = session
                .sample
                .lines()
                .find(|line| line.chars().count() > 10)
                .unwrap_or_default();
            self.bar
                .suspend(|| eprintln!("{line}  “{}”", first.chars().take(48).collect::<String>()));
        } else {
            eprintln!("{line}");
        }
        self.resume_clock();
    }

    pub fn interrupted(&self, session: &Session) {
        self.bar.finish_and_clear();
        eprintln!(
            "stopped and saved after step {}; go on with: mlx-gpt train --resume {}",
            session.state.step,
            session.run.folder.display()
        );
    }

    pub fn finished(&self, session: &Session) {
        self.bar.finish_and_clear();
        let folder = session.run.folder.display();
        if let Some(best) = session.progress.best {
            eprintln!("best     validation loss {:.4} after step {}", best.val_loss, best.step);
        }
        eprintln!("sample   {}", session.sample.trim().replace('\n', "\n         "));
        eprintln!("saved    {folder}/latest, {folder}/best; curve: {folder}/loss.svg");
        eprintln!("next     mlx-gpt generate --checkpoint {folder}    (or: cargo run -- generate)");
        eprintln!("         mlx-gpt eval --checkpoint {folder}        exact loss on the whole validation text");
    }
}
