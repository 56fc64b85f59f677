//! Small blocks under the lock: slots from slabs into caches and back, slabs from regions and back.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::cache::Store;
use super::lines::Drawer;
use super::record::{GRANULE, PAGE, PAGE_UNITS, Record, SlabWord};
use super::region::Kind;
use super::slab::LIVE;
use super::state::State;
use super::{Inner, local};

impl State {
    /// A small block of `units` granules: from this thread's cache, filled for the occasion, or else from a slab. `None` where
    /// no slab can be had; there may still be room for the block alone.
    pub(super) fn allocate_small(&mut self, pool: &Inner, units: u32, requested: usize) -> Option<NonNull<u8>> {
        // Slabs for one thread alone cost memory, of which a limit leaves none to spare.
        let mut share = self.options.limit.is_some() || self.caches.len() < 2;
        for _ in 0..3 {
            let cached = local::with_store(pool.number, |store| {
                self.counters.fold(&mut store.drift);
                self.set_near(store);
                // It may have come here only because its counts had to be folded.
                let at_once = store.take(units, requested);
                if at_once.is_some() {
                    return at_once;
                }
                self.fill(store, units, share);
                store.take(units, requested)
            });
            if let Some(Some(ptr)) = cached {
                self.watch_peak();
                return Some(ptr);
            }
            if (cached.is_none() || share)
                && let Some(slot) = self.slabs.take(units, Drawer::NOBODY, true)
            {
                let bytes = units as usize * GRANULE;
                // SAFETY: the slot is nobody's but ours; records live as long as the pool (L1).
                unsafe { slot.record.as_ref() }.store(LIVE | requested as u32, Ordering::Relaxed);
                self.count_in(requested, bytes);
                return Some(slot.ptr);
            }
            if !share && self.slabs.has_plenty(units) {
                share = true;
            } else if !self.add_slab(pool, units) {
                if share {
                    return None;
                }
                share = true;
            }
        }
        None
    }

    /// Moves slots of the class from slabs into a magazine that has none.
    fn fill(&mut self, store: &mut Store, units: u32, share: bool) {
        let mut left = Store::batch(units);
        while left > 0
            && let Some(slot) = self.depots[store.drawer.0 as usize].take(units)
        {
            let kept = store.put(slot, units as usize - 1);
            debug_assert!(kept, "the magazine was empty");
            left -= 1;
        }
        if left < Store::batch(units) {
            return;
        }
        for _ in 0..left {
            match self.slabs.take(units, store.drawer, share) {
                Some(slot) if store.put(slot, units as usize - 1) => {}
                Some(slot) => {
                    self.return_slot(slot.ptr);
                    break;
                }
                None => break,
            }
        }
        store.turn(units);
    }

    /// Folds this thread's counts before a block that its cache has no part in is counted: peaks of one thread are exact.
    #[inline]
    pub(super) fn fold_own(&mut self, pool: &Inner) {
        local::with_store(pool.number, |store| {
            if !store.drift.is_nothing() {
                self.counters.fold(&mut store.drift);
            }
        });
    }

    /// One more slab of the class; whether there was room for it.
    fn add_slab(&mut self, pool: &Inner, units: u32) -> bool {
        let plan = self.slabs.plan(units);
        let length = (plan.bytes / GRANULE) as u32;
        let Ok(Some(placed)) = self.place_within(pool, Kind::Slabs, length, PAGE_UNITS) else {
            return false;
        };
        let records = self.slabs.add(units, plan, placed.block, placed.ptr);
        self.mark_pages(placed.ptr, plan.bytes, |page| SlabWord::word(records, units, page));
        true
    }

    /// Writes the words of the pages of `ptr..ptr + bytes`, whole pages of one region, by their number.
    pub(super) fn mark_pages(&mut self, ptr: NonNull<u8>, bytes: usize, word: impl Fn(usize) -> u64) {
        let address = ptr.addr().get();
        if let Some(region) = self.region_of(address) {
            for page in 0..bytes / PAGE {
                region
                    .head()
                    .page(address + page * PAGE)
                    .store(word(page), Ordering::Release);
            }
        }
    }

    /// Gives a slot that is nobody's back to its slab, and the slab to the heap if it can go.
    pub(super) fn return_slot(&mut self, ptr: NonNull<u8>) {
        let address = ptr.addr().get();
        let Some(region) = self.region_of(address) else { return };
        if let (Record::Slab(slab), _) = region.head().look(address) {
            // SAFETY: the word was read at this address, from the pool whose lock this thread has; the first record is the
            // slab's number.
            let (slot, id) = unsafe { (slab.slot_at(address), (*slab.records()).load(Ordering::Relaxed)) };
            if let Some((slot, _)) = slot
                && let Some(empty) = self.slabs.give(id, slot as usize)
            {
                self.return_slab(empty);
            }
        }
    }

    /// Gives a slab, all of whose slots are free, back to the heap.
    pub(super) fn return_slab(&mut self, id: u32) {
        let Some(gone) = self.slabs.remove(id) else { return };
        self.mark_pages(gone.start, gone.bytes, |_| 0);
        if let Some(region) = self.region_of(gone.start.addr().get()) {
            region.free(gone.block);
        }
    }
}
