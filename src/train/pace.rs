//! Runs that end at a given time: their number of steps follows their speed, and their schedule the fraction of the steps
//! that is done.
//!
//! The speed since the last evaluation says how many steps the time that is left has room for. [`Pace`] keeps what was planned, so
//! that a run that is resumed goes on with the same steps and rates.

use std::time::{Duration, Instant};

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
    /// Seconds when the evaluation began that is under way.
    pause: f64,
    /// Of the last evaluation and the steps before it, once there were any.
    measured: Option<Speed>,
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
            measured: None,
        }
    }

    fn seconds(&self) -> f64 {
        self.before + (self.clock)().as_secs_f64()
    }

    /// The plan after `step`, if it changes: of an evaluation that has just ended, or between two.
    fn planned(&mut self, pace: Pace, step: u64, eval_every: u64, evaluated: bool) -> Option<Pace> {
        let now = self.seconds();
        let until = if evaluated { self.pause } else { now };
        let taken = step.saturating_sub(self.since.0);
        let mut speed = self.measured.unwrap_or(Speed {
            step: 0.0,
            evaluation: 0.0,
        });
        if taken > 0 {
            speed.step = (until - self.since.1) / taken as f64;
        }
        if evaluated {
            speed.evaluation = now - self.pause;
            (self.since, self.measured) = ((step, now), (taken > 0).then_some(speed));
        }
        if taken == 0 || step >= pace.steps {
            return None;
        }
        let left = self.limit - now;
        let steps = step + speed.steps_within(left, eval_every);
        let change = (steps as f64 - pace.steps as f64).abs() * speed.step;
        (steps != pace.steps && (evaluated || change > TOLERANCE * self.limit)).then(|| pace.with_steps(step, steps))
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

    /// Steps begin.
    pub(super) fn start_deadline(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.since = (self.state.step, deadline.seconds());
        }
    }

    /// An evaluation begins.
    pub(super) fn pause_deadline(&mut self) {
        if let Some(deadline) = &mut self.deadline {
            deadline.pause = deadline.seconds();
        }
    }

    /// After each step, and after its evaluation and checkpoint if it was `evaluated`: plans how many there will be.
    pub(super) fn follow_deadline(&mut self, evaluated: bool) {
        let (Some(deadline), Some(pace)) = (&mut self.deadline, self.state.pace) else {
            return;
        };
        let every = self.config.eval_every;
        if evaluated || self.state.step.is_multiple_of((every / CHECKS).max(1)) {
            let planned = deadline.planned(pace, self.state.step, every, evaluated);
            self.state.pace = planned.or(self.state.pace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn the_schedule_goes_on_where_it_was_and_ends_with_the_steps() {
        let pace = Pace::new(1000);
        assert_eq!((pace.fraction(0), pace.fraction(500), pace.fraction(1000)), (0.0, 0.5, 1.0));
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
                time.set(time.get() + evaluation);
            }
            if let Some(planned) = deadline.planned(pace, step, every, evaluated) {
                pace = planned;
                plans.push(pace.steps);
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
            assert!((57.0..=60.0).contains(&end), "{end} {plans:?}");
            plans
        };
        // As planned; twice as slow; four times as fast; slower and faster by turns.
        on_time(run(500, 50, 0.5, |_| 0.1));
        on_time(run(500, 50, 0.5, |_| 0.2));
        on_time(run(500, 50, 0.5, |_| 0.025));
        on_time(run(500, 50, 0.5, |step| if step / 80 % 2 == 0 { 0.05 } else { 0.15 }));
        let plans = on_time(run(500, 50, 0.5, |step| if step < 250 { 0.1 } else { 0.3 }));
        assert!(plans.windows(2).all(|pair| pair[1] <= pair[0] + 5), "{plans:?}");
    }

    #[test]
    fn a_run_that_has_no_time_left_takes_one_more_step() {
        let (end, _) = run(500, 50, 0.5, |step| if step == 100 { 70.0 } else { 0.1 });
        assert!((80.0..81.5).contains(&end), "{end}");
    }

    #[test]
    fn small_changes_wait_for_the_evaluation() {
        let (_, plans) = run(560, 100, 0.1, |_| 0.1);
        assert!(plans.len() <= 7, "{plans:?}");
    }
}
