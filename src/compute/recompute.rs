//! Gradient checkpointing: a function's activations are dropped after the forward pass and recomputed in the backward pass,
//! which takes less memory and more time (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::transforms::fallible_vjp;

use super::raw;

/// Applies `function` to `inputs` and `constants`, of any shapes, and keeps only these for the backward pass. Only inputs
/// have gradients. The function must be pure: arrays that it captures have none.
///
/// In compiled functions, MLX merges equal operations on the same arrays. The recomputation therefore uses copies that
/// depend on the gradient of the result: it is neither merged with the forward pass nor started before the gradient exists.
///
/// # Errors
/// MLX's, or those of the function.
pub fn recomputed(
    inputs: &[Array],
    constants: &[Array],
    function: impl Fn(&[Array], &[Array]) -> Result<Array> + Clone + 'static,
) -> Result<Array> {
    let (count, again) = (inputs.len(), function.clone());
    raw::custom_vjp(
        &[inputs, constants].concat(),
        move |all| function(&all[..count], &all[count..]),
        move |all, cotangent| {
            let later = raw::depending(all, std::slice::from_ref(cotangent))?;
            let (inputs, constants) = later.split_at(count);
            let result = |inputs: &[Array]| Ok(vec![again(inputs, constants)?]);
            let (_, mut gradients) = fallible_vjp(result, inputs, std::slice::from_ref(cotangent))?;
            // MLX wants as many gradients as there are inputs; nothing asks for those of the constants.
            gradients.extend(constants.iter().cloned());
            Ok(gradients)
        },
    )
}
