//! Tensors: making them, and counting references to them.

use neuro_core::{DType, DynTensor};

use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
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
        the_table!(DynTensor, 2)
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
