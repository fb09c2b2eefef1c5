//! Loss spikes: a training loss that leaves its level and stays away from it. The run returns, once, to the last checkpoint
//! before the rise and goes on with other batches, as has been done by hand for large models (Chowdhery et al. 2022, section 5.1).

use anyhow::{Result, bail};

use super::metrics::{Metrics, Record, SpikeRecord};
use super::observer::Observer;
use super::session::Session;
use super::setup;
use super::step::StepReport;
use crate::checkpoint::{self, LossLevel};

/// Losses before the level is known. The first ones fall too fast.
const WARMUP: u32 = 100;
/// Losses in the level's moving averages.
const SPAN: f32 = 50.0;
/// How far above its mean a loss is out of the level, in standard deviations.
const DEVIATIONS: f32 = 7.0;
/// The least standard deviation, in nats: the losses of a model that knows its text by heart hardly differ.
const MIN_DEVIATION: f32 = 0.02;
/// Losses in a row above the level that are a spike. A single one is a batch that is hard.
const IN_A_ROW: u32 = 10;

impl LossLevel {
    /// The highest loss that belongs to the level, in nats.
    fn highest(&self) -> f32 {
        self.mean + DEVIATIONS * self.variance.sqrt().max(MIN_DEVIATION)
    }

    /// Takes the loss of a step, in nats; whether it has left the level for good. What is above the level does not change it.
    pub fn observe(&mut self, loss: f32) -> bool {
        if self.steps >= WARMUP && loss > self.highest() {
            self.above += 1;
            return self.above >= IN_A_ROW;
        }
        let weight = (1.0 / (self.steps as f32 + 1.0)).max(1.0 / SPAN);
        let difference = loss - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
        self.steps = (self.steps + 1).min(WARMUP);
        self.above = 0;
        false
    }
}

/// Returns to the last checkpoint before a spike that `step` completes, and says whether it did. Without one, and on several
/// machines, the run goes on, with a warning, from the level that the loss has now.
///
/// # Errors
/// The run returned before; a checkpoint that cannot be read.
pub(super) fn recover(session: &mut Session, observer: &mut dyn Observer, step: &StepReport) -> Result<bool> {
    let (now, usual) = (step.step, session.state.loss_level.mean);
    let rise = format!(
        "step {now}: the loss is {:.3} and has been far above {usual:.3} for {IN_A_ROW} steps",
        step.loss
    );
    // A checkpoint of the step before the first high loss has the weights that gave it.
    let before = now.saturating_sub(u64::from(IN_A_ROW));
    let checkpoint = session.run.steps()?.into_iter().rfind(|&saved| saved < before);
    let reason = match &session.together {
        Some(_) => "a run on several machines does not return to a checkpoint by itself",
        None => "no checkpoint is from before",
    };
    let Some(checkpoint) = checkpoint.filter(|_| session.together.is_none()) else {
        session.state.loss_level = LossLevel::default();
        observer.warning(&format!(
            "{rise}; {reason}, so training continues; a lower --lr may prevent it"
        ));
        return Ok(false);
    };
    if session.state.retry > 0 {
        bail!(
            "{rise}, again after the run returned to an earlier checkpoint with other batches; the last one before is {}; start a new run with a --lr below {}",
            session.run.step_folder(checkpoint).display(),
            session.config.lr
        );
    }
    session.return_to(checkpoint)?;
    session.metrics.log(Record::Spike(SpikeRecord {
        step: checkpoint,
        spike_at: now,
        loss: step.loss,
        usual_loss: usual,
    }))?;
    observer.warning(&format!(
        "{rise}; training continues after step {checkpoint} with other batches, which happens once in a run"
    ));
    Ok(true)
}

impl Session {
    /// Goes on from an earlier checkpoint, with other batches; later ones are removed.
    ///
    /// A process that dies on the way leaves a run that comes to the same place when it is resumed: batches and losses are the
    /// same up to here.
    fn return_to(&mut self, step: u64) -> Result<()> {
        let folder = self.run.step_folder(step);
        checkpoint::verify(&folder)?;
        let (checkpoint, saved, mut state, _) = setup::load(&self.config, &folder)?;
        state.retry = self.state.retry + 1;
        self.run.update_links(&saved)?;
        self.run.remove_checkpoints_after(step)?;
        self.metrics = Metrics::open(&self.run, step)?;
        let changes = self.changes().to_vec();
        self.state.step = step;
        if !self.metrics.changes().any(|line| line.changes == changes) {
            self.record(changes)?; // since this process goes on from here with them
        }
        self.sample = checkpoint.load_sample();
        self.saved = saved.with_numerics_of(&self.saved);
        self.stepper.set_retry(state.retry);
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use mlx_rs::Array;

    use super::*;
    use crate::config::{Device, ModelConfig, Optimizer, Preset, TrainConfig};
    use crate::data::batches::Batch;
    use crate::data::dataset::Dataset;
    use crate::model::init;
    use crate::model::parameters::Parameters;
    use crate::train::{Interrupt, Outcome, OwnStep, OwnTraining, train};

    /// Losses around `mean` that alternate by `noise`.
    fn observed(mean: f32, noise: f32) -> LossLevel {
        let mut level = LossLevel::default();
        for step in 0..300 {
            assert!(!level.observe(mean + if step % 2 == 0 { noise } else { -noise }));
        }
        level
    }

    #[test]
    fn ten_high_losses_in_a_row_are_a_spike_and_nine_are_not() {
        let mut level = observed(2.0, 0.1);
        for _ in 0..20 {
            for _ in 0..9 {
                assert!(!level.observe(2.9));
            }
            assert!(!level.observe(2.0));
        }
        for count in 1..=10 {
            assert_eq!(level.observe(2.9), count == 10);
        }
    }

    #[test]
    fn losses_of_ordinary_trainings_are_none() {
        let mut falling = LossLevel::default();
        assert!((0..3000).all(|step| !falling.observe(1.5 + 3.0 / (1.0 + step as f32 / 50.0))));
        let mut rising = LossLevel::default(); // as with a schedule that begins again
        assert!((0..3000).all(|step| !rising.observe(2.0 + step as f32 / 1500.0)));
        let mut learned_by_heart = observed(0.001, 0.0001);
        assert!((0..30).all(|_| !learned_by_heart.observe(0.1)), "a tenth of a nat");
    }

    /// Steps, and the inputs that they were computed with.
    type Batches = Vec<(u64, Vec<u32>)>;

    /// Training code whose loss is what a script says.
    struct Scripted {
        model: Option<ModelConfig>,
        calls: u64,
        /// Loss by step and call.
        loss: fn(u64, u64) -> f32,
        inputs: Rc<RefCell<Batches>>,
    }

    impl OwnTraining for Scripted {
        fn prepare(&mut self, _: &TrainConfig, model: &ModelConfig) -> Result<()> {
            self.model = Some(model.clone());
            Ok(())
        }

        fn initialize(&self) -> Result<Parameters> {
            Ok(init::initialize(self.model.as_ref().unwrap(), 1)?)
        }

        fn step(&mut self, state: [&Parameters; 3], batch: &Batch, step: u64) -> Result<OwnStep> {
            self.calls += 1;
            self.inputs.borrow_mut().push((step, batch.inputs.clone()));
            Ok(OwnStep {
                loss: Array::from_f32((self.loss)(step, self.calls)),
                grad_norm: Array::from_f32(1.0),
                state: state.map(Clone::clone),
            })
        }
    }

    /// Keeps the warnings.
    #[derive(Default)]
    struct Warnings(Vec<String>);

    impl Interrupt for Warnings {
        fn requested(&self) -> bool {
            false
        }
    }

    impl Observer for Warnings {
        fn warning(&mut self, message: &str) {
            self.0.push(message.to_owned());
        }
    }

    type Trained = (Result<Outcome>, Vec<String>, Batches, Vec<Record>, Vec<u64>);

    /// A training of 240 steps with these losses; its result, warnings, batches, metrics and checkpoints.
    fn trained(save_every: u64, loss: fn(u64, u64) -> f32) -> Trained {
        let folder = tempfile::tempdir().unwrap();
        let config = TrainConfig {
            optimizer: Optimizer::Adamw,
            layers: 1,
            heads: 1,
            embd: 8,
            context: 8,
            batch_size: 2,
            steps: 240,
            eval_every: 1000,
            eval_batches: 1,
            save_every,
            threads: 1,
            ..Preset::Nano.train_config(Device::Cpu)
        };
        let dataset = Dataset::open(&config.corpus).unwrap();
        let inputs = Rc::default();
        let own = Scripted {
            model: None,
            calls: 0,
            loss,
            inputs: Rc::clone(&inputs),
        };
        let session = Session::start(config, &dataset, &folder.path().join("run")).unwrap();
        let mut session = session.with_own(Box::new(own)).unwrap();
        let mut warnings = Warnings::default();
        let outcome = train(&mut session, &mut warnings);
        let (metrics, steps) = (super::super::metrics::read(&session.run), session.run.steps());
        let inputs = inputs.borrow().clone();
        (outcome, warnings.0, inputs, metrics.unwrap(), steps.unwrap())
    }

    /// The batches that a step was computed with; those of timing steps are at step 1.
    fn of_step(inputs: &[(u64, Vec<u32>)], step: u64) -> Vec<&Vec<u32>> {
        let found = inputs.iter().filter(|(at, _)| *at == step);
        found.map(|(_, inputs)| inputs).collect()
    }

    #[test]
    fn a_run_returns_once_to_the_checkpoint_before_a_spike_with_other_batches() {
        // High from step 161 on, the first time that it comes there.
        let (outcome, warnings, inputs, metrics, steps) =
            trained(50, |step, calls| if step > 160 && calls < 180 { 9.0 } else { 2.0 });
        assert_eq!(outcome.unwrap(), Outcome::Finished);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("step 170: the loss is 9.000") && warnings[0].contains("after step 150 with other")
        );
        assert_eq!(steps.last(), Some(&240));
        let [first, second] = of_step(&inputs, 155)[..] else {
            panic!("step 155 was computed twice")
        };
        assert_ne!(first, second);
        assert_eq!(of_step(&inputs, 145).len(), 1);
        let spikes = metrics
            .iter()
            .filter(|line| matches!(line, Record::Spike(line) if line.spike_at == 170));
        assert_eq!(spikes.count(), 1);
        let logged = metrics
            .iter()
            .filter(|line| matches!(line, Record::Step(line) if line.step == 160));
        assert_eq!(
            logged.count(),
            1,
            "the steps that were taken back are gone from the metrics"
        );
    }

    #[test]
    fn a_second_spike_ends_the_run_with_the_rate_to_lower() {
        let (outcome, warnings, _, _, steps) = trained(50, |step, _| if step > 195 { 9.0 } else { 2.0 });
        let error = outcome.unwrap_err().to_string();
        assert!(
            error.contains("again after the run returned") && error.contains("step-000150"),
            "{error}"
        );
        assert!(error.contains("start a new run with a --lr below 0.001"), "{error}");
        assert_eq!(warnings.len(), 1);
        assert_eq!(steps.last(), Some(&200), "what was saved stays");
    }

    #[test]
    fn without_an_earlier_checkpoint_the_run_goes_on() {
        let (outcome, warnings, ..) = trained(1000, |step, _| if step > 160 { 9.0 } else { 2.0 });
        assert_eq!(outcome.unwrap(), Outcome::Finished);
        assert!(
            warnings.len() == 1 && warnings[0].contains("no checkpoint is from before"),
            "{warnings:?}"
        );
    }
}
