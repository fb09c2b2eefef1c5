//! Muon, for the matrices of the blocks: orthogonalised momentum.

use std::collections::BTreeMap;

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

/// β of the momentum.
const MOMENTUM: f32 = 0.95;

/// Newton–Schulz iterations.
const ITERATIONS: u32 = 5;

/// Coefficients of Jordan's quintic, tuned for slope at zero: five iterations map singular values from 0.001 on to between
/// 0.7 and 1.2.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Lower bound of the norm that a matrix is divided by.
const EPSILON: f32 = 1e-7;

/// Elements that are orthogonalised at a time, 64 MiB: all matrices of a small model.
const MAX_STACKED_ELEMENTS: usize = 1 << 24;

/// Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") for one parameter.
#[derive(Clone, Debug)]
pub struct Muon {
    /// Output sizes of the matrices that are fused in the parameter, in order: queries, keys and values in `c_attn`.
    pub outputs: Vec<i32>,
}

/// The values of a step, the same for all parameters: scalars, float32.
pub struct Scalars {
    /// Learning rate.
    pub lr: Array,
    /// Factor of the gradients.
    pub clip_coefficient: Array,
}

/// A block's convolution has a weight for each channel: two dimensions, but no matrix.
const CONVOLUTION: &str = ".conv.weight";

/// Whether a parameter is a matrix of a block.
pub fn applies_to(name: &str, shape: &[i32]) -> bool {
    name.starts_with("h.") && shape.len() == 2 && !name.ends_with(CONVOLUTION)
}

impl Scalars {
    /// The momentum after a step, `m ← β m + (1 - β) g`, or its Nesterov look-ahead when given the new one: `[in, out]`.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn momentum(&self, m: &Array, gradient: &Array) -> Result<Array> {
        let weight = self.clip_coefficient.multiply(Array::from_f32(1.0 - MOMENTUM))?;
        m.multiply(Array::from_f32(MOMENTUM))?.add(gradient.multiply(weight)?)
    }
}

impl Muon {
    /// The parameter `[in, out]` after a step, given its orthogonalised update `[in, out]`.
    ///
    /// # Errors
    /// If MLX fails (out of memory, device error).
    pub fn parameter(&self, old: &Array, update: &Array, scalars: &Scalars) -> Result<Array> {
        old.subtract(update.multiply(&scalars.lr)?)
    }

    /// FLOPs of a step's matrix products, for a parameter with that many inputs.
    pub fn flops(&self, inputs: i32) -> u64 {
        let product = |outputs: &i32| {
            let (short, long) = (inputs.min(*outputs) as u64, inputs.max(*outputs) as u64);
            2 * short * short * (2 * long + short)
        };
        u64::from(ITERATIONS) * self.outputs.iter().map(product).sum::<u64>()
    }

    /// Splits a parameter `[in, out]` into the matrices that are fused in it.
    fn split(&self, parameter: &Array) -> Result<Vec<Array>> {
        let mut ends: Vec<i32> = Vec::with_capacity(self.outputs.len());
        for outputs in &self.outputs[..self.outputs.len() - 1] {
            ends.push(ends.last().unwrap_or(&0) + outputs);
        }
        parameter.split_at_indices(&ends, 1)
    }
}

/// The update of each of Muon's parameters, `[in, out]`: its momentum's matrices orthogonalised, times `√max(1, out / in)`.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn orthogonalized_updates(momenta: &[(&Muon, Array)]) -> Result<Vec<Array>> {
    let mut matrices = Vec::new();
    for (muon, momentum) in momenta {
        matrices.extend(muon.split(momentum)?);
    }
    let mut orthogonalized = orthogonalize_each(&matrices)?.into_iter();
    let update = |(muon, _): &(&Muon, Array)| {
        let matrices: Vec<Array> = orthogonalized.by_ref().take(muon.outputs.len()).collect();
        ops::concatenate(&matrices, 1)
    };
    momenta.iter().map(update).collect()
}

/// About `√max(1, out / in) U Vᵀ` of each matrix `[in, out]`. Matrices of one shape are stacked over all blocks, which takes
/// fewer kernel launches on a GPU.
fn orthogonalize_each(matrices: &[Array]) -> Result<Vec<Array>> {
    let mut by_shape: BTreeMap<[i32; 2], Vec<usize>> = BTreeMap::new();
    for (index, matrix) in matrices.iter().enumerate() {
        let [rows, columns] = [matrix.dim(0), matrix.dim(1)];
        by_shape
            .entry([rows.min(columns), rows.max(columns)])
            .or_default()
            .push(index);
    }
    let mut updates = matrices.to_vec();
    for ([short, long], indices) in by_shape {
        let stack_size = (MAX_STACKED_ELEMENTS / (short * long) as usize).max(1);
        for indices in indices.chunks(stack_size) {
            let wide: Vec<Array> = indices
                .iter()
                .map(|&index| transposed_if_tall(&matrices[index]))
                .collect::<Result<_>>()?;
            let orthogonal = orthogonalize(&ops::stack(&wide, 0)?)?; // [n, short, long]
            let orthogonal = orthogonal.split_equal(indices.len() as i32, 0)?; // n × [1, short, long]
            for (&index, matrix) in indices.iter().zip(orthogonal) {
                let [rows, columns] = [matrices[index].dim(0), matrices[index].dim(1)];
                let matrix = matrix.squeeze_axes(&[0])?;
                updates[index] = if rows > columns {
                    matrix.transpose()?
                } else {
                    matrix.multiply(Array::from_f32((columns as f32 / rows as f32).sqrt()))?
                };
            }
        }
    }
    Ok(updates)
}

/// A matrix, transposed if it is tall, so that `X Xᵀ` is the smaller Gram matrix.
fn transposed_if_tall(matrix: &Array) -> Result<Array> {
    if matrix.dim(0) > matrix.dim(1) {
        matrix.transpose()
    } else {
        Ok(matrix.clone())
    }
}

/// About `U Vᵀ` of each matrix `X = U S Vᵀ` of a stack `[n, rows, columns]`: the nearest matrix whose singular values are
/// all one, by Newton–Schulz iterations of `X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X`.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn orthogonalize(stack: &Array) -> Result<Array> {
    let [a, b, c] = QUINTIC.map(Array::from_f32);
    let norms = stack.square()?.sum_axes(&[1, 2], true)?.sqrt()?; // [n, 1, 1]
    let mut x = stack.divide(ops::maximum(norms, Array::from_f32(EPSILON))?)?;
    for _ in 0..ITERATIONS {
        let gram = x.matmul(x.swap_axes(1, 2)?)?; // [n, rows, rows]
        let polynomial = gram.multiply(&b)?.add(gram.matmul(&gram)?.multiply(&c)?)?;
        x = x.multiply(&a)?.add(polynomial.matmul(&x)?)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use mlx_rs::linalg::svd;
    use mlx_rs::random;

    use super::*;
    use crate::config::Device;

    fn drawn(shape: [i32; 2], seed: u64) -> Array {
        let key = random::key(seed).unwrap();
        random::normal::<f32>(&shape, None, 3.0, &key).unwrap()
    }

    /// Wide, square and tall matrices, several of a shape and one that is fused of three.
    #[test]
    fn all_singular_values_become_about_one() {
        Device::Cpu.select().unwrap();
        let parameters: Vec<(Muon, Array)> = [[24, 24], [16, 64], [64, 16], [24, 24], [24, 72]]
            .into_iter()
            .zip(1..)
            .map(|(shape, seed)| {
                let outputs = if shape == [24, 72] { vec![24; 3] } else { vec![shape[1]] };
                (Muon { outputs }, drawn(shape, seed))
            })
            .collect();
        let momenta: Vec<(&Muon, Array)> = parameters.iter().map(|(muon, array)| (muon, array.clone())).collect();
        let updates = orthogonalized_updates(&momenta).unwrap();
        for ((muon, momentum), direction) in momenta.iter().zip(updates) {
            assert_eq!(direction.shape(), momentum.shape());
            for matrix in muon.split(&direction).unwrap() {
                let (_, sizes, _) = svd(&matrix).unwrap();
                let scale = (matrix.dim(1) as f32 / matrix.dim(0) as f32).max(1.0).sqrt();
                let sizes = sizes.to_vec_exact::<f32>().unwrap();
                assert!(
                    sizes.iter().all(|size| (0.65..1.25).contains(&(size / scale))),
                    "{:?}: {sizes:?}",
                    matrix.shape()
                );
            }
        }
    }

    /// A stack is no more than its matrices.
    #[test]
    fn a_matrix_does_not_depend_on_those_it_is_stacked_with() {
        Device::Cpu.select().unwrap();
        let matrices: Vec<Array> = (1..6).map(|seed| drawn([16, 32], seed)).collect();
        let together = orthogonalize_each(&matrices).unwrap();
        for (matrix, together) in matrices.iter().zip(together) {
            let alone = orthogonalize_each(std::slice::from_ref(matrix)).unwrap();
            let numbers = |array: &Array| array.to_vec_exact::<f32>().unwrap();
            assert_eq!(numbers(&alone[0]), numbers(&together));
        }
    }

    #[test]
    fn a_gradient_of_zeros_moves_nothing() {
        Device::Cpu.select().unwrap();
        let zeros = Array::zeros::<f32>(&[3, 4]).unwrap();
        let muon = Muon { outputs: vec![2, 2] };
        let scalars = Scalars {
            lr: Array::from_f32(0.02),
            clip_coefficient: Array::from_f32(1.0),
        };
        let m = scalars.momentum(&zeros, &zeros).unwrap();
        let updates = orthogonalized_updates(&[(&muon, m.clone())]).unwrap();
        let parameter = muon.parameter(&zeros, &updates[0], &scalars).unwrap();
        for array in [parameter, m] {
            assert_eq!(array.to_vec_exact::<f32>().unwrap(), [0.0; 12]);
        }
    }
}
