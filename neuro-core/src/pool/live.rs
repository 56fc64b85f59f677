//! Live blocks, under the lock: what they are, their lengths, and the soft limit.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::guard::Guard;
use super::options::SoftCallback;
use super::record::{BlockWord, GRANULE, Record};
use super::region::Region;
use super::slab::LIVE;
use super::state::{State, slot_at};
use super::{Inner, PoolStats};

impl State {
    /// Granules of the live block at `ptr`, and the bytes that were asked for; `None` if there is none.
    pub(super) fn live_at(&mut self, pool: &Inner, ptr: NonNull<u8>) -> Option<(u32, usize)> {
        let address = ptr.addr().get();
        let region = self.region_of(address)?;
        if !address.is_multiple_of(GRANULE) {
            return None;
        }
        if let (Record::Slab(slab), _) = region.head().look(address)
            && let Some((_, requested)) = slot_at(slab, address, LIVE)
        {
            return Some((slab.units(), requested));
        }
        let word = Self::word_at(region, pool, address)?;
        let units = region.heap().len_of(word.block(region.head().offset_of(address)))?;
        Some((units, units as usize * GRANULE - word.slack()))
    }

    /// The word of the live block of a heap at `address`.
    fn word_at(region: &Region, pool: &Inner, address: usize) -> Option<BlockWord> {
        let word = match region.head().look(address).0 {
            Record::Block(word) => Some(word),
            _ => pool.odd().get(&address).copied(),
        };
        word.filter(|word| !word.is_freed())
    }

    /// Gives the live block at `ptr` room for `requested` bytes where it lies, if it can.
    pub(super) fn resize(&mut self, pool: &Inner, ptr: NonNull<u8>, requested: usize) -> bool {
        let address = ptr.addr().get();
        let room = requested
            .max(1)
            .saturating_add(self.guard.as_ref().map_or(0, Guard::extra));
        let Ok(units) = u32::try_from(room.div_ceil(GRANULE)) else {
            return false;
        };
        let Some((old_units, old_requested)) = self.live_at(pool, ptr) else {
            return false;
        };
        let Some(region) = self.region_of(address) else {
            return false;
        };
        let (old, bytes) = (old_units as usize * GRANULE, units as usize * GRANULE);
        if let (Record::Slab(slab), _) = region.head().look(address)
            && let Some((record, _)) = slot_at(slab, address, LIVE)
        {
            if requested > old || requested.max(1) + GRANULE <= old {
                return false;
            }
            record.store(LIVE | requested as u32, Ordering::Relaxed);
            self.count_resize(pool, (old_requested, old), (requested, old));
            return true;
        }
        let Some(word) = Self::word_at(region, pool, address) else {
            return false;
        };
        let block = word.block(region.head().offset_of(address));
        let region = if u64::from(units.saturating_sub(old_units)) > self.room() {
            None // beyond the limit
        } else {
            self.region_of(address)
        };
        let fits = region.is_some_and(|region| region.resize(block, units));
        let word = BlockWord::new(block, units, requested, self.guard.is_none());
        let Some(region) = self.region_of(address).filter(|_| fits) else {
            return false;
        };
        // Its length may have taken it from the fine words to the coarse ones, or back.
        let head = region.head();
        match head.look(address) {
            (Record::Block(_), place) => place.store(0, Ordering::Release),
            _ => {
                pool.odd().remove(&address);
            }
        }
        if !head.record(address, units, word) {
            pool.odd().insert(address, word);
        }
        self.note_committed();
        self.count_resize(pool, (old_requested, old), (requested, bytes));
        if let Some(guard) = self.guard.as_mut() {
            guard.rearm(ptr, requested, bytes);
        }
        true
    }

    fn count_resize(&mut self, pool: &Inner, old: (usize, usize), new: (usize, usize)) {
        self.fold_own(pool);
        self.counters.resize_block(old, new);
        self.scopes.count(|counters| counters.resize_block(old, new));
        self.watch_peak();
        if self.overdrawn {
            self.end_overdraft(pool);
        }
        self.rearm_soft_limit();
    }

    #[inline]
    pub(super) fn watch_peak(&mut self) {
        // Signed: the count may be below zero for a time.
        self.recent_peak = (self.recent_peak as isize).max(self.counters.allocated.current as isize) as usize;
    }

    /// Whether `address` lies inside a live block, or is the start of one.
    pub(super) fn is_inside_block(&mut self, address: usize) -> bool {
        let Some(region) = self.region_of(address) else {
            return false;
        };
        let offset = region.head().offset_of(address);
        let mut ranges = region.heap().live_ranges();
        ranges.any(|(start, len)| (start..start + len).contains(&offset))
    }

    /// The soft limit's callback and the figures for it, if it is due.
    pub(super) fn soft_limit_reached(&mut self, pool: &Inner) -> Option<(SoftCallback, PoolStats)> {
        if !self.is_above_soft_limit() || std::mem::replace(&mut self.soft_reached, true) {
            return None;
        }
        let callback = self.options.soft.as_ref()?.1.clone();
        // Counts what other threads freed meanwhile: it may not have been above at all.
        let stats = self.stats(pool);
        self.rearm_soft_limit();
        self.soft_reached.then_some((callback, stats))
    }

    /// Notices that the bytes in blocks are no longer above the soft limit: the next rise calls again.
    #[inline]
    pub(super) fn rearm_soft_limit(&mut self) {
        self.soft_reached = self.soft_reached && self.is_above_soft_limit();
    }

    fn is_above_soft_limit(&self) -> bool {
        let soft = self.options.soft.as_ref();
        // Signed: the count may be below zero for a time.
        soft.is_some_and(|(bytes, _)| {
            self.counters.allocated.current as isize > isize::try_from(*bytes).unwrap_or(isize::MAX)
        })
    }
}

#[cfg(all(test, not(loom)))]
impl State {
    /// Every law of every heap and slab, and that the counts agree with them.
    pub(super) fn assert_valid(&mut self, pool: &Inner) {
        self.settle(pool);
        self.slabs.assert_valid();
        let mut held = 0;
        for region in &self.regions {
            region.heap().assert_valid();
            let addresses = region.addresses();
            for end in [addresses.start, addresses.end - 1] {
                assert!(super::table::find(end).is_some_and(|head| head == region.head_ptr())); // P2
            }
            held += (region.heap().capacity() - region.heap().free_units()) as usize * GRANULE;
        }
        // P4: what the heaps have handed out is live, or a slab's own.
        let slabs = self.slabs.free_bytes() + self.slabs.rest_bytes();
        assert_eq!(held, self.counters.allocated.current + slabs);
        let committed: usize = self.regions.iter().map(Region::committed).sum();
        assert_eq!(committed, self.committed.current);
    }
}
