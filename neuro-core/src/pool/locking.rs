//! Page-locking: pools with GPU support on a machine whose devices want host memory locked in place (CUDA). All memory that such a
//! pool has handed out is locked before it is handed out: to the end of its last page, or of its step where it is little, by one call for
//! all that is new. A driver keeps what each call has locked by itself, and may refuse a copy that reaches out of it or do it like one from
//! memory that is not locked: so no block does (R5 of `region.rs`), and whoever has one may give it to any call of the driver.
//!
//! ```text
//! under the pool's lock       a block reaches into new memory     `grown` counts
//! the lock is released        `grown` is not `locked`            the driver locks all that is used and is not locked yet
//! trim, or no room            what nobody uses is unlocked       `grown` counts, for what stays held
//! ```
//!
//! Invariants:
//! - K1: whoever has been given a block waits, if memory is not locked yet that was held by then. So a block from a thread's cache lies
//!   in locked memory, too: it came there by a request that looked.
//! - K2: the runs that a region has marked as locked are imports of the domain, or are about to be, or to be no more; that
//!   changes under the domain's lock, which is held until the driver has done it. So the driver is never asked for the same page twice.
//! - K3: a driver that refuses is asked again after a trim, and when a device wants to use a block.
//! - K4: what was locked by several calls, lies side by side and is free again is locked anew by one when the pool grows, so that it holds
//!   larger blocks; at most so much of it that this takes a few times as long as to lock what is new. A pool that does not grow asks the driver
//!   for nothing.
//!
//! The lock of a domain comes before all locks of pools.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::region::{Piece, Region};
use super::state::State;
use super::{Inner, MemoryPool, device, lock_state, registry, table};
use crate::pool::device::{Domain, Engine, Import};
use crate::sync::global::{AtomicU64, OnceLock, Ordering};

/// When a pool grows, so many times the new bytes at most are unlocked and locked again.
const JOINED: usize = 4;

/// How far a pool is with locking.
#[derive(Debug, Default)]
pub(super) struct Locking {
    /// How often the pool's memory has become more; written under its lock, if it is to be locked at all.
    grown: AtomicU64,
    /// The `grown` up to which all is locked, or was tried.
    locked: AtomicU64,
    /// Who locks it; `None`: nobody can.
    locker: OnceLock<Option<Arc<Engine>>>,
}

impl Locking {
    /// There may be memory that is not locked.
    pub(super) fn note_grown(&self) {
        self.grown.fetch_add(1, Ordering::Relaxed);
    }

    fn is_behind(&self) -> bool {
        // Relaxed: whoever took a block of new memory has the lock behind him under which that was counted. Acquire: the driver is
        // done with what is locked.
        self.grown.load(Ordering::Relaxed) != self.locked.load(Ordering::Acquire)
    }

    fn locker(&self) -> Option<&Arc<Engine>> {
        self.locker.get_or_init(device::page_locker).as_ref()
    }
}

/// Has memory locked that the pool has taken, if there is any. No lock is held; the caller has a handle or a block of the pool.
#[inline]
pub(super) fn keep_up(pool: &Inner) {
    if pool.locking.is_behind() {
        lock_grown(pool);
    }
}

#[cold]
fn lock_grown(pool: &Inner) {
    let Locking { grown, locked, .. } = &pool.locking;
    let now = grown.load(Ordering::Relaxed);
    if !pool.has_gpu_support() {
        locked.store(now, Ordering::Release);
        return;
    }
    // In a forked child, which has no devices, not even the choice of one may be looked at: a thread of the parent may have been at it.
    let engine = device::may_enter().then(|| pool.locking.locker()).flatten();
    let Some(engine) = engine else {
        locked.store(now, Ordering::Release);
        return;
    };
    let Ok(_inside) = engine.enter() else {
        locked.store(now, Ordering::Release);
        return;
    };
    let _change = engine.domain().change();
    let (now, apart, pieces) = {
        let mut state = lock_state(pool);
        if !pool.locking.is_behind() {
            return; // somebody else has done it
        }
        let now = grown.load(Ordering::Relaxed);
        let apart = state.take_apart(pool, engine.domain());
        (now, apart, state.mark_all_locked(pool))
    };
    drop(apart); // the driver unlocks
    let refused = device::lock_pages(engine, pool.number, pieces);
    if !refused.is_empty() {
        let mut state = lock_state(pool);
        state.lock_refused = true;
        state.clear_locked(&refused);
    }
    locked.store(now, Ordering::Release);
}

impl State {
    /// Marks what is used and not locked.
    fn mark_all_locked(&mut self, pool: &Inner) -> Vec<Piece> {
        if self.lock_refused {
            return Vec::new(); // K3
        }
        pool.gpu_reached.store(true, Ordering::Relaxed);
        let regions = self.regions.iter_mut();
        regions
            .flat_map(|region| region.mark_locked(&(0..usize::MAX)))
            .collect()
    }

    /// What was locked by several calls, lies side by side and is free: it is not locked any more when this is dropped (K4).
    fn take_apart(&mut self, pool: &Inner, domain: &Arc<Domain>) -> Vec<Arc<Import>> {
        if self.lock_refused {
            return Vec::new(); // K3
        }
        let new: usize = self.regions.iter().map(Region::bytes_to_lock).sum();
        let mut budget = new.saturating_mul(JOINED);
        let mut apart: Vec<Range<usize>> = Vec::new();
        for region in self.regions.iter().filter(|region| region.is_locked()) {
            for group in region.locked_and_free() {
                let bytes = group.last().map_or(0, |last| last.end) - group.first().map_or(0, |first| first.start);
                if group.len() > 1 && bytes <= budget {
                    budget -= bytes;
                    apart.extend(group);
                }
            }
        }
        if apart.is_empty() {
            return Vec::new();
        }
        let gone = device::take_locked(domain, pool.number, |addresses| apart.contains(addresses));
        for import in &gone {
            let addresses = import.addresses();
            if let Some(region) = self.region_of(addresses.start) {
                region.clear_locked(&addresses);
            }
        }
        gone
    }

    fn clear_locked(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let addresses = piece.addresses();
            if let Some(region) = self.region_of(addresses.start) {
                region.clear_locked(&addresses);
            }
        }
    }

    /// What was locked here in which nothing is live and that no device uses, if more than `keep` bytes are cached. The caller has the
    /// domain's lock, and unlocks it before he releases that.
    fn give_up_locked(&mut self, pool: &Inner, domain: &Arc<Domain>, keep: usize) -> Vec<Arc<Import>> {
        self.settle(pool);
        self.lock_refused = false;
        if self.committed.current.saturating_sub(self.counters.allocated.current) <= keep {
            return Vec::new();
        }
        let mut free: Vec<Range<usize>> = self.regions.iter().flat_map(Region::free_addresses).collect();
        free.sort_unstable_by_key(|free| free.start);
        let is_free = |addresses: &Range<usize>| {
            let at = free.partition_point(|free| free.start <= addresses.start);
            at.checked_sub(1).is_some_and(|at| free[at].end >= addresses.end)
        };
        let gone = device::take_locked(domain, pool.number, is_free);
        for import in &gone {
            let addresses = import.addresses();
            if let Some(region) = self.region_of(addresses.start) {
                region.clear_locked(&addresses);
            }
        }
        if !gone.is_empty() {
            pool.locking.note_grown(); // what is not given back now is locked again before it is handed out
        }
        gone
    }
}

/// Unlocks what nobody uses, where more than `keep` bytes are cached; whether there was anything. No lock is held.
pub(super) fn release(pool: &Inner, keep: usize) -> bool {
    let mut any = false;
    for domain in device::locking_domains(Some(pool.number)) {
        let _change = domain.change();
        let gone = lock_state(pool).give_up_locked(pool, &domain, keep);
        any |= !gone.is_empty();
        drop(gone); // the driver unlocks
    }
    any
}

/// The same, of every pool.
pub(super) fn release_all(keep: usize) {
    for domain in device::locking_domains(None) {
        let _change = domain.change();
        let mut gone = Vec::new();
        registry::for_each(|pool, state| {
            if pool.is_gpu_reached() {
                gone.extend(state.give_up_locked(pool, &domain, keep));
            }
        });
        drop(gone);
    }
}

impl MemoryPool {
    /// Marks what touches `wanted` in the region of the live block at `address` as locked; what was not before. The caller has the domain's
    /// lock.
    pub(super) fn mark_locked_at(address: NonNull<u8>, wanted: &Range<usize>) -> Vec<Piece> {
        Self::in_pool_of(address, |pool, state| {
            pool.gpu_reached.store(true, Ordering::Relaxed);
            let region = state.region_of(address.addr().get());
            region.map_or_else(Vec::new, |region| region.mark_locked(wanted))
        })
        .unwrap_or_default()
    }

    /// Takes that back.
    pub(super) fn clear_locked_at(address: NonNull<u8>, pieces: &[Piece]) {
        Self::in_pool_of(address, |_, state| state.clear_locked(pieces));
    }

    fn in_pool_of<R>(address: NonNull<u8>, work: impl FnOnce(&Inner, &mut State) -> R) -> Option<R> {
        let head = table::find(address.addr().get())?;
        // SAFETY: the region, and its pool, live while a block of it does, which the caller has.
        let pool = unsafe { head.as_ref().pool.as_ref() };
        Some(work(pool, &mut lock_state(pool)))
    }

    /// Has `engine` lock the pool's memory, instead of a device of this machine.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn locked_by(self, engine: &Arc<Engine>) -> Self {
        let set = self.inner().locking.locker.set(Some(Arc::clone(engine)));
        assert!(set.is_ok(), "the pool has chosen already");
        self
    }
}
