//! Tensors made of a tensor without a copy: slices, selections, other shapes.

use neuro_core::DynTensor;

use crate::guard;
use crate::status::{Result, neuro_status_t};
use crate::tensor::neuro_tensor_t;

/// Indices `start`, `start + step` and so on of `axis`, up to but not including `end`: a view, which shares storage. `start` and
/// `end` lie in 0 to the length of the axis; for a negative `step`, one lower. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_slice(
    tensor: *const neuro_tensor_t,
    axis: usize,
    start: i64,
    end: i64,
    step: i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // `isize` has the 64 bits of `i64`: `handles` asserts it.
    let slice = |tensor: &DynTensor| Ok(tensor.slice(axis, start as isize, end as isize, step as isize)?);
    // SAFETY: forwarded condition.
    unsafe { derive("neuro_tensor_slice", tensor, out, slice) }
}

/// Index `index` of `axis`, without that axis: a view, which shares storage. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_select(
    tensor: *const neuro_tensor_t,
    axis: usize,
    index: i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_select";
    // SAFETY: forwarded condition.
    unsafe {
        derive(OP, tensor, out, |tensor| {
            Ok(tensor.select(axis, guard::index(OP, index)?)?)
        })
    }
}

/// The same elements in C order under another shape: a view where strides can say it, else a copy in the default pool.
/// Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `shape` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_reshape(
    tensor: *const neuro_tensor_t,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_reshape";
    // SAFETY: forwarded condition.
    unsafe {
        derive(OP, tensor, out, |tensor| {
            Ok(tensor.reshape(guard::shape(OP, ndim, shape)?)?)
        })
    }
}

/// The axes in reverse order: a view, which shares storage. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_transpose(
    tensor: *const neuro_tensor_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { derive("neuro_tensor_transpose", tensor, out, |tensor| Ok(tensor.transpose())) }
}

/// Dimension `i` of the view is dimension `axes[i]` of `tensor`; shares storage. `axes` names each of the `ndim` dimensions
/// once; `ndim` is `neuro_tensor_get_ndim(tensor)`. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `axes` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_permute(
    tensor: *const neuro_tensor_t,
    ndim: usize,
    axes: *const usize,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_permute";
    // SAFETY: forwarded condition.
    unsafe {
        derive(OP, tensor, out, |tensor| {
            guard::one_for_each(OP, "axes", ndim, tensor.ndim())?;
            Ok(tensor.permute(guard::array(OP, "axes", axes, ndim)?)?)
        })
    }
}

/// A tensor with the same elements side by side in C order: `tensor`'s own storage where they lie so already, else a copy
/// in the default pool. Release `*out` once.
///
/// # Safety
/// A live `tensor` is not released meanwhile, and nobody writes its elements; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_contiguous(
    tensor: *const neuro_tensor_t,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe {
        derive(
            "neuro_tensor_contiguous",
            tensor,
            out,
            |tensor| Ok(tensor.contiguous()?),
        )
    }
}

/// Gives `*out` what `make` makes of `tensor`.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
pub(crate) unsafe fn derive(
    op: &'static str,
    tensor: *const neuro_tensor_t,
    out: *mut *mut neuro_tensor_t,
    make: impl FnOnce(&DynTensor) -> Result<DynTensor>,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(op, out, || make(guard::live(op, tensor)?)) }
}
