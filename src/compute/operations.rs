//! Operations whose best implementation depends on the device. Each computes the same function on every device. N is the
//! product of the leading dimensions. All errors are MLX's: shapes that do not fit, out of memory, a failed device.

use mlx_rs::error::Result;
use mlx_rs::transforms::fallible_vjp;
use mlx_rs::{Array, Dtype, ops};

use super::kernels::{self, Kernel, KernelState};
use super::raw::{self, GpuBackend};
use crate::config::Device;

/// N from which on a gradient's sum over rows is computed by a matrix product.
const MIN_ROWS_FOR_MATMUL_SUM: i32 = 64;

/// Rows of the largest table whose gradient is a product with one-hot vectors.
const MAX_ONE_HOT_ROWS: i32 = 1024;

/// `x W + b`: x `[…, in]`, W `[in, out]`, b `[out]`, to `[…, out]`.
pub fn affine(x: &Array, weight: &Array, bias: &Array) -> Result<Array> {
    let rows = rows_of(x);
    if !on_gpu() || rows < MIN_ROWS_FOR_MATMUL_SUM {
        return ops::addmm(bias, x, weight, None, None);
    }
    let y = ops::addmm(repeat_rows(bias, rows)?, flat(x)?, weight, None, None)?;
    y.reshape(&with_last(x.shape(), weight.dim(-1)))
}

/// `x · weight + bias` by channel: x `[…, C]`, weight and bias `[C]`, to `[…, C]`.
pub fn scale_and_shift(x: &Array, weight: &Array, bias: &Array) -> Result<Array> {
    let rows = rows_of(x);
    flat(x)?
        .multiply(repeat_rows(weight, rows)?)?
        .add(repeat_rows(bias, rows)?)?
        .reshape(x.shape())
}

/// `x · weight` by channel: x `[…, C]`, weight `[C]`, to `[…, C]`.
pub fn scale(x: &Array, weight: &Array) -> Result<Array> {
    if !scales_separately(x) {
        return x.multiply(weight);
    }
    flat(x)?.multiply(repeat_rows(weight, rows_of(x))?)?.reshape(x.shape())
}

/// Whether the gradients of a norm's weight and bias, of x `[…, C]`, are faster by [`scale_and_shift`] than by MLX's own
/// kernel.
pub fn scales_separately(x: &Array) -> bool {
    on_gpu() && rows_of(x) >= MIN_ROWS_FOR_MATMUL_SUM
}

/// Whether products of a few rows of float32 with matrices of 16 bits read those as they are. MLX itself converts the whole
/// matrix for each product.
pub fn multiplies_by_16_bits() -> bool {
    let multiplies = |kernel: &Kernel| kernel.name == "addmm" && kernel.state != KernelState::Builtin;
    !on_gpu() && kernels::replaced().iter().any(multiplies)
}

/// The rows of a table `[V, C]` by id: `[…]` to `[…, C]`.
pub fn embedding_lookup(table: &Array, ids: &Array) -> Result<Array> {
    if on_gpu() && table.dim(0) <= MAX_ONE_HOT_ROWS {
        lookup_by_one_hot(table, ids)
    } else if table.dtype() == Dtype::Float32 {
        table.take_axis(ids, 0)
    } else {
        lookup_in_16_bits(table, ids)
    }
}

/// Negative log-likelihood by one fused kernel, where the device has one that computes in float32 whatever the format of the
/// logits: CUDA. Logits `[…, V]` and targets `[…]` to `[…]`, in nats.
pub fn fused_cross_entropy(logits: &Array, targets: &Array) -> Result<Option<Array>> {
    match on_cuda() {
        true => raw::fused_cross_entropy(logits, targets).map(Some),
        false => Ok(None),
    }
}

/// `x · tableᵀ`: `[…, C]` and `[V, C]` to logits `[…, V_padded]`, V_padded ≥ V, where the columns beyond V are −∞. On CUDA,
/// V_padded is a multiple of 8 or 64: for others (GPT-2's V is 50257), cuBLAS takes kernels that are several times slower.
pub fn padded_logits(x: &Array, table: &Array) -> Result<Array> {
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

/// Elements of an array to process at a time: few on a CPU, for its caches; many on a GPU, where each chunk costs a kernel
/// launch.
pub fn chunk_elements() -> usize {
    if on_gpu() { 1 << 26 } else { 1 << 20 }
}

/// Broadcasts a vector `[C]` to `[N, C]`, without a copy.
///
/// Its gradient is a sum over rows. On a GPU, MLX sums columns in the format of the gradients, with one thread block for 32
/// columns, which is slow and, for 16-bit gradients of thousands of tokens, inaccurate. A product with ones is neither.
fn repeat_rows(vector: &Array, rows: i32) -> Result<Array> {
    let shape = [rows, vector.dim(0)];
    raw::custom_vjp(
        std::slice::from_ref(vector),
        move |inputs| ops::broadcast_to(&inputs[0], &shape),
        move |_, cotangent| {
            let ones = Array::ones::<f32>(&[1, shape[0]])?.as_dtype(cotangent.dtype())?;
            Ok(vec![ones.matmul(cotangent)?.reshape(&[shape[1]])?])
        },
    )
}

/// A look-up whose gradient is a product with one-hot vectors. On a GPU, MLX adds the gradients of a look-up to the table by
/// atomic additions: in no fixed order, and slowly where thousands of tokens meet in a small table.
fn lookup_by_one_hot(table: &Array, ids: &Array) -> Result<Array> {
    let (taken, known) = (ids.clone(), ids.clone());
    raw::custom_vjp(
        std::slice::from_ref(table),
        move |inputs| inputs[0].take_axis(&taken, 0),
        move |inputs, cotangent| {
            let row = ops::arange::<_, i32>(None, inputs[0].dim(0), None)?.as_dtype(known.dtype())?;
            let one_hot = known.reshape(&[-1, 1])?.eq(row)?.as_dtype(cotangent.dtype())?; // [tokens, V]
            Ok(vec![one_hot.transpose()?.matmul(flat(cotangent)?)?])
        },
    )
}

/// MLX sums the gradients of a row in the table's format: in bfloat16, with 8 significant bits, a sum of ones stops at 256,
/// and a batch has thousands of a frequent token. Here they are summed in float32 and rounded once.
fn lookup_in_16_bits(table: &Array, ids: &Array) -> Result<Array> {
    let (taken, known) = (ids.clone(), ids.clone());
    raw::custom_vjp(
        std::slice::from_ref(table),
        move |inputs| inputs[0].take_axis(&taken, 0),
        move |inputs, cotangent| {
            let table = ops::zeros::<f32>(inputs[0].shape())?;
            let rows = |inputs: &[Array]| Ok(vec![inputs[0].take_axis(&known, 0)?]);
            let (_, gradients) = fallible_vjp(rows, &[table], &[cotangent.as_dtype(Dtype::Float32)?])?;
            Ok(vec![gradients[0].as_dtype(inputs[0].dtype())?])
        },
    )
}

/// `[…, C]` to `[N, C]`.
fn flat(x: &Array) -> Result<Array> {
    x.reshape(&[-1, x.dim(-1)])
}

/// N of x `[…, C]`.
fn rows_of(x: &Array) -> i32 {
    x.size() as i32 / x.dim(-1)
}

/// `shape` with another last dimension.
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
        let by_product = |a: &[Array]| lookup_by_one_hot(&a[0], &a[1]);
        let plain = |a: &[Array]| a[0].take_axis(&a[1], 0);
        close(
            &with_gradients(by_product, &arguments, &[0]),
            &with_gradients(plain, &arguments, &[0]),
        );
    }

    #[test]
    fn a_row_that_is_looked_up_thousands_of_times_has_its_whole_gradient() {
        Device::Cpu.select().unwrap();
        for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
            let table = Array::from_slice(&[1.0f32, 1.0, 1.0, 1.0], &[2, 2])
                .as_dtype(dtype)
                .unwrap();
            let ids = Array::from_slice(&[vec![1u32; 4096], vec![0; 3]].concat(), &[4099]);
            let sums = |table: &[Array]| {
                embedding_lookup(&table[0], &ids)?
                    .as_dtype(Dtype::Float32)?
                    .sum(None)
                    .map(|sum| vec![sum])
            };
            let (_, gradients) = value_and_grad_with_argnums(sums, &[0][..])(&[table]).unwrap();
            let gradient = gradients[0]
                .as_dtype(Dtype::Float32)
                .unwrap()
                .to_vec_exact::<f32>()
                .unwrap();
            assert_eq!(gradient, [3.0, 3.0, 4096.0, 4096.0], "{dtype:?}");
        }
    }

    #[test]
    fn padded_logits_have_the_loss_and_the_gradients_of_plain_ones() {
        Device::Cpu.select().unwrap();
        let targets = Array::from_slice(&[3u32, 0, 12, 5, 1, 2], &[2, 3]);
        let arguments = [normal(&[2, 3, 4], 1), normal(&[13, 4], 2), targets];
        let losses = |multiple: i32| {
            move |a: &[Array]| {
                let logits = logits_in_multiples(&a[0], &a[1], multiple)?;
                let target_logits = ops::indexing::take_along_axis(&logits, a[2].expand_dims(-1)?, -1)?;
                logits
                    .logsumexp_axis(-1, false)?
                    .subtract(target_logits.squeeze_axes(&[-1])?)
            }
        };
        close(
            &with_gradients(losses(8), &arguments, &[0, 1]),
            &with_gradients(losses(1), &arguments, &[0, 1]),
        );
    }
}
