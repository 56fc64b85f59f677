//! What is in a tensor: filling it, and copying in, out and between.
//!
//! C gives no word on who else uses the elements, so every write here is the caller's promise, as with `memcpy`.

use std::ffi::c_void;
use std::ptr;

use neuro_core::{Device, DynTensor, Error, Scalar};

use crate::device::neuro_device_t;
use crate::facts::check_host;
use crate::guard;
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, NEURO_BAD_SHAPE, Result, neuro_status_t};
use crate::tensor::neuro_tensor_t;
use crate::view::derive;

/// `tensor` on `device`: one that shares its storage where it lies there already, else a contiguous copy in the device's default
/// pool. To the cpu, the elements have arrived when the call returns; to another device the copy may still be under way, and what
/// is done with `*out` there is ordered behind it. A contiguous tensor of a pool with `NEURO_POOL_GPU_SUPPORT` and a device that
/// shares the host's memory need no copy, there or back: both tensors are the same bytes then, and who writes them on one side keeps
/// other users of the other away. `neuro_tensor_to_pool` copies in any case. A device that is not there is `NEURO_UNAVAILABLE`.
/// Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody writes its elements; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_device(
    tensor: *const neuro_tensor_t,
    device: neuro_device_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_to_device";
    let to = |tensor: &DynTensor| Ok(tensor.to_device(device.to_core(OP)?)?);
    // SAFETY: forwarded condition.
    unsafe { derive(OP, tensor, out, to) }
}

/// A contiguous, writable copy in `pool` (NULL: the default pool), on whatever device that is. Within one device, the device
/// copies; a view with gaps, and what goes from one device to another, passes through the cpu. Release `*out` once.
///
/// # Safety
/// Live handles are not released meanwhile, and nobody writes the elements; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_pool(
    tensor: *const neuro_tensor_t,
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_to_pool";
    // SAFETY: forwarded condition.
    unsafe {
        derive(
            OP,
            tensor,
            out,
            |tensor| Ok(tensor.to_pool(pool_or_default(OP, pool)?)?),
        )
    }
}

/// A contiguous, writable copy in `pool` (NULL: the default pool). From another device to the cpu only `neuro_tensor_to_pool` and
/// `neuro_tensor_to_device` copy. Release `*out` once.
///
/// # Safety
/// Live handles are not released meanwhile, and nobody writes the elements; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_copy(
    tensor: *const neuro_tensor_t,
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_copy";
    // SAFETY: forwarded condition.
    unsafe {
        derive(OP, tensor, out, |tensor| {
            Ok(tensor.copy_in(pool_or_default(OP, pool)?, None)?)
        })
    }
}

/// Copies the elements of `source`, which has the same shape and dtype, to `tensor`. They may overlap.
///
/// # Safety
/// Live handles are not released meanwhile; nobody else uses the elements of `tensor` or writes those of `source`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_copy_from(
    tensor: *mut neuro_tensor_t,
    source: *const neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_copy_from";
    guard::status(|| {
        // SAFETY: forwarded condition; Rust's own borrows of slices need storage that this call cannot reach: code that
        // holds one keeps its tensor from C meanwhile.
        unsafe {
            let tensor: &DynTensor = guard::live(OP, tensor)?;
            Ok(tensor.copy_from_shared(guard::live(OP, source)?)?)
        }
    })
}

/// Copies `bytes` bytes, the elements in C order, from `source` to `tensor`; `bytes` is `neuro_tensor_get_nbytes(tensor)`. The
/// tensor is on the cpu: what is on another device is not written from here.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody else uses its elements; `source` is readable for `bytes` and no
/// part of `tensor`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_copy_from_bytes(
    tensor: *mut neuro_tensor_t,
    source: *const c_void,
    bytes: usize,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_copy_from_bytes";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let tensor: &DynTensor = unsafe { guard::live(OP, tensor) }?;
        // SAFETY: forwarded condition.
        let source = unsafe { guard::array(OP, "source", source.cast::<u8>(), bytes) }?;
        check_host(OP, tensor)?;
        check_length(OP, tensor, bytes)?;
        if tensor.is_readonly() {
            return Err(Error::ReadOnly { op: OP }.into());
        }
        if tensor.is_contiguous() {
            // SAFETY: contiguous, writable and on the host: its elements are the `nbytes == source.len()` bytes from
            // `data_ptr` on, which are no part of `source` and are used by nobody else, as this function's condition says.
            unsafe { ptr::copy_nonoverlapping(source.as_ptr(), tensor.data_ptr(), source.len()) };
            return Ok(());
        }
        let dense = DynTensor::empty(tensor.shape(), tensor.dtype())?;
        // SAFETY: as above, for a tensor that nobody else knows.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), dense.data_ptr(), source.len()) };
        // SAFETY: forwarded condition.
        Ok(unsafe { tensor.copy_from_shared(&dense) }?)
    })
}

/// Copies the elements of `tensor`, in C order, to the `bytes` bytes at `destination`; `bytes` is
/// `neuro_tensor_get_nbytes(tensor)`. From another device than the cpu they come by way of a copy in the default pool.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody writes its elements; `destination` is writable for `bytes` and no
/// part of `tensor`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_copy_to_bytes(
    tensor: *const neuro_tensor_t,
    destination: *mut c_void,
    bytes: usize,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_copy_to_bytes";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let tensor: &DynTensor = unsafe { guard::live(OP, tensor) }?;
        check_length(OP, tensor, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        if destination.is_null() {
            return Err(Failure::argument(OP, "destination is NULL"));
        }
        let dense = tensor.to_device(Device::Cpu)?.contiguous()?;
        // SAFETY: contiguous and on the host: its elements are the `nbytes == bytes` bytes from `data_ptr` on;
        // `destination` is writable for as many and apart from them, as this function's condition says.
        unsafe { ptr::copy_nonoverlapping(dense.data_ptr(), destination.cast(), bytes) };
        Ok(())
    })
}

/// Sets every element to `value`, rounded where the dtype is floating or complex. What an integer dtype or bool cannot hold
/// exactly is `NEURO_INVALID_ARGUMENT`: a fraction, infinity, NaN, a number outside its range.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody else uses its elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_fill_f64(tensor: *mut neuro_tensor_t, value: f64) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { fill("neuro_tensor_fill_f64", tensor, Scalar::Float(value)) }
}

/// Sets every element to `value`. What the tensor's dtype cannot hold is `NEURO_INVALID_ARGUMENT`.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody else uses its elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_fill_i64(tensor: *mut neuro_tensor_t, value: i64) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { fill("neuro_tensor_fill_i64", tensor, Scalar::Int(value.into())) }
}

/// # Safety
/// A live `tensor` is not released meanwhile, and nobody else uses its elements.
unsafe fn fill(op: &'static str, tensor: *mut neuro_tensor_t, value: Scalar) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: forwarded condition; for slices borrowed in Rust see `neuro_tensor_copy_from`.
        unsafe {
            let tensor: &DynTensor = guard::live(op, tensor)?;
            Ok(tensor.fill_shared(value)?)
        }
    })
}

fn check_length(op: &'static str, tensor: &DynTensor, bytes: usize) -> Result<()> {
    if bytes == tensor.nbytes() {
        return Ok(());
    }
    let message = format!(
        "{op}: {bytes} B given for the {} B of shape {:?}",
        tensor.nbytes(),
        tensor.shape()
    );
    Err(Failure::new(NEURO_BAD_SHAPE, message))
}
