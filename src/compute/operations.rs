//! Operations that MLX computes well on one device and badly on another. Each is the same function on all of them.

use mlx_rs::error::Result;
use mlx_rs::{Array, ops};

use super::raw::{self, GpuBackend};
use crate::config::Device;

/// Rows from which on the sum over them, in a gradient, is worth a product.
const SUMMED_ROWS: i32 = 64;

/// Rows that a table may have for the gradient of a look-up to be a product with one-hot vectors.
const ONE_HOT: i32 = 1024;

/// `x W + b`: x `[…, in]`, W `[in, out]`, b `[out]`, to `[…, out]`.
pub fn affine(x: &Array, weight: &Array, bias: &Array) -> Result<Array> {
    let rows = rows_of(x);
    if !on_gpu() || rows < SUMMED_ROWS {
        return ops::addmm(bias, x, weight, None, None);
    }
    let y = ops::addmm(repeat_rows(bias, rows)?, flat(x)?, weight, None, None)?;
    y.reshape(&with_last(x.shape(), weight.dim(-1)))
}

/// `x · gain + bias`, each a vector `[C]` for all rows of x `[…, C]`.
pub fn scale_and_shift(x: &Array, gain: &Array, bias: &Array) -> Result<Array> {
    let rows = rows_of(x);
    flat(x)?
        .multiply(repeat_rows(gain, rows)?)?
        .add(repeat_rows(bias, rows)?)?
        .reshape(x.shape())
}

/// Whether a norm's gain and bias are better applied by [`scale_and_shift`] than by MLX's own kernel, for their gradients.
pub fn scales_apart(x: &Array) -> bool {
    on_gpu() && rows_of(x) >= SUMMED_ROWS
}

/// The rows of a table `[V, C]` with those ids: `[…]` to `[…, C]`.
pub fn look_up(table: &Array, ids: &Array) -> Result<Array> {
    if on_gpu() && table.dim(0) <= ONE_HOT {
        look_up_by_one_hot(table, ids)
    } else {
        table.take_axis(ids, 0)
    }
}

/// Negative log-likelihood in float32 by one kernel, where the device has one that is exact for logits of any format: CUDA.
/// Logits `[…, V]` and targets `[…]` to `[…]`.
pub fn fused_cross_entropy(logits: &Array, targets: &Array) -> Result<Option<Array>> {
    match on_cuda() {
        true => raw::fused_cross_entropy(logits, targets).map(Some),
        false => Ok(None),
    }
}

/// x times each row of a table: `[…, C]` and `[V, C]` to logits `[…, V]`, or more of them, where the further ones are −∞, of
/// tokens that there are not. On CUDA, without a multiple of 8 (GPT-2 has 50257 tokens), cuBLAS takes kernels that are
/// several times slower.
pub fn aligned_logits(x: &Array, table: &Array) -> Result<Array> {
    let multiple = match (on_cuda(), table.dim(0)) {
        (false, _) => 1,
        (true, ..1024) => 8,
        (true, _) => 64,
    };
    logits_in_multiples(x, table, multiple)
}

fn logits_in_multiples(x: &Array, table: &Array, multiple: i32) -> Result<Array> {
    let rows = table.dim(0);
    let missing = (multiple - rows % multiple) % multiple;
    if missing == 0 {
        return x.matmul(table.transpose()?);
    }
    let padding = Array::zeros::<f32>(&[missing, table.dim(1)])?.as_dtype(table.dtype())?;
    let table = ops::concatenate(&[table, &padding], 0)?;
    let known = ops::zeros::<f32>(&[rows])?;
    let unknown = ops::full::<f32>(&[missing], Array::from_f32(f32::NEG_INFINITY))?;
    let bias = ops::concatenate(&[known, unknown], 0)?.as_dtype(x.dtype())?;
    let logits = ops::addmm(bias, flat(x)?, table.transpose()?, None, None)?;
    logits.reshape(&with_last(x.shape(), rows + missing))
}

/// Elements of an array whose intermediate results are best in memory at a time: few on a CPU, which shares its memory; on a
/// GPU each part costs a kernel's launch.
pub fn elements_at_once() -> usize {
    if on_gpu() { 1 << 26 } else { 1 << 20 }
}

/// A vector `[C]` for each of so many rows, `[rows, C]`, without taking memory.
///
/// Its gradient is a sum over rows. On a GPU, MLX adds up a column in the format of its numbers, with a block of threads for
/// 32 columns: of 16-bit gradients of 16,384 tokens that is neither exact nor fast. A product with ones is both.
fn repeat_rows(vector: &Array, rows: i32) -> Result<Array> {
    let shape = [rows, vector.dim(0)];
    raw::with_gradient(
        std::slice::from_ref(vector),
        move |inputs| ops::broadcast_to(&inputs[0], &shape),
        move |_, cotangent| {
            let ones = Array::ones::<f32>(&[1, shape[0]])?.as_dtype(cotangent.dtype())?;
            Ok(vec![ones.matmul(cotangent)?.reshape(&[shape[1]])?])
        },
    )
}

/// The gradient of a look-up adds rows of gradients to the table's. On a GPU, MLX does that by atomic additions, in no fixed
/// order, and thousands of them meet in each row of a small table: there it is a product with one-hot vectors.
fn look_up_by_one_hot(table: &Array, ids: &Array) -> Result<Array> {
    let (taken, known) = (ids.clone(), ids.clone());
    raw::with_gradient(
        std::slice::from_ref(table),
        move |inputs| inputs[0].take_axis(&taken, 0),
        move |inputs, cotangent| {
            let row = ops::arange::<_, i32>(None, inputs[0].dim(0), None)?.as_dtype(known.dtype())?;
            let one_hot = known.reshape(&[-1, 1])?.eq(row)?.as_dtype(cotangent.dtype())?; // [tokens, V]
            Ok(vec![one_hot.transpose()?.matmul(flat(cotangent)?)?])
        },
    )
}

/// `[…, C]` to `[rows, C]`.
fn flat(x: &Array) -> Result<Array> {
    x.reshape(&[-1, x.dim(-1)])
}

fn rows_of(x: &Array) -> i32 {
    x.size() as i32 / x.dim(-1)
}

fn with_last(shape: &[i32], last: i32) -> Vec<i32> {
    let mut shape = shape.to_vec();
    if let Some(dimension) = shape.last_mut() {
        *dimension = last;
    }
    shape
}

fn on_gpu() -> bool {
    Device::current().is_ok_and(|device| device == Device::Gpu)
}

fn on_cuda() -> bool {
    on_gpu() && raw::gpu_backend() == Some(GpuBackend::Cuda)
}

/// What a GPU computes in another way is compared with the plain operations here, on any device.
#[cfg(test)]
mod tests {
    use mlx_rs::random;
    use mlx_rs::transforms::compile::compile;
    use mlx_rs::transforms::value_and_grad_with_argnums;

    use super::*;

    /// Value and gradients of a sum of squares of `function`, compiled, as a training step has it.
    fn with_gradients(
        function: impl Fn(&[Array]) -> Result<Array> + Clone + 'static,
        arguments: &[Array],
        argnums: &'static [i32],
    ) -> Vec<Vec<f32>> {
        let mut step = compile(
            move |arguments: &[Array]| {
                let function = function.clone();
                let loss = move |arguments: &[Array]| Ok(vec![function(arguments)?.square()?.sum(None)?]);
                let (values, gradients) = value_and_grad_with_argnums(loss, argnums)(arguments)?;
                Ok([values, gradients].concat())
            },
            false,
        );
        let results = step(arguments).unwrap();
        let flat = |array: &Array| array.reshape(&[-1]).unwrap().to_vec_exact::<f32>().unwrap();
        results.iter().map(flat).collect()
    }

    fn close(ours: &[Vec<f32>], theirs: &[Vec<f32>]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert_eq!(a.len(), b.len());
            let largest = b.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            // Sums of a hundred terms in another order.
            assert!(
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * largest),
                "{a:?} {b:?}"
            );
        }
    }

    fn normal(shape: &[i32], key: u64) -> Array {
        random::normal::<f32>(shape, None, None, &random::key(key).unwrap()).unwrap()
    }

    #[test]
    fn repeated_rows_have_the_gradient_of_a_broadcast() {
        Device::Cpu.select().unwrap();
        let arguments = [
            normal(&[4, 20, 6], 1),
            normal(&[6, 10], 2),
            normal(&[10], 3),
            normal(&[10], 4),
        ];
        let apart = |a: &[Array]| {
            let y = ops::addmm(repeat_rows(&a[2], 80)?, flat(&a[0])?, &a[1], None, None)?;
            scale_and_shift(&y, &a[3], &a[2])
        };
        let plain = |a: &[Array]| {
            let y = ops::addmm(&a[2], flat(&a[0])?, &a[1], None, None)?;
            y.multiply(&a[3])?.add(&a[2])
        };
        let argnums = &[0, 1, 2, 3];
        close(
            &with_gradients(apart, &arguments, argnums),
            &with_gradients(plain, &arguments, argnums),
        );
    }

    #[test]
    fn one_hot_vectors_have_the_gradient_of_a_look_up() {
        Device::Cpu.select().unwrap();
        let ids = Array::from_slice(&[3u32, 0, 3, 5, 5, 5], &[2, 3]);
        let arguments = [normal(&[7, 4], 1), ids];
        let by_product = |a: &[Array]| look_up_by_one_hot(&a[0], &a[1]);
        let plain = |a: &[Array]| a[0].take_axis(&a[1], 0);
        close(
            &with_gradients(by_product, &arguments, &[0]),
            &with_gradients(plain, &arguments, &[0]),
        );
    }

    #[test]
    fn padded_logits_have_the_loss_and_the_gradients_of_plain_ones() {
        Device::Cpu.select().unwrap();
        let targets = Array::from_slice(&[3u32, 0, 12, 5, 1, 2], &[2, 3]);
        let arguments = [normal(&[2, 3, 4], 1), normal(&[13, 4], 2), targets];
        let losses = |multiple: i32| {
            move |a: &[Array]| {
                let logits = logits_in_multiples(&a[0], &a[1], multiple)?;
                let chosen = ops::indexing::take_along_axis(&logits, a[2].expand_dims(-1)?, -1)?;
                logits.logsumexp_axis(-1, false)?.subtract(chosen.squeeze_axes(&[-1])?)
            }
        };
        close(
            &with_gradients(losses(8), &arguments, &[0, 1]),
            &with_gradients(losses(1), &arguments, &[0, 1]),
        );
    }
}
