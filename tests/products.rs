//! Products of matrices that are large enough to be split among cores, and what layers make of them, against sums in float64.

use mlx_gpt::config::Device;
use mlx_rs::transforms::{eval, value_and_grad_with_argnums};
use mlx_rs::{Array, ops, random};

/// m, n and k of products with a long side each, of which a part begins in the middle of a block.
const SHAPES: [[i32; 3]; 2] = [[300, 1001, 400], [1003, 250, 300]];

fn numbers(shape: &[i32], seed: u64) -> Array {
    let array = random::normal::<f32>(shape, None, None, &random::key(seed).unwrap()).unwrap();
    eval([&array]).unwrap();
    array
}

/// `Σ a[row, i] b[i, column]` of row-major matrices.
fn in_float64(a: &[f32], b: &[f32], [n, k]: [usize; 2], [row, column]: [usize; 2]) -> f64 {
    (0..k)
        .map(|i| f64::from(a[row * k + i]) * f64::from(b[i * n + column]))
        .sum()
}

/// Every 97th number of `product`, and its last, plus what `bias` adds.
fn check(what: &str, product: &Array, [a, b]: [&Array; 2], bias: Option<&Array>) {
    let (n, k) = (b.dim(1) as usize, a.dim(1) as usize);
    let [a, b] = [a, b].map(|array| array.to_vec_exact::<f32>().unwrap());
    let bias = bias.map(|bias| bias.to_vec_exact::<f32>().unwrap());
    let ours = product.to_vec_exact::<f32>().unwrap();
    for index in (0..ours.len()).step_by(97).chain([ours.len() - 1]) {
        let (row, column) = (index / n, index % n);
        let added = bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
        let theirs = in_float64(&a, &b, [n, k], [row, column]) + added;
        // Sums of up to a thousand products of numbers near one, in float32.
        let off = (f64::from(ours[index]) - theirs).abs();
        assert!(off < 2e-4, "{what}: number {index} is off by {off}");
    }
}

/// Rows for columns, one after the other in memory.
fn transposed(array: &Array) -> Array {
    let numbers = array.transpose().unwrap().flatten(None, None).unwrap();
    Array::from_slice(&numbers.to_vec_exact::<f32>().unwrap(), &[array.dim(1), array.dim(0)])
}

/// The same numbers, but with columns one after the other in memory.
fn turned(array: &Array) -> Array {
    transposed(array).transpose().unwrap()
}

#[test]
fn large_products_are_right_whichever_way_their_matrices_lie() {
    Device::Cpu.select().unwrap();
    for [m, n, k] in SHAPES {
        let (a, b) = (numbers(&[m, k], 1), numbers(&[k, n], 2));
        // Again and again: cores help a thread that has been alone for a while.
        for round in 0..8 {
            for (a_lies, b_lies) in [
                (&a, &b),
                (&turned(&a), &b),
                (&a, &turned(&b)),
                (&turned(&a), &turned(&b)),
            ] {
                let product = a_lies.matmul(b_lies).unwrap();
                check(&format!("{m} × {n} × {k}, round {round}"), &product, [&a, &b], None);
            }
        }
    }
}

#[test]
fn a_large_linear_layer_has_the_gradients_that_it_should() {
    Device::Cpu.select().unwrap();
    for [m, n, k] in SHAPES {
        let (x, weight, bias, dy) = (
            numbers(&[m, k], 1),
            numbers(&[k, n], 2),
            numbers(&[n], 3),
            numbers(&[m, n], 4),
        );
        let ones = Array::ones::<f32>(&[1, m]).unwrap();
        // The layer with bias, and the head, whose weight is turned round.
        for head in [false, true] {
            let along = dy.clone();
            let layer = move |inputs: &[Array]| {
                let y = if head {
                    inputs[0].matmul(inputs[1].transpose()?)?
                } else {
                    ops::addmm(&inputs[2], &inputs[0], &inputs[1], None, None)?
                };
                Ok(vec![y.multiply(&along)?.sum(None)?, y])
            };
            let given = if head { transposed(&weight) } else { weight.clone() };
            let argnums: &[i32] = if head { &[0, 1] } else { &[0, 1, 2] };
            let (values, gradients) =
                value_and_grad_with_argnums(layer, argnums)(&[x.clone(), given, bias.clone()]).unwrap();
            let bias_or_none = (!head).then_some(&bias);
            check("y", &values[1], [&x, &weight], bias_or_none);
            check("dx", &gradients[0], [&dy, &transposed(&weight)], None);
            if head {
                check("dw", &gradients[1], [&transposed(&dy), &x], None);
            } else {
                check("dw", &gradients[1], [&transposed(&x), &dy], None);
                check("db", &gradients[2], [&ones, &dy], None);
            }
        }
    }
}
