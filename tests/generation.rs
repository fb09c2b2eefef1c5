//! Generation with the key-value cache is generation without it.

mod common;

use std::ops::Range;

use common::{Fixture, largest_difference};
use mlx_gpt::config::{Architecture, Components, ModelConfig, Preset};
use mlx_gpt::generate::sampler::{SampledToken, Sampling};
use mlx_gpt::generate::{Generator, sample_rng};
use mlx_gpt::model::kv_cache::KvCache;
use mlx_gpt::model::{Gpt, Parameters, init};
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::{Array, Dtype};

/// Sums over channels and tokens are taken in another order with and without a
/// cache, or beside other rows: measured, 1.2e-6 at most.
const TOLERANCE: f32 = 1e-5;

const SAMPLED: Sampling = Sampling {
    repetition_penalty: 1.1,
    temperature: 1.2,
    top_k: 40,
    top_p: 0.95,
    min_p: 0.01,
};

const SEED: u64 = 3;

/// A prompt of any length.
fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|id| id * 7 % 65).collect()
}

/// `count` tokens of each sample.
fn cached(
    fixture: &Fixture,
    prompt: &[u32],
    samples: Range<u64>,
    count: usize,
    sampling: &Sampling,
) -> Vec<Vec<SampledToken>> {
    let generator = Generator::new(&fixture.model, &fixture.parameters).unwrap();
    let first = samples.start;
    let mut choices = vec![Vec::new(); samples.clone().count()];
    let on_token = |sample, choice| {
        let choices = &mut choices[(sample - first) as usize];
        choices.push(choice);
        Ok(choices.len() < count)
    };
    generator.generate(prompt, samples, sampling, SEED, on_token).unwrap();
    choices
}

/// The tokens that the model looks at, as documented: when they are as many as the context, the last half is kept.
fn push(window: &mut Vec<u32>, id: u32, context: usize) {
    if window.len() == context {
        window.drain(..context - context / 2);
    }
    window.push(id);
}

/// Logits of the token after `window`, by a whole forward pass.
fn whole_pass(gpt: &Gpt, window: &[u32]) -> Vec<f32> {
    let ids = Array::from_slice(window, &[1, window.len() as i32]);
    gpt.forward(&ids, None).unwrap().index((0, -1)).to_vec_exact().unwrap()
}

/// A sample by a whole forward pass for each token.
fn uncached(fixture: &Fixture, prompt: &[u32], sample: u64, count: usize, sampling: &Sampling) -> Vec<SampledToken> {
    let context = fixture.model.context;
    let gpt = Gpt::new(&fixture.model, &fixture.parameters).unwrap();
    let mut window = Vec::new();
    prompt.iter().for_each(|&id| push(&mut window, id, context));
    let mut rng = sample_rng(SEED, sample);
    (0..count)
        .map(|_| {
            let choice = sampling.sample(&whole_pass(&gpt, &window), &window, &mut rng).unwrap();
            push(&mut window, choice.id, context);
            choice
        })
        .collect()
}

fn assert_same(what: &str, a: &[SampledToken], b: &[SampledToken]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.id, b.id, "{what}: token {at}");
        let difference = (a.logprob - b.logprob).abs();
        assert!(difference < TOLERANCE, "{what}: token {at} is off by {difference:e}");
    }
}

#[test]
fn cached_and_uncached_agree_at_every_length_up_to_three_contexts() {
    let fixture = Fixture::load();
    for length in [1, 5, 23, 24, 25, 60] {
        let prompt = prompt(length);
        for sampling in [&Sampling::GREEDY, &SAMPLED] {
            let with = cached(&fixture, &prompt, 0..1, 72, sampling);
            let without = uncached(&fixture, &prompt, 0, 72, sampling);
            assert_same(&format!("after {length}, {sampling:?}"), &with[0], &without);
        }
    }
}

#[test]
fn a_row_of_a_batch_is_what_it_is_alone_and_without_a_cache() {
    let fixture = Fixture::load();
    for length in [1, 24, 30] {
        let prompt = prompt(length);
        let batch = cached(&fixture, &prompt, 0..5, 72, &SAMPLED);
        for (sample, row) in (0..).zip(&batch) {
            let alone = cached(&fixture, &prompt, sample..sample + 1, 72, &SAMPLED);
            assert_same(&format!("sample {sample} alone"), row, &alone[0]);
            let without = uncached(&fixture, &prompt, sample, 72, &SAMPLED);
            assert_same(&format!("sample {sample} without a cache"), row, &without);
            assert!(sample == 0 || row != &batch[0], "samples differ");
        }
        let greedy = uncached(&fixture, &prompt, 0, 72, &Sampling::GREEDY);
        for row in cached(&fixture, &prompt, 0..3, 72, &Sampling::GREEDY) {
            assert_same("a greedy row", &row, &greedy);
        }
    }
}

#[test]
fn a_row_that_ends_leaves_the_others_as_they_are() {
    let fixture = Fixture::load();
    let generator = Generator::new(&fixture.model, &fixture.parameters).unwrap();
    let whole = cached(&fixture, &prompt(20), 0..4, 40, &SAMPLED);
    let lengths = [7, 40, 1, 30];
    let mut choices = vec![Vec::new(); 4];
    let on_token = |sample: u64, choice| {
        let sample = sample as usize;
        choices[sample].push(choice);
        Ok(choices[sample].len() < lengths[sample])
    };
    generator.generate(&prompt(20), 0..4, &SAMPLED, SEED, on_token).unwrap();
    for (sample, &length) in lengths.iter().enumerate() {
        assert_same(&format!("sample {sample}"), &choices[sample], &whole[sample][..length]);
    }
}

/// More samples than are written at once, and so many rows that a restarted window is prefilled in pieces.
#[test]
fn samples_do_not_depend_on_how_many_there_are() {
    let fixture = Fixture::load();
    let batch = cached(&fixture, &prompt(10), 0..70, 30, &SAMPLED);
    for sample in [0, 1, 63, 64, 69] {
        let alone = cached(&fixture, &prompt(10), sample..sample + 1, 30, &SAMPLED);
        assert_same(&format!("sample {sample}"), &batch[sample as usize], &alone[0]);
    }
}

#[test]
fn a_prompt_that_is_prefilled_in_pieces_is_one_that_is_prefilled_at_once() {
    let model = ModelConfig {
        architecture: Architecture::Gpt2,
        components: Components::GPT2,
        layers: 2,
        heads: 2,
        embd: 16,
        context: 1300,
        ..Preset::Nano.model_config(65)
    };
    // Ten times the usual start, so that a token tells from another.
    let parameters: Parameters = init::initialize(&model, 1)
        .unwrap()
        .map(|array| array.multiply(Array::from_f32(10.0)))
        .unwrap();
    let gpt = Gpt::new(&model, &parameters).unwrap();
    let generator = Generator::new(&model, &parameters).unwrap();
    for length in [511, 512, 513, 1025, 1300] {
        let prompt = prompt(length);
        let mut sequence = generator.sequence().unwrap();
        prompt.iter().for_each(|&id| sequence.push(&[id]));
        let difference = largest_difference(&sequence.next_logits().unwrap(), &whole_pass(&gpt, &prompt));
        assert!(difference < 1e-4, "{length}: off by {difference:e}"); // of logits up to 20; measured, 2e-5 at most
    }
}

/// As `generate --interactive` has it: more text after some tokens, again and again, across the context's end.
#[test]
fn a_sequence_can_be_added_to_at_any_time() {
    let fixture = Fixture::load();
    let gpt = Gpt::new(&fixture.model, &fixture.parameters).unwrap();
    let generator = Generator::new(&fixture.model, &fixture.parameters).unwrap();
    let mut sequence = generator.sequence().unwrap();
    assert!(sequence.next_logits().is_err(), "there is nothing yet");
    let mut window = Vec::new();
    // What is computed for it: the new tokens, or the window where it began anew.
    for (length, computed) in [
        (3, 3),
        (1, 1),
        (9, 9),
        (2, 2),
        (20, 23),
        (1, 1),
        (30, 18),
        (24, 18),
        (50, 20),
    ] {
        for id in prompt(length) {
            sequence.push(&[id]);
            push(&mut window, id, fixture.model.context);
        }
        assert_eq!(sequence.window(0), window);
        assert_eq!(sequence.uncached(), computed);
        let difference = largest_difference(&sequence.next_logits().unwrap(), &whole_pass(&gpt, &window));
        assert!(difference < TOLERANCE, "{length} more: off by {difference:e}");
    }
    assert!(sequence.next_logits().is_err(), "there is nothing new");
}

#[test]
fn a_cache_filled_in_pieces_is_a_cache_filled_at_once() {
    let fixture = Fixture::load();
    let gpt = Gpt::new(&fixture.model, &fixture.parameters).unwrap();
    let ids = Array::from_slice(&fixture.batch.inputs, &[12, 24]);
    let whole = gpt
        .forward(&ids, None)
        .unwrap()
        .index((.., -1))
        .reshape(&[-1])
        .unwrap()
        .to_vec_exact::<f32>()
        .unwrap();
    for pieces in [&[24][..], &[1, 23], &[7, 7, 10], &[12, 11, 1]] {
        let mut cache = KvCache::new(&fixture.model, 12, Dtype::Float32).unwrap();
        let mut start = 0;
        let mut logits = None;
        for piece in pieces {
            logits = Some(
                gpt.forward_cached(&ids.index((.., start..start + piece)), &mut cache)
                    .unwrap(),
            );
            start += piece;
        }
        let difference = common::largest_difference(
            &logits.unwrap().reshape(&[-1]).unwrap().to_vec_exact::<f32>().unwrap(),
            &whole,
        );
        assert!(difference < 1e-5, "{pieces:?}: off by {difference:e}");
    }
    let mut cache = KvCache::new(&fixture.model, 12, Dtype::Float32).unwrap();
    gpt.forward_cached(&ids, &mut cache).unwrap();
    let said = gpt
        .forward_cached(&ids.index((.., ..1)), &mut cache)
        .unwrap_err()
        .to_string();
    assert!(said.contains("25 tokens exceed the context of 24"), "{said}");
}
