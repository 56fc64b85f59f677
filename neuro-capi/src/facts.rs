//! Facts of a tensor: its shape, where its elements lie, who shares them.

use std::ffi::c_void;
use std::ptr;

use neuro_core::{Device, DynTensor, Error};

use crate::device::neuro_device_t;
use crate::guard;
use crate::status::{Result, neuro_status_t};
use crate::tensor::neuro_tensor_t;

/// Tensors, views and exports, of this and other languages, that share the storage, this tensor included. 0 where the
/// handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_use_count(tensor: *const neuro_tensor_t) -> usize {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_use_count", tensor, 0, DynTensor::refcount) }
}

/// Number of dimensions. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_ndim(tensor: *const neuro_tensor_t) -> usize {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_get_ndim", tensor, 0, DynTensor::ndim) }
}

/// Lengths of the dimensions: `ndim` numbers that live as long as `tensor`. NULL where the handle is not live, which sets
/// the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_shape(tensor: *const neuro_tensor_t) -> *const i64 {
    // Lengths are at most isize::MAX, and both types have 64 bits: `handles` asserts it.
    // SAFETY: forwarded condition.
    unsafe {
        ask("neuro_tensor_get_shape", tensor, ptr::null(), |tensor| {
            tensor.shape().as_ptr().cast()
        })
    }
}

/// Distances between neighbours along each dimension, in elements: `ndim` numbers that live as long as `tensor`. NULL where
/// the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_strides(tensor: *const neuro_tensor_t) -> *const i64 {
    // SAFETY: forwarded condition.
    unsafe {
        ask("neuro_tensor_get_strides", tensor, ptr::null(), |tensor| {
            tensor.strides().as_ptr().cast()
        })
    }
}

/// Type of the elements: `NEURO_DTYPE_…`. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_dtype(tensor: *const neuro_tensor_t) -> u32 {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_get_dtype", tensor, 0, |tensor| tensor.dtype().code()) }
}

/// Where its storage lies. Zeros where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_device(tensor: *const neuro_tensor_t) -> neuro_device_t {
    const OP: &str = "neuro_tensor_get_device";
    guard::value(neuro_device_t::NONE, || {
        // SAFETY: forwarded condition.
        let tensor: &DynTensor = unsafe { guard::live(OP, tensor) }?;
        neuro_device_t::of(OP, tensor.device())
    })
}

/// Number of elements. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_numel(tensor: *const neuro_tensor_t) -> usize {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_get_numel", tensor, 0, DynTensor::numel) }
}

/// Bytes of all elements, laid side by side. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_nbytes(tensor: *const neuro_tensor_t) -> usize {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_get_nbytes", tensor, 0, DynTensor::nbytes) }
}

/// The largest power of two, up to 2 MiB, that divides the address of the first element; on another device than the cpu, its
/// place in the piece of memory that the driver gave. 0 where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_alignment(tensor: *const neuro_tensor_t) -> usize {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_get_alignment", tensor, 0, DynTensor::alignment) }
}

/// Whether the elements lie side by side in C order. False where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_is_contiguous(tensor: *const neuro_tensor_t) -> bool {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_is_contiguous", tensor, false, DynTensor::is_contiguous) }
}

/// Whether writing is forbidden, as for files that are mapped. False where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_is_readonly(tensor: *const neuro_tensor_t) -> bool {
    // SAFETY: forwarded condition.
    unsafe { ask("neuro_tensor_is_readonly", tensor, false, DynTensor::is_readonly) }
}

/// Address of the first element, for reading and writing, as long as a tensor shares the storage. Elements lie as the
/// strides say. NULL for a read-only tensor, for one that is not on the cpu (`neuro_tensor_to_device` makes a copy there), and
/// where the handle is not live, which sets the error.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_data(tensor: *mut neuro_tensor_t) -> *mut c_void {
    const OP: &str = "neuro_tensor_get_data";
    guard::value(ptr::null_mut(), || {
        // SAFETY: forwarded condition.
        let data = unsafe { writable_data(OP, tensor) }?;
        Ok(data.cast())
    })
}

/// As `neuro_tensor_get_data`, for reading; read-only tensors have it too.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_get_const_data(tensor: *const neuro_tensor_t) -> *const c_void {
    const OP: &str = "neuro_tensor_get_const_data";
    guard::value(ptr::null(), || {
        // SAFETY: forwarded condition.
        let data = exposed_data(OP, unsafe { guard::live(OP, tensor) }?)?;
        Ok(data.cast_const().cast())
    })
}

/// Address of the element at `index`, which has one number for each dimension, for reading and writing. `ndim` is
/// `neuro_tensor_get_ndim(tensor)`.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `index` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_at(
    tensor: *mut neuro_tensor_t,
    ndim: usize,
    index: *const i64,
    out: *mut *mut c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_at";
    let find = || {
        // SAFETY: forwarded condition.
        unsafe {
            let offset = element(OP, tensor, ndim, index)?;
            Ok(writable_data(OP, tensor)?.wrapping_offset(offset).cast())
        }
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, ptr::null_mut(), find) }
}

/// As `neuro_tensor_at`, for reading; read-only tensors have it too.
///
/// # Safety
/// As `neuro_tensor_at`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_const_at(
    tensor: *const neuro_tensor_t,
    ndim: usize,
    index: *const i64,
    out: *mut *const c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_const_at";
    let find = || {
        // SAFETY: forwarded condition.
        unsafe {
            let offset = element(OP, tensor, ndim, index)?;
            let data = exposed_data(OP, guard::live(OP, tensor)?)?;
            Ok(data.wrapping_offset(offset).cast_const().cast())
        }
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, ptr::null(), find) }
}

/// One fact of a tensor, or `neutral` where the handle is not live.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
unsafe fn ask<R>(op: &'static str, tensor: *const neuro_tensor_t, neutral: R, fact: impl FnOnce(&DynTensor) -> R) -> R {
    // SAFETY: forwarded condition.
    guard::value(neutral, || Ok(fact(unsafe { guard::live(op, tensor) }?)))
}

/// Refuses memory that the processor cannot reach.
pub(crate) fn check_host(op: &'static str, tensor: &DynTensor) -> Result<()> {
    match tensor.device() {
        Device::Cpu => Ok(()),
        device => Err(Error::Unavailable {
            what: format!("{op} on {device}"),
            reason: "the processor cannot reach this memory; copy the tensor to the cpu first (neuro_tensor_to_device)"
                .to_owned(),
        }
        .into()),
    }
}

/// Address of the first element, which from now on C knows.
fn exposed_data(op: &'static str, tensor: &DynTensor) -> Result<*mut u8> {
    check_host(op, tensor)?;
    tensor.storage().mark_exposed();
    Ok(tensor.data_ptr())
}

/// As [`exposed_data`], where writing is allowed.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
unsafe fn writable_data(op: &'static str, tensor: *mut neuro_tensor_t) -> Result<*mut u8> {
    // SAFETY: forwarded condition.
    let tensor: &DynTensor = unsafe { guard::live(op, tensor) }?;
    if tensor.is_readonly() {
        return Err(Error::ReadOnly { op }.into());
    }
    exposed_data(op, tensor)
}

/// Bytes from the first element to the one at `index`.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `index` is readable for `ndim`.
unsafe fn element(op: &'static str, tensor: *const neuro_tensor_t, ndim: usize, index: *const i64) -> Result<isize> {
    // SAFETY: forwarded condition.
    let tensor: &DynTensor = unsafe { guard::live(op, tensor) }?;
    guard::one_for_each(op, "indices", ndim, tensor.ndim())?;
    // SAFETY: forwarded condition.
    let index = unsafe { guard::indices(op, ndim, index) }?;
    // Cannot overflow: the element lies inside the tensor's storage.
    let elements = tensor.geometry().offset_of(op, index)?;
    Ok(elements * tensor.dtype().size().cast_signed())
}
