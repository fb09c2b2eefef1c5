//! What MLX's C interface has and mlx-rs does not: functions with a custom gradient, the fused cross entropy,
//! dependencies between arrays, which GPU backend there is, how much memory it has, and how to keep float32 exact on it.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};

use mlx_rs::error::{Exception, Result};
use mlx_rs::{Array, Stream};
use mlx_sys::{mlx_array, mlx_vector_array};

/// MLX's GPU backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuBackend {
    /// Apple's.
    Metal,
    /// NVIDIA's.
    Cuda,
}

/// The GPU backend that MLX was built with and finds a device for.
pub fn gpu_backend() -> Option<GpuBackend> {
    let is = |ask: unsafe extern "C" fn(*mut bool) -> c_int| {
        let mut there = false;
        // SAFETY: MLX writes a bool to where the pointer says.
        unsafe { ask(&raw mut there) == 0 && there }
    };
    if is(mlx_sys::mlx_cuda_is_available) {
        Some(GpuBackend::Cuda)
    } else if is(mlx_sys::mlx_metal_is_available) {
        Some(GpuBackend::Metal)
    } else {
        None
    }
}

/// Whether MLX has a GPU here, whatever device is selected.
pub fn has_gpu() -> bool {
    let mut available = false;
    // SAFETY: the handle is freed here, once; MLX writes a bool to where the pointer says.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let asked = mlx_sys::mlx_device_is_available(&raw mut available, device) == 0;
        mlx_sys::mlx_device_free(device);
        asked && available
    }
}

/// Disables TF32 for float32 matrix products: NVIDIA's GPUs, and Apple's from the M5 on, would round the factors' 24 bits to
/// 11. `MLX_ENABLE_TF32` in the environment takes precedence. MLX reads it at its first product.
///
/// To be called before there are other threads.
#[cfg(feature = "cli")]
pub fn disable_tf32() {
    if std::env::var_os("MLX_ENABLE_TF32").is_none() {
        // SAFETY: no other thread reads the environment, as there is none.
        unsafe { std::env::set_var("MLX_ENABLE_TF32", "0") };
    }
}

/// A number that MLX knows of its GPU by that name, such as `total_memory`. None where it has no GPU, or does not know it.
pub fn gpu_number(name: &CStr) -> Option<u64> {
    // SAFETY: both handles are freed here, once each; MLX writes a number to where the pointer says.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let (mut known, mut number) = (false, 0);
        let found = mlx_sys::mlx_device_info_get(&raw mut info, device) == 0
            && mlx_sys::mlx_device_info_has_key(&raw mut known, info, name.as_ptr()) == 0
            && known
            && mlx_sys::mlx_device_info_get_size(&raw mut number, info, name.as_ptr()) == 0;
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        found.then_some(number as u64)
    }
}

/// As [`operations::fused_cross_entropy`](super::operations::fused_cross_entropy), on CUDA.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn fused_cross_entropy(logits: &Array, targets: &Array) -> Result<Array> {
    let stream = Stream::thread_local_or_default();
    let mut result = new_array();
    // SAFETY: the handles outlive the call, and `result` is one of MLX's own, empty.
    let status =
        unsafe { mlx_sys::mlx_fast_cross_entropy(&raw mut result, logits.as_ptr(), targets.as_ptr(), stream.as_ptr()) };
    owned(result, status)
}

/// A function with a custom vector-Jacobian product: `forward` maps the inputs, of any shape, to an output; `backward` maps
/// the inputs and the output's cotangent to the gradient of each input. Both must be pure functions of MLX operations.
///
/// # Errors
/// MLX's, or those of the functions.
pub fn custom_vjp(
    inputs: &[Array],
    forward: impl Fn(&[Array]) -> Result<Array> + 'static,
    backward: impl Fn(&[Array], &Array) -> Result<Vec<Array>> + 'static,
) -> Result<Array> {
    let forward: Payload<Forward> = Box::new(Box::new(forward));
    let backward: Payload<Backward> = Box::new(Box::new(backward));
    // SAFETY: each payload is given to MLX once, which hands it to its own callback and, at the end, to its own destructor.
    // Handles that MLX returns are freed here, once each.
    unsafe {
        let forward = mlx_sys::mlx_closure_new_func_payload(
            Some(call_forward),
            Box::into_raw(forward).cast(),
            Some(free::<Forward>),
        );
        let backward = mlx_sys::mlx_closure_custom_new_func_payload(
            Some(call_backward),
            Box::into_raw(backward).cast(),
            Some(free::<Backward>),
        );
        let mut function = mlx_sys::mlx_closure_new();
        let made = mlx_sys::mlx_custom_vjp(&raw mut function, forward, backward);
        let arguments = vector(inputs);
        let mut results = mlx_sys::mlx_vector_array_new();
        let called = match made {
            0 => mlx_sys::mlx_closure_apply(&raw mut results, function, arguments),
            failed => failed,
        };
        let result = element(results, 0, called);
        mlx_sys::mlx_vector_array_free(results);
        mlx_sys::mlx_vector_array_free(arguments);
        mlx_sys::mlx_closure_free(function);
        mlx_sys::mlx_closure_custom_free(backward);
        mlx_sys::mlx_closure_free(forward);
        result
    }
}

/// The same arrays, of any shapes; MLX uses them only after those in `after` are computed.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn depending(inputs: &[Array], after: &[Array]) -> Result<Vec<Array>> {
    // SAFETY: the three vectors are freed here, once each; the elements are handles of their own.
    unsafe {
        let (inputs, after) = (vector(inputs), vector(after));
        let mut results = mlx_sys::mlx_vector_array_new();
        let arrays = match mlx_sys::mlx_depends(&raw mut results, inputs, after) {
            0 => elements(results),
            failed => element(results, 0, failed).map(|array| vec![array]),
        };
        mlx_sys::mlx_vector_array_free(results);
        mlx_sys::mlx_vector_array_free(after);
        mlx_sys::mlx_vector_array_free(inputs);
        arrays
    }
}

type Forward = Box<dyn Fn(&[Array]) -> Result<Array>>;
type Backward = Box<dyn Fn(&[Array], &Array) -> Result<Vec<Array>>>;
type Payload<F> = Box<F>;

unsafe extern "C" fn call_forward(
    result: *mut mlx_vector_array,
    primals: mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: the payload is the one that was given with this callback.
    let forward = unsafe { &*payload.cast::<Forward>() };
    let output = unsafe { elements(primals) }.and_then(|inputs| forward(&inputs));
    unsafe { hand_over(result, output.map(|output| vec![output])) }
}

unsafe extern "C" fn call_backward(
    result: *mut mlx_vector_array,
    primals: mlx_vector_array,
    cotangents: mlx_vector_array,
    _outputs: mlx_vector_array,
    payload: *mut c_void,
) -> c_int {
    // SAFETY: the payload is the one that was given with this callback.
    let backward = unsafe { &*payload.cast::<Backward>() };
    let both = unsafe { elements(primals).and_then(|inputs| Ok((inputs, element(cotangents, 0, 0)?))) };
    unsafe {
        hand_over(
            result,
            both.and_then(|(inputs, cotangent)| backward(&inputs, &cotangent)),
        )
    }
}

unsafe extern "C" fn free<F>(payload: *mut c_void) {
    // SAFETY: MLX calls this once, when it lets go of the function.
    drop(unsafe { Box::from_raw(payload.cast::<F>()) });
}

/// Returns the result of a callback to MLX; an error is passed as its status alone.
unsafe fn hand_over(result: *mut mlx_vector_array, output: Result<Vec<Array>>) -> c_int {
    let Ok(output) = output else { return 1 };
    let handles: Vec<mlx_array> = output.iter().map(Array::as_ptr).collect();
    // SAFETY: `result` is MLX's to fill, from handles that outlive the call.
    unsafe { mlx_sys::mlx_vector_array_set_data(result, handles.as_ptr(), handles.len()) }
}

/// Those arrays as one of MLX's vectors, to be freed.
unsafe fn vector(arrays: &[Array]) -> mlx_vector_array {
    let handles: Vec<mlx_array> = arrays.iter().map(Array::as_ptr).collect();
    // SAFETY: MLX copies the handles.
    unsafe { mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) }
}

unsafe fn elements(arrays: mlx_vector_array) -> Result<Vec<Array>> {
    // SAFETY: `arrays` is a vector of MLX's.
    let count = unsafe { mlx_sys::mlx_vector_array_size(arrays) };
    (0..count).map(|index| unsafe { element(arrays, index, 0) }).collect()
}

/// One of some arrays, unless they could not be computed.
unsafe fn element(arrays: mlx_vector_array, index: usize, status: c_int) -> Result<Array> {
    let mut result = new_array();
    let status = match status {
        // SAFETY: `arrays` is a vector of MLX's.
        0 => unsafe { mlx_sys::mlx_vector_array_get(&raw mut result, arrays, index) },
        failed => failed,
    };
    owned(result, status)
}

fn new_array() -> mlx_array {
    // SAFETY: makes an empty handle.
    unsafe { mlx_sys::mlx_array_new() }
}

fn owned(array: mlx_array, status: c_int) -> Result<Array> {
    // SAFETY: the handle was made by `new_array`, and is owned by the result from here on.
    let array = unsafe { Array::from_ptr(array) };
    if status == 0 {
        Ok(array)
    } else {
        Err(Exception::custom("an operation of MLX's C interface failed"))
    }
}

/// The operations that arrays are still to be computed by, as MLX prints them: `name inputs -> outputs`, a line each.
#[cfg(test)]
pub fn graph(arrays: &[Array]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = std::ffi::CString::new(file.path().to_str().unwrap()).unwrap();
    // SAFETY: each handle, and the stream, is made and let go of here, once.
    unsafe {
        let out = mlx_sys::fopen(path.as_ptr(), c"w".as_ptr());
        let (namer, outputs) = (mlx_sys::mlx_node_namer_new(), vector(arrays));
        assert_eq!(mlx_sys::mlx_print_graph(out, namer, outputs), 0);
        mlx_sys::mlx_vector_array_free(outputs);
        mlx_sys::mlx_node_namer_free(namer);
        mlx_sys::fclose(out);
    }
    std::fs::read_to_string(file.path()).unwrap()
}
