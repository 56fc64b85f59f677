//! Handing out: first without a lock, then with it.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::cache::Store;
use super::record::{GRANULE, MEDIUM_UNITS, PAGE};
use super::region::LARGE;
use super::slab::SMALL_UNITS;
use super::state::check_alignment;
use super::{Init, Inner, MemoryPool, PoolPtr, gpu, local, lock_state, locking, reaper};
use crate::backend::host::{STEP, os};
use crate::error::{Error, Result};

/// Small blocks asked for or freed without a cache after which a thread gets one.
const NEWCOMER: u32 = 8;

impl MemoryPool {
    /// Room for `count` values of `T`, uninitialised, aligned as the pool says and as `T` needs.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the limit or the system leaves no room, and where the bytes overflow;
    /// [`Error::InvalidArgument`] for an alignment that is not a power of two up to 2 MiB.
    pub fn allocate<T>(&self, count: usize) -> Result<PoolPtr<T>> {
        let bytes = count.saturating_mul(size_of::<T>()); // saturated, it is refused below
        check_alignment(self.alignment())?; // before the maximum, which could hide a wrong one
        let alignment = self.alignment().max(align_of::<T>());
        let ptr = self.allocate_bytes(bytes, Some(alignment), Init::Uninit)?;
        // SAFETY: the block is new, so nobody else's; it is aligned for `T` and holds `count` values of it.
        Ok(unsafe { PoolPtr::new(ptr.cast(), count) })
    }

    /// `bytes` bytes as an owned block.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub(crate) fn allocate_block(&self, bytes: usize, alignment: Option<usize>, init: Init) -> Result<PoolPtr<u8>> {
        let ptr = self.allocate_bytes(bytes, alignment, init)?;
        // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
        Ok(unsafe { PoolPtr::new(ptr, bytes) })
    }

    /// A block of at least `bytes` bytes, aligned to `alignment` (the pool's own where `None`), to be freed by its address
    /// alone with [`free`](Self::free). Zero bytes give a block too, with an address of its own. A block of up to 4 KiB
    /// occupies a multiple of its alignment.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[inline]
    pub fn allocate_bytes(&self, bytes: usize, alignment: Option<usize>, init: Init) -> Result<NonNull<u8>> {
        let inner = self.inner();
        let alignment = alignment.unwrap_or_else(|| inner.alignment());
        if bytes <= SMALL_UNITS as usize * GRANULE && alignment <= PAGE && alignment.is_power_of_two() {
            // A slot that is a multiple of the alignment long starts on one: slabs start on a page.
            let step = alignment.max(GRANULE) - 1;
            let units = (((bytes.max(1) + step) & !step) / GRANULE) as u32;
            if let Some(Some(ptr)) = local::with_store(inner.number, |store| store.take(units, bytes)) {
                if init == Init::Zeroed {
                    // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
                    unsafe { ptr.write_bytes(0, bytes) };
                }
                return Ok(ptr);
            }
        }
        self.allocate_slowly(bytes, alignment, init)
    }

    #[inline(never)]
    fn allocate_slowly(&self, bytes: usize, alignment: usize, init: Init) -> Result<NonNull<u8>> {
        let inner = self.inner();
        if let Some(pool) = &inner.device {
            return Err(Error::Unavailable {
                what: format!("an address in the memory of {}", pool.engine().device()),
                reason: "the processor cannot reach it; make a tensor there instead".to_owned(),
            });
        }
        let units = bytes.div_ceil(GRANULE);
        let plain = alignment <= GRANULE && alignment.is_power_of_two();
        if plain && units > MEDIUM_UNITS as usize {
            return self.allocate_large(units, bytes, alignment, init);
        }
        if plain && units > SMALL_UNITS as usize {
            let take = |store: &mut Store| store.take_medium(units as u32, bytes);
            if let Some(Some(ptr)) = local::with_store(inner.number, take) {
                if init == Init::Zeroed {
                    // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
                    unsafe { ptr.write_bytes(0, bytes) };
                }
                return Ok(ptr);
            }
        }
        if units <= MEDIUM_UNITS as usize && !local::has_cache(inner.number) {
            welcome(self.0, inner, true);
        }
        if plain && units > SMALL_UNITS as usize {
            return self.allocate_large(units, bytes, alignment, init);
        }
        self.allocate_under_lock(bytes, alignment, init)
    }

    /// From a heap, which is likely to have it.
    #[inline(never)]
    fn allocate_large(&self, units: usize, bytes: usize, alignment: usize, init: Init) -> Result<NonNull<u8>> {
        let inner = self.inner();
        let mut state = lock_state(inner);
        let plainly = state.allocate_plainly(inner, units, bytes);
        drop(state);
        let Some((ptr, dirty)) = plainly else {
            return self.allocate_under_lock(bytes, alignment, init);
        };
        locking::keep_up(inner);
        if init == Init::Zeroed {
            // SAFETY: `dirty` bytes at most are in the block, which is ours alone until it is returned.
            unsafe { zero(inner, ptr, dirty) };
        }
        Ok(ptr)
    }

    #[inline(never)]
    fn allocate_under_lock(&self, bytes: usize, alignment: usize, init: Init) -> Result<NonNull<u8>> {
        let inner = self.inner();
        let mut state = lock_state(inner);
        let given = match state.allocate(inner, bytes, alignment) {
            // Devices may still use blocks that were freed.
            Err(error @ Error::OutOfMemory { .. }) if inner.is_gpu_reached() => {
                drop(state);
                if !gpu::finish(inner) {
                    return Err(error);
                }
                state = lock_state(inner);
                state.allocate(inner, bytes, alignment)?
            }
            given => given?,
        };
        let callback = state.soft_limit_reached(inner);
        let wake = !reaper::is_awake() && state.is_worth_reaping();
        drop(state);
        locking::keep_up(inner);
        if wake {
            reaper::wake(); // what was drained may be a lot
        }
        if init == Init::Zeroed && !given.dirty.is_empty() {
            // SAFETY: `dirty` is a range within the block, which is ours alone until it is returned.
            unsafe { zero(inner, given.ptr.add(given.dirty.start), given.dirty.len()) };
        }
        if let Some((callback, stats)) = callback {
            // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
            let block: PoolPtr<u8> = unsafe { PoolPtr::new(given.ptr, bytes) };
            callback(&stats); // should it panic, the block goes back
            std::mem::forget(block);
        }
        Ok(given.ptr)
    }
}

/// Gives this thread a cache, if it has been here a few times, and may wait for that or nobody is in the way. `inner` is `pool`,
/// which lives.
#[cold]
pub(super) fn welcome(pool: NonNull<Inner>, inner: &Inner, wait: bool) {
    if inner.is_slow() {
        return;
    }
    // Relaxed: it says how lively the pool is, roughly.
    if inner.newcomers.fetch_add(1, Ordering::Relaxed) >= NEWCOMER {
        inner.newcomers.store(0, Ordering::Relaxed);
        local::attach(pool, inner.number, wait);
    }
}

/// Makes `len` bytes at `start`, in a block of `pool`, zero.
///
/// # Safety
/// They are committed memory of a block that the caller owns.
unsafe fn zero(pool: &Inner, start: NonNull<u8>, len: usize) {
    // Devices would go on with the old pages.
    if len >= LARGE && !pool.is_gpu_reached() {
        // Fresh pages cost nothing until they are touched. Whole steps only: a discard that ends inside a huge page makes the
        // system split it, and the next touch pays.
        let head = start.as_ptr().align_offset(STEP);
        let steps = (len - head) / STEP * STEP;
        // SAFETY: `head < STEP <= len`; the three parts lie in the caller's bytes, and the middle one is whole pages of
        // private anonymous memory.
        unsafe {
            if os::discard(start.add(head), steps).is_ok() {
                start.write_bytes(0, head);
                start.add(head + steps).write_bytes(0, len - head - steps);
                return;
            }
        }
    }
    // SAFETY: the caller's bytes.
    unsafe { start.write_bytes(0, len) }
}
