//! The outer step of `sync_every`: DiLoCo (Douillard et al. 2023, algorithm 1). Each rank trains apart for some steps; then the
//! mean of what they have moved by is the gradient of one step of SGD with Nesterov's momentum.

use mlx_rs::Array;
use mlx_rs::error::Result;

/// The paper's rate and momentum.
const LR: f32 = 0.7;
const MOMENTUM: f32 = 0.9;

/// A parameter and its outer momentum after an outer step: `u ← 0.9 u + d`, `θ ← θ - 0.7 (d + 0.9 u)`, where `difference` d is
/// the mean over the ranks of `start` θ, from where all began, minus where they are now. All of one shape.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn step(start: &Array, momentum: &Array, difference: &Array) -> Result<[Array; 2]> {
    let decay = Array::from_f32(MOMENTUM);
    let momentum = momentum.multiply(&decay)?.add(difference)?;
    let ahead = difference.add(momentum.multiply(&decay)?)?;
    Ok([start.subtract(ahead.multiply(Array::from_f32(LR))?)?, momentum])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        start: Vec<f32>,
        differences: Vec<Vec<f32>>,
        parameters: Vec<Vec<f32>>,
    }

    /// As torch.optim.SGD, within three roundings a step.
    #[test]
    fn outer_steps_are_those_of_pytorch() {
        let fixture: Fixture = serde_json::from_str(include_str!("../../../tests/fixtures/outer.json")).unwrap();
        let array = |numbers: &[f32]| Array::from_slice(numbers, &[numbers.len() as i32]);
        let mut parameter = array(&fixture.start);
        let mut momentum = array(&vec![0.0; fixture.start.len()]);
        assert_eq!(fixture.differences.len(), 5);
        for (difference, expected) in fixture.differences.iter().zip(&fixture.parameters) {
            [parameter, momentum] = step(&parameter, &momentum, &array(difference)).unwrap();
            let found: Vec<f32> = parameter.to_vec_exact().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }
}
