//! Sampling, from logits to one token: repetition penalty, temperature, top-k, top-p, min-p, and a draw. Plain f32
//! arithmetic, no MLX.
//!
//! Nothing here sorts GPT-2's 50257 logits: filters find the last token that they keep by selection, in linear time, and a
//! draw sums weights in the order of the ids.

use anyhow::{Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Sampling options, in the order in which they are applied, which is that of `transformers`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The logits of tokens in the context are divided by this if positive and multiplied if negative, once each (Keskar et
    /// al. 2019, section 4.1; the negative ones as in `transformers`); 1 disables it.
    pub repetition_penalty: f32,
    /// Logits are divided by this; 0 always takes the most likely token (greedy).
    pub temperature: f32,
    /// Top-k sampling: only the k most likely tokens (Fan et al. 2018), of equally likely ones those with the lower ids; 0
    /// keeps all.
    pub top_k: usize,
    /// Nucleus sampling: of those, the smallest set of most likely tokens with a total probability of at least p (Holtzman
    /// et al. 2020, section 3.1); 1 keeps all.
    pub top_p: f32,
    /// Of those, only tokens with at least this fraction of the highest probability (Nguyen et al. 2024); 0 keeps all.
    pub min_p: f32,
}

/// A sampled token, with its log-probability before penalty, temperature and filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightedToken {
    /// The token.
    pub id: u32,
    /// Its probability, relative to the most likely token's.
    pub weight: f32,
}

impl Sampling {
    /// Samples from the unmodified distribution.
    pub const PLAIN: Self = Self {
        repetition_penalty: 1.0,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    };

    /// Always takes the most likely token.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        ..Self::PLAIN
    };

    /// Checks the ranges of the options.
    ///
    /// # Errors
    /// An option out of its range.
    pub fn validate(&self) -> Result<()> {
        let Self {
            repetition_penalty,
            temperature,
            top_p,
            min_p,
            ..
        } = *self;
        ensure!(
            repetition_penalty > 0.0 && repetition_penalty.is_finite(),
            "repetition-penalty is {repetition_penalty}; it must be a number over 0, and 1 is none"
        );
        ensure!(
            temperature >= 0.0 && temperature.is_finite(),
            "temperature is {temperature}; it must be a number, 0 or more"
        );
        ensure!(
            top_p > 0.0 && top_p <= 1.0,
            "top-p is {top_p}; it must be over 0 and at most 1, which keeps all"
        );
        ensure!(
            (0.0..1.0).contains(&min_p),
            "min-p is {min_p}; it must be from 0, which keeps all, up to, but not including, 1"
        );
        Ok(())
    }

    /// Samples a token from `logits`, `[V]`, unnormalised log-probabilities; `context_ids` are the tokens before it.
    ///
    /// # Errors
    /// Logits that are not finite: the model is broken.
    pub fn sample(&self, logits: &[f32], context_ids: &[u32], rng: &mut ChaCha8Rng) -> Result<SampledToken> {
        self.sample_excluding(logits, &[], context_ids, rng)
    }

    /// As [`sample`](Self::sample), but never an id of `unused_ids`, which have no token. They still count in the
    /// log-probability.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_excluding(
        &self,
        logits: &[f32],
        unused_ids: &[u32],
        context_ids: &[u32],
        rng: &mut ChaCha8Rng,
    ) -> Result<SampledToken> {
        let log_total = log_sum_exp(logits);
        ensure!(
            log_total.is_finite(),
            "the model's logits are not finite numbers; its weights are broken, use an earlier checkpoint"
        );
        let mut scores = self.penalized(logits, context_ids);
        unused_ids
            .iter()
            .for_each(|&id| scores[id as usize] = f32::NEG_INFINITY);
        let id = if self.temperature == 0.0 {
            argmax(&scores)
        } else {
            draw(&self.candidates_of(&scores), rng)
        };
        Ok(SampledToken {
            id,
            logprob: logits[id as usize] - log_total,
        })
    }

    /// The tokens that may be drawn at a temperature over 0, in the order of their ids.
    pub fn candidates(&self, logits: &[f32], context_ids: &[u32]) -> Vec<WeightedToken> {
        self.candidates_of(&self.penalized(logits, context_ids))
    }

    fn candidates_of(&self, scores: &[f32]) -> Vec<WeightedToken> {
        let largest = scores[argmax(scores) as usize];
        // The maximum is subtracted so that exp cannot overflow at any temperature.
        let weights = scores.iter().map(|score| ((score - largest) / self.temperature).exp());
        let mut kept: Vec<WeightedToken> = (0..)
            .zip(weights)
            .map(|(id, weight)| WeightedToken { id, weight })
            .filter(|candidate| candidate.weight > 0.0)
            .collect();
        keep_top_k(&mut kept, self.top_k);
        keep_top_p(&mut kept, self.top_p);
        kept.retain(|candidate| candidate.weight >= self.min_p);
        kept
    }

    fn penalized(&self, logits: &[f32], context_ids: &[u32]) -> Vec<f32> {
        let mut scores = logits.to_vec();
        if self.repetition_penalty != 1.0 {
            for &id in context_ids {
                // From the logits, so that a token seen twice is not penalized twice.
                let logit = logits[id as usize];
                let score = if logit > 0.0 {
                    logit / self.repetition_penalty
                } else {
                    logit * self.repetition_penalty
                };
                scores[id as usize] = score.clamp(f32::MIN, f32::MAX);
            }
        }
        scores
    }
}

/// A token that could have been sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alternative {
    /// The token.
    pub id: u32,
    /// Natural logarithm of its probability under the model.
    pub logprob: f32,
}

/// The `count` most likely tokens of `logits`, `[V]`, the likeliest first; fewer where there are fewer.
pub fn most_likely(logits: &[f32], count: usize) -> Vec<Alternative> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    let by_logit = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.select_nth_unstable_by(count - 1, by_logit);
    ids.truncate(count);
    ids.sort_unstable_by(by_logit);
    let log_total = log_sum_exp(logits);
    let alternative = |id: u32| Alternative {
        id,
        logprob: logits[id as usize] - log_total,
    };
    ids.into_iter().map(alternative).collect()
}

/// Most likely first; of equal ones, the lower id.
fn by_likelihood(a: &WeightedToken, b: &WeightedToken) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

fn keep_top_k(kept: &mut Vec<WeightedToken>, k: usize) {
    if (1..kept.len()).contains(&k) {
        let (_, &mut last, _) = kept.clone().select_nth_unstable_by(k - 1, by_likelihood);
        kept.retain(|candidate| by_likelihood(candidate, &last).is_le());
    }
}

fn keep_top_p(kept: &mut Vec<WeightedToken>, p: f32) {
    if p == 1.0 {
        return;
    }
    let enough = f64::from(p) * total_weight(kept);
    let mut ranked = kept.clone();
    // The last token to keep is in `part`, and tokens likelier than all of `part` weigh `before`.
    let (mut part, mut before) = (&mut ranked[..], 0.0);
    while part.len() > 1 {
        let half = part.len() / 2;
        part.select_nth_unstable_by(half, by_likelihood);
        let (likelier, others) = part.split_at_mut(half);
        let weight = total_weight(likelier);
        if before + weight >= enough {
            part = likelier;
        } else {
            before += weight;
            part = others;
        }
    }
    let last = part[0];
    kept.retain(|candidate| by_likelihood(candidate, &last).is_le());
}

fn draw(candidates: &[WeightedToken], rng: &mut ChaCha8Rng) -> u32 {
    let mut left = rng.random::<f64>() * total_weight(candidates);
    for candidate in candidates {
        left -= f64::from(candidate.weight);
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding may leave a remainder.
    candidates[candidates.len() - 1].id
}

fn total_weight(candidates: &[WeightedToken]) -> f64 {
    candidates.iter().map(|candidate| f64::from(candidate.weight)).sum()
}

/// Index of the largest score, the first of equal ones.
fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = index;
        }
    }
    best as u32
}

/// `ln Σ exp(x)`, without overflow.
fn log_sum_exp(values: &[f32]) -> f32 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = values.iter().map(|value| f64::from((value - largest).exp())).sum();
    largest + total.ln() as f32
}
