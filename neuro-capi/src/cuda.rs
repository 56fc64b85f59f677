//! CUDA's own names for what tensors lie in, and streams of the caller, whose work is in order with all else that is done with tensors.

use std::ffi::c_void;
use std::ptr;

use neuro_core::cuda::{self, Stream};
use neuro_core::{DType, DynTensor, Error, MemoryPool, Transfer};

use crate::access;
use crate::device::neuro_device_t;
use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, neuro_status_t};
use crate::structs::SizedStruct;
use crate::tensor::neuro_tensor_t;
use crate::transfer::neuro_transfer_t;

/// What CUDA calls a device that is open. It stays valid until the process ends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_cuda_handles_t {
    /// `sizeof(neuro_cuda_handles_t)`.
    pub struct_size: usize,
    /// `CUcontext`: the device's primary context, in which the CUDA runtime and what is built on it work, too.
    pub context: *mut c_void,
    /// `CUstream` that kernels run on. It does not wait for the default stream, nor that for it.
    pub compute: *mut c_void,
    /// `CUstream` for copies from the host.
    pub upload: *mut c_void,
    /// `CUstream` for copies to the host.
    pub download: *mut c_void,
    /// `CUdevice`.
    pub device: i32,
    /// Compute capability: 9 of 9.0.
    pub capability_major: u32,
    /// 0 of 9.0.
    pub capability_minor: u32,
    /// Version of the driver's interface, as 13000 for 13.0.
    pub driver_version: u32,
}

// SAFETY: repr(C), integers and nullable pointers without padding, `struct_size` first.
unsafe impl SizedStruct for neuro_cuda_handles_t {}

/// A stream of the caller's, as this library knows it. What was submitted to it through this, or said to be, is known: memory which it
/// uses is handed out again behind it, and work elsewhere waits for it, on the device and not on the host. Any thread may use it.
pub struct neuro_cuda_stream_t(());

impl Handle for Stream {
    type Opaque = neuro_cuda_stream_t;
    const NAME: &'static str = "neuro_cuda_stream_t";
    fn table() -> &'static Table<Self> {
        the_table!(Stream, 6)
    }
}

/// Submits to `cu_stream`, a `CUstream`, and returns 0 (`CUDA_SUCCESS`); or submits nothing, and returns another `CUresult`.
///
/// It calls nothing of this library, and returns: no `longjmp`, and no C++ exception.
pub type neuro_cuda_work_t = Option<unsafe extern "C" fn(context: *mut c_void, cu_stream: *mut c_void) -> i32>;

/// What CUDA calls `device`, which is opened if it was not. All of `*out` but its `struct_size` is zeros after a failure.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_get_handles(
    device: neuro_device_t,
    out: *mut neuro_cuda_handles_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_get_handles";
    let ask = || {
        let handles = cuda::handles(device.to_core(OP)?)?;
        Ok(neuro_cuda_handles_t {
            struct_size: size_of::<neuro_cuda_handles_t>(),
            context: ptr::with_exposed_provenance_mut(handles.context),
            compute: ptr::with_exposed_provenance_mut(handles.compute),
            upload: ptr::with_exposed_provenance_mut(handles.upload),
            download: ptr::with_exposed_provenance_mut(handles.download),
            device: handles.device,
            capability_major: handles.capability.0,
            capability_minor: handles.capability.1,
            driver_version: handles.driver_version,
        })
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_struct(OP, out, ask) }
}

/// `CUdeviceptr` of the first element of a tensor on a CUDA device. It is good as long as a tensor shares the storage, and for work that
/// was handed over with the tensor by `neuro_cuda_stream_submit`. `*out` is 0 after a failure.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_get_pointer(tensor: *const neuro_tensor_t, out: *mut u64) -> neuro_status_t {
    const OP: &str = "neuro_cuda_get_pointer";
    let ask = || {
        // SAFETY: forwarded condition.
        let tensor: &DynTensor = unsafe { guard::live(OP, tensor) }?;
        Ok(cuda::pointer(tensor)?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, 0, ask) }
}

/// Takes up `cu_stream`, a `CUstream` of the device's primary context, in which the CUDA runtime makes its own, too; NULL is the legacy
/// default stream. Handles of one `CUstream` are the same stream here; at most five different ones are open on a device at a time.
/// Release `*out` once.
///
/// # Safety
/// It is such a stream, and stays until the last handle of it is released; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_open(
    device: neuro_device_t,
    cu_stream: *mut c_void,
    out: *mut *mut neuro_cuda_stream_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_open";
    // SAFETY: forwarded conditions.
    unsafe { guard::give_handle(OP, out, || Ok(Stream::of(device.to_core(OP)?, cu_stream.addr())?)) }
}

/// One more reference to `stream`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_stream_retain(stream: *mut neuro_cuda_stream_t) -> neuro_status_t {
    guard::retain::<Stream>("neuro_cuda_stream_retain", stream)
}

/// One reference to `stream` less. With the last one the library lets the `CUstream` go, which stays its owner's: what is on it goes on.
/// NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_stream_release(stream: *mut neuro_cuda_stream_t) -> neuro_status_t {
    guard::release::<Stream>("neuro_cuda_stream_release", stream)
}

/// Has all that is submitted to the stream from now on wait, on the device, for what was submitted on `tensor`: for its writes where
/// `access` is `NEURO_ACCESS_READ`, for its reads too where it is `NEURO_ACCESS_WRITE`. What then uses the tensor is told by
/// `neuro_cuda_stream_record`; `neuro_cuda_stream_submit` does both.
///
/// # Safety
/// Live handles are not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_wait_for(
    stream: *const neuro_cuda_stream_t,
    tensor: *const neuro_tensor_t,
    access: u32,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_wait_for";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let (stream, tensor): (&Stream, _) = unsafe { (guard::live(OP, stream)?, guard::live(OP, tensor)?) };
        Ok(stream.wait_for(tensor, access::parse(OP, access)?)?)
    })
}

/// The same for a tensor on its way to the stream's device: waits here until its copy was submitted, and on the device until it is there.
///
/// # Safety
/// Live handles are not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_wait_for_transfer(
    stream: *const neuro_cuda_stream_t,
    transfer: *const neuro_transfer_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_wait_for_transfer";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let (stream, transfer): (&Stream, &Transfer) =
            unsafe { (guard::live(OP, stream)?, guard::live(OP, transfer)?) };
        Ok(stream.wait_for_transfer(transfer)?)
    })
}

/// Says that what was submitted to the stream up to now uses `tensor`, and how: `NEURO_ACCESS_…`. Its memory is handed out again behind
/// that, and what is done with it elsewhere waits.
///
/// # Safety
/// Live handles are not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_record(
    stream: *const neuro_cuda_stream_t,
    tensor: *const neuro_tensor_t,
    access: u32,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_record";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let (stream, tensor): (&Stream, _) = unsafe { (guard::live(OP, stream)?, guard::live(OP, tensor)?) };
        Ok(stream.record(tensor, access::parse(OP, access)?)?)
    })
}

/// New tensor, values undefined, in `pool`, one of the stream's device (NULL: its default pool), to be used on this stream first: it may
/// be memory that work of this stream uses still, which that work needs no wait for. `shape` has `ndim` lengths of 0 or more and is not
/// kept. Release `*out` once.
///
/// # Safety
/// Live handles are not released meanwhile; `shape` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_empty(
    stream: *const neuro_cuda_stream_t,
    pool: *mut neuro_pool_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_empty";
    let make = || {
        // SAFETY: forwarded condition.
        let stream: &Stream = unsafe { guard::live(OP, stream) }?;
        let dtype = DType::from_code(dtype)?;
        // SAFETY: forwarded condition.
        let shape = unsafe { guard::shape(OP, ndim, shape) }?;
        if pool.is_null() {
            let pool = MemoryPool::of_device(stream.device())?;
            return Ok(stream.empty(&pool, shape, dtype)?);
        }
        // SAFETY: forwarded condition.
        let pool = unsafe { pool_or_default(OP, pool) }?;
        Ok(stream.empty(pool, shape, dtype)?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_handle(OP, out, make) }
}

/// Has `work` submit to the stream, behind what else uses the `count` tensors; what uses them next is behind it. `access` says of each
/// what is done with it: `NEURO_ACCESS_…`. Nobody waits: what was submitted is under way when this returns. Where `work` returns
/// something else than 0, that is `NEURO_DRIVER`, and the message names it.
///
/// The tensors are held while `work` runs, so it only submits. Where it returns 0, all that it has submitted is on the stream it was
/// given, and touches only bytes of elements of the tensors, writing only those named with `NEURO_ACCESS_WRITE`. Their pointers, from
/// `neuro_cuda_get_pointer`, are asked for before.
///
/// # Safety
/// Live handles are not released meanwhile, and no other thread copies one of the tensors to the host while this hands over work that
/// writes it; `tensors` and `access` are readable for `count`; `work` does as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_stream_submit(
    stream: *const neuro_cuda_stream_t,
    tensors: *const *const neuro_tensor_t,
    access: *const u32,
    count: usize,
    work: neuro_cuda_work_t,
    context: *mut c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_stream_submit";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let stream: &Stream = unsafe { guard::live(OP, stream) }?;
        // SAFETY: forwarded condition.
        let named = unsafe { access::named(OP, tensors, access, count) }?;
        let Some(work) = work else {
            return Err(Failure::argument(OP, "work is NULL"));
        };
        let submit = |raw: usize| {
            // SAFETY: the caller vouches for it; it is given the stream that he has opened.
            match unsafe { work(context, ptr::with_exposed_provenance_mut(raw)) } {
                0 => Ok(()),
                code => Err(Failure::from(Error::Driver {
                    device: stream.device(),
                    call: "the work of neuro_cuda_stream_submit",
                    code: code.into(),
                    meaning: result_name(code).to_owned(),
                })),
            }
        };
        // SAFETY: the caller's work does as `Stream::submit` asks: the texts say the same.
        unsafe { stream.submit(&named, submit) }
    })
}

/// What CUDA calls a result.
fn result_name(code: i32) -> &'static str {
    match code {
        1 => "CUDA_ERROR_INVALID_VALUE",
        2 => "CUDA_ERROR_OUT_OF_MEMORY",
        3 => "CUDA_ERROR_NOT_INITIALIZED",
        4 => "CUDA_ERROR_DEINITIALIZED",
        100 => "CUDA_ERROR_NO_DEVICE",
        200 => "CUDA_ERROR_INVALID_IMAGE",
        201 => "CUDA_ERROR_INVALID_CONTEXT",
        209 => "CUDA_ERROR_NO_BINARY_FOR_GPU",
        400 => "CUDA_ERROR_INVALID_HANDLE",
        500 => "CUDA_ERROR_NOT_FOUND",
        700 => "CUDA_ERROR_ILLEGAL_ADDRESS",
        701 => "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        719 => "CUDA_ERROR_LAUNCH_FAILED",
        801 => "CUDA_ERROR_NOT_SUPPORTED",
        999 => "CUDA_ERROR_UNKNOWN",
        _ => "a CUresult, or a number of the caller's own",
    }
}
