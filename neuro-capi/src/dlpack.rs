//! DLPack: tensors of this library for others, and others' for this one, without a copy.
//!
//! The structures are those of `dlpack.h`, which the header names and does not define.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use neuro_core::dlpack::{self, Consumer, DLManagedTensor, DLManagedTensorVersioned, Ready};
use neuro_core::{DynTensor, Result as CoreResult};

use crate::guard;
use crate::status::{Failure, neuro_status_t};
use crate::tensor::neuro_tensor_t;

/// `tensor` for a consumer that knows the structure from before DLPack 1.0. It shares the storage and keeps it alive. Give
/// `*out` to one consumer, or call its deleter once. A read-only tensor is `NEURO_EXCHANGE`: the old structure cannot say
/// that.
///
/// Of a tensor on a Vulkan device the structure says so (kDLVulkan), and its data pointer is no address and no handle: only this
/// copy of the library can take it, with `neuro_tensor_from_dlpack`. For others copy the tensor to the cpu first.
///
/// Memory of a CUDA device is for a consumer on the legacy default stream: see `neuro_tensor_to_dlpack_on`.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_dlpack(
    tensor: *const neuro_tensor_t,
    out: *mut *mut DLManagedTensor,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { export("neuro_tensor_to_dlpack", tensor, out, dlpack::export) }
}

/// As `neuro_tensor_to_dlpack`, in the structure of DLPack 1.x; its flags say whether the tensor is read-only.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_dlpack_versioned(
    tensor: *const neuro_tensor_t,
    out: *mut *mut DLManagedTensorVersioned,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe {
        export(
            "neuro_tensor_to_dlpack_versioned",
            tensor,
            out,
            dlpack::export_versioned,
        )
    }
}

/// As `neuro_tensor_to_dlpack`, for a consumer that uses memory of a CUDA device on `cu_stream`, a `CUstream` (NULL: the legacy default
/// stream, as there). The stream is behind what was done with the tensor so far; until the deleter is called, what is done with it here is
/// behind what the stream has by then, and the stream's later work behind that; the memory is handed out again behind the stream's work.
/// Nobody waits on the host. Without a meaning for memory of other devices.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable; `cu_stream` is of the primary context of the tensor's device, and
/// stays until the deleter was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_dlpack_on(
    tensor: *const neuro_tensor_t,
    cu_stream: *mut c_void,
    out: *mut *mut DLManagedTensor,
) -> neuro_status_t {
    let on = Consumer::Stream(cu_stream.addr());
    // SAFETY: forwarded condition.
    unsafe {
        export("neuro_tensor_to_dlpack_on", tensor, out, |tensor| {
            dlpack::export_to(tensor, on)
        })
    }
}

/// As `neuro_tensor_to_dlpack_on`, in the structure of DLPack 1.x.
///
/// # Safety
/// As `neuro_tensor_to_dlpack_on`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_to_dlpack_versioned_on(
    tensor: *const neuro_tensor_t,
    cu_stream: *mut c_void,
    out: *mut *mut DLManagedTensorVersioned,
) -> neuro_status_t {
    let on = Consumer::Stream(cu_stream.addr());
    // SAFETY: forwarded condition.
    unsafe {
        export("neuro_tensor_to_dlpack_versioned_on", tensor, out, |tensor| {
            dlpack::export_versioned_to(tensor, on)
        })
    }
}

/// A tensor over the memory of `managed`, which is taken over on success only: its deleter is called, on any thread, when
/// the last tensor that shares the memory is released. What cannot be taken (a device other than the CPU or one of CUDA's, an
/// impossible shape, strides that leave the address space) is `NEURO_EXCHANGE` and stays the caller's. Release `*out` once.
///
/// Memory of a CUDA device holds what it should behind what the legacy default stream has by now. While it is here, what is done with it is
/// behind what that stream has by then, and the stream's later work behind that; the deleter is called when the work here is done.
///
/// Memory of a Vulkan device is taken where this copy of the library exported it; then the deleter is called at once, as it is for
/// memory of a CUDA device that comes home.
///
/// # Safety
/// `managed` is NULL or a structure as DLPack defines it that no one took over before: a second import of the same one
/// cannot be told from a first. Its data is readable and writable until the deleter is called; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_from_dlpack(
    managed: *mut DLManagedTensor,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe {
        import("neuro_tensor_from_dlpack", managed, out, |managed| {
            dlpack::import(managed)
        })
    }
}

/// As `neuro_tensor_from_dlpack`, for the structure of DLPack 1.x. The tensor is read-only where its flags say so.
///
/// # Safety
/// As `neuro_tensor_from_dlpack`; data that is marked read-only need not be writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_from_dlpack_versioned(
    managed: *mut DLManagedTensorVersioned,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe {
        import("neuro_tensor_from_dlpack_versioned", managed, out, |managed| {
            dlpack::import_versioned(managed)
        })
    }
}

/// As `neuro_tensor_from_dlpack`, of memory that holds what it should behind what `cu_stream` has by now, a `CUstream` of the device's primary
/// context (NULL: the legacy default stream). Without a meaning for memory of other devices.
///
/// # Safety
/// As `neuro_tensor_from_dlpack`; `cu_stream` is such a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_from_dlpack_on(
    managed: *mut DLManagedTensor,
    cu_stream: *mut c_void,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    let ready = Ready::OnStream(cu_stream.addr());
    // SAFETY: forwarded condition.
    unsafe {
        import("neuro_tensor_from_dlpack_on", managed, out, |managed| {
            dlpack::import_ready(managed, ready, false)
        })
    }
}

/// As `neuro_tensor_from_dlpack_on`, for the structure of DLPack 1.x.
///
/// # Safety
/// As `neuro_tensor_from_dlpack_versioned` and `neuro_tensor_from_dlpack_on`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_from_dlpack_versioned_on(
    managed: *mut DLManagedTensorVersioned,
    cu_stream: *mut c_void,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    let ready = Ready::OnStream(cu_stream.addr());
    // SAFETY: forwarded condition.
    unsafe {
        import("neuro_tensor_from_dlpack_versioned_on", managed, out, |managed| {
            dlpack::import_versioned_ready(managed, ready)
        })
    }
}

/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
unsafe fn export<M>(
    op: &'static str,
    tensor: *const neuro_tensor_t,
    out: *mut *mut M,
    export: impl FnOnce(&DynTensor) -> CoreResult<NonNull<M>>,
) -> neuro_status_t {
    let make = || {
        // SAFETY: forwarded condition.
        let tensor = unsafe { guard::live(op, tensor) }?;
        Ok(export(tensor)?.as_ptr())
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(op, out, ptr::null_mut(), make) }
}

/// # Safety
/// `managed` is NULL or as `import` needs it; `out` is NULL or writable.
unsafe fn import<M>(
    op: &'static str,
    managed: *mut M,
    out: *mut *mut neuro_tensor_t,
    import: impl FnOnce(NonNull<M>) -> CoreResult<DynTensor>,
) -> neuro_status_t {
    let make = || {
        let managed = NonNull::new(managed).ok_or_else(|| Failure::argument(op, "managed is NULL"))?;
        // Nothing can fail after this, so that `managed` is consumed on success only: the handle's slot was found before.
        Ok(import(managed)?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(op, out, make) }
}
