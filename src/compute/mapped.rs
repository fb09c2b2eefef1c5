//! Arrays over the pages of a file, without a copy.

use std::mem::size_of;

use memmap2::MmapMut;
use mlx_rs::{Array, Dtype};

/// Bytes before an array's own that its pages must have: MLX's allocator keeps the array's size there.
pub const BYTES_BEFORE: usize = size_of::<usize>();

/// An array over `pages`, but for the first [`BYTES_BEFORE`]. None where MLX cannot have one: on a GPU, where it is linked as it
/// comes, or for numbers that are not aligned. The pages stay mapped for as long as MLX needs them.
///
/// # Panics
/// The pages are fewer than the shape needs.
pub fn array_over(pages: MmapMut, shape: &[i32], dtype: Dtype) -> Option<Array> {
    let numbers: usize = shape.iter().map(|&n| n as usize).product();
    let size = match dtype {
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        Dtype::Float32 | Dtype::Uint32 => 4,
        _ => return None,
    };
    assert!(pages.len() >= BYTES_BEFORE + numbers * size, "{shape:?} of {dtype:?}");
    let aligned = (pages.as_ptr() as usize + BYTES_BEFORE).is_multiple_of(size);
    (aligned && numbers > 0)
        .then(|| linked::array_over(pages, shape, dtype))
        .flatten()
}

/// Without the library of kernels/, as on a Mac.
#[cfg(not(mlx_kernels))]
mod linked {
    use super::{Array, Dtype, MmapMut};

    pub fn array_over(_: MmapMut, _: &[i32], _: Dtype) -> Option<Array> {
        None
    }
}

#[cfg(mlx_kernels)]
#[allow(unsafe_code, reason = "the linked library is C")]
mod linked {
    use std::ffi::{c_int, c_void};

    use mlx_sys::mlx_array;

    use super::{Array, BYTES_BEFORE, Dtype, MmapMut};

    // kernels/mapped.cpp
    unsafe extern "C" {
        fn mlx_gpt_array_over(
            to: *mut mlx_array,
            data: *mut c_void,
            shape: *const c_int,
            dimensions: c_int,
            dtype: mlx_sys::mlx_dtype,
            owner: *mut c_void,
            release: Option<unsafe extern "C" fn(*mut c_void)>,
        ) -> c_int;
    }

    unsafe extern "C" fn release(owner: *mut c_void) {
        // SAFETY: the owner is what `array_over` gave, once.
        drop(unsafe { Box::from_raw(owner.cast::<MmapMut>()) });
    }

    pub fn array_over(pages: MmapMut, shape: &[i32], dtype: Dtype) -> Option<Array> {
        let dtype = match dtype {
            Dtype::Float16 => mlx_sys::mlx_dtype__MLX_FLOAT16,
            Dtype::Bfloat16 => mlx_sys::mlx_dtype__MLX_BFLOAT16,
            Dtype::Float32 => mlx_sys::mlx_dtype__MLX_FLOAT32,
            _ => mlx_sys::mlx_dtype__MLX_UINT32,
        };
        let mut pages = Box::new(pages);
        let data = pages[BYTES_BEFORE..].as_mut_ptr().cast();
        let owner = Box::into_raw(pages);
        // SAFETY: the shape outlives the call, the pages are as long as the caller has checked and live until `release`, which is
        // called once; where nothing is taken, they are dropped here. The handle is the result's.
        unsafe {
            let mut array = mlx_array {
                ctx: std::ptr::null_mut(),
            };
            let (shape, dimensions) = (shape.as_ptr(), shape.len() as c_int);
            match mlx_gpt_array_over(
                &raw mut array,
                data,
                shape,
                dimensions,
                dtype,
                owner.cast(),
                Some(release),
            ) {
                0 => {
                    release(owner.cast());
                    None
                }
                _ => Some(Array::from_ptr(array)),
            }
        }
    }
}
