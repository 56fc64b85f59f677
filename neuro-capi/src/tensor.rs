//! Tensors: making them, counting references to them, and asking for their facts.

use std::ffi::c_void;
use std::ptr;

use neuro_core::{DType, DynTensor, Error};

use crate::guard::{self, Handle};
use crate::handles::Table;
use crate::pool::{neuro_pool_t, or_default, pool_or_default};
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};

/// A tensor: shape, strides and dtype over storage that views and other tensors may share. Any thread may use it; each
/// holds a reference of its own.
pub struct neuro_tensor_t(());

impl Handle for DynTensor {
    type Opaque = neuro_tensor_t;
    const NAME: &'static str = "neuro_tensor_t";
    fn table() -> &'static Table<Self> {
        static TABLE: Table<DynTensor> = Table::new(2);
        &TABLE
    }
}

/// Flag of `neuro_tensor_options_t`: all elements are 0. Without it their values are undefined.
pub const NEURO_TENSOR_ZEROED: u64 = 1;

/// How to make a tensor. Set it to zeros, then `struct_size`, then what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_tensor_options_t {
    /// `sizeof(neuro_tensor_options_t)`.
    pub struct_size: usize,
    /// Where its memory comes from. NULL: the default pool.
    pub pool: *mut neuro_pool_t,
    /// Bytes to which its data is aligned: a power of two up to 2 MiB. 0: as the pool is.
    pub alignment: usize,
    /// `NEURO_TENSOR_ZEROED`, or 0.
    pub flags: u64,
}

// SAFETY: repr(C), integers and a nullable pointer, all of the same size, `struct_size` first.
unsafe impl SizedStruct for neuro_tensor_options_t {}

/// New tensor, values undefined, in `pool` (NULL: the default pool). `shape` has `ndim` lengths of 0 or more and is not
/// kept. Release `*out` once.
///
/// # Safety
/// A live `pool` is not released meanwhile; `shape` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_empty(
    pool: *mut neuro_pool_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    let options = options(pool, 0);
    // SAFETY: forwarded condition.
    unsafe {
        guard::give_handle("neuro_tensor_empty", out, || {
            create("neuro_tensor_empty", options, dtype, ndim, shape)
        })
    }
}

/// As `neuro_tensor_empty`; all elements are 0.
///
/// # Safety
/// As `neuro_tensor_empty`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_zeros(
    pool: *mut neuro_pool_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    let options = options(pool, NEURO_TENSOR_ZEROED);
    // SAFETY: forwarded condition.
    unsafe {
        guard::give_handle("neuro_tensor_zeros", out, || {
            create("neuro_tensor_zeros", options, dtype, ndim, shape)
        })
    }
}

/// New tensor as `options` say (NULL: as `neuro_tensor_empty` in the default pool). Release `*out` once.
///
/// # Safety
/// `options` is NULL or readable for its `struct_size`, and its pool, where live, is not released meanwhile; `shape` is
/// readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_create(
    options: *const neuro_tensor_options_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_create";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, || create(OP, structs::read(OP, options)?, dtype, ndim, shape)) }
}

/// One more reference to `tensor`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_tensor_retain(tensor: *mut neuro_tensor_t) -> neuro_status_t {
    guard::retain::<DynTensor>("neuro_tensor_retain", tensor)
}

/// One reference to `tensor` less; with the last one its storage goes back, unless a view or an export still shares it.
/// NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_tensor_release(tensor: *mut neuro_tensor_t) -> neuro_status_t {
    guard::release::<DynTensor>("neuro_tensor_release", tensor)
}

/// References to this handle: 1 when new, one more for each `neuro_tensor_retain`. 0 where it is not live, which sets the
/// error.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_tensor_refcount(tensor: *const neuro_tensor_t) -> usize {
    guard::value(0, || guard::count::<DynTensor>("neuro_tensor_refcount", tensor))
}

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

/// The largest power of two, up to 2 MiB, that divides the address of the first element. 0 where the handle is not live,
/// which sets the error.
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
/// strides say. NULL for a read-only tensor and where the handle is not live, which sets the error.
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
    // SAFETY: forwarded condition.
    unsafe {
        ask("neuro_tensor_get_const_data", tensor, ptr::null(), |tensor| {
            exposed_data(tensor).cast_const().cast()
        })
    }
}

/// Address of the element at `index`, which has one number for each dimension, for reading and writing.
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
            let data = writable_data(OP, tensor)?;
            Ok(data.wrapping_offset(element(OP, tensor, ndim, index)?).cast())
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
            let data = exposed_data(guard::live(OP, tensor)?);
            Ok(data
                .wrapping_offset(element(OP, tensor, ndim, index)?)
                .cast_const()
                .cast())
        }
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, ptr::null(), find) }
}

fn options(pool: *mut neuro_pool_t, flags: u64) -> neuro_tensor_options_t {
    neuro_tensor_options_t {
        struct_size: size_of::<neuro_tensor_options_t>(),
        pool,
        alignment: 0,
        flags,
    }
}

/// # Safety
/// As [`neuro_tensor_create`].
unsafe fn create(
    op: &'static str,
    options: neuro_tensor_options_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
) -> Result<DynTensor> {
    if options.flags & !NEURO_TENSOR_ZEROED != 0 {
        return Err(Failure::argument(
            op,
            format_args!("unknown flags {:#x}", options.flags),
        ));
    }
    let dtype = DType::from_code(dtype)?;
    // SAFETY: forwarded condition.
    let (pool, shape) = unsafe { (pool_or_default(op, options.pool)?, guard::shape(op, ndim, shape)?) };
    let alignment = or_default(options.alignment);
    Ok(if options.flags & NEURO_TENSOR_ZEROED != 0 {
        DynTensor::zeros_in(pool, alignment, shape, dtype)?
    } else {
        DynTensor::empty_in(pool, alignment, shape, dtype)?
    })
}

/// One fact of a tensor, or `neutral` where the handle is not live.
///
/// # Safety
/// A live `tensor` is not released meanwhile.
unsafe fn ask<R>(op: &'static str, tensor: *const neuro_tensor_t, neutral: R, fact: impl FnOnce(&DynTensor) -> R) -> R {
    // SAFETY: forwarded condition.
    guard::value(neutral, || Ok(fact(unsafe { guard::live(op, tensor) }?)))
}

/// Address of the first element, which from now on C knows.
fn exposed_data(tensor: &DynTensor) -> *mut u8 {
    tensor.storage().mark_exposed();
    tensor.data_ptr()
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
    Ok(exposed_data(tensor))
}

/// Bytes from the first element to the one at `index`.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `index` is readable for `ndim`.
unsafe fn element(op: &'static str, tensor: *const neuro_tensor_t, ndim: usize, index: *const i64) -> Result<isize> {
    // SAFETY: forwarded condition.
    let (tensor, index): (&DynTensor, _) = unsafe { (guard::live(op, tensor)?, guard::indices(op, ndim, index)?) };
    // Cannot overflow: the element lies inside the tensor's storage.
    let elements = tensor.geometry().offset_of(op, index)?;
    Ok(elements * tensor.dtype().size().cast_signed())
}
