//! Generation with the key-value cache is generation without it.

mod common;

use common::Fixture;
use mlx_gpt::generate::Generator;
use mlx_gpt::generate::sampler::{Choice, Sampling};
use mlx_gpt::model::Gpt;
use mlx_gpt::model::kv_cache::KvCache;
use mlx_rs::ops::indexing::IndexOp;
use mlx_rs::{Array, Dtype};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const GREEDY: Sampling = Sampling {
    temperature: 0.0,
    top_k: 0,
};

fn cached(fixture: &Fixture, prompt: &[u32], count: usize) -> Vec<Choice> {
    let generator = Generator::new(&fixture.model, &fixture.parameters).unwrap();
    let mut choices = Vec::new();
    let on_token = |choice| {
        choices.push(choice);
        Ok(true)
    };
    generator.generate(prompt, count, &GREEDY, 0, 0, on_token).unwrap();
    choices
}

/// The same by a whole forward pass for each token, over the window as documented: when it is full, its last half is
/// kept.
fn uncached(fixture: &Fixture, prompt: &[u32], count: usize) -> Vec<Choice> {
    let context = fixture.model.context;
    let gpt = Gpt::new(&fixture.model, &fixture.parameters).unwrap();
    let mut window = Vec::new();
    let push = |window: &mut Vec<u32>, id| {
        if window.len() == context {
            window.drain(..context - context / 2);
        }
        window.push(id);
    };
    prompt.iter().for_each(|&id| push(&mut window, id));
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..count)
        .map(|_| {
            let ids = Array::from_slice(&window, &[1, window.len() as i32]);
            let logits = gpt.forward(&ids, None).unwrap().index((0, -1));
            let choice = GREEDY.choose(&logits.to_vec_exact::<f32>().unwrap(), &mut rng).unwrap();
            push(&mut window, choice.id);
            choice
        })
        .collect()
}

#[test]
fn cached_and_uncached_agree_at_every_length_up_to_three_contexts() {
    let fixture = Fixture::load();
    let long: Vec<u32> = (0..60).map(|id| id * 7 % 65).collect();
    for prompt in [&long[..1], &long[..5], &long[..24], &long[..25], &long[..60]] {
        let (with, without) = (cached(&fixture, prompt, 72), uncached(&fixture, prompt, 72));
        for (at, (a, b)) in with.iter().zip(&without).enumerate() {
            assert_eq!(a.id, b.id, "token {at} after {}", prompt.len());
            assert!(
                (a.logprob - b.logprob).abs() < 1e-5,
                "token {at}: {} and {}",
                a.logprob,
                b.logprob
            );
        }
        assert_eq!(with.len(), without.len());
    }
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
    assert!(said.contains("25 tokens are over the context of 24"), "{said}");
}
