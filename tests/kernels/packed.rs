//! Products with packed weights and with weights of 16 bits.

use std::path::Path;
use std::process::Command;

use mlx_gpt::config::Device;
use mlx_rs::transforms::{eval, value_and_grad_with_argnums};
use mlx_rs::{Array, Dtype, ops, random};

use crate::common::{folder, stdout, succeed};

fn normal(shape: &[i32], seed: u64) -> Array {
    let array = random::normal::<f32>(shape, None, None, &random::key(seed).unwrap()).unwrap();
    eval([&array]).unwrap();
    array
}

fn floats(array: &Array) -> Vec<f32> {
    let flat = array.as_dtype(Dtype::Float32).unwrap().reshape(&[-1]).unwrap();
    flat.to_vec_exact::<f32>().unwrap()
}

/// `y` against `x Wᵀ + b` in float64, x `[rows, k]` and W `[n, k]`. Activations are rounded to 16 bits of their group's largest
/// number (a few times 1e-5 of each normal number), and sums are float32's.
fn check(what: &str, y: &Array, x: &[f32], weight: &[f32], bias: Option<&[f32]>, k: usize) {
    let y = floats(y);
    let n = weight.len() / k;
    assert_eq!(y.len(), x.len() / k * n, "{what}");
    for (index, y) in y.into_iter().enumerate() {
        let (x, w) = (&x[index / n * k..][..k], &weight[index % n * k..][..k]);
        let products = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
        let expected = products.sum::<f64>() + bias.map_or(0.0, |bias| f64::from(bias[index % n]));
        let size = w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        let off = (f64::from(y) - expected).abs();
        assert!(off <= 2e-4 * size, "{what}: number {index} is {y}, not {expected}");
    }
}

/// Few and many rows, as few columns as there can be, and numbers of them that no vector divides.
#[test]
fn packed_products_are_those_of_the_unpacked_weights() {
    Device::Cpu.select().unwrap();
    for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
        for (n, k) in [(1, group), (37, 3 * group), (501, 768)] {
            let (packed, scales, biases) = ops::quantize(normal(&[n, k], 1), group, bits).unwrap();
            let weight = floats(&ops::dequantize(&packed, &scales, &biases, group, bits).unwrap());
            for shape in [&[1, k][..], &[3, k], &[2, 6, k], &[13, k], &[5, 8, k], &[k]] {
                let x = normal(shape, 2);
                let y = ops::quantized_matmul(&x, &packed, &scales, &biases, true, group, bits).unwrap();
                assert_eq!(y.shape(), [&shape[..shape.len() - 1], &[n]].concat());
                let what = format!("{bits} bits, groups of {group}, {shape:?} by {n}");
                check(&what, &y, &floats(&x), &weight, None, k as usize);
            }
        }
    }
}

#[test]
fn packed_products_have_the_gradient_of_their_input() {
    Device::Cpu.select().unwrap();
    let (n, k) = (70, 128);
    let (packed, scales, biases) = ops::quantize(normal(&[n, k], 1), 64, 8).unwrap();
    let (x, dy) = (normal(&[3, k], 2), normal(&[3, n], 3));
    let sum = |inputs: &[Array]| {
        let y = ops::quantized_matmul(&inputs[0], &packed, &scales, &biases, true, 64, 8)?;
        Ok(vec![y.multiply(&dy)?.sum(None)?])
    };
    let (_, gradients) = value_and_grad_with_argnums(sum, &[0][..])(&[x]).unwrap();
    let weight = ops::dequantize(&packed, &scales, &biases, 64, 8).unwrap();
    let transposed = floats(&weight.transpose().unwrap());
    check("dx", &gradients[0], &floats(&dy), &transposed, None, n as usize);
}

#[test]
fn products_with_16_bits_are_those_of_the_same_numbers_in_32() {
    Device::Cpu.select().unwrap();
    for dtype in [Dtype::Float16, Dtype::Bfloat16] {
        for (n, k) in [(1, 5), (37, 51), (501, 768), (2304, 96)] {
            let bias = normal(&[n], 3);
            let weight = normal(&[n, k], 1).as_dtype(dtype).unwrap(); // [n, k]
            let turned = weight.transpose().unwrap().contiguous().unwrap(); // [k, n]
            eval([&weight, &turned]).unwrap();
            let numbers = floats(&weight);
            for shape in [&[1, k][..], &[3, k], &[2, 6, k], &[13, k]] {
                let (what, x) = (format!("{dtype:?}, {shape:?} by {n}"), normal(shape, 2));
                let y = ops::addmm(&bias, &x, &turned, None, None).unwrap();
                assert_eq!(y.dtype(), Dtype::Float32);
                check(&what, &y, &floats(&x), &numbers, Some(&floats(&bias)), k as usize);
                let y = x.matmul(weight.transpose().unwrap()).unwrap();
                check(&what, &y, &floats(&x), &numbers, None, k as usize);
            }
        }
    }
}

/// `tests/kernels/packed.cpp`, compiled and run: the instruction sets that it compared with float64.
fn instruction_sets(compiler: &str, run_by: Option<&str>) -> Vec<String> {
    let folder = folder();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.path().join("packed");
    let mut compile = Command::new(compiler);
    compile
        .args(["-std=c++20", "-O2", "-static", "-I"])
        .arg(root.join("kernels"));
    compile.args(["kernels/packed_dot.cpp", "tests/kernels/packed.cpp"].map(|source| root.join(source)));
    succeed(compile.arg("-o").arg(&program));
    let mut run = Command::new(run_by.map_or(program.as_path(), Path::new));
    if run_by.is_some() {
        run.arg(&program);
    }
    let said = stdout(&succeed(&mut run));
    said.lines().map(str::to_owned).collect()
}

#[test]
fn every_instruction_set_has_the_same_products() {
    assert!(instruction_sets("g++", None).contains(&"plain".to_owned()));
}

/// Those of Arm, where Debian's cross compiler and emulator are installed (g++-aarch64-linux-gnu, qemu-user-static).
#[test]
fn those_of_arm_have_too() {
    let (compiler, emulator) = ("aarch64-linux-gnu-g++", "qemu-aarch64-static");
    if [compiler, emulator]
        .iter()
        .any(|tool| Command::new(tool).arg("--version").output().is_err())
    {
        return eprintln!("skipped: there is no {compiler} or no {emulator}");
    }
    assert_eq!(instruction_sets(compiler, Some(emulator)), ["dotprod", "Neon", "plain"]);
}
