//! What MLX's CPU backend is linked with: the functions that `kernels/` replaces, the BLAS beneath them, and the compiler
//! of its fused kernels. All this is queried from the linked library. Where MLX is linked as it comes (on a Mac, as `mlx-rs`
//! builds it), nothing is replaced and there is nothing to query.

use std::fmt;

use anyhow::Result;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Device, fast, ops, with_device};

/// One of MLX's functions that `kernels/` replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The name in `kernels/README.md`; functions that only work together have one name.
    pub name: String,
    /// The function's name in MLX's sources.
    pub function: String,
    /// Which implementation is in effect.
    pub state: KernelState,
}

/// Which implementation of a function is in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelState {
    /// MLX's own.
    Builtin,
    /// The one in `kernels/`, not called so far.
    Replaced,
    /// The one in `kernels/`, called at least once.
    Called,
}

/// The functions that are replaced. Empty where MLX is linked as it comes.
pub fn replaced() -> Vec<Kernel> {
    linked::kernels()
}

/// Short description of the kernels in effect: `on`, `off`, `on without take`. `None` where MLX is linked as it comes.
pub fn setting() -> Option<String> {
    let mut without: Vec<String> = replaced()
        .into_iter()
        .filter(|kernel| kernel.state == KernelState::Builtin)
        .map(|kernel| kernel.name)
        .collect();
    without.sort();
    without.dedup();
    linked::is_on().map(|on| match (on, without.as_slice()) {
        (false, _) => "off".to_owned(),
        (true, []) => "on".to_owned(),
        (true, names) => format!("on without {}", names.join(", ")),
    })
}

/// Name of the BLAS, and the kernels that it selected for this processor. `None` where MLX has its own.
pub fn blas() -> Option<String> {
    linked::blas()
}

/// Speed of the BLAS compared with the processor's vector unit.
#[derive(Clone, Debug, PartialEq)]
pub struct BlasThroughput {
    /// FLOP/s of one core in a float32 matrix product.
    pub gemm_flops: f64,
    /// Peak FLOP/s of one core with its widest vectors.
    pub peak_flops: f64,
    /// The kernels made for those vectors, as `OPENBLAS_CORETYPE` names them.
    pub recommended_core: Option<String>,
}

impl BlasThroughput {
    /// Lowest efficiency, as a fraction of the vector unit's peak, of kernels made for it: those reach 0.8 and more, kernels
    /// for vectors half as wide less than 0.5.
    const MIN_EFFICIENCY: f64 = 0.5;

    /// `None` if this program does not link the CPU kernels and their BLAS. Takes 50 ms.
    pub fn measure() -> Option<Self> {
        linked::blas_throughput()
    }

    /// Whether the kernels use this processor's vectors in full width.
    pub fn fits(&self) -> bool {
        self.gemm_flops >= Self::MIN_EFFICIENCY * self.peak_flops
    }

    /// The command that selects other kernels, if these do not fit.
    pub fn hint(&self) -> Option<String> {
        let chosen = std::env::var_os("OPENBLAS_CORETYPE").is_some();
        (!self.fits()).then(|| match &self.recommended_core {
            _ if chosen => "unset OPENBLAS_CORETYPE".to_owned(),
            Some(core) => format!("export OPENBLAS_CORETYPE={core}"),
            None => "export OPENBLAS_CORETYPE=NAME, with OpenBLAS's name of a similar processor".to_owned(),
        })
    }
}

impl fmt::Display for BlasThroughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [gemm, peak] = [self.gemm_flops, self.peak_flops].map(|rate| rate / 1e9);
        write!(f, "{gemm:.0} GFLOP/s on one core, of a peak of {peak:.0}")?;
        match self.fits() {
            true => Ok(()),
            false => f.write_str("; these kernels are not made for this processor"),
        }
    }
}

/// The compiler of MLX's fused kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Its own name and version: `g++ (Debian 12.2.0-14) 12.2.0`.
    Found(String),
    /// MLX runs a compiled function's operations one by one, at half the speed, and results differ in the last digits.
    Missing,
}

/// The warning where there is no compiler.
pub const NO_COMPILER: &str = "there is no g++ on PATH, so compiled functions are not fused: they run at half the speed, and results differ in the \
     last digits";

/// The compiler that was found. `None` where MLX compiles by other means.
pub fn compiler() -> Option<Compiler> {
    linked::compiler()
}

/// Runs every replaceable function once on the CPU, so that [`replaced`] tells which of the replacements are reached.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn run_all() -> Result<()> {
    let on_cpu = |work: &dyn Fn() -> mlx_rs::error::Result<Vec<Array>>| with_device(Device::cpu(), work);
    let numbers = |shape: &[i32]| Array::full::<f32>(shape, Array::from_f32(0.5));
    let arrays = on_cpu(&|| {
        let (x, weight, head, bias) = (
            numbers(&[2, 3, 4])?,
            numbers(&[4, 5])?,
            numbers(&[6, 4])?,
            numbers(&[5])?,
        );
        let (gain, heads) = (numbers(&[4])?, x.reshape(&[1, 2, 3, 4])?);
        let columns = numbers(&[6, 32])?;
        let (packed, scales, biases) = ops::quantize(&columns, 32, 8)?;
        Ok(vec![
            ops::addmm(&bias, &x, &weight, None, None)?,
            x.matmul(head.transpose()?)?,
            ops::quantized_matmul(&columns, &packed, &scales, &biases, true, 32, 8)?,
            x.matmul(x.transpose_axes(&[0, 2, 1])?)?, // a product that MLX itself passes to the BLAS
            fast::layer_norm(&x, &gain, &gain, 1e-5)?,
            fast::rms_norm(&x, None, 1e-5)?,
            fast::scaled_dot_product_attention(&heads, &heads, &heads, 1.0, None, None)?,
            weight.take_axis(Array::from_slice(&[0, 2], &[2]), 0)?,
            x.logsumexp_axis(-1, None)?,
        ])
    })?;
    // On another stream, which has to wait for those of the first.
    let sums = on_cpu(&|| arrays.iter().map(|array| array.sum(None)).collect())?;
    Ok(eval(&sums)?)
}

/// Without the library, as on a Mac.
#[cfg(not(mlx_kernels))]
mod linked {
    use super::{BlasThroughput, Compiler, Kernel};

    pub fn is_on() -> Option<bool> {
        None
    }

    pub fn kernels() -> Vec<Kernel> {
        Vec::new()
    }

    pub fn blas() -> Option<String> {
        None
    }

    pub fn blas_throughput() -> Option<BlasThroughput> {
        None
    }

    pub fn compiler() -> Option<Compiler> {
        None
    }
}

/// The library of `scripts/linux/setup.sh`; `build.rs` says whether it is linked.
#[cfg(mlx_kernels)]
mod linked {
    use super::{BlasThroughput, Compiler, Kernel, KernelState};

    // kernels/override.h, kernels/blas_core.h, scripts/linux/kernel_compiler.h
    #[allow(unsafe_code, reason = "the linked library is C")]
    unsafe extern "C" {
        safe fn mlx_gpt_kernels() -> i32;
        safe fn mlx_gpt_kernel(n: i32, name: &mut [u8; 64], function: &mut [u8; 64]) -> i32;
        safe fn mlx_gpt_blas(name: &mut [u8; 128]);
        safe fn mlx_gpt_blas_rates(rates: &mut [f64; 2]);
        safe fn mlx_gpt_fitting_blas_core(name: &mut [u8; 32]);
        safe fn mlx_gpt_kernel_compiler(name: &mut [u8; 128]);
    }

    /// The text that a C function writes into a buffer of `N` bytes, up to the first zero.
    fn text<const N: usize>(write: impl FnOnce(&mut [u8; N])) -> String {
        let mut bytes = [0; N];
        write(&mut bytes);
        let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(N);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Whether they are enabled; `None` if they are not linked.
    pub fn is_on() -> Option<bool> {
        Some(mlx_gpt_kernels() == 1)
    }

    /// All overridden functions, sorted.
    pub fn kernels() -> Vec<Kernel> {
        let kernel = |n| {
            let mut state = -1;
            let mut function = String::new();
            let name = text(|name| function = text(|function| state = mlx_gpt_kernel(n, name, function)));
            let state = match state {
                0 => KernelState::Builtin,
                1 => KernelState::Replaced,
                2 => KernelState::Called,
                _ => return None,
            };
            Some(Kernel { name, function, state })
        };
        let mut kernels: Vec<Kernel> = (0..).map_while(kernel).collect();
        kernels.sort_by(|a, b| a.function.cmp(&b.function));
        kernels
    }

    /// Name of the BLAS and its kernels.
    pub fn blas() -> Option<String> {
        Some(text(|name| mlx_gpt_blas(name)))
    }

    /// Measured throughput of the BLAS.
    pub fn blas_throughput() -> Option<BlasThroughput> {
        let mut rates = [0.0; 2];
        mlx_gpt_blas_rates(&mut rates);
        let core = text(|name| mlx_gpt_fitting_blas_core(name));
        Some(BlasThroughput {
            gemm_flops: rates[0],
            peak_flops: rates[1],
            recommended_core: (!core.is_empty()).then_some(core),
        })
    }

    /// The compiler of fused kernels.
    pub fn compiler() -> Option<Compiler> {
        let name = text(|name| mlx_gpt_kernel_compiler(name));
        Some(if name.is_empty() {
            Compiler::Missing
        } else {
            Compiler::Found(name)
        })
    }
}
