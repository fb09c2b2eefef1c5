//! Recomputation: what a function keeps for its backward pass is dropped and computed again there, which takes less memory
//! and more time (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::transforms::fallible_vjp;

use super::raw;

/// `function` of `inputs` and `constants`, of which only those arrays are kept for the backward pass. Gradients are taken of
/// the inputs alone. It must be a pure function of both: an array that it captures has no gradient.
///
/// MLX merges operations that are the same of the same arrays, in compiled functions. The second computation is of other
/// arrays, which are there once the gradient of the result is: it is neither merged with the first nor begun before its turn.
///
/// # Errors
/// MLX's, or those of the function.
pub fn recomputed(
    inputs: &[Array],
    constants: &[Array],
    function: impl Fn(&[Array], &[Array]) -> Result<Array> + Clone + 'static,
) -> Result<Array> {
    let (count, again) = (inputs.len(), function.clone());
    raw::with_gradient(
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
