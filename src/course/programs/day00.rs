//! Day 0: the figures and claims of its chapter, in its order.

use std::fmt::Write;

use mlx_rs::Array;
use mlx_rs::transforms::value_and_grad_with_argnums;
use rand::RngExt;

use crate::course::day00::{Graph, backward, two_layer_gradients, two_layer_loss};
use crate::data::batches::step_rng;
use crate::lessons::Lesson;
use crate::lessons::arrays::{larger, largest_difference};
use crate::lessons::claims::CheckResult;
use crate::lessons::page::Page;
use crate::lessons::pictures::{Axes, Series, curves};
use crate::lessons::workspace::Workspace;

/// Day 0.
pub const LESSON: Lesson = Lesson {
    day: 0,
    title: "Where gradients come from",
    teaches: "the chain rule on a graph of numbers, and by hand on matrices (optional)",
    chapter: include_str!("../../../book/src/day-00.md"),
    models: &[],
    needs: &[],
    program,
};

/// Two numbers in, four in the middle, one out; the task is "one of the two, but not both".
const SIZES: [usize; 3] = [2, 4, 1];
const EXAMPLES: [([f64; 2], f64); 4] = [
    ([-1.0, -1.0], -1.0),
    ([-1.0, 1.0], 1.0),
    ([1.0, -1.0], 1.0),
    ([1.0, 1.0], -1.0),
];
const PARAMETERS: usize = SIZES[0] * SIZES[1] + SIZES[1] + SIZES[1] * SIZES[2] + SIZES[2];
const STEPS: usize = 100;

// ANCHOR: net
/// A layer: for each of its outputs, the sum of the inputs times their weights, plus a bias. The weights are `[in, out]`.
fn layer(graph: &mut Graph, inputs: &[usize], weights: &[usize], biases: &[usize]) -> Vec<usize> {
    let mut outputs = Vec::new();
    for (at, &bias) in biases.iter().enumerate() {
        let mut sum = bias;
        for (input, row) in inputs.iter().zip(weights.chunks(biases.len())) {
            let product = graph.multiply(*input, row[at]);
            sum = graph.add(sum, product);
        }
        outputs.push(sum);
    }
    outputs
}

/// The loss of the net on all examples, the mean of the squared differences, as a graph that begins with the parameters; and what the
/// net says of each example.
fn net(parameters: &[f64]) -> (Graph, Vec<f64>) {
    let mut graph = Graph::default();
    let places: Vec<usize> = parameters.iter().map(|&value| graph.push(value, vec![])).collect();
    let (w1, rest) = places.split_at(SIZES[0] * SIZES[1]);
    let (b1, rest) = rest.split_at(SIZES[1]);
    let (w2, b2) = rest.split_at(SIZES[1] * SIZES[2]);
    let (mut loss, mut outputs) = (graph.push(0.0, vec![]), Vec::new());
    for (inputs, target) in EXAMPLES {
        let inputs = inputs.map(|value| graph.push(value, vec![]));
        let hidden = layer(&mut graph, &inputs, w1, b1);
        let hidden: Vec<usize> = hidden.into_iter().map(|sum| graph.tanh(sum)).collect();
        let output = layer(&mut graph, &hidden, w2, b2)[0];
        outputs.push(graph.values[output]);
        let minus_target = graph.push(-target, vec![]);
        let difference = graph.add(output, minus_target);
        let square = graph.multiply(difference, difference);
        loss = graph.add(loss, square);
    }
    let quarter = graph.push(1.0 / EXAMPLES.len() as f64, vec![]);
    graph.multiply(loss, quarter);
    (graph, outputs)
}
// ANCHOR_END: net

fn program(page: &mut Page, workspace: &Workspace) -> anyhow::Result<()> {
    // ANCHOR: small
    let mut graph = Graph::default();
    let a = graph.push(2.0, vec![]);
    let b = graph.push(-3.0, vec![]);
    let product = graph.multiply(a, b);
    let sum = graph.add(product, a);
    graph.multiply(sum, sum);
    // ANCHOR_END: small
    let names = ["a", "b", "a · b", "a · b + a", "(a · b + a)²"];
    let derivatives = backward(&graph.inputs);
    page.figure("graph.txt", || {
        let mut out = String::from("at  number           value   derivative of the last\n");
        for (at, name) in names.iter().enumerate() {
            let (value, derivative) = (graph.values[at], derivatives[at]);
            writeln!(out, "{at:>2}  {name:<13}  {value:>7}  {derivative:>23}")?;
        }
        Ok(out)
    })?;
    let last = |a: f64, b: f64| (a * b + a).powi(2);
    let step = 1e-6;
    let nudged = [
        (last(2.0 + step, -3.0) - last(2.0 - step, -3.0)) / (2.0 * step),
        (last(2.0, -3.0 + step) - last(2.0, -3.0 - step)) / (2.0 * step),
    ];
    page.figure("nudged.txt", || {
        let mut out = String::from("    by the chain rule   by a small step\n");
        for (at, name) in ["a", "b"].iter().enumerate() {
            writeln!(out, "{name}   {:>17}   {:>15.6}", derivatives[at], nudged[at])?;
        }
        Ok(out)
    })?;
    page.claim(
        "the derivatives are what a small step measures",
        "backward and Graph in src/course/day00.rs",
        || {
            let off = (0..2)
                .map(|at| (derivatives[at] - nudged[at]).abs())
                .fold(0.0, f64::max);
            // A step of 1e-6 on both sides: rounding of float64 divided by the step.
            Ok(CheckResult::within_tolerance(off as f32, 1e-6))
        },
    )?;

    let mut rng = step_rng(workspace.seed(), 0);
    let first: Vec<f64> = (0..PARAMETERS).map(|_| rng.random_range(-1.0..1.0)).collect();
    // ANCHOR: train
    let (mut parameters, mut losses) = (first.clone(), Vec::new());
    for _ in 0..STEPS {
        let (graph, _) = net(&parameters);
        losses.push(graph.values[graph.values.len() - 1]);
        let gradients = backward(&graph.inputs);
        for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
            *parameter -= 0.2 * gradient;
        }
    }
    // ANCHOR_END: train
    let (graph, outputs) = net(&parameters);
    page.figure("training.txt", || {
        let mut out = format!(
            "{PARAMETERS} parameters, {} numbers in the graph\n\nstep    loss\n",
            graph.values.len()
        );
        for step in [0, 5, 10, 20, STEPS - 1] {
            writeln!(out, "{step:>4}  {:.4}", losses[step])?;
        }
        out += "\ninputs    target  output\n";
        for (([x, y], target), output) in EXAMPLES.iter().zip(&outputs) {
            writeln!(out, "{x:>2} {y:>2}     {target:>6}  {output:>6.2}")?;
        }
        Ok(out)
    })?;
    page.figure("loss.svg", || {
        let axes = Axes {
            title: "Seventeen numbers learn",
            x: "steps",
            y: "loss",
            ..Axes::default()
        };
        curves(&axes, &[Series::numbered("loss", 0, losses.iter().copied())])
    })?;
    page.claim(
        "after training, the net is right about all four examples, which no single layer can be",
        "backward in src/course/day00.rs",
        || {
            let right = EXAMPLES
                .iter()
                .zip(&outputs)
                .filter(|((_, target), output)| target * **output > 0.5)
                .count();
            Ok(CheckResult::passes_if(
                right == 4,
                format!("{right} of 4, loss {:.4}", losses[STEPS - 1]),
            ))
        },
    )?;

    // The same net as matrices, before training.
    let floats = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let mut rest = &floats(&first)[..];
    let mut take = |shape: &[i32]| {
        let (head, tail) = rest.split_at(shape.iter().product::<i32>() as usize);
        rest = tail;
        Array::from_slice(head, shape)
    };
    let [i, h, o] = SIZES.map(|size| size as i32);
    let arrays = [take(&[i, h]), take(&[h]), take(&[h, o]), take(&[o])];
    let inputs: Vec<f64> = EXAMPLES.iter().flat_map(|(inputs, _)| *inputs).collect();
    let targets: Vec<f64> = EXAMPLES.iter().map(|(_, target)| *target).collect();
    let (x, target) = (
        Array::from_slice(&floats(&inputs), &[4, i]),
        Array::from_slice(&floats(&targets), &[4, o]),
    );
    let by_hand = two_layer_gradients(&x, &target, [&arrays[0], &arrays[1], &arrays[2], &arrays[3]])?;
    let loss = |arrays: &[Array]| -> mlx_rs::error::Result<Vec<Array>> {
        Ok(vec![two_layer_loss(
            &x,
            &target,
            [&arrays[0], &arrays[1], &arrays[2], &arrays[3]],
        )?])
    };
    let (_, by_mlx) = value_and_grad_with_argnums(loss, &[0, 1, 2, 3][..])(&arrays)?;
    let by_graph = floats(&backward(&net(&first).0.inputs)[..PARAMETERS]);
    let flat = |arrays: &[Array]| -> anyhow::Result<Vec<f32>> {
        let mut numbers = Vec::new();
        for array in arrays {
            numbers.extend(array.flatten(None, None)?.to_vec_exact::<f32>()?);
        }
        Ok(numbers)
    };
    let [hand, mlx] = [flat(&by_hand)?, flat(&by_mlx)?];
    page.figure("gradients.txt", || {
        let mut out = String::from("            by the graph    by hand     by MLX\n");
        for (name, at) in [("W₁, first", 0), ("b₁, first", 8), ("W₂, first", 12), ("b₂", 16)] {
            writeln!(
                out,
                "{name:<10}  {:>12.6}  {:>9.6}  {:>9.6}",
                by_graph[at], hand[at], mlx[at]
            )?;
        }
        Ok(out)
    })?;
    page.claim(
        "all gradients are the same by the graph of numbers, by hand on matrices, and by MLX",
        "backward, two_layer_gradients and two_layer_loss in src/course/day00.rs",
        || {
            let arrays = [&by_graph, &hand, &mlx].map(|numbers| Array::from_slice(numbers, &[PARAMETERS as i32]));
            let off = larger(
                largest_difference(&arrays[0], &arrays[2])?,
                largest_difference(&arrays[1], &arrays[2])?,
            );
            // Sums of a few numbers around 1 in float32.
            Ok(CheckResult::within_tolerance(off, 1e-6))
        },
    )
}
