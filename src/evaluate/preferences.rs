//! How often a model prefers the chosen answer of a pair to the rejected one.

use anyhow::Result;
use serde::Serialize;

use super::Evaluator;
use crate::data::preferences::Pairs;
use crate::model::parameters::Parameters;

/// Preferences of a model on pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PreferenceScore {
    /// The fraction of pairs whose chosen answer is preferred, from 0 to 1: the one with the higher log-ratio to the reference
    /// model, or without one, with the higher log-probability.
    pub accuracy: f64,
    /// Mean of what the chosen answers are ahead: with a reference, as rewards, β times that; in nats.
    pub margin: f64,
    /// DPO's loss, if there is a reference model; in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Number of pairs.
    pub pairs: usize,
}

impl PreferenceScore {
    /// From the log-probabilities of each pair's answers under the model, and under the reference model with DPO's β, if there is
    /// one.
    pub fn of(model: &[[f32; 2]], reference: Option<(&[[f32; 2]], f32)>) -> Self {
        let margins: Vec<f64> = model
            .iter()
            .enumerate()
            .map(|(pair, model)| {
                let ahead = |[chosen, rejected]: [f32; 2]| f64::from(chosen) - f64::from(rejected);
                match reference {
                    Some((reference, beta)) => f64::from(beta) * (ahead(*model) - ahead(reference[pair])),
                    None => ahead(*model),
                }
            })
            .collect();
        let pairs = margins.len();
        let mean = |f: &dyn Fn(f64) -> f64| margins.iter().copied().map(f).sum::<f64>() / pairs as f64;
        Self {
            accuracy: mean(&|margin| f64::from(u8::from(margin > 0.0))),
            margin: mean(&|margin| margin),
            // -log σ(m) = log(1 + exp(-m)), with an exponent that cannot overflow.
            loss: reference.map(|_| mean(&|margin| (-margin).max(0.0) + (-margin.abs()).exp().ln_1p())),
            pairs,
        }
    }
}

/// Log-probabilities of the answers of the pairs of these indices, in nats: of the chosen one, then of the rejected one. Rows have
/// `context` tokens. `progress` is called with the number of finished pairs.
///
/// # Errors
/// As [`Evaluator::losses`].
pub fn pair_logprobs(
    evaluator: &mut Evaluator,
    parameters: &Parameters,
    pairs: &Pairs,
    indices: &[usize],
    context: usize,
    mut progress: impl FnMut(usize),
) -> Result<Vec<[f32; 2]>> {
    let at_once = (evaluator.rows(context) / 2).max(1);
    let mut all = Vec::with_capacity(indices.len());
    for indices in indices.chunks(at_once * evaluator.batches_at_once()) {
        let batches = indices.chunks(at_once).map(|indices| pairs.batch(indices, context));
        for losses in evaluator.losses(parameters, batches)? {
            let answers: Vec<f32> = losses
                .chunks(context)
                .map(|row| -row.iter().copied().map(f64::from).sum::<f64>() as f32)
                .collect();
            all.extend(answers.as_chunks::<2>().0);
        }
        progress(indices.len());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_preferred_by_its_log_ratio_or_without_a_reference_by_its_log_probability() {
        let model = [[-1.0, -2.0], [-3.0, -2.5]];
        let alone = PreferenceScore::of(&model, None);
        assert_eq!((alone.accuracy, alone.margin, alone.loss), (0.5, 0.25, None));
        // Ahead by 1 and -0.5 where the reference has 2 and -1: log-ratios of -1 and 0.5.
        let score = PreferenceScore::of(&model, Some((&[[0.0, -2.0], [-2.0, -1.0]], 0.1)));
        assert_eq!((score.accuracy, score.pairs), (0.5, 2));
        assert!((score.margin + 0.025).abs() < 1e-9, "{score:?}");
        let expected = ((1.0 + 0.1f64.exp()).ln() + (1.0 + (-0.05f64).exp()).ln()) / 2.0;
        assert!((score.loss.unwrap() - expected).abs() < 1e-8, "{score:?}");
    }
}
