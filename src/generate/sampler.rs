//! From logits to one token: temperature, top-k, and a draw. Arithmetic on numbers, no MLX.

use anyhow::{Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 always takes the most likely token (greedy).
    pub temperature: f32,
    /// Only the k most likely tokens are drawn from (Fan et al. 2018); 0 keeps all.
    pub top_k: usize,
}

/// A token, and how likely the model found it before temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

impl Sampling {
    /// Chooses a token. `logits` has one number a token of the vocabulary.
    ///
    /// # Errors
    /// None of them is a finite number: the model is broken.
    pub fn choose(&self, logits: &[f32], rng: &mut ChaCha8Rng) -> Result<Choice> {
        ensure!(
            logits[most_likely(logits)].is_finite(),
            "the model's logits are not finite numbers; its weights are broken, use an earlier checkpoint"
        );
        let index = if self.temperature == 0.0 {
            most_likely(logits)
        } else {
            draw(&self.candidates(logits), rng)
        };
        Ok(Choice {
            id: index as u32,
            logprob: logits[index] - log_sum_exp(logits.iter().copied()),
        })
    }

    /// The tokens that may be drawn, with their probabilities, most likely first; equal ones in the order of their ids.
    pub fn candidates(&self, logits: &[f32]) -> Vec<(usize, f32)> {
        // From the largest down, so that no temperature makes an infinity of two.
        let largest = logits[most_likely(logits)];
        let scaled = logits.iter().map(|logit| (logit - largest) / self.temperature);
        let mut kept: Vec<(usize, f32)> = scaled.enumerate().collect();
        let by_likelihood = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if (1..kept.len()).contains(&self.top_k) {
            kept.select_nth_unstable_by(self.top_k - 1, by_likelihood);
            kept.truncate(self.top_k);
        }
        kept.sort_unstable_by(by_likelihood);
        let total = log_sum_exp(kept.iter().map(|&(_, logit)| logit));
        for (_, value) in &mut kept {
            *value = (*value - total).exp();
        }
        kept
    }
}

fn most_likely(logits: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = index;
        }
    }
    best
}

fn draw(candidates: &[(usize, f32)], rng: &mut ChaCha8Rng) -> usize {
    let mut left: f32 = rng.random();
    for &(index, probability) in candidates {
        left -= probability;
        if left < 0.0 {
            return index;
        }
    }
    // Rounding left a crumb: it belongs to the least likely token.
    candidates[candidates.len() - 1].0
}

/// `ln Σ exp(x)`, without overflow.
fn log_sum_exp(values: impl Iterator<Item = f32> + Clone) -> f32 {
    let largest = values.clone().fold(f32::NEG_INFINITY, f32::max);
    largest + values.map(|value| f64::from(value - largest).exp()).sum::<f64>().ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, 2.0, -1.0];

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_says_its_probability() {
        let sampling = Sampling {
            temperature: 0.0,
            top_k: 0,
        };
        let choice = sampling.choose(&LOGITS, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        let total: f32 = LOGITS.iter().map(|x| x.exp()).sum();
        assert_eq!(choice.id, 1);
        assert!((choice.logprob - (2.0f32.exp() / total).ln()).abs() < 1e-6);
    }

    #[test]
    fn no_temperature_is_too_small_and_no_broken_model_speaks() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut sampling = Sampling {
            temperature: 1e-40,
            top_k: 0,
        };
        assert!([1, 3].contains(&sampling.choose(&LOGITS, &mut rng).unwrap().id));
        sampling.temperature = 1.0;
        assert!(sampling.choose(&[f32::NAN; 3], &mut rng).is_err());
        assert!(sampling.choose(&[f32::INFINITY, 0.0], &mut rng).is_err());
    }

    #[test]
    fn top_k_keeps_exactly_the_k_most_likely() {
        let kept = |top_k| {
            let sampling = Sampling {
                temperature: 1.0,
                top_k,
            };
            let mut ids: Vec<_> = sampling.candidates(&LOGITS).iter().map(|&(id, _)| id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(kept(1), [1]);
        assert_eq!(kept(3), [1, 2, 3]);
        assert_eq!(kept(0), [0, 1, 2, 3, 4]);
        assert_eq!(kept(99), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let sampling = Sampling {
            temperature: 0.7,
            top_k: 4,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws = 100_000;
        let mut counts = [0u32; 5];
        for _ in 0..draws {
            counts[sampling.choose(&LOGITS, &mut rng).unwrap().id as usize] += 1;
        }
        let chi_square: f64 = sampling
            .candidates(&LOGITS)
            .iter()
            .map(|&(id, probability)| {
                let expected = f64::from(probability) * f64::from(draws);
                (f64::from(counts[id]) - expected).powi(2) / expected
            })
            .sum();
        assert_eq!(counts[4], 0);
        assert!(
            chi_square < 16.3,
            "{chi_square}: 3 degrees of freedom stay below 16.3 with probability 0.999"
        );
    }
}
