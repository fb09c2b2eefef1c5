//! Muon, for the matrices inside of the blocks: steps of momentum whose directions are all of one size.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

/// Share of the old momentum that a step keeps.
pub const MOMENTUM: f32 = 0.95;

/// Newton–Schulz iterations.
const ITERATIONS: u32 = 5;

/// Of Jordan's quintic, which is steepest at zero: five iterations bring singular values from 0.001 on to between 0.7 and
/// 1.2.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// The least norm that is divided by.
const EPSILON: f32 = 1e-7;

/// Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") for one parameter.
#[derive(Clone, Debug)]
pub struct Muon {
    /// The outputs of each matrix that is fused in it, side by side: those of queries, keys and values in `c_attn`.
    pub outputs: Vec<i32>,
}

/// What Muon goes by in one step: scalars, float32. With a momentum of one and a rate of zero, no number changes.
pub struct Rates {
    pub lr: Array,
    /// [`MOMENTUM`].
    pub momentum: Array,
}

/// Whether a parameter is a matrix inside of a block.
pub fn is_for(name: &str, shape: &[i32]) -> bool {
    name.starts_with("h.") && shape.len() == 2
}

impl Muon {
    /// The momentum of a parameter after a step: `m ← 0.95 m + 0.05 g`.
    pub fn momentum(&self, m: &Array, gradient: &Array, rates: &Rates) -> Result<Array> {
        let rest = Array::from_f32(1.0).subtract(&rates.momentum)?;
        m.multiply(&rates.momentum)?.add(gradient.multiply(rest)?)
    }

    /// The parameter `[in, out]` after that step: against the orthogonalised `0.95 m + 0.05 g` (Nesterov's look ahead), by
    /// `lr · √max(1, out / in)`.
    pub fn parameter(&self, old: &Array, m: &Array, gradient: &Array, rates: &Rates) -> Result<Array> {
        let ahead = self.momentum(m, gradient, rates)?;
        let mut steps = Vec::with_capacity(self.outputs.len());
        for momentum in self.split(&ahead)? {
            let [rows, outputs] = [momentum.dim(0), momentum.dim(1)];
            let scale = (outputs as f32 / rows as f32).max(1.0).sqrt();
            steps.push(orthogonalize(&momentum)?.multiply(Array::from_f32(scale))?);
        }
        let step = match &steps[..] {
            [step] => step.clone(),
            steps => ops::concatenate(steps, 1)?,
        };
        old.subtract(step.multiply(&rates.lr)?)
    }

    /// Floating-point operations of a step's matrix products, for a parameter with that many inputs.
    pub fn flops(&self, inputs: i32) -> u64 {
        let product = |outputs: &i32| {
            let (small, large) = (inputs.min(*outputs) as u64, inputs.max(*outputs) as u64);
            2 * small * small * (2 * large + small)
        };
        u64::from(ITERATIONS) * self.outputs.iter().map(product).sum::<u64>()
    }

    /// The matrices that are fused in one.
    fn split(&self, matrix: &Array) -> Result<Vec<Array>> {
        let mut ends: Vec<i32> = Vec::with_capacity(self.outputs.len());
        for outputs in &self.outputs[..self.outputs.len() - 1] {
            ends.push(ends.last().unwrap_or(&0) + outputs);
        }
        matrix.split_at_indices(&ends, 1)
    }
}

/// About `U Vᵀ` of a matrix `U S Vᵀ`: the nearest matrix whose singular values are all one, by Newton–Schulz iterations of
/// `X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X`.
pub fn orthogonalize(matrix: &Array) -> Result<Array> {
    let [a, b, c] = QUINTIC.map(Array::from_f32);
    let tall = matrix.dim(0) > matrix.dim(1);
    let x = if tall { matrix.transpose()? } else { matrix.clone() }; // the smaller side first, for a small X Xᵀ
    let norm = ops::maximum(x.square()?.sum(None)?.sqrt()?, Array::from_f32(EPSILON))?;
    let mut x = x.divide(norm)?;
    for _ in 0..ITERATIONS {
        let square = x.matmul(x.transpose()?)?;
        let polynomial = square.multiply(&b)?.add(square.matmul(&square)?.multiply(&c)?)?;
        x = x.multiply(&a)?.add(polynomial.matmul(&x)?)?;
    }
    if tall { x.transpose() } else { Ok(x) }
}

#[cfg(test)]
mod tests {
    use mlx_rs::linalg::svd;
    use mlx_rs::random;

    use super::*;
    use crate::config::Device;

    #[test]
    fn all_directions_become_about_one_size() {
        Device::Cpu.select().unwrap();
        let key = random::key(1).unwrap();
        for shape in [[24, 24], [16, 64], [64, 16]] {
            let matrix = random::normal::<f32>(&shape, None, 3.0, &key).unwrap();
            let (_, sizes, _) = svd(orthogonalize(&matrix).unwrap()).unwrap();
            let sizes = sizes.to_vec_exact::<f32>().unwrap();
            assert!(
                sizes.iter().all(|size| (0.65..1.25).contains(size)),
                "{shape:?}: {sizes:?}"
            );
        }
    }

    #[test]
    fn a_gradient_of_zeros_moves_nothing() {
        Device::Cpu.select().unwrap();
        let zeros = Array::zeros::<f32>(&[3, 4]).unwrap();
        let muon = Muon { outputs: vec![2, 2] };
        let rates = Rates {
            lr: Array::from_f32(0.02),
            momentum: Array::from_f32(MOMENTUM),
        };
        let m = muon.momentum(&zeros, &zeros, &rates).unwrap();
        let parameter = muon.parameter(&zeros, &m, &zeros, &rates).unwrap();
        for array in [parameter, m] {
            assert_eq!(array.to_vec_exact::<f32>().unwrap(), [0.0; 12]);
        }
    }
}
