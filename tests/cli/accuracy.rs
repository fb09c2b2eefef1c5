//! `doctor --compute`: faults of a device are found, and named.

use std::sync::OnceLock;

use crate::common::{folder, mlx_gpt, stdout};
use mlx_gpt::config::{Device, Precision};
use mlx_gpt::measure::accuracy::{Answers, Comparison, Quantity, answers, compare};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What this machine's CPU computes.
fn computed() -> &'static Answers {
    static ANSWERS: OnceLock<Answers> = OnceLock::new();
    ANSWERS.get_or_init(|| {
        Device::Cpu.select().unwrap();
        answers(|_| {}).unwrap()
    })
}

/// The rows of a comparison that are wrong, after `fault` has changed the numbers of one device.
fn wrong(fault: impl Fn(&mut Answers)) -> Vec<Comparison> {
    let mut faulty = computed().clone();
    fault(&mut faulty);
    let mut rows = compare(&faulty, computed()).unwrap();
    rows.retain(|row| !row.right);
    rows
}

#[test]
fn equal_numbers_are_right() {
    assert!(wrong(|_| {}).is_empty());
}

#[test]
fn one_gradient_that_is_a_hundredth_too_large_is_named() {
    let name = "h.1.mlp.c_fc.weight";
    let rows = wrong(|answers| {
        let chosen = answers
            .iter_mut()
            .find(|(key, _)| (key.model, key.precision, key.name.as_str()) == ("nano", Precision::Float32, name));
        chosen.unwrap().1.numbers.iter_mut().for_each(|number| *number *= 1.01);
    });
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].model, rows[0].precision.as_str()), ("nano", "float32"));
    assert!(rows[0].what.contains(name), "{}", rows[0].what);
}

/// TensorFloat-32 rounds the factors of products to 11 bits.
#[test]
fn products_in_tensorfloat32_are_found() {
    let rows = wrong(|answers| {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let rounded = answers.iter_mut().filter(|(key, _)| {
            key.precision == Precision::Float32 && [Quantity::Logits, Quantity::Gradient].contains(&key.quantity)
        });
        for number in rounded.flat_map(|(_, answer)| &mut answer.numbers) {
            *number *= 1.0 + 2f32.powi(-11) * (2.0 * rng.random::<f32>() - 1.0);
        }
    });
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.model, row.precision.as_str(), &row.what[..6]))
        .collect();
    let models = ["2 layers of GPT-2", "nano"];
    let expected: Vec<_> = models
        .into_iter()
        .flat_map(|model| [(model, "float32", "logits"), (model, "float32", "gradie")])
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_dropout_mask_that_is_off_by_one_place_is_found() {
    let rows = wrong(|answers| {
        let masks = answers
            .iter_mut()
            .filter(|(key, _)| key.quantity == Quantity::DropoutMask);
        masks.for_each(|(_, answer)| answer.numbers.rotate_left(1));
    });
    assert_eq!(rows.len(), 6, "two models, three formats: {rows:?}");
    assert!(rows.iter().all(|row| row.what == "dropout mask"));
}

#[test]
fn another_token_is_wrong_unless_two_were_as_likely() {
    let change = |margin: f32| {
        move |answers: &mut Answers| {
            let texts = answers.iter_mut().filter(|(key, _)| {
                (key.model, key.precision, key.quantity) == ("nano", Precision::Float32, Quantity::GreedyText)
            });
            texts.for_each(|(_, answer)| {
                answer.numbers[10] += 1.0;
                answer.numbers[11] = margin;
            });
        }
    };
    let [mut faulty, mut tied] = [computed().clone(), computed().clone()];
    change(0.5)(&mut faulty);
    change(0.0)(&mut tied);
    let text = |rows: Vec<Comparison>| {
        rows.into_iter()
            .find(|row| row.model == "nano" && row.what.contains("text"))
            .unwrap()
    };
    assert_eq!(text(compare(&faulty, computed()).unwrap()).difference, 27.0);
    assert!(text(compare(&faulty, &tied).unwrap()).right);
}

#[test]
fn a_number_that_is_none_is_wrong() {
    let rows = wrong(|answers| answers.values_mut().for_each(|answer| answer.numbers[0] = f32::NAN));
    assert!(rows.len() >= 24, "logits, gradients, losses and texts: {rows:?}");
}

/// The device is looked at whatever else is wrong.
#[test]
fn other_problems_do_not_keep_from_comparing() {
    let folder = folder();
    crate::common::trained(folder.path(), "1");
    std::fs::write(folder.path().join("run/latest/model.safetensors"), "damaged").unwrap();
    let output = mlx_gpt(folder.path())
        .args(["doctor", "--device", "cpu", "--compute", "--checkpoint", "run"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("checkpoint  PROBLEM: "), "{said}");
    assert!(said.contains("float32     products keep its 24 bits\n"), "{said}");
    assert_eq!(said.matches(" dropout mask |").count(), 6, "{said}");
    assert!(said.contains(" right |") && !said.contains("WRONG"), "{said}");
    let error = crate::common::stderr(&output);
    assert!(
        error.ends_with("error: something is missing or damaged; see the suggested fixes above\n"),
        "{error}"
    );
}
