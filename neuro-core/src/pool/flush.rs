//! The threads' caches, as the pool sees them: emptying, counting, letting go.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::cache::{Cache, Store};
use super::gate::barrier;
use super::record::Record;
use super::region::{Kind, Region};
use super::slab::SMALL_UNITS;
use super::state::State;
use super::{Inner, local};

impl State {
    /// Claims every gate; the caches are then this thread's until [`release_caches`](Self::release_caches).
    pub(super) fn claim_caches(&mut self, pool: &Inner) {
        if self.slow > 0 {
            return; // claimed already
        }
        let own = local::cache_of(pool.number);
        let mut others = false;
        for cache in &self.caches {
            // SAFETY: the pool has not let go of its caches.
            unsafe { cache.as_ref() }.gate.claim();
            others |= Some(*cache) != own;
        }
        if others {
            barrier::heavy();
        }
        for cache in &self.caches {
            // SAFETY: as above.
            unsafe { cache.as_ref() }.gate.wait();
        }
    }

    /// Lets the owners in again.
    pub(super) fn release_caches(&mut self) {
        if self.slow > 0 {
            return;
        }
        for cache in &self.caches {
            // SAFETY: the pool has not let go of its caches.
            unsafe { cache.as_ref() }.gate.release();
        }
    }

    /// Empties every cache into slabs and heaps; whether there was anything.
    pub(super) fn flush(&mut self, pool: &Inner) -> bool {
        let any = self.empty_depots();
        if self.slow > 0 || self.caches.is_empty() {
            return any;
        }
        self.claim_caches(pool);
        let cached = self.empty_claimed();
        self.release_caches();
        any || cached
    }

    fn empty_claimed(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.caches.len() {
            // SAFETY: claimed; the pool has not let go of it, and there is one borrow.
            let store = unsafe { self.caches[at].as_ref().store_of_claimed() };
            any |= self.empty(store);
        }
        any
    }

    /// Returns all that a cache holds, and folds its counts.
    pub(super) fn empty(&mut self, store: &mut Store) -> bool {
        self.counters.fold(&mut store.drift);
        let mut any = false;
        for units in 1..=SMALL_UNITS {
            while let Some(slot) = store.pop(units) {
                self.return_slot(slot.ptr);
                any = true;
            }
        }
        while let Some(medium) = store.pop_medium() {
            self.return_medium(medium.ptr);
            any = true;
        }
        any
    }

    /// Shows a cache where small blocks come from.
    pub(super) fn set_near(&self, store: &mut Store) {
        let slabs = self.regions.iter().find(|region| region.kind == Kind::Slabs);
        store.set_near(slabs.map(Region::head));
    }

    /// Takes what is about to be dropped out of all caches (C5).
    pub(super) fn forget_near(&mut self, pool: &Inner) {
        self.claim_caches(pool);
        for cache in &self.caches {
            // SAFETY: claimed; the pool has not let go of it, and there is one borrow.
            unsafe { cache.as_ref().store_of_claimed() }.set_near(None);
        }
        self.release_caches();
    }

    /// Gives a medium block that waited in a cache back to the heap.
    pub(super) fn return_medium(&mut self, ptr: NonNull<u8>) {
        let address = ptr.addr().get();
        let Some(region) = self.region_of(address) else { return };
        let offset = region.head().offset_of(address);
        if let (Record::Block(word), place) = region.head().look(address) {
            place.store(0, Ordering::Release);
            region.free(word.block(offset));
        }
    }

    /// Half of a full magazine goes to whoever needs it, or back to the slabs.
    pub(super) fn spill(&mut self, store: &mut Store, units: u32) {
        self.counters.fold(&mut store.drift);
        self.set_near(store);
        for _ in 0..Store::batch(units) {
            let Some(slot) = store.pop(units) else { break };
            self.stow(slot, units);
        }
    }

    /// Gives the blocks that have been in quarantine for long enough back to the heap, or all of them.
    pub(super) fn release_quarantine(&mut self, pool: &Inner, all: bool) -> bool {
        let mut any = false;
        while let Some(ptr) = self.guard.as_mut().and_then(|guard| guard.release(all)) {
            self.give_range_back(pool, ptr);
            any = true;
        }
        any
    }

    /// Gives everything that is nobody's back to the heaps: caches, freed blocks that wait, empty slabs. Whether there was
    /// anything.
    pub(super) fn settle(&mut self, pool: &Inner) -> bool {
        let mut any = self.drain(pool);
        any |= self.release_quarantine(pool, true);
        any |= self.flush(pool);
        for id in self.slabs.empty() {
            self.return_slab(id);
            any = true;
        }
        any
    }

    /// Folds the counts of all caches; the blocks and bytes that wait in them.
    pub(super) fn gather(&mut self, pool: &Inner) -> (usize, usize) {
        self.drain(pool);
        self.claim_caches(pool);
        let (mut blocks, mut bytes) = (0, 0);
        for depot in &self.depots {
            let (more_blocks, more_bytes) = depot.contents();
            blocks += more_blocks;
            bytes += more_bytes;
        }
        for cache in &self.caches {
            // SAFETY: claimed; the pool has not let go of it, and there is one borrow.
            let store = unsafe { cache.as_ref().store_of_claimed() };
            self.counters.fold(&mut store.drift);
            let (more_blocks, more_bytes) = store.contents();
            blocks += more_blocks;
            bytes += more_bytes;
        }
        self.release_caches();
        self.watch_peak();
        (blocks, bytes)
    }

    /// Sends every request here until [`end_slow`](Self::end_slow).
    pub(super) fn begin_slow(&mut self, pool: &Inner) {
        if self.slow == 0 {
            self.drain(pool);
            self.claim_caches(pool);
            self.empty_claimed();
            self.empty_depots();
        }
        self.slow += 1;
        pool.slow.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_slow(&mut self, pool: &Inner) {
        self.slow -= 1;
        pool.slow.store(self.slow > 0, Ordering::Relaxed);
        self.release_caches();
    }

    /// Takes a new cache in; false where it would never be of use.
    pub(super) fn adopt(&mut self, cache: NonNull<Cache>) -> bool {
        if self.slow == 0 && !self.closing {
            // SAFETY: its owner is here and not inside, and nobody else knows of it.
            unsafe { cache.as_ref().store_of_claimed() }.drawer = self.add_depot();
            self.caches.push(cache);
            return true;
        }
        false
    }

    /// A thread ends, or needs the place: its cache is emptied and forgotten. The caller is that thread.
    pub(super) fn dismiss(&mut self, cache: NonNull<Cache>) {
        // SAFETY: its owner is here and not inside, and claimers hold the lock that the caller holds: nobody else is in.
        let store = unsafe { cache.as_ref().store_of_claimed() };
        self.empty(store);
        self.drop_depot(store.drawer);
        self.caches.retain(|&other| other != cache);
        // SAFETY: the pool's one time; the thread still has it.
        unsafe { Cache::let_go(cache) };
    }

    /// The last handle is gone: lets go of all caches for good, and takes every later free under the lock. The caller holds
    /// the lock under which caches come and go.
    pub(super) fn close(&mut self, pool: &Inner) {
        for block in pool.pending.close() {
            self.take_back(pool, block);
        }
        self.claim_caches(pool);
        self.empty_claimed();
        self.closing = true;
        self.slow += 1; // the gates stay claimed
        pool.slow.store(true, Ordering::Relaxed);
        for cache in self.caches.drain(..) {
            // SAFETY: the pool's one time, and the orphan is not touched afterwards.
            unsafe {
                cache.as_ref().orphan.store(true, Ordering::Relaxed);
                Cache::let_go(cache);
            }
        }
    }

    /// In a forked child: the caches of the threads that it does not have. The caller has claimed them.
    pub(super) fn bury_others(&mut self, pool: &Inner) {
        let own = local::cache_of(pool.number);
        for cache in std::mem::take(&mut self.caches) {
            if Some(cache) == own {
                self.caches.push(cache);
                continue;
            }
            // SAFETY: claimed before the fork, and its thread is not in this process; both owners' times are ours.
            unsafe {
                let store = cache.as_ref().store_of_claimed();
                self.empty(store);
                self.drop_depot(store.drawer);
                Cache::let_go(cache);
                Cache::let_go(cache);
            }
        }
    }
}
