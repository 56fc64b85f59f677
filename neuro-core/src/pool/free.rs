//! Taking back: first without a lock, then with it, or else on the pending list. A free waits for no allocation.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cache::{Kept, Medium};
use super::head::Head;
use super::record::{BlockWord, GRANULE, Record};
use super::serve::welcome;
use super::slab::{LIVE, REQUESTED, Slot};
use super::state::State;
use super::{Inner, MemoryPool, destroy, local, lock_state, reaper, table};
use crate::error::{Error, Result};
use crate::sync::global::{MutexGuard, try_lock};

const ALREADY_FREE: &str = "the block there is already free";
const NOT_A_BLOCK: &str = "no block of the pool starts there";
const NO_POOL: &str = "it lies in no pool";

#[cold]
fn refused(address: usize, reason: &'static str) -> Error {
    Error::InvalidFree { address, reason }
}

impl MemoryPool {
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
    if !local::has_cache(head.number) {
        // SAFETY: the block is live and the caller's, so it keeps its pool.
        welcome(head.pool, unsafe { head.pool.as_ref() }, false);
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
