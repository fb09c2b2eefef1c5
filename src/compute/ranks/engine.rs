//! MLX's distributed engine: its groups and collectives, which mlx-c has and mlx-rs does not.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

use mlx_rs::error::{Exception, Result};
use mlx_rs::{Array, ops};
use mlx_sys::{mlx_array, mlx_distributed_group, mlx_stream};

use super::launched::Backend;

/// The processes that compute together, as MLX's backend connects them.
pub struct Group {
    handle: mlx_distributed_group,
    backend: Backend,
}

type Collective = unsafe extern "C" fn(*mut mlx_array, mlx_array, mlx_distributed_group, mlx_stream) -> c_int;

impl Group {
    /// Connects to the other processes; it blocks until they are there, or MLX gives up.
    ///
    /// # Errors
    /// The backend's own words: it is not in this MLX, lacks a setting, or cannot connect.
    pub fn init(backend: Backend) -> Result<Self> {
        let name = CString::new(backend.name()).map_err(|error| Exception::custom(error.to_string()))?;
        // SAFETY: the handle is made here and freed on dropping; MLX reads the name during the call.
        let handle = unsafe {
            let mut handle = mlx_sys::mlx_distributed_group_new();
            let status = words(|| mlx_sys::mlx_distributed_init(&raw mut handle, true, name.as_ptr()))?;
            if let Err(error) = status {
                mlx_sys::mlx_distributed_group_free(handle);
                return Err(error);
            }
            handle
        };
        Ok(Self { handle, backend })
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        // SAFETY: the group is one that MLX has made.
        unsafe { mlx_sys::mlx_distributed_group_rank(self.handle) as usize }
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        // SAFETY: the group is one that MLX has made.
        unsafe { mlx_sys::mlx_distributed_group_size(self.handle) as usize }
    }

    /// The sum of all ranks' `array`, of one shape and type; the same to the bit on each. Nothing is sent before it is evaluated.
    ///
    /// # Errors
    /// MLX's.
    pub fn all_sum(&self, array: &Array) -> Result<Array> {
        self.call(mlx_sys::mlx_distributed_all_sum, array)
    }

    /// All ranks' `array`, `[n, …]`, one after another, `[ranks × n, …]`. Nothing is sent before it is evaluated.
    ///
    /// # Errors
    /// MLX's.
    pub fn all_gather(&self, array: &Array) -> Result<Array> {
        self.call(mlx_sys::mlx_distributed_all_gather, array)
    }

    fn call(&self, collective: Collective, array: &Array) -> Result<Array> {
        // SAFETY: the handles outlive the call; `result` is empty, and owned by the array that is returned; the stream is
        // freed here, once.
        unsafe {
            // NCCL's messages are a GPU's work, the other backends' the processor's.
            let stream = match self.backend {
                Backend::Nccl => mlx_sys::mlx_default_gpu_stream_new(),
                _ => mlx_sys::mlx_default_cpu_stream_new(),
            };
            let mut result = mlx_sys::mlx_array_new();
            let status = words(|| collective(&raw mut result, array.as_ptr(), self.handle, stream));
            mlx_sys::mlx_stream_free(stream);
            let result = Array::from_ptr(result);
            status??;
            Ok(result)
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by MLX, freed once. MLX itself keeps the connections until the process ends.
        unsafe {
            mlx_sys::mlx_distributed_group_free(self.handle);
        }
    }
}

thread_local! {
    /// What MLX said last in this thread.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" {
    /// mlx-rs's own handler, by the name that it exports: it keeps the words for mlx-rs alone.
    fn default_mlx_error_handler(message: *const c_char, data: *mut c_void);
}

unsafe extern "C" fn listen(message: *const c_char, data: *mut c_void) {
    // SAFETY: MLX's message is a string that lives during the call.
    unsafe {
        let said = CStr::from_ptr(message).to_string_lossy().into_owned();
        SAID.with(|last| last.replace(said));
        default_mlx_error_handler(message, data);
    }
}

/// A call of MLX's C interface, with MLX's words if it fails. The outer error is that of getting ready for it.
fn words(call: impl FnOnce() -> c_int) -> Result<Result<()>> {
    // mlx-rs registers its handler at its first operation; after that this one goes before it.
    ops::zeros::<f32>(&[1])?;
    // SAFETY: both handlers live as long as the program.
    let status = unsafe {
        mlx_sys::mlx_set_error_handler(Some(listen), std::ptr::null_mut(), None);
        let status = call();
        mlx_sys::mlx_set_error_handler(Some(default_mlx_error_handler), std::ptr::null_mut(), None);
        status
    };
    Ok(match status {
        0 => Ok(()),
        _ => Err(Exception::custom(SAID.with(RefCell::take))),
    })
}
