//! Runs that end at a given time: their number of steps follows their speed, and their schedule the fraction of the steps
//! that is done.
//!
//! The speed since the last evaluation says how many steps the time that is left has room for. [`Pace`] keeps what was planned, so
//! that a run that is resumed goes on with the same steps and rates.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::session::Session;
use crate::checkpoint::Pace;

/// Changes of plan by less than this fraction of the time wait until the next evaluation.
const TOLERANCE: f64 = 0.01;
/// Between two evaluations, times at which the plan is looked at.
const CHECKS: u64 = 16;
/// Seconds from the last checkpoint to the end of the process.
const EXIT: f64 = 0.3;

/// Measured times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Of a step.
    pub step: f64,
    /// Of an evaluation with its checkpoint.
    pub evaluation: f64,
}

impl Speed {
    /// The steps that fit into `seconds`, with an evaluation every `eval_every` steps and one at the end; at least one, since
    /// what was trained since the last evaluation is not thrown away.
    pub fn steps_within(&self, seconds: f64, eval_every: u64) -> u64 {
        let each = self.step + self.evaluation / eval_every as f64;
        let room = (seconds - self.evaluation - EXIT) / each;
        if room.is_finite() { (room as u64).max(1) } else { 1 }
    }
}

impl Pace {
    /// The plan of a run that begins.
    pub fn new(steps: u64) -> Self {
        Self {
            from: 0,
            done: 0.0,
            steps,
            evaluation_milliseconds: 0,
            milliseconds: 0,
        }
    }

    /// The fraction of the schedule that is done before `step` (from 0).
    pub fn fraction(&self, step: u64) -> f64 {
        let part = step.saturating_sub(self.from) as f64 / self.steps.saturating_sub(self.from).max(1) as f64;
        let done = f64::from(self.done);
        (done + (1.0 - done) * part).min(1.0)
    }

    /// The same plan until `step`, and then so that there are `steps` in all.
    pub fn with_steps(self, step: u64, steps: u64) -> Self {
        Self {
            from: step,
            done: self.fraction(step) as f32,
            steps,
            ..self
        }
    }
}

/// Time since a moment before the process's own work.
pub type Clock = Box<dyn Fn() -> Duration>;

/// The end of a run at a given time.
pub struct Deadline {
    clock: Clock,
    /// Seconds that the run took before this process.
    before: f64,
    /// Seconds of the whole run.
    limit: f64,
    /// Step and seconds at the end of the last evaluation.
    since: (u64, f64),
    /// Seconds when the last evaluation began.
    pause: f64,
    /// Seconds of the last checkpoint.
    save: f64,
}

impl Deadline {
    /// For a run of so many minutes, in which `pace` was reached.
    pub fn new(minutes: f64, pace: &Pace) -> Self {
        let started = Instant::now();
        Self {
            clock: Box::new(move || started.elapsed()),
            before: pace.milliseconds as f64 / 1e3,
            limit: 60.0 * minutes,
            since: (0, 0.0),
            pause: 0.0,
            save: 0.0,
        }
    }

    fn seconds(&self) -> f64 {
        self.before + (self.clock)().as_secs_f64()
    }

    /// The plan after `step`: at an evaluation, before its checkpoint, or between two. It depends on `pace` and on what was measured
    /// since the last evaluation, nothing else.
    fn planned(&self, mut pace: Pace, step: u64, eval_every: u64, evaluated: bool) -> Pace {
        let now = self.seconds();
        let taken = step.saturating_sub(self.since.0);
        if evaluated {
            pace.evaluation_milliseconds = (1e3 * (now - self.pause + self.save)) as u64;
        }
        // Before the first evaluation it is not known what one takes.
        if taken == 0 || step >= pace.steps || pace.evaluation_milliseconds == 0 {
            return pace;
        }
        let until = if evaluated { self.pause } else { now };
        let speed = Speed {
            step: (until - self.since.1) / taken as f64,
            evaluation: pace.evaluation_milliseconds as f64 / 1e3,
        };
        let save = if evaluated { self.save } else { 0.0 }; // which follows
        let steps = step + speed.steps_within(self.limit - now - save, eval_every);
        let change = (steps as f64 - pace.steps as f64).abs() * speed.step;
        if steps != pace.steps && (evaluated || change > TOLERANCE * self.limit) {
            pace = pace.with_steps(step, steps);
        }
        pace
    }

    /// Steps begin, or go on after an evaluation and its checkpoint.
    fn steps_begin(&mut self, step: u64) {
        self.since = (step, self.seconds());
    }
}

impl Session {
    /// Steps in all, those before a resume included. Of a run that ends at a given time, by the plan so far.
    pub fn total_steps(&self) -> u64 {
        self.state.pace.map_or(self.config.steps, |pace| pace.steps)
    }

    /// Counts the time of a run that ends at a given time from an earlier moment, or by another clock.
    pub fn use_clock(&mut self, clock: Clock) {
        if let Some(deadline) = &mut self.deadline {
            deadline.clock = clock;
        }
    }

    /// The plan, with the time that the run has taken.
    pub(super) fn pace_now(&self) -> Option<Pace> {
        let (pace, deadline) = (self.state.pace?, self.deadline.as_ref()?);
        Some(Pace {
            milliseconds: (1e3 * deadline.seconds()) as u64,
            ..pace
        })
    }

    /// An evaluation begins.
    pub(super) fn pause_deadline(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.pause = deadline.seconds();
        }
    }

    /// Plans how many steps there will be: after each step, and if there is an evaluation, after that.
    pub(super) fn follow_deadline(&mut self, evaluated: bool) {
        let (Some(deadline), Some(pace)) = (&self.deadline, self.state.pace) else {
            return;
        };
        let (step, every) = (self.state.step, self.config.eval_every);
        if evaluated || step.is_multiple_of((every / CHECKS).max(1)) {
            self.state.pace = Some(deadline.planned(pace, step, every, evaluated));
        }
    }

    /// Steps begin, or go on after an evaluation and its checkpoint.
    pub(super) fn continue_deadline(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.steps_begin(self.state.step);
        }
    }

    /// Saves, and keeps in mind how long that takes.
    pub(super) fn save_timed(&mut self) -> Result<()> {
        let seconds = |session: &Self| session.deadline.as_ref().map_or(0.0, Deadline::seconds);
        let begun = seconds(self);
        let saved = self.save();
        let took = seconds(self) - begun;
        if let Some(deadline) = &mut self.deadline {
            deadline.save = took;
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::checkpoint::Losses;
    use crate::checkpoint::run::Run;
    use crate::config::{Device, Preset, TrainConfig};
    use crate::data::dataset::Dataset;
    use crate::train::step::StepReport;
    use crate::train::{Interrupt, Observer, train};

    #[test]
    fn the_schedule_goes_on_where_it_was_and_ends_with_the_steps() {
        let pace = Pace::new(1000);
        assert_eq!(
            (pace.fraction(0), pace.fraction(500), pace.fraction(1000)),
            (0.0, 0.5, 1.0)
        );
        let longer = pace.with_steps(500, 2000);
        assert_eq!(longer.fraction(500), 0.5);
        assert_eq!(longer.fraction(1250), 0.75);
        assert_eq!(longer.fraction(2000), 1.0);
        let shorter = longer.with_steps(1250, 1251);
        assert_eq!((shorter.fraction(1250), shorter.fraction(1251)), (0.75, 1.0));
    }

    /// A run of a minute whose steps take `seconds` by their number, with evaluations of `evaluation` seconds every `every`
    /// steps; the time at its end, and its plans.
    fn run(first: u64, every: u64, evaluation: f64, seconds: impl Fn(u64) -> f64) -> (f64, Vec<u64>) {
        let time = Rc::new(Cell::new(0.0));
        let mut pace = Pace::new(first);
        let mut deadline = Deadline::new(1.0, &pace);
        let clock = Rc::clone(&time);
        deadline.clock = Box::new(move || Duration::from_secs_f64(clock.get()));
        let (mut step, mut plans) = (0, Vec::new());
        let mut fraction = 0.0;
        while step < pace.steps {
            time.set(time.get() + seconds(step));
            step += 1;
            let evaluated = step.is_multiple_of(every) || step == pace.steps;
            if evaluated {
                deadline.pause = deadline.seconds();
                time.set(time.get() + evaluation / 2.0);
            }
            let before = pace;
            pace = deadline.planned(pace, step, every, evaluated);
            if pace.steps != before.steps {
                plans.push(pace.steps);
            }
            if evaluated {
                time.set(time.get() + evaluation / 2.0);
                deadline.save = evaluation / 2.0;
                deadline.steps_begin(step);
            }
            assert!(pace.fraction(step) >= fraction, "the schedule never goes back");
            fraction = pace.fraction(step);
        }
        assert_eq!(fraction, 1.0, "it comes to its end");
        (time.get(), plans)
    }

    #[test]
    fn runs_end_on_time_whatever_their_speed() {
        let on_time = |(end, plans): (f64, Vec<u64>)| {
            assert!((57.0..=61.0).contains(&end), "{end} {plans:?}"); // 5 %
            plans
        };
        // As planned; twice as slow; four times as fast; slower and faster by turns.
        on_time(run(500, 50, 0.5, |_| 0.1));
        on_time(run(500, 50, 0.5, |_| 0.2));
        on_time(run(500, 50, 0.5, |_| 0.025));
        on_time(run(500, 50, 0.5, |step| if step / 80 % 2 == 0 { 0.05 } else { 0.15 }));
        let plans = on_time(run(500, 50, 0.5, |step| if step < 250 { 0.1 } else { 0.3 }));
        assert!(plans.last() < plans.first(), "{plans:?}");
    }

    #[test]
    fn a_run_that_has_no_time_left_takes_one_more_step() {
        let (end, _) = run(500, 50, 0.5, |step| if step == 100 { 70.0 } else { 0.1 });
        assert!((80.0..82.0).contains(&end), "{end}");
    }

    /// Steps of an eighth of a second, and of two after the twentieth; evaluations of half a second.
    struct Scripted {
        eighths: Rc<Cell<u64>>,
    }

    impl Interrupt for Scripted {
        fn requested(&self) -> bool {
            false
        }
    }

    impl Observer for Scripted {
        fn step(&mut self, session: &Session, _: &StepReport, _: f64) {
            let slow = session.step() > 20;
            self.eighths.set(self.eighths.get() + if slow { 2 } else { 1 });
        }

        fn evaluated(&mut self, _: &Session, _: Losses, _: f64) {
            self.eighths.set(self.eighths.get() + 4);
        }
    }

    type Trained = (Vec<(u64, f32, f32)>, Option<Pace>, Vec<Vec<f32>>);

    /// Trains to the end; the logged losses and rates, the plan, and the weights.
    fn trained(mut session: Session) -> Trained {
        let eighths = Rc::new(Cell::new(0));
        let clock = Rc::clone(&eighths);
        session.use_clock(Box::new(move || Duration::from_millis(125 * clock.get())));
        train(&mut session, &mut Scripted { eighths }).unwrap();
        let steps = session.metrics.steps().map(|line| (line.step, line.loss, line.lr));
        let weights = session.state.parameters.arrays().iter();
        let weights = weights.map(|array| array.try_as_slice::<f32>().unwrap().to_vec());
        (steps.collect(), session.pace_now(), weights.collect())
    }

    #[test]
    fn a_run_that_was_killed_goes_on_with_the_plan_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let config = TrainConfig {
            minutes: Some(0.2), // 96 eighths of a second
            layers: 1,
            heads: 1,
            embd: 8,
            context: 8,
            batch_size: 2,
            steps: 200,
            eval_every: 8,
            save_every: 8,
            eval_batches: 1,
            threads: 1,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        let dataset = Dataset::open(&config.corpus).unwrap();
        let path = folder.path().join("run");
        let whole = trained(Session::start(config.clone(), &dataset, &path).unwrap());
        let pace = whole.1.unwrap();
        assert!(pace.steps < 60 && pace.from > 8, "{pace:?}");
        let last = whole.0.last().unwrap();
        assert!(
            last.0 == pace.steps && last.2 < 0.3 * config.lr,
            "the rate has come down: {last:?}"
        );

        // Killed after its third checkpoint.
        let run = Run::open(&path).unwrap();
        run.remove_checkpoints_after(24).unwrap();
        assert_eq!(run.steps().unwrap().last(), Some(&24));
        let resumed = trained(Session::resume(run, config, &dataset).unwrap());
        assert_eq!(resumed, whole, "the same to the bit");
    }

    #[test]
    fn small_changes_wait_for_the_evaluation() {
        let (_, plans) = run(560, 100, 0.1, |_| 0.1);
        assert!(plans.len() <= 7, "{plans:?}");
    }
}
