//! Pools as PyTorch's allocator: functions of exactly the types that `CUDAPluggableAllocator` takes, sixteen of each, since it tells them
//! nothing of whose they are. A number is bound to a pool before it is used.
//!
//! The numbered functions come from a macro, which the writer of the header does not see: `tests/header.rs` writes their declarations.

use std::ffi::{CStr, c_void};

use neuro_core::cuda::{HookSlot, OnFailure};

use crate::cuda_hook::{check_device, say_unless_gone};
use crate::guard;
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, NEURO_OK, NEURO_OUT_OF_MEMORY, neuro_last_error, neuro_last_status, neuro_status_t};
use crate::throw::throw;

/// A failed allocation is NULL: for an allocator of a `torch.cuda.MemPool`, whose caller looks, and asks again when it has freed what it had cached.
pub const NEURO_TORCH_RETURN_NULL: u32 = 0;
/// A failed allocation throws `std::runtime_error` with the words of `neuro_last_error()`: for the allocator of the whole process, whose caller
/// does not look. Where the process has no C++ it is NULL, with a line on standard error. With this `neuro_torch_refuse_graph` has to be registered, too:
/// nothing asks then whether a stream is being captured.
pub const NEURO_TORCH_THROW: u32 = 1;

/// Binds one of sixteen numbers to `pool`, which is of a CUDA device, so that the functions of that number allocate from it: `neuro_torch_alloc_0` of 0.
/// A pool that is bound already for the same kind of failure (`NEURO_TORCH_…`) gets its number again. `NEURO_UNAVAILABLE` where all are
/// bound. `*out` is 0 after a failure. Give the number back once, with `neuro_torch_unbind`.
///
/// # Safety
/// A live `pool` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_torch_bind(pool: *mut neuro_pool_t, on_failure: u32, out: *mut u32) -> neuro_status_t {
    const OP: &str = "neuro_torch_bind";
    let bind = || {
        let on_failure = match on_failure {
            NEURO_TORCH_RETURN_NULL => OnFailure::Null,
            NEURO_TORCH_THROW => OnFailure::Throw,
            other => {
                let what = format_args!(
                    "on_failure {other} is unknown; known are NEURO_TORCH_RETURN_NULL (0), NEURO_TORCH_THROW (1)"
                );
                return Err(Failure::argument(OP, what));
            }
        };
        // SAFETY: forwarded condition.
        let pool = unsafe { pool_or_default(OP, pool) }?;
        Ok(HookSlot::bind(pool, on_failure)?.into_number() as u32)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, 0, bind) }
}

/// Gives a number back. It stays bound as long as a block lives that was allocated through it. `NEURO_INVALID_FREE` for one that is not bound.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_torch_unbind(slot: u32) -> neuro_status_t {
    guard::status(|| Ok(HookSlot::release(slot as usize)?))
}

macro_rules! slots {
    ($($number:literal: $alloc:ident, $free:ident, $record:ident, $empty:ident;)*) => {$(
        /// Allocates from the pool that this number is bound to, in the order of `cu_stream`.
        ///
        /// # Safety
        /// As [`allocate`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $alloc(bytes: usize, device: i32, cu_stream: *mut c_void) -> *mut c_void {
            // SAFETY: forwarded condition.
            unsafe { allocate($number, bytes, device, cu_stream) }
        }

        /// Frees behind all that `cu_stream` has by now.
        ///
        /// # Safety
        /// As [`free`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $free(pointer: *mut c_void, bytes: usize, device: i32, cu_stream: *mut c_void) {
            let _ = (bytes, device); // nobody can be trusted with them
            // SAFETY: forwarded condition.
            unsafe { free($number, pointer, cu_stream) }
        }

        /// The block is used on `cu_stream`, too, until it is freed.
        ///
        /// # Safety
        /// As [`record_stream`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $record(pointer: *mut c_void, cu_stream: *mut c_void) {
            // SAFETY: forwarded condition.
            unsafe { record_stream($number, pointer, cu_stream) }
        }

        /// Gives unused memory of the pool back to the device.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $empty() {
            empty_cache($number);
        }
    )*};
}

slots! {
    0: neuro_torch_alloc_0, neuro_torch_free_0, neuro_torch_record_stream_0, neuro_torch_empty_cache_0;
    1: neuro_torch_alloc_1, neuro_torch_free_1, neuro_torch_record_stream_1, neuro_torch_empty_cache_1;
    2: neuro_torch_alloc_2, neuro_torch_free_2, neuro_torch_record_stream_2, neuro_torch_empty_cache_2;
    3: neuro_torch_alloc_3, neuro_torch_free_3, neuro_torch_record_stream_3, neuro_torch_empty_cache_3;
    4: neuro_torch_alloc_4, neuro_torch_free_4, neuro_torch_record_stream_4, neuro_torch_empty_cache_4;
    5: neuro_torch_alloc_5, neuro_torch_free_5, neuro_torch_record_stream_5, neuro_torch_empty_cache_5;
    6: neuro_torch_alloc_6, neuro_torch_free_6, neuro_torch_record_stream_6, neuro_torch_empty_cache_6;
    7: neuro_torch_alloc_7, neuro_torch_free_7, neuro_torch_record_stream_7, neuro_torch_empty_cache_7;
    8: neuro_torch_alloc_8, neuro_torch_free_8, neuro_torch_record_stream_8, neuro_torch_empty_cache_8;
    9: neuro_torch_alloc_9, neuro_torch_free_9, neuro_torch_record_stream_9, neuro_torch_empty_cache_9;
    10: neuro_torch_alloc_10, neuro_torch_free_10, neuro_torch_record_stream_10, neuro_torch_empty_cache_10;
    11: neuro_torch_alloc_11, neuro_torch_free_11, neuro_torch_record_stream_11, neuro_torch_empty_cache_11;
    12: neuro_torch_alloc_12, neuro_torch_free_12, neuro_torch_record_stream_12, neuro_torch_empty_cache_12;
    13: neuro_torch_alloc_13, neuro_torch_free_13, neuro_torch_record_stream_13, neuro_torch_empty_cache_13;
    14: neuro_torch_alloc_14, neuro_torch_free_14, neuro_torch_record_stream_14, neuro_torch_empty_cache_14;
    15: neuro_torch_alloc_15, neuro_torch_free_15, neuro_torch_record_stream_15, neuro_torch_empty_cache_15;
}

/// For torch's `set_begin_allocate_to_pool`: throws, since blocks of a graph are used whenever the graph runs, and not only in the order of streams.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn neuro_torch_refuse_graph() {
    let refuse = || -> crate::status::Result<()> {
        let what = "with this allocator for the whole process, memory of CUDA graphs and of torch.cuda.MemPool is not to be had; \
                    capture the graph without it";
        Err(Failure::argument("hook of PyTorch", what))
    };
    guard::status(refuse);
    throw_or_say();
}

/// # Safety
/// `cu_stream` is a `CUstream` of the device's primary context, or NULL, and stays until what was allocated on it is freed and the number's pool is bound no
/// more: as those do that PyTorch makes itself.
unsafe fn allocate(number: usize, bytes: usize, device: i32, cu_stream: *mut c_void) -> *mut c_void {
    let take = || {
        let slot = HookSlot::enter(number)?;
        let on_failure = slot.on_failure();
        let take = || {
            check_device("hook of PyTorch", &slot, device)?;
            // SAFETY: forwarded condition.
            Ok(unsafe { slot.allocate(bytes, Some(cu_stream.addr()), || None) }?)
        };
        let address = guard::value(0, take);
        Ok((
            std::ptr::with_exposed_provenance_mut::<c_void>(address as usize),
            on_failure,
        ))
    };
    let (block, on_failure) = guard::value((std::ptr::null_mut(), OnFailure::Null), take);
    if block.is_null() && bytes > 0 {
        match on_failure {
            OnFailure::Throw => throw_or_say(),
            // Out of memory is the caller's to tell, who asks again first.
            OnFailure::Null if neuro_last_status() == NEURO_OUT_OF_MEMORY => {}
            OnFailure::Null => guard::say_last_error(),
        }
    }
    block
}

/// # Safety
/// As [`allocate`]; no work is submitted on the block from now on.
unsafe fn free(number: usize, pointer: *mut c_void, cu_stream: *mut c_void) {
    let freed = guard::status(|| {
        let slot = HookSlot::enter(number)?;
        // SAFETY: forwarded condition.
        Ok(unsafe { slot.free(pointer.expose_provenance() as u64, Some(cu_stream.addr()), || None) }?)
    });
    say_unless_gone(freed);
}

/// # Safety
/// As [`allocate`].
unsafe fn record_stream(number: usize, pointer: *mut c_void, cu_stream: *mut c_void) {
    let record = || {
        let slot = HookSlot::enter(number)?;
        let address = pointer.expose_provenance() as u64;
        if !slot.owns(address) {
            return Ok(None); // a tensor over memory of another library, which sees to it itself
        }
        // SAFETY: forwarded condition.
        let record = || Ok(unsafe { slot.record_stream(address, cu_stream.addr(), || None) }?);
        let recorded = guard::status(record);
        Ok((recorded != NEURO_OK).then(|| slot.on_failure()))
    };
    match guard::value(Some(OnFailure::Null), record) {
        None => {}
        Some(OnFailure::Throw) => throw_or_say(),
        Some(OnFailure::Null) => guard::say_last_error(),
    }
}

fn empty_cache(number: usize) {
    let emptied = guard::status(|| {
        HookSlot::enter(number)?.trim();
        Ok(())
    });
    say_unless_gone(emptied);
}

/// The last error as an exception of C++; where there is no C++, as a line on standard error.
fn throw_or_say() {
    // SAFETY: a C string until the next failing call of this thread; an exception copies it.
    throw(unsafe { CStr::from_ptr(neuro_last_error()) });
    guard::say_last_error();
}
