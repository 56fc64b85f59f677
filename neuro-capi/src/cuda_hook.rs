//! A pool as the allocator of somebody else, who knows a block by its address alone: `neuro_cuda_hook_t`, and CuPy's functions.

use std::ffi::c_void;

use neuro_core::Device;
use neuro_core::cuda::{Hook, refused_frees};

use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, NEURO_DEVICE_LOST, NEURO_OK, NEURO_UNAVAILABLE, Result, neuro_status_t};

/// A pool of a CUDA device as the allocator of somebody else, who has addresses and streams of its own. Memory is handed out in the order of
/// streams: what is freed on one may at once be handed to an allocation on it, and to one on another stream only behind its work. Any thread may use it.
pub struct neuro_cuda_hook_t(());

impl Handle for Hook {
    type Opaque = neuro_cuda_hook_t;
    const NAME: &'static str = "neuro_cuda_hook_t";
    fn table() -> &'static Table<Self> {
        the_table!(Hook, 8)
    }
}

/// A hook of `pool`, which is of a CUDA device. Release `*out` once; its blocks first.
///
/// # Safety
/// A live `pool` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_hook_create(
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_cuda_hook_t,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_hook_create";
    // SAFETY: forwarded conditions.
    unsafe { guard::give_handle(OP, out, || Ok(Hook::new(pool_or_default(OP, pool)?)?)) }
}

/// One more reference to `hook`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_hook_retain(hook: *mut neuro_cuda_hook_t) -> neuro_status_t {
    guard::retain::<Hook>("neuro_cuda_hook_retain", hook)
}

/// One reference to `hook` less. With the last one its blocks that were not freed are freed. NULL does nothing; a release after the last one is
/// `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_hook_release(hook: *mut neuro_cuda_hook_t) -> neuro_status_t {
    guard::release::<Hook>("neuro_cuda_hook_release", hook)
}

/// Memory of at least `bytes` bytes, aligned to 256, to be used on `cu_stream` from now on: its `CUdeviceptr`. 0 bytes are 0, of which nothing
/// has to be freed. `NEURO_DRIVER` where the stream is none of the device, or is captured into a graph.
///
/// # Safety
/// `cu_stream` is a `CUstream` of the device's primary context, or NULL for the legacy default stream, and stays until what was allocated,
/// freed or recorded on it is freed and `neuro_cuda_hook_forget_stream` was called; a live `hook` is not released meanwhile; `out` is
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_hook_allocate(
    hook: *mut neuro_cuda_hook_t,
    bytes: usize,
    cu_stream: *mut c_void,
    out: *mut u64,
) -> neuro_status_t {
    const OP: &str = "neuro_cuda_hook_allocate";
    let take = || {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live(OP, hook) }?;
        // SAFETY: forwarded condition.
        Ok(unsafe { hook.allocate(bytes, Some(cu_stream.addr()), || None) }?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, 0, take) }
}

/// Gives a block back, behind all that `cu_stream` has by now, and all that streams have by now on which it was recorded. 0 does nothing. What is no
/// live block of this hook is `NEURO_INVALID_FREE`, and changes nothing.
///
/// # Safety
/// `cu_stream` is as in `neuro_cuda_hook_allocate`, and the one that the block was allocated on, or is ordered behind what uses the block; no
/// work is submitted on the block from now on; a live `hook` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_hook_free(
    hook: *mut neuro_cuda_hook_t,
    address: u64,
    cu_stream: *mut c_void,
) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live("neuro_cuda_hook_free", hook) }?;
        // SAFETY: forwarded condition.
        Ok(unsafe { hook.free(address, Some(cu_stream.addr()), || None) }?)
    })
}

/// Says that a block is used on `cu_stream`, too: it is handed out again behind all that this stream has when the block is freed.
///
/// # Safety
/// `cu_stream` is as in `neuro_cuda_hook_allocate`; a live `hook` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_hook_record_stream(
    hook: *mut neuro_cuda_hook_t,
    address: u64,
    cu_stream: *mut c_void,
) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live("neuro_cuda_hook_record_stream", hook) }?;
        // SAFETY: forwarded condition.
        Ok(unsafe { hook.record_stream(address, cu_stream.addr(), || None) }?)
    })
}

/// Lets go of a stream that its owner is about to destroy. What was allocated on it is freed before.
///
/// # Safety
/// A live `hook` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cuda_hook_forget_stream(
    hook: *mut neuro_cuda_hook_t,
    cu_stream: *mut c_void,
) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live("neuro_cuda_hook_forget_stream", hook) }?;
        hook.forget_stream(cu_stream.addr());
        Ok(())
    })
}

/// Frees of this process, through hooks of any kind, that were refused since they named no live block.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_cuda_hook_get_refused_frees() -> u64 {
    refused_frees()
}

/// What CuPy's `CFunctionAllocator` takes as `malloc`; `hook`, a `neuro_cuda_hook_t *`, is its `param`. CuPy does not say on which stream it uses the memory, so
/// it is good on the legacy default stream and on those that wait for it, which are ordered behind what used it before all together; not on streams
/// that were made to be non-blocking. `nm.hooks.cupy` heeds streams. NULL where there is no memory, with a line on standard error: CuPy does not look.
///
/// # Safety
/// A live `hook` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cupy_malloc(hook: *mut c_void, bytes: usize, device: i32) -> *mut c_void {
    const OP: &str = "neuro_cupy_malloc";
    let take = || {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live(OP, hook.cast::<neuro_cuda_hook_t>()) }?;
        check_device(OP, hook, device)?;
        // SAFETY: the legacy default stream stays.
        let address = unsafe { hook.allocate(bytes, None, || None) }?;
        Ok(std::ptr::with_exposed_provenance_mut::<c_void>(address as usize))
    };
    let block = guard::value(std::ptr::null_mut(), take);
    if block.is_null() && bytes > 0 {
        guard::say_last_error();
    }
    block
}

/// What CuPy's `CFunctionAllocator` takes as `free`. What is no live block is refused, with a line on standard error.
///
/// # Safety
/// No work is submitted on the block from now on; a live `hook` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_cupy_free(hook: *mut c_void, pointer: *mut c_void, device: i32) {
    let _ = device; // the address says where it is
    let freed = guard::status(|| {
        // SAFETY: forwarded condition.
        let hook: &Hook = unsafe { guard::live("neuro_cupy_free", hook.cast::<neuro_cuda_hook_t>()) }?;
        // SAFETY: forwarded condition.
        Ok(unsafe { hook.free(pointer.expose_provenance() as u64, None, || None) }?)
    });
    say_unless_gone(freed);
}

/// # Errors
/// [`NEURO_INVALID_ARGUMENT`](crate::status::NEURO_INVALID_ARGUMENT) where a framework asks for memory of another device than the hook has.
pub(crate) fn check_device(op: &'static str, hook: &Hook, device: i32) -> Result<()> {
    let there = hook.pool().device();
    if u32::try_from(device).is_ok_and(|device| there == Device::Cuda(device)) {
        return Ok(());
    }
    let what = format_args!(
        "the hook's pool is of {there}, and memory of cuda:{device} was asked for; make a pool of that, and hook it"
    );
    Err(Failure::argument(op, what))
}

/// One line on standard error for a callback that cannot return an error. When the process ends, frameworks free what is gone already: that is nobody's news.
pub(crate) fn say_unless_gone(status: neuro_status_t) {
    if !matches!(status, NEURO_OK | NEURO_UNAVAILABLE | NEURO_DEVICE_LOST) {
        guard::say_last_error();
    }
}
