//! MLX's compiled functions, under a name that fits into a struct.

use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::transforms::compile::compile;

/// A function of arrays, traced and fused at its first call for each set of shapes. It belongs to the thread that made
/// it.
pub type Compiled = Box<dyn FnMut(&[Array]) -> Result<Vec<Array>>>;

/// Compiles a pure function: whatever differs from call to call must come as an argument, since what it catches is a
/// constant of the trace.
pub fn compiled(function: impl FnMut(&[Array]) -> Result<Vec<Array>> + 'static) -> Compiled {
    Box::new(compile(function, false))
}
