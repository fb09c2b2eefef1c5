//! Samplers as arithmetic: on known logits what is kept is exact, and draws follow what is kept.

use mlx_gpt::generate::sample_rng;
use mlx_gpt::generate::sampler::{Sampling, WeightedToken};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

/// Weights 1, 1/2, 1/4, 1/8, …: sums of them are exact, and so are the places where a sum reaches a probability.
fn halves(count: usize) -> Vec<f32> {
    (0..count)
        .map(|power| -(power as f32) * std::f32::consts::LN_2)
        .collect()
}

fn kept(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
    let candidates = sampling.candidates(logits, &[]);
    candidates.iter().map(|candidate| candidate.id).collect()
}

fn sampling(repetition_penalty: f32, temperature: f32, top_k: usize, top_p: f32, min_p: f32) -> Sampling {
    Sampling {
        repetition_penalty,
        temperature,
        top_k,
        top_p,
        min_p,
    }
}

fn top_k(k: usize) -> Sampling {
    sampling(1.0, 1.0, k, 1.0, 0.0)
}

fn top_p(p: f32) -> Sampling {
    sampling(1.0, 1.0, 0, p, 0.0)
}

fn min_p(p: f32) -> Sampling {
    sampling(1.0, 1.0, 0, 1.0, p)
}

fn temperature(t: f32) -> Sampling {
    sampling(1.0, t, 0, 1.0, 0.0)
}

fn penalty(p: f32) -> Sampling {
    sampling(p, 1.0, 0, 1.0, 0.0)
}

#[test]
fn top_k_keeps_exactly_k_and_of_equals_the_lower_ids() {
    let logits = [0.0, 2.0, 1.0, 2.0, -1.0, 1.0];
    for (k, expected) in [
        (1, &[1][..]),
        (2, &[1, 3]),
        (3, &[1, 2, 3]),
        (4, &[1, 2, 3, 5]),
        (5, &[0, 1, 2, 3, 5]),
        (6, &[0, 1, 2, 3, 4, 5]),
        (99, &[0, 1, 2, 3, 4, 5]),
        (0, &[0, 1, 2, 3, 4, 5]),
    ] {
        assert_eq!(kept(top_k(k), &logits), expected, "top-k {k}");
    }
    assert_eq!(kept(top_k(3), &[1.5; 50257]), [0, 1, 2]);
}

#[test]
fn top_p_keeps_the_fewest_whose_probability_reaches_p_and_one_at_least() {
    // Four equals have a quarter each, exactly.
    for (p, expected) in [
        (1e-9, 1),
        (0.25, 1),
        (0.2500001, 2),
        (0.5, 2),
        (0.75, 3),
        (0.7500001, 4),
        (1.0, 4),
    ] {
        let expected: Vec<u32> = (0..expected).collect();
        assert_eq!(kept(top_p(p), &[3.0; 4]), expected, "top-p {p} of equals");
    }
    // Of a half, a quarter, an eighth, …, by likelihood and not by place: the last is the likeliest.
    let mut logits = halves(20);
    logits.reverse();
    for (p, expected) in [(0.4, 1), (0.6, 2), (0.76, 3), (0.9, 4), (0.99, 7), (1.0, 20)] {
        let expected: Vec<u32> = (20 - expected..20).collect();
        assert_eq!(kept(top_p(p), &logits), expected, "top-p {p} of halves");
    }
    assert_eq!(kept(top_p(0.1), &[7.0]), [0]);
    assert_eq!(kept(top_p(0.5), &[1.5; 50000]), (0..25000).collect::<Vec<u32>>());
}

#[test]
fn min_p_keeps_what_is_likely_enough_beside_the_likeliest() {
    let logits = [0.0, -1.0, 5.0, 4.0, 5.0];
    // exp(-1) = 0.3679, exp(-5) = 0.0067, exp(-6) = 0.0025
    for (p, expected) in [
        (0.0, &[0, 1, 2, 3, 4][..]),
        (0.005, &[0, 2, 3, 4]),
        (0.3678, &[2, 3, 4]),
        (0.3680, &[2, 4]),
        (0.999, &[2, 4]),
    ] {
        assert_eq!(kept(min_p(p), &logits), expected, "min-p {p}");
    }
}

#[test]
fn filters_work_one_after_the_other_on_what_is_left() {
    let logits = halves(10);
    let both = |top_k, top_p, min_p| sampling(1.0, 1.0, top_k, top_p, min_p);
    // Of all ten, 0.85 takes three tokens; of the two likeliest, which have 2/3 and 1/3, both.
    assert_eq!(kept(both(0, 0.85, 0.0), &logits), [0, 1, 2]);
    assert_eq!(kept(both(2, 0.85, 0.0), &logits), [0, 1]);
    assert_eq!(kept(both(2, 0.66, 0.0), &logits), [0]);
    assert_eq!(kept(both(5, 0.99, 0.2), &logits), [0, 1, 2]);
    assert_eq!(kept(both(5, 0.6, 0.01), &logits), [0, 1]);
    // Temperature comes first: at 2, weights fall by the root of a half.
    assert_eq!(kept(sampling(1.0, 2.0, 0, 1.0, 0.49), &logits), [0, 1, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Logits of few different values, so that equals are many and sums of weights exact.
    #[test]
    fn selection_keeps_what_sorting_keeps(powers in vec(0u8..8, 1..200), k in 1usize..220, p in 0.01f32..0.999) {
        let logits: Vec<f32> = powers.iter().map(|&power| -f32::from(power) * std::f32::consts::LN_2).collect();
        let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
        sorted.sort_by_key(|&id| powers[id as usize]); // equals stay in the order of their ids
        let of = |expected: &[u32]| {
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            expected
        };
        prop_assert_eq!(kept(top_k(k), &logits), of(&sorted[..k.min(sorted.len())]));

        let least = f64::from(*powers.iter().min().unwrap());
        let weight = |&id: &u32| (least - f64::from(powers[id as usize])).exp2();
        let enough = f64::from(p) * sorted.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let before = sorted.iter().take_while(|&id| {
            sum += weight(id);
            sum < enough
        });
        let fewest = before.count() + 1;
        prop_assert_eq!(kept(top_p(p), &logits), of(&sorted[..fewest]));
    }
}

#[test]
fn the_penalty_makes_what_is_seen_less_likely_once() {
    let logits = [2.0, -2.0, 2.0, -2.0, 0.0];
    // 2 / 4 and -2 × 4; the largest is the 2 that was not seen.
    let expected = [0.5f32, -8.0, 2.0, -2.0, 0.0].map(|score| (score - 2.0).exp());
    let weights: Vec<f32> = penalty(4.0)
        .candidates(&logits, &[0, 1, 0, 0, 4])
        .iter()
        .map(|candidate| candidate.weight)
        .collect();
    assert_eq!(weights, expected);
    let greedy = sampling(4.0, 0.0, 0, 1.0, 0.0);
    let choice = greedy.sample(&logits, &[0], &mut sample_rng(0, 0)).unwrap();
    assert_eq!(choice.id, 2);
    // The log-probability is the model's own.
    let total: f32 = logits.iter().map(|logit| logit.exp()).sum();
    assert!((choice.logprob - (2.0f32.exp() / total).ln()).abs() < 1e-6);
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let choice = Sampling::GREEDY.sample(&[0.0, 2.0, 1.0, 2.0], &[], &mut sample_rng(0, 0));
    assert_eq!(choice.unwrap().id, 1);
}

/// Every combination of three penalties, temperatures, top-k, top-p and two min-p, by `scripts/sampler_fixtures.py`.
#[test]
fn what_is_kept_is_what_transformers_keeps() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/sampler.json")).unwrap();
    let list = |value: &Value| -> Vec<f64> {
        let values = value.as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap()).collect()
    };
    let logits: Vec<f32> = list(&fixture["logits"]).iter().map(|&logit| logit as f32).collect();
    let context_ids: Vec<u32> = list(&fixture["seen"]).iter().map(|&id| id as u32).collect();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 162);
    for case in cases {
        let number = |name: &str| case[name].as_f64().unwrap() as f32;
        let sampling = sampling(
            number("repetition_penalty"),
            number("temperature"),
            number("top_k") as usize,
            number("top_p"),
            number("min_p"),
        );
        sampling.validate().unwrap();
        let candidates = sampling.candidates(&logits, &context_ids);
        let ids: Vec<f64> = candidates.iter().map(|candidate| f64::from(candidate.id)).collect();
        assert_eq!(ids, list(&case["kept"]), "{sampling:?}");
        let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        for (candidate, expected) in candidates.iter().zip(list(&case["probabilities"])) {
            let probability = f64::from(candidate.weight) / total;
            // Both round scores of up to 16 in float32, to half of 1e-6, more than once.
            assert!(
                (probability / expected - 1.0).abs() < 4e-6,
                "{sampling:?}: {candidate:?}"
            );
        }
    }
}

/// Values that chi-square exceeds once in a thousand times, by degrees of freedom from 1.
const CHI_SQUARE: [f64; 9] = [10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32, 26.12, 27.88];

#[test]
fn a_hundred_thousand_draws_follow_what_is_kept() {
    let logits = [0.0, 2.0, 1.0, 2.0, -1.0, 0.5, 1.5, -0.5, 0.3, 1.1];
    let context_ids = [1, 6];
    for (kinds, expected_kept) in [
        (Sampling::PLAIN, 10),
        (temperature(0.5), 10),
        (temperature(2.0), 10),
        (top_k(4), 4),
        (top_p(0.8), 5),
        (min_p(0.3), 5),
        (penalty(1.5), 10),
        (sampling(1.5, 0.7, 8, 0.95, 0.1), 6),
    ] {
        let candidates = kinds.candidates(&logits, &context_ids);
        assert_eq!(candidates.len(), expected_kept, "{kinds:?}");
        let draws = 100_000;
        let mut counts = [0u32; 10];
        let mut rng = sample_rng(1, 0);
        for _ in 0..draws {
            counts[kinds.sample(&logits, &context_ids, &mut rng).unwrap().id as usize] += 1;
        }
        let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let deviation = |&WeightedToken { id, weight }: &WeightedToken| {
            let expected = f64::from(weight) / total * f64::from(draws);
            (f64::from(counts[id as usize]) - expected).powi(2) / expected
        };
        let chi_square: f64 = candidates.iter().map(deviation).sum();
        let drawn: u32 = candidates.iter().map(|candidate| counts[candidate.id as usize]).sum();
        assert_eq!(drawn, draws, "{kinds:?}: only what is kept");
        assert!(chi_square < CHI_SQUARE[candidates.len() - 2], "{kinds:?}: {chi_square}");
    }
}

#[test]
fn no_number_is_too_small_and_no_broken_model_speaks() {
    let logits = [0.0, 2.0, 1.0, 2.0, -1.0];
    let mut rng = sample_rng(0, 0);
    let tiny = 1e-40;
    for sampling in [
        temperature(tiny),
        top_p(tiny),
        penalty(tiny),
        sampling(f32::MAX, tiny, 0, 1.0, 0.0),
    ] {
        sampling.validate().unwrap();
        let choice = sampling.sample(&logits, &[1, 3], &mut rng).unwrap();
        assert!(choice.logprob.is_finite(), "{sampling:?}");
    }
    // A token that is ruled out is no broken model.
    assert_eq!(
        Sampling::PLAIN
            .sample(&[f32::NEG_INFINITY, 0.0], &[], &mut rng)
            .unwrap()
            .id,
        1
    );
    for broken in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
        assert!(Sampling::PLAIN.sample(&broken, &[], &mut rng).is_err(), "{broken:?}");
    }
}

/// Of a padded vocabulary: the likeliest id may be one without a token, and how likely the choice is counts it.
#[test]
fn unused_ids_are_never_sampled() {
    let logits = [1.0, 2.0, 9.0, 0.0, 9.5];
    let unused_ids = [2, 4];
    let mut rng = sample_rng(1, 0);
    let choice = Sampling::GREEDY
        .sample_excluding(&logits, &unused_ids, &[], &mut rng)
        .unwrap();
    let total: f32 = logits.iter().map(|logit: &f32| logit.exp()).sum();
    assert_eq!(choice.id, 1);
    assert!((choice.logprob - (2.0 - total.ln())).abs() < 1e-5, "{choice:?}");
    let hot = sampling(1.3, 20.0, 4, 0.99, 0.01);
    for _ in 0..1000 {
        let id = hot
            .sample_excluding(&logits, &unused_ids, &[0, 4], &mut rng)
            .unwrap()
            .id;
        assert!(!unused_ids.contains(&id));
    }
}

#[test]
fn numbers_that_cannot_be_are_named() {
    for (sampling, expected) in [
        (temperature(-0.5), "temperature is -0.5"),
        (temperature(f32::NAN), "temperature is NaN"),
        (temperature(f32::INFINITY), "temperature is inf"),
        (top_p(0.0), "top-p is 0"),
        (top_p(1.1), "top-p is 1.1"),
        (top_p(f32::NAN), "top-p is NaN"),
        (min_p(-0.1), "min-p is -0.1"),
        (min_p(1.0), "min-p is 1"),
        (penalty(0.0), "repetition-penalty is 0"),
        (penalty(f32::INFINITY), "repetition-penalty is inf"),
    ] {
        let said = sampling.validate().unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
    }
    assert!(Sampling::PLAIN.validate().is_ok() && Sampling::GREEDY.validate().is_ok());
}
