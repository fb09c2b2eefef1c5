//! Chooses what to train in a given time: a pure function of what was measured of the machine and the text.

use super::law::{self, Training};
use crate::train::Speed;

/// A model and its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Size {
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Embedding dimension.
    pub embd: usize,
    /// Context length.
    pub context: usize,
    /// Rows of a batch.
    pub batch_size: usize,
}

/// Shapes to choose from: layers, heads, width.
const SHAPES: [[usize; 3]; 8] = [
    [2, 2, 64],
    [3, 3, 96],
    [4, 4, 128],
    [6, 6, 192],
    [6, 6, 384],
    [8, 8, 512],
    [12, 12, 768],
    [24, 16, 1024],
];
/// Parameters of the first of them, which any text may have.
const SMALLEST: f64 = 98_304.0;
/// Contexts to choose from.
const CONTEXTS: [usize; 3] = [64, 128, 256];
/// Rows of a batch, as in nanoGPT's recipe for CPUs.
const BATCH: usize = 12;
/// Fewer steps than this are no training.
const FEWEST_STEPS: u64 = 100;
/// The largest number of parameters of the blocks, and of tokens, that the law was fitted to. Beyond, the band is twice as wide.
const FITTED: [f64; 2] = [2.7e6, 4e6];
/// Parameters of the blocks for each token of the text, at most: larger models only learn it by heart sooner, which the law does not
/// know. nanoGPT's recipe for GPUs has ten.
const MOST_PARAMETERS: f64 = 12.0;
/// The narrowest half band, in nats.
const NARROWEST: f64 = 0.03;
/// Steps that an evaluation takes as long as: 480 rows without a backward pass.
const EVALUATION_STEPS: f64 = 14.0;
/// Seconds of its sample.
const SAMPLE: f64 = 0.2;
/// Bytes of a checkpoint that are hashed and written in a second.
const SAVED: f64 = 1e8;
/// Rows of the n-gram table: most parameters of a small `modern`.
const TABLE: usize = 32_768;

/// All sizes to choose from, from cheap to dear; `given` ones are not chosen.
pub fn sizes(given: Given) -> Vec<Size> {
    let shapes: Vec<[usize; 3]> = match given.shape {
        Some(shape) => vec![shape],
        None => SHAPES.to_vec(),
    };
    let contexts = given.context.map_or(CONTEXTS.to_vec(), |context| vec![context]);
    let of = |[layers, heads, embd]: [usize; 3]| {
        contexts.iter().map(move |&context| Size {
            layers,
            heads,
            embd,
            context,
            batch_size: given.batch_size.unwrap_or(BATCH),
        })
    };
    let mut sizes: Vec<Size> = shapes.into_iter().flat_map(of).collect();
    sizes.sort_by(|a, b| a.flops(0).total_cmp(&b.flops(0)));
    sizes
}

/// What the user has decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given {
    /// Layers, heads, width.
    pub shape: Option<[usize; 3]>,
    /// Context length.
    pub context: Option<usize>,
    /// Rows of a batch.
    pub batch_size: Option<usize>,
    /// Dropout probability.
    pub dropout: Option<f32>,
}

impl Size {
    /// Tokens of a step.
    pub fn tokens(&self) -> usize {
        self.batch_size * self.context
    }

    /// Parameters of the blocks' matrices.
    fn parameters(&self) -> f64 {
        (12 * self.layers * self.embd * self.embd) as f64
    }

    /// Seconds of an evaluation and its checkpoint, about, where a step takes so many.
    fn evaluation(&self, step: f64) -> f64 {
        let parameters = self.parameters() + (TABLE * self.embd) as f64;
        EVALUATION_STEPS * step + SAMPLE + 12.0 * parameters / SAVED // with two moments of four bytes
    }

    /// Floating-point operations of a step, about (Kaplan et al. 2020, table 1, times three for the backward pass).
    pub fn flops(&self, vocabulary: usize) -> f64 {
        let [layers, embd, context] = [self.layers, self.embd, self.context].map(|n| n as f64);
        let token = 12.0 * layers * embd * embd + layers * context * embd + vocabulary as f64 * embd;
        6.0 * token * self.tokens() as f64
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Tokens of the training text.
    pub tokens: usize,
    /// Tokens of the shorter split.
    pub shortest: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Loss of the pilot training, in nats.
    pub pilot_loss: f64,
    /// The pilot training.
    pub pilot: Training,
    /// Seconds of a step, of some sizes.
    pub steps: Vec<(Size, f64)>,
    /// Whether it is the kind of device that the law was fitted on.
    pub is_fitted_device: bool,
}

/// A possible training.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Candidate {
    /// The model and its batches.
    #[serde(flatten)]
    pub size: Size,
    /// Seconds of a step.
    pub step_seconds: f64,
    /// Whether they were measured for this size.
    pub measured: bool,
    /// Steps in the time.
    pub steps: u64,
    /// Evaluations in the time, the last one included.
    pub evaluations: u64,
    /// Times that the text is seen.
    pub passes: f64,
    /// Dropout probability.
    pub dropout: f32,
    /// Expected validation loss, in nats per token.
    pub loss: f64,
    /// Half the width of its band.
    pub band: f64,
}

impl Measured {
    /// Seconds of a step of that size, and whether it was measured: else from the measured size that is nearest in cost.
    pub fn step_seconds(&self, size: &Size) -> (f64, bool) {
        let distance = |other: &Size| (other.flops(self.vocabulary) / size.flops(self.vocabulary)).ln().abs();
        let nearest = |a: &&(Size, f64), b: &&(Size, f64)| distance(&a.0).total_cmp(&distance(&b.0));
        match self.steps.iter().min_by(nearest) {
            Some((other, seconds)) if other == size => (*seconds, true),
            Some((other, seconds)) => (
                seconds * size.flops(self.vocabulary) / other.flops(self.vocabulary),
                false,
            ),
            None => (f64::INFINITY, false),
        }
    }

    /// What a size comes to in so many `seconds`; none if that is hardly a step.
    pub fn candidate(&self, size: Size, seconds: f64, given: Given) -> Option<Candidate> {
        let (step, measured) = self.step_seconds(&size);
        let evaluations = (seconds / 12.0).clamp(2.0, 20.0) as u64;
        let speed = Speed {
            step,
            evaluation: size.evaluation(step),
        };
        // Evaluations but the last one are taken off before, as their interval follows from the steps.
        let left = seconds - (evaluations - 1) as f64 * speed.evaluation;
        let steps = speed.steps_within(left, u64::MAX);
        let training = Training {
            shape: [size.layers, size.embd],
            seen: steps as f64 * size.tokens() as f64,
            distinct: self.tokens as f64,
            context: size.context,
        };
        let passes = training.seen / training.distinct;
        let loss = self.pilot_loss / self.pilot.loss() * training.loss();
        let beyond = training.parameters() > FITTED[0] || training.seen > FITTED[1];
        let wider = f64::from(1 + u8::from(beyond)) * f64::from(1 + u8::from(!self.is_fitted_device));
        (steps >= FEWEST_STEPS).then(|| Candidate {
            size,
            step_seconds: step,
            measured,
            steps,
            evaluations,
            passes,
            dropout: given.dropout.unwrap_or_else(|| dropout(&training)),
            loss,
            band: wider * (2.0 * law::DEVIATION).max(NARROWEST),
        })
    }

    /// What each size comes to in so many `seconds`, and which of them has the lowest loss.
    pub fn choose(&self, seconds: f64, given: Given) -> (Vec<Candidate>, Option<usize>) {
        let most = MOST_PARAMETERS * self.tokens as f64;
        let fits = |size: &Size| {
            (given.context.is_some() || size.context < self.shortest / 2)
                && (given.shape.is_some() || size.parameters() <= most.max(SMALLEST))
        };
        let sizes = sizes(given).into_iter().filter(fits);
        let candidates: Vec<Candidate> = sizes.filter_map(|size| self.candidate(size, seconds, given)).collect();
        let best = (0..candidates.len()).min_by(|&a, &b| candidates[a].loss.total_cmp(&candidates[b].loss));
        (candidates, best)
    }
}

/// Dropout by how often the text is repeated and how many parameters there are for each of its tokens. A text that is hardly
/// repeated needs none, and loses by it (0.05 costs 0.055 nats of a nano model).
fn dropout(training: &Training) -> f32 {
    let passes = training.seen / training.distinct;
    let ratio = training.parameters() / training.distinct;
    match (passes, ratio) {
        (..4.0, _) => 0.0,
        (_, ..1.0) => 0.0,
        (..16.0, ..4.0) => 0.1,
        _ => 0.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that computes so many operations a second, and a text.
    fn measured(flops: f64, tokens: usize) -> Measured {
        let nano = sizes(Given::default())[0];
        Measured {
            tokens,
            shortest: tokens / 9,
            vocabulary: 65,
            pilot_loss: 1.9,
            pilot: Training {
                shape: [2, 64],
                seen: 150.0 * 768.0,
                distinct: tokens as f64,
                context: 64,
            },
            steps: vec![(nano, nano.flops(65) / flops)],
            is_fitted_device: true,
        }
    }

    #[test]
    fn more_time_and_faster_machines_train_larger_models_to_lower_losses() {
        let chosen = |flops, tokens, minutes: f64| {
            let (candidates, best) = measured(flops, tokens).choose(60.0 * minutes, Given::default());
            candidates[best.unwrap()]
        };
        let mut before = chosen(2e10, 1_000_000, 1.0);
        for minutes in [3.0, 10.0, 60.0, 600.0] {
            let now = chosen(2e10, 1_000_000, minutes);
            assert!(now.loss < before.loss, "{now:?} {before:?}");
            assert!(now.size.flops(65) >= before.size.flops(65), "{now:?} {before:?}");
            before = now;
        }
        assert!(chosen(2e12, 1_000_000, 3.0).loss < chosen(2e10, 1_000_000, 3.0).loss);
    }

    #[test]
    fn what_is_given_is_kept() {
        let given = Given {
            shape: Some([3, 4, 128]),
            context: Some(32),
            batch_size: Some(5),
            dropout: Some(0.3),
        };
        let (candidates, best) = measured(2e10, 1_000_000).choose(120.0, given);
        let size = Size {
            layers: 3,
            heads: 4,
            embd: 128,
            context: 32,
            batch_size: 5,
        };
        assert_eq!((candidates.len(), best), (1, Some(0)));
        assert_eq!((candidates[0].size, candidates[0].dropout), (size, 0.3));
    }

    #[test]
    fn the_steps_of_a_candidate_take_its_time() {
        let (candidates, _) = measured(2e10, 1_000_000).choose(300.0, Given::default());
        for candidate in candidates {
            let evaluation = candidate.size.evaluation(candidate.step_seconds);
            let takes = candidate.steps as f64 * candidate.step_seconds + candidate.evaluations as f64 * evaluation;
            assert!(
                (290.0..=300.0).contains(&takes) || candidate.step_seconds > 1.0,
                "{takes} {candidate:?}"
            );
        }
    }

    #[test]
    fn a_text_that_is_repeated_gets_dropout_and_a_short_one_a_short_context() {
        let (small, best) = measured(2e10, 20_000).choose(1200.0, Given::default());
        assert!(small[best.unwrap()].passes > 16.0);
        assert!(small.iter().any(|candidate| candidate.dropout > 0.0));
        let (large, _) = measured(2e10, 100_000_000).choose(1200.0, Given::default());
        assert!(large.iter().all(|candidate| candidate.dropout == 0.0));
        let (tiny, _) = measured(2e10, 2_700).choose(60.0, Given::default());
        assert!(tiny.iter().all(|candidate| candidate.size.context < 150));
    }

    #[test]
    fn nothing_is_chosen_where_there_is_no_time_for_anything() {
        assert_eq!(
            measured(1e6, 1_000_000).choose(60.0, Given::default()),
            (Vec::new(), None)
        );
    }

    #[test]
    fn bands_are_wider_where_nothing_was_fitted() {
        let cpu = measured(2e10, 1_000_000);
        let gpu = Measured {
            is_fitted_device: false,
            ..cpu.clone()
        };
        let band =
            |measured: &Measured, seconds| measured.candidate(sizes(Given::default())[0], seconds, Given::default());
        let (narrow, wide) = (band(&cpu, 60.0).unwrap(), band(&gpu, 60.0).unwrap());
        assert_eq!(wide.band, 2.0 * narrow.band);
        assert!(band(&cpu, 6000.0).unwrap().band > narrow.band);
    }
}
