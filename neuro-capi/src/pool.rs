//! Pools, and the blocks that come from them.

use std::ffi::{c_char, c_void};
use std::ptr::{self, NonNull};

use neuro_core::{Init, MemoryPool};

use crate::device::neuro_device_t;
use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::status::{Failure, NEURO_UNAVAILABLE, Result, neuro_status_t};

/// A pool of memory. Any thread may use it. Its memory lives until its last handle is released and its last block is freed.
pub struct neuro_pool_t(());

impl Handle for MemoryPool {
    type Opaque = neuro_pool_t;
    const NAME: &'static str = "neuro_pool_t";
    fn table() -> &'static Table<Self> {
        the_table!(MemoryPool, 1)
    }
}

/// The default pool, which is used wherever a NULL pool is given. The handle is a reference of the caller's own: release
/// it once.
///
/// # Safety
/// `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_default(out: *mut *mut neuro_pool_t) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle("neuro_pool_default", out, || Ok(MemoryPool::global().clone())) }
}

/// The default pool of `device`: its limit is the device's memory. For the cpu it is that of `neuro_pool_default`. A device that
/// is not there is `NEURO_UNAVAILABLE`, with what was looked for. Release `*out` once.
///
/// # Safety
/// `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_of_device(device: neuro_device_t, out: *mut *mut neuro_pool_t) -> neuro_status_t {
    const OP: &str = "neuro_pool_of_device";
    let find = || Ok(MemoryPool::of_device(device.to_core(OP)?)?);
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, find) }
}

/// Where the memory of `pool` (NULL: the default pool) lies. Zeros where the handle is not live, which sets the error.
///
/// # Safety
/// A live `pool` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_get_device(pool: *const neuro_pool_t) -> neuro_device_t {
    const OP: &str = "neuro_pool_get_device";
    guard::value(neuro_device_t::NONE, || {
        // SAFETY: as this function's condition says.
        neuro_device_t::of(OP, unsafe { pool_or_default(OP, pool) }?.device())
    })
}

/// Writes the names of the devices that reach the memory of `pool` (NULL: the default pool) where it lies, as
/// `"vulkan:0, vulkan:1"`, to the `size` bytes at `buffer`, as `neuro_device_name` does; see `NEURO_POOL_GPU_SUPPORT`. Loads the
/// drivers, the first time. 0 and an empty string where none does: the error is `NEURO_UNAVAILABLE` then, and says why.
///
/// # Safety
/// A live `pool` is not released meanwhile; `buffer` is NULL or writable for `size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_get_gpu_support(
    pool: *const neuro_pool_t,
    buffer: *mut c_char,
    size: usize,
) -> usize {
    const OP: &str = "neuro_pool_get_gpu_support";
    let ask = || {
        // SAFETY: as this function's condition says.
        let reached = unsafe { pool_or_default(OP, pool) }?.gpu_support();
        let reached = reached.map_err(|why| Failure::new(NEURO_UNAVAILABLE, format!("{OP}: {why}")))?;
        let names: Vec<String> = reached.iter().map(ToString::to_string).collect();
        Ok(names.join(", "))
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_text(OP, buffer, size, ask) }
}

/// One more reference to `pool`, to be released once.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_pool_retain(pool: *mut neuro_pool_t) -> neuro_status_t {
    guard::retain::<MemoryPool>("neuro_pool_retain", pool)
}

/// One reference to `pool` less. Its blocks and tensors live on. NULL does nothing; a release after the last one is
/// `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_pool_release(pool: *mut neuro_pool_t) -> neuro_status_t {
    guard::release::<MemoryPool>("neuro_pool_release", pool)
}

/// A block of at least `bytes` bytes, contents undefined, from `pool` (NULL: the default pool), aligned to `alignment`
/// bytes (0: as the pool is). 0 bytes give a block of its own too. Free it with `neuro_pool_free`. A pool of another device than
/// the cpu gives tensors only, since its memory has no address here: `NEURO_UNAVAILABLE`.
///
/// # Safety
/// A live `pool` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_allocate(
    pool: *mut neuro_pool_t,
    bytes: usize,
    alignment: usize,
    out: *mut *mut c_void,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { allocate("neuro_pool_allocate", pool, bytes, alignment, Init::Uninit, out) }
}

/// As `neuro_pool_allocate`; the block is all zeros.
///
/// # Safety
/// As `neuro_pool_allocate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_allocate_zeroed(
    pool: *mut neuro_pool_t,
    bytes: usize,
    alignment: usize,
    out: *mut *mut c_void,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { allocate("neuro_pool_allocate_zeroed", pool, bytes, alignment, Init::Zeroed, out) }
}

/// A block of the same pool with at least `bytes` bytes and the contents of `block`, which is used up; in place where it
/// can be. Not for the data of a tensor. On failure `*out` is NULL and `block` is as it was: do not let `out` point to the only copy of `block`.
///
/// # Safety
/// Nobody uses `block` meanwhile, or after success, and it is not the data of a tensor; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_reallocate(
    block: *mut c_void,
    bytes: usize,
    alignment: usize,
    out: *mut *mut c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_pool_reallocate";
    let reallocate = || {
        let block = NonNull::new(block.cast())
            .ok_or_else(|| Failure::argument(OP, "block is NULL; take a new one with neuro_pool_allocate"))?;
        // SAFETY: the pool finds out whether `block` is a live block; nobody else uses it, as this function's condition says.
        let new = unsafe { MemoryPool::reallocate(block, bytes, or_default(alignment)) }?;
        Ok(new.as_ptr().cast())
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give(OP, out, ptr::null_mut(), reallocate) }
}

/// Gives `block` back to the pool it came from, whichever that is. NULL does nothing. What is not the start of a live
/// block is `NEURO_INVALID_FREE` and does nothing; `NEURO_CORRUPTED`, from a pool in debug mode, says that the block was
/// written behind its end, and frees it all the same. The data of a tensor lies in a block too, which goes back with the tensor:
/// never free it here.
///
/// # Safety
/// Nobody uses `block` any more, and it is not the data of a tensor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_free(block: *mut c_void) -> neuro_status_t {
    guard::status(|| match NonNull::new(block.cast()) {
        // SAFETY: the pool finds out whether `block` is a live block; nobody uses it, as this function's condition says.
        Some(block) => Ok(unsafe { MemoryPool::free(block) }?),
        None => Ok(()),
    })
}

/// Looks at the red zones and the poison of a pool that was made with `NEURO_POOL_DEBUG`: `NEURO_CORRUPTED` if memory was
/// written that nobody may write; `neuro_last_error()` names the blocks and the bytes. A write that was found and told is
/// found again as long as it can be seen. A pool without debug mode is `NEURO_OK`.
///
/// # Safety
/// A live `pool` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_check(pool: *mut neuro_pool_t) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    guard::status(|| Ok(unsafe { pool_or_default("neuro_pool_check", pool) }?.check()?))
}

/// Has the `n`-th allocation from now in `pool` (NULL: the default pool) refused with `NEURO_OUT_OF_MEMORY`, the next being the
/// first: for tests of what a program does then. It happens once. 0 takes an order back; a new one replaces it. Until it
/// has happened, all threads' requests take the pool's lock.
///
/// # Safety
/// A live `pool` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_fail_nth(pool: *mut neuro_pool_t, n: u64) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: as this function's condition says.
        unsafe { pool_or_default("neuro_pool_fail_nth", pool) }?.fail_nth(n);
        Ok(())
    })
}

/// Gives unused memory of `pool` (NULL: the default pool) back to the system, all but `keep_bytes`. `*given_back`, if not
/// NULL, becomes the number of bytes.
///
/// # Safety
/// A live `pool` is not released meanwhile; `given_back` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_trim(
    pool: *mut neuro_pool_t,
    keep_bytes: usize,
    given_back: *mut usize,
) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    unsafe {
        trim("neuro_pool_trim", given_back, || {
            Ok(pool_or_default("neuro_pool_trim", pool)?.trim(keep_bytes))
        })
    }
}

/// `neuro_pool_trim` on every pool of the process: each keeps up to `keep_bytes` of its own. `*given_back`, if not NULL,
/// becomes the number of bytes of all of them.
///
/// # Safety
/// `given_back` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_trim(keep_bytes: usize, given_back: *mut usize) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    unsafe { trim("neuro_trim", given_back, || Ok(MemoryPool::trim_all(keep_bytes))) }
}

/// The pool behind a handle; the default pool behind NULL.
///
/// # Safety
/// A live `pool` is not released during `'a`.
pub(crate) unsafe fn pool_or_default<'a>(op: &'static str, pool: *const neuro_pool_t) -> Result<&'a MemoryPool> {
    if pool.is_null() {
        return Ok(MemoryPool::global());
    }
    // SAFETY: forwarded condition.
    unsafe { guard::live(op, pool) }
}

/// 0 stands for the pool's own alignment.
pub(crate) fn or_default(alignment: usize) -> Option<usize> {
    (alignment != 0).then_some(alignment)
}

/// # Safety
/// As [`neuro_pool_allocate`].
unsafe fn allocate(
    op: &'static str,
    pool: *mut neuro_pool_t,
    bytes: usize,
    alignment: usize,
    init: Init,
    out: *mut *mut c_void,
) -> neuro_status_t {
    let take = || {
        // SAFETY: forwarded condition.
        let pool = unsafe { pool_or_default(op, pool) }?;
        Ok(pool.allocate_bytes(bytes, or_default(alignment), init)?.as_ptr().cast())
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(op, out, ptr::null_mut(), take) }
}

/// # Safety
/// `given_back` is NULL or writable.
unsafe fn trim(op: &'static str, given_back: *mut usize, body: impl FnOnce() -> Result<usize>) -> neuro_status_t {
    if given_back.is_null() {
        return guard::status(|| body().map(drop));
    }
    // SAFETY: forwarded condition.
    unsafe { guard::give(op, given_back, 0, body) }
}
