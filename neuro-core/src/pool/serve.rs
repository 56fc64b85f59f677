//! Handing out and taking back: first without a lock, then with it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cache::{Kept, Medium, Store};
use super::head::Head;
use super::record::{BlockWord, GRANULE, MEDIUM_UNITS, PAGE, Record};
use super::region::LARGE;
use super::slab::{LIVE, REQUESTED, SMALL_UNITS, Slot};
use super::state::{State, check_alignment};
use super::{Init, Inner, MemoryPool, PoolPtr, destroy, local, lock_state, reaper, table};
use crate::backend::host::{STEP, os};
use crate::error::{Error, Result};
use crate::sync::global::{MutexGuard, try_lock};

/// Small requests without a cache after which a thread gets one.
const NEWCOMER: u32 = 8;
const ALREADY_FREE: &str = "the block there is already free";
const NOT_A_BLOCK: &str = "no block of the pool starts there";
const NO_POOL: &str = "it lies in no pool";

#[cold]
fn refused(address: usize, reason: &'static str) -> Error {
    Error::InvalidFree { address, reason }
}

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
        if units <= MEDIUM_UNITS as usize && !inner.is_slow() && !local::has_cache(inner.number) {
            // Relaxed: it says how lively the pool is, roughly.
            if inner.newcomers.fetch_add(1, Ordering::Relaxed) >= NEWCOMER {
                inner.newcomers.store(0, Ordering::Relaxed);
                local::attach(self.0, inner.number);
            }
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
        if init == Init::Zeroed {
            // SAFETY: `dirty` bytes at most are in the block, which is ours alone until it is returned.
            unsafe { zero(ptr, dirty) };
        }
        Ok(ptr)
    }

    #[inline(never)]
    fn allocate_under_lock(&self, bytes: usize, alignment: usize, init: Init) -> Result<NonNull<u8>> {
        let inner = self.inner();
        let mut state = lock_state(inner);
        let given = state.allocate(inner, bytes, alignment)?;
        let callback = state.soft_limit_reached(inner);
        let wake = !reaper::is_awake() && state.is_worth_reaping();
        drop(state);
        if wake {
            reaper::wake(); // what was drained may be a lot
        }
        if init == Init::Zeroed && !given.dirty.is_empty() {
            // SAFETY: `dirty` is a range within the block, which is ours alone until it is returned.
            unsafe { zero(given.ptr.add(given.dirty.start), given.dirty.len()) };
        }
        if let Some((callback, stats)) = callback {
            // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
            let block: PoolPtr<u8> = unsafe { PoolPtr::new(given.ptr, bytes) };
            callback(&stats); // should it panic, the block goes back
            std::mem::forget(block);
        }
        Ok(given.ptr)
    }

    /// Returns the block at `address` to its pool, whichever that is. From any thread; it waits for no allocation.
    ///
    /// # Errors
    /// [`Error::InvalidFree`] where no live block starts there: not from a pool, inside a block, or freed before. Nothing
    /// is changed then. [`Error::Corrupted`] from a pool in debug mode: the block is freed, but was written behind its end.
    ///
    /// # Safety
    /// If a live block starts at `address`, nobody uses it after this call. An address that was freed before is told as
    /// long as its pool lives and has not handed it out again; two threads must not free the same block at the same moment.
    #[inline]
    pub unsafe fn free(address: NonNull<u8>) -> Result<()> {
        match local::free_near(address) {
            Some((Kept::Yes, _)) => Ok(()),
            Some((_, pool)) => {
                fold(pool);
                Ok(())
            }
            // SAFETY: forwarded contract.
            None => unsafe { Self::free_far(address) },
        }
    }

    /// [`free`](Self::free), of any block.
    unsafe fn free_far(address: NonNull<u8>) -> Result<()> {
        let at = address.addr().get();
        let Some(head) = table::find(at) else {
            return Err(refused(at, NO_POOL));
        };
        // SAFETY: the table names a region while the pool has it. If a live block starts at `address`, it keeps both, and it
        // is the caller's, so nobody else frees it; if not, the caller vouches that the pool lives.
        let head = unsafe { head.as_ref() };
        let (record, word) = head.look(at);
        match record {
            Record::Slab(slab) => {
                // SAFETY: the word was read at this address, from a pool that lives.
                match unsafe { slab.slot_at(at) } {
                    Some((_, record)) => free_small(address, head, record, slab.units()),
                    None => free_odd(address, head, false),
                }
            }
            Record::Block(block) => free_recorded(address, head, block, word),
            Record::None => free_odd(address, head, false),
        }
    }
}

/// What a cache had no room for, and what to do about it under the lock.
enum Full {
    /// Nothing: no cache, or a block that none holds.
    No,
    /// Half of the magazine of this class goes back, too.
    Magazine(u32),
    /// This block takes the place of the other that is there.
    Place(Medium, usize),
}

#[inline]
fn free_small(address: NonNull<u8>, head: &Head, record: &AtomicU32, units: u32) -> Result<()> {
    let was = record.load(Ordering::Relaxed);
    if was & LIVE == 0 {
        return free_odd(address, head, true); // the slab may have been cut short, and this be behind it
    }
    record.store(was & !LIVE, Ordering::Relaxed);
    let requested = (was & REQUESTED) as usize;
    let slot = Slot {
        ptr: address,
        record: NonNull::from(record),
    };
    // Read now: once the block is in the cache, it no longer keeps its pool.
    let (number, pool) = (head.number, head.pool);
    match local::with_store(number, |store| store.keep(slot, units, requested)) {
        Some(Kept::Yes) => Ok(()),
        Some(Kept::AndFold) => {
            fold(pool);
            Ok(())
        }
        Some(Kept::No | Kept::Unwanted) => give_back(pool, address, Full::Magazine(units)),
        None => give_back(pool, address, Full::No),
    }
}

#[inline(never)]
fn free_recorded(address: NonNull<u8>, head: &Head, word: BlockWord, record: &AtomicU64) -> Result<()> {
    if word.is_freed() {
        return Err(refused(address.addr().get(), ALREADY_FREE));
    }
    let Some(units) = word.medium_units() else {
        return free_large(address, head, word, record);
    };
    mark_freed(address, word, record)?;
    let medium = Medium {
        ptr: address,
        record: NonNull::from(record),
        units,
    };
    let requested = units as usize * GRANULE - word.slack();
    let (number, pool) = (head.number, head.pool);
    match local::with_store(number, |store| store.keep_medium(medium, requested)) {
        Some(Kept::Yes) => Ok(()),
        Some(Kept::AndFold) => {
            fold(pool);
            Ok(())
        }
        Some(Kept::No) => give_back(pool, address, Full::Place(medium, requested)),
        Some(Kept::Unwanted) | None => give_back(pool, address, Full::No),
    }
}

/// Writes into a block's record that it was freed.
fn mark_freed(address: NonNull<u8>, word: BlockWord, record: &AtomicU64) -> Result<()> {
    match record.compare_exchange(word.0, word.freed().0, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(_) => Err(refused(address.addr().get(), ALREADY_FREE)),
    }
}

/// A block that no cache holds: to its heap at once, if the lock is free.
#[inline]
fn free_large(address: NonNull<u8>, head: &Head, word: BlockWord, record: &AtomicU64) -> Result<()> {
    let pool = head.pool;
    // SAFETY: as in `MemoryPool::free`.
    let inner = unsafe { pool.as_ref() };
    if !inner.is_guarded()
        && let Some(mut state) = try_lock(&inner.state)
    {
        // Looked at again: under the lock a record changes only if two threads free the same block at once.
        if record.load(Ordering::Relaxed) != word.0 {
            return Err(refused(address.addr().get(), ALREADY_FREE));
        }
        if state.free_plainly(inner, head, address, word, record) {
            let wake = !reaper::is_awake() && state.is_worth_reaping();
            drop(state);
            if wake {
                reaper::wake();
            }
            return Ok(());
        }
        state.drain(inner);
        state.free_recorded(inner, head, address, word, record);
        leave(pool, state);
        return Ok(());
    }
    mark_freed(address, word, record)?;
    give_back(pool, address, Full::No)
}

/// Lets the lock go after a free: the pool goes along if this was the last block, and memory that is cached now wakes the
/// reaper.
#[inline]
fn leave(pool: NonNull<Inner>, state: MutexGuard<'_, State>) {
    let abandoned = state.is_abandoned();
    let wake = !reaper::is_awake() && !abandoned && state.is_worth_reaping();
    drop(state);
    if abandoned {
        // SAFETY: no handle and no block is left, both counted under the lock that we held: nobody can reach it.
        unsafe { destroy(pool) };
    }
    if wake {
        reaper::wake();
    }
}

/// A block that stands in the map, since its page has another record; or none at all. `was_slot`: there is a slot of a slab,
/// which is not live.
#[cold]
fn free_odd(address: NonNull<u8>, head: &Head, was_slot: bool) -> Result<()> {
    let at = address.addr().get();
    // SAFETY: as in `MemoryPool::free`.
    let pool = unsafe { head.pool.as_ref() };
    let mut odd = pool.odd();
    match odd.get_mut(&at) {
        Some(word) if word.is_freed() => Err(refused(at, ALREADY_FREE)),
        Some(word) => {
            *word = word.freed();
            drop(odd);
            give_back(head.pool, address, Full::No)
        }
        None => {
            drop(odd);
            // Is it free memory, or inside a block? Not worth waiting for.
            let free = was_slot || try_lock(&pool.state).is_some_and(|mut state| !state.is_inside_block(at));
            Err(refused(at, if free { ALREADY_FREE } else { NOT_A_BLOCK }))
        }
    }
}

/// Folds this thread's counts, if the lock is free. The pool may be gone: then its cache is claimed for good.
#[cold]
fn fold(pool: NonNull<Inner>) {
    local::with_last(|cache, store| {
        if cache.pool == pool {
            // SAFETY: a pool takes its caches away, behind their gates, before it goes. We are inside, so it is there.
            let pool = unsafe { pool.as_ref() };
            if let Some(mut state) = try_lock(&pool.state) {
                state.counters.fold(&mut store.drift);
                state.rearm_soft_limit();
            }
        }
    });
}

/// Brings a block whose record says that it was freed to the pool: under the lock if nobody has it, else by the pending list.
#[inline(never)]
fn give_back(pool: NonNull<Inner>, address: NonNull<u8>, full: Full) -> Result<()> {
    // SAFETY: the block counts as live until the pool has taken it back, so the pool lives until then.
    let inner = unsafe { pool.as_ref() };
    let mut state = match try_lock(&inner.state) {
        Some(state) => state,
        // A guard looks at freed memory and marks it, so with one the lock is waited for.
        // SAFETY: the block is 64 bytes long at least, aligned to 64, and nobody's.
        None if !inner.is_guarded() && unsafe { inner.pending.push(address) } => return Ok(()),
        None => lock_state(inner),
    };
    state.drain(inner);
    let told = state.free(inner, address, full_place(&full));
    if let Full::Magazine(units) = full {
        local::with_store(inner.number, |store| state.spill(store, units));
    }
    leave(pool, state);
    told.map_or(Ok(()), |what| Err(Error::Corrupted { op: "free", what }))
}

fn full_place(full: &Full) -> Option<(Medium, usize)> {
    match *full {
        Full::Place(medium, requested) => Some((medium, requested)),
        _ => None,
    }
}

/// Makes `len` bytes at `start` zero.
///
/// # Safety
/// They are committed memory of a block that the caller owns.
unsafe fn zero(start: NonNull<u8>, len: usize) {
    if len >= LARGE {
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
