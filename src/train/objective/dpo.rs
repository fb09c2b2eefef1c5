//! Preference pairs for direct preference optimisation.

use anyhow::{Context, Result};

use crate::checkpoint::{Checkpoint, PairLogprobs};
use crate::config::TrainConfig;
use crate::data::batches::IGNORE_INDEX;
use crate::data::preferences::Pairs;
use crate::data::source::Source;
use crate::evaluate::Evaluator;
use crate::evaluate::preferences::{PreferenceScore, pair_logprobs};
use crate::model::parameters::Parameters;
use crate::train::step::Stepper;
use crate::train::step::gradients::MicroBatch;
use crate::train::step::objective::ObjectiveRows;
use crate::train::step::objective::dpo::DpoRows;

/// What is known of a run's pairs.
pub struct Dpo {
    beta: f32,
    context: usize,
    /// Rows of a micro-batch, two for each pair.
    batch_size: usize,
    /// What the reference model says of them.
    pub reference: PairLogprobs,
}

impl Dpo {
    /// For the training and the validation pairs. Of a resumed run, what the reference model says of them is `known`.
    ///
    /// # Errors
    /// MLX's.
    pub fn new(
        config: &TrainConfig,
        beta: f32,
        known: Option<PairLogprobs>,
        reference: &Checkpoint,
        [train, val]: [&Source; 2],
    ) -> Result<Self> {
        let reference = match known {
            Some(known) => known,
            None => {
                let threads = config.compute_threads();
                let mut evaluator = Evaluator::new(&reference.model, reference.parameters.names(), threads)?;
                let mut of = |source: &Source| {
                    let pairs = pairs(source)?;
                    let all: Vec<usize> = (0..pairs.len()).collect();
                    let (parameters, context) = (&reference.parameters, config.context);
                    pair_logprobs(&mut evaluator, parameters, pairs, &all, context, |_| ())
                };
                PairLogprobs {
                    train: of(train)?,
                    val: of(val)?,
                }
            }
        };
        Ok(Self {
            beta,
            context: config.context,
            batch_size: config.batch_size,
            reference,
        })
    }

    /// The first `count` micro-batches of a step: random pairs.
    pub fn micro_batches(
        &self,
        stepper: &Stepper,
        step: u64,
        source: &Source,
        count: usize,
    ) -> Result<Vec<MicroBatch>> {
        let mut rng = stepper.rng(step);
        let pairs = pairs(source)?;
        let chosen = pairs.draw(&mut rng, count * self.batch_size / 2);
        let mut micro_batches = stepper.divide(&mut rng, pairs.batch(&chosen, self.context));
        for (micro_batch, indices) in micro_batches.iter_mut().zip(chosen.chunks(self.batch_size / 2)) {
            let targets = micro_batch.batch.targets.iter();
            micro_batch.objective = Some(ObjectiveRows::Dpo(DpoRows {
                reference_logprobs: indices.iter().flat_map(|&pair| self.reference.train[pair]).collect(),
                target_mask: targets.map(|&id| f32::from(u8::from(id != IGNORE_INDEX))).collect(),
                inverse_pairs: 1.0 / chosen.len() as f32,
            }));
        }
        Ok(micro_batches)
    }

    /// The preferences of the model with these parameters on `count` pairs, evenly spaced, or on all there are; `reference` has
    /// the log-probabilities of all.
    pub fn score(
        &self,
        evaluator: &mut Evaluator,
        parameters: &Parameters,
        source: &Source,
        reference: &[[f32; 2]],
        count: usize,
        context: usize,
    ) -> Result<PreferenceScore> {
        let pairs = pairs(source)?;
        let indices = pairs.evenly_spaced(count);
        let model = pair_logprobs(evaluator, parameters, pairs, &indices, context, |_| ())?;
        let reference: Vec<[f32; 2]> = indices.iter().map(|&pair| reference[pair]).collect();
        Ok(PreferenceScore::of(&model, Some((&reference, self.beta))))
    }
}

fn pairs(source: &Source) -> Result<&Pairs> {
    source.pairs().context("the run's data are no preference pairs")
}
