//! The forward pass with hooks: the same function as the fast one, and its activations and patched logits those of PyTorch's
//! forward hooks, stored by `scripts/hook_fixtures.py`.

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{Fixture, largest_difference};
use mlx_gpt::config::{Activation, Architecture, Components, ModelConfig, Position, Preset};
use mlx_gpt::model::hooks::replace_position;
use mlx_gpt::model::init::initialize;
use mlx_gpt::model::{Gpt, Model};
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

/// Where the fixture patches, and the position of the second row that the activation comes from.
const PATCHED: i32 = 7;
const SOURCE: i32 = 3;

/// Both sides sum in an order of their own; measured against float64, PyTorch's logits are off by 7e-7.
const TOLERANCE: f32 = 1e-5;

fn theirs() -> HashMap<String, Array> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gpt2-activations.safetensors");
    Array::load_safetensors(file).unwrap()
}

fn numbers(array: &Array) -> Vec<f32> {
    // Some are transposed views.
    array.reshape(&[-1]).unwrap().to_vec_exact().unwrap()
}

/// The fixture's model, and the ids of the batch's row.
fn gpt_and_row(row: usize) -> (Gpt, Array) {
    let fixture = Fixture::load();
    let ids = &fixture.batch.inputs[row * 24..(row + 1) * 24];
    let gpt = Gpt::new(&fixture.model, &fixture.parameters).unwrap();
    (gpt, Array::from_slice(ids, &[1, 24]))
}

fn activations(gpt: &Gpt, ids: &Array) -> HashMap<String, Array> {
    let mut seen = HashMap::new();
    let logits = gpt.forward_hooked(ids, &mut |name, x| {
        assert!(seen.insert(name.to_owned(), x.clone()).is_none(), "{name} comes twice");
        Ok(x)
    });
    seen.insert("logits".into(), logits.unwrap());
    seen
}

#[test]
fn every_activation_is_that_of_pytorchs_hooks() {
    let (gpt, ids) = gpt_and_row(0);
    let (ours, theirs) = (activations(&gpt, &ids), theirs());
    let of_text = theirs.iter().filter(|(name, _)| !name.starts_with("patched."));
    let mut compared = 0;
    for (name, theirs) in of_text {
        let ours = ours.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        assert_eq!(&ours.shape()[1..], theirs.shape(), "{name}");
        let (ours, theirs) = (numbers(ours), numbers(theirs));
        // Scores of the future are −∞ on both sides, whose difference is no number.
        let finite: (Vec<f32>, Vec<f32>) = ours
            .into_iter()
            .zip(theirs)
            .filter(|(a, b)| a.is_finite() || b.is_finite())
            .unzip();
        let difference = largest_difference(&finite.0, &finite.1);
        assert!(difference <= TOLERANCE, "{name}: off by {difference:e}");
        compared += 1;
    }
    assert_eq!(compared, ours.len(), "all that the hooks show");
}

#[test]
fn logits_after_a_patch_are_those_of_pytorch() {
    let (gpt, ids) = gpt_and_row(0);
    let (_, other) = gpt_and_row(1);
    let elsewhere = activations(&gpt, &other);
    let plain = numbers(&gpt.forward(&ids, None).unwrap());
    let theirs = theirs();
    let patched: Vec<(&str, &Array)> = theirs
        .iter()
        .filter_map(|(name, logits)| Some((name.strip_prefix("patched.")?, logits)))
        .collect();
    assert_eq!(patched.len(), 7);
    for (patched, theirs) in patched {
        let value = elsewhere[patched].try_index((.., SOURCE)).unwrap();
        let logits = gpt.forward_hooked(&ids, &mut |name, x| match name == patched {
            true => replace_position(&x, PATCHED, &value),
            false => Ok(x),
        });
        let (ours, theirs) = (numbers(&logits.unwrap()), numbers(theirs));
        let difference = largest_difference(&ours, &theirs);
        assert!(difference <= TOLERANCE, "{patched}: off by {difference:e}");
        // The fixture would prove nothing if the patch did nothing.
        assert!(largest_difference(&plain, &theirs) > 1e-3, "{patched}");
        let before = (PATCHED * 65) as usize;
        assert!(
            largest_difference(&plain[..before], &ours[..before]) <= TOLERANCE,
            "{patched}: the past changed"
        );
    }
}

#[test]
fn a_hook_that_changes_nothing_leaves_the_function_as_it_is() {
    common::place::device().select().unwrap();
    let variants = [
        Components::GPT2,
        Components::MODERN,
        Components {
            activation: Activation::Swiglu,
            position: Position::Rotary,
            kv_heads: Some(2),
            tie_head: false,
            ..Components::GPT2
        },
    ];
    let ids = Array::from_slice(&(0..24).map(|n| n * 7 % 31).collect::<Vec<i32>>(), &[2, 12]);
    for components in variants {
        let architecture = match components == Components::GPT2 {
            true => Architecture::Gpt2,
            false => Architecture::Modern,
        };
        let config = ModelConfig {
            architecture,
            components,
            layers: 2,
            heads: 4,
            embd: 32,
            context: 16,
            ..Preset::Nano.model_config(31)
        };
        let parameters = initialize(&config, 7).unwrap();
        let model = Model::new(&config, &parameters).unwrap();
        let mut names = Vec::new();
        let hooked = model.forward_hooked(&ids, &mut |name, x| {
            names.push(name.to_owned());
            Ok(x)
        });
        let fast = numbers(&model.forward(&ids, None).unwrap());
        let difference = largest_difference(&numbers(&hooked.unwrap()), &fast);
        assert!(difference <= TOLERANCE, "{components:?}: off by {difference:e}");
        assert!(names.contains(&"blocks.1.attn.pattern".to_owned()));
        assert_eq!(
            names.contains(&"pos_embed".to_owned()),
            components.position == Position::Learned
        );
    }
}

#[test]
fn positions_outside_the_text_are_refused() {
    let x = mlx_rs::ops::zeros::<f32>(&[1, 3, 2]).unwrap();
    let row = mlx_rs::ops::ones::<f32>(&[1, 2]).unwrap();
    for position in 0..3 {
        let patched = numbers(&replace_position(&x, position, &row).unwrap());
        let expected: Vec<f32> = (0..6).map(|n| f32::from(n / 2 == position as i8)).collect();
        assert_eq!(patched, expected);
    }
    assert!(replace_position(&x, 3, &row).is_err());
    assert!(replace_position(&x, -1, &row).is_err());
}
