//! Placing blocks in regions, growth, and what is tried before a request is refused.
//!
//! The order: holes and memory that is held already; the caches, if the pool has grown by a sixteenth since they were last
//! emptied; more memory of the regions there are; then all caches and empty slabs; slabs cut short; one more region; empty
//! regions out of the way. Only then is a request refused.

use std::io;
use std::ptr::NonNull;

use super::Inner;
use super::record::{GRANULE, PAGE};
use super::region::{Kind, Placed, Reach, Region};
use super::state::State;
use super::table;
use crate::backend::host::{STEP, os};
use crate::device::Device;
use crate::error::Error;

/// A region's heap counts granules in 32 bits: 256 GiB, less one granule.
const MAX_REGION_UNITS: usize = u32::MAX as usize;
/// A pool smaller than this does not empty its caches before it grows.
const LEAST_FLUSH: usize = 16 << 20;

impl State {
    /// `units` granules on a multiple of `align`, in memory that a region holds: the common case, without a detour.
    #[inline]
    pub(super) fn reuse(&mut self, units: u32, align: u32) -> Option<Placed> {
        if self.room() < u64::from(units) {
            return None;
        }
        let roomy = self.options.is_roomy();
        let mut regions = self.regions.iter_mut().filter(|region| region.kind == Kind::Blocks);
        regions.find_map(|region| region.reuse(units, align, roomy))
    }

    /// `units` granules on a multiple of `align`, in a region there is or else in a new one.
    pub(super) fn place(&mut self, pool: &Inner, units: u32, align: u32) -> io::Result<Option<Placed>> {
        match self.place_within(pool, Kind::Blocks, units, align) {
            Ok(None) | Err(_) => self.place_at_last(pool, units, align),
            placed => placed,
        }
    }

    /// The same, in the regions there are, or in the first; also for a slab.
    pub(super) fn place_within(
        &mut self,
        pool: &Inner,
        kind: Kind,
        units: u32,
        align: u32,
    ) -> io::Result<Option<Placed>> {
        if let Some(placed) = self.place_reaching(kind, units, align, Reach::Held)? {
            return Ok(Some(placed));
        }
        let none = self.regions.iter().all(|region| region.kind != kind);
        if none && !self.grow(pool, kind, units)? {
            return Ok(None);
        }
        let committed = self.committed.current;
        if committed >= self.next_flush.max(LEAST_FLUSH) {
            self.next_flush = committed + committed / 16;
            if self.flush(pool)
                && let Some(placed) = self.place_reaching(kind, units, align, Reach::Held)?
            {
                return Ok(Some(placed));
            }
        }
        self.place_reaching(kind, units, align, Reach::All)
    }

    fn place_reaching(&mut self, kind: Kind, units: u32, align: u32, reach: Reach) -> io::Result<Option<Placed>> {
        if self.room() < u64::from(units) {
            return Ok(None);
        }
        let roomy = self.options.is_roomy();
        for region in self.regions.iter_mut().filter(|region| region.kind == kind) {
            let before = region.committed();
            if let Some(placed) = region.allocate(units, align, roomy, reach)? {
                let more = region.committed() - before;
                if more > 0 {
                    self.committed.add(more);
                    self.stay_within_limit(kind);
                }
                return Ok(Some(placed));
            }
        }
        Ok(None)
    }

    /// Granules that the limit leaves for more.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        let Some(limit) = self.options.limit else {
            return u64::MAX;
        };
        let taken = if self.overdrawn {
            (self.counters.allocated.current / GRANULE) as u64
        } else {
            self.used_units()
        };
        (limit.div_ceil(GRANULE) as u64).saturating_sub(taken)
    }

    fn used_units(&self) -> u64 {
        self.regions.iter().map(|region| u64::from(region.used_units())).sum()
    }

    /// P1: from now on the limit is counted in blocks, if that leaves room for `units`. Caches are empty.
    fn begin_overdraft(&mut self, pool: &Inner, units: u32) -> bool {
        if self.overdrawn || self.options.limit.is_none() {
            return false;
        }
        self.begin_slow(pool);
        self.overdrawn = true;
        let enough = self.room() >= u64::from(units);
        if !enough {
            self.overdrawn = false;
            self.end_slow(pool);
        }
        enough
    }

    /// Ends that as soon as slabs and all are within the limit again.
    pub(super) fn end_overdraft(&mut self, pool: &Inner) {
        let limit = self.options.limit.unwrap_or(usize::MAX);
        if self.used_units() <= limit.div_ceil(GRANULE) as u64 {
            self.overdrawn = false;
            self.end_slow(pool);
        }
    }

    /// Memory that was committed for blocks was once committed for slabs, or the reverse: under a limit that cannot be had
    /// twice, so free memory of the other kind goes back.
    fn stay_within_limit(&mut self, kind: Kind) {
        let Some(limit) = self.options.limit else { return };
        let most = limit.saturating_add(2 * STEP - 1) / STEP * STEP;
        let others = self
            .regions
            .iter_mut()
            .filter(|region| region.kind != kind && !region.pinned);
        for region in others {
            let above = self.committed.current.saturating_sub(most);
            if above > 0 {
                self.committed.remove(region.trim(above));
            }
        }
    }

    /// What is tried before a request is refused.
    #[cold]
    fn place_at_last(&mut self, pool: &Inner, units: u32, align: u32) -> io::Result<Option<Placed>> {
        if self.settle(pool)
            && let Ok(Some(placed)) = self.place_reaching(Kind::Blocks, units, align, Reach::All)
        {
            return Ok(Some(placed));
        }
        self.shorten_slabs();
        if self.room() < u64::from(units) {
            self.begin_overdraft(pool, units);
        }
        let mut refused = None;
        match self.place_reaching(Kind::Blocks, units, align, Reach::All) {
            Ok(Some(placed)) => return Ok(Some(placed)),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
        let mut grown = self.grow(pool, Kind::Blocks, units);
        // Regions have the sizes of earlier days. Empty ones can stand in the way of the one that is needed now: within
        // the limit, and within the addresses that the system gives.
        if !matches!(grown, Ok(true)) && self.drop_empty_regions(pool) {
            grown = self.grow(pool, Kind::Blocks, units);
        }
        match grown {
            Ok(true) => self.place_reaching(Kind::Blocks, units, align, Reach::All),
            Ok(false) => refused.map_or(Ok(None), Err),
            Err(error) => Err(refused.unwrap_or(error)),
        }
    }

    /// One more region of a kind, the last, that holds at least `need` granules; false where the limit leaves no room for it.
    fn grow(&mut self, pool: &Inner, kind: Kind, need: u32) -> io::Result<bool> {
        let room = match self.options.limit {
            // P1: what the limit allows beyond the regions there are.
            Some(limit) => limit.div_ceil(GRANULE) - self.capacity(kind) / GRANULE,
            // Without a limit the machine's memory is a guess at a good size; a larger request may still be granted.
            None => (os::machine_memory() / GRANULE).max(need as usize),
        };
        let room = u32::try_from(room.min(MAX_REGION_UNITS)).unwrap_or(u32::MAX);
        if room < need {
            return Ok(false);
        }
        // Addresses are plenty but not endless, above all under `ulimit -v`: leave most of what is left to others, and
        // the more the more regions there are.
        let share = os::address_space_left() / (4 * (table::regions() + 1)) / GRANULE;
        // Small blocks are the smaller part of most programs. Under a limit it costs little to reserve for all of it.
        let share = if kind == Kind::Slabs && self.options.limit.is_none() {
            share.min(room as usize) / 8
        } else {
            share
        };
        let want = u32::try_from(share).unwrap_or(u32::MAX).clamp(need, room);
        let mut region = Region::new(kind, want, need, NonNull::from(pool), pool.number)?;
        if self.options.prefault {
            region.prefault();
        }
        table::claim(region.addresses(), region.head_ptr());
        self.reserved.add(region.addresses().len());
        self.regions.push(region);
        Ok(true)
    }

    /// Cuts slabs short behind their last slot in use, and gives the rest to the heap: so a limit can be used to its last
    /// byte beside one small block.
    fn shorten_slabs(&mut self) {
        for (id, start, block, units) in self.slabs.shorten() {
            let bytes = units as usize * GRANULE;
            let pages = bytes.next_multiple_of(PAGE);
            let Some(region) = self.region_of(start.addr().get()) else {
                continue;
            };
            let was = region.heap().len_of(block).unwrap_or(units) as usize * GRANULE;
            let shorter = region.resize(block, units);
            debug_assert!(shorter);
            let was_pages = was.next_multiple_of(PAGE);
            if pages < was_pages {
                // SAFETY: within the slab's block.
                self.mark_pages(unsafe { start.add(pages) }, was_pages - pages, |_| 0);
            }
            self.slabs.set_bytes(id, pages);
        }
    }

    /// Gives the regions without a live block back; whether there were any. No cache has a block.
    fn drop_empty_regions(&mut self, pool: &Inner) -> bool {
        let before = self.regions.len();
        for index in (0..before).rev() {
            let region = &self.regions[index];
            if region.heap().live_blocks() == 0 && !region.pinned && !region.is_locked() {
                self.drop_region(pool, index);
            }
        }
        self.regions.len() < before
    }

    fn drop_region(&mut self, pool: &Inner, index: usize) {
        self.forget_near(pool);
        let region = self.regions.remove(index);
        table::unclaim(region.addresses());
        if let Some(guard) = self.guard.as_mut() {
            guard.forget(region.addresses());
        }
        self.reserved.remove(region.addresses().len());
        self.committed.remove(region.committed());
        drop(region); // after its addresses are erased: T3
    }

    /// Takes up what regions have committed by the way.
    pub(super) fn note_committed(&mut self) {
        self.committed.set(self.regions.iter().map(Region::committed).sum());
    }

    fn capacity(&self, kind: Kind) -> usize {
        let regions = self.regions.iter().filter(|region| region.kind == kind);
        regions.map(|region| region.heap().capacity() as usize * GRANULE).sum()
    }

    /// Gives memory that no block uses back to the system until at most `keep` bytes are cached beyond live ones, `at_most`
    /// bytes in one go. Returns the bytes given back. All caches and empty slabs count as unused: they are emptied first.
    pub(super) fn trim(&mut self, pool: &Inner, keep: usize, at_most: usize) -> usize {
        self.settle(pool);
        self.unpin(pool);
        let before = self.committed.current;
        let target = keep.saturating_add(self.counters.allocated.current);
        let target = target.max(before.saturating_sub(at_most));
        for index in (0..self.regions.len()).rev() {
            let now = self.committed.current;
            let region = &mut self.regions[index];
            if region.pinned {
                continue;
            }
            let is_empty = region.heap().live_blocks() == 0 && !region.is_locked();
            if is_empty && now - region.committed() >= target.min(now) {
                self.drop_region(pool, index);
            } else if now > target {
                let given_back = region.trim(now - target);
                self.committed.remove(given_back);
            }
        }
        self.next_flush = 0;
        before - self.committed.current
    }

    /// Gives up every region. None has a live block.
    pub(super) fn release_regions(&mut self, pool: &Inner) {
        self.settle(pool);
        while !self.regions.is_empty() {
            self.drop_region(pool, self.regions.len() - 1);
        }
    }

    #[cold]
    pub(super) fn out_of_memory(
        &mut self,
        pool: &Inner,
        asked: usize,
        alignment: usize,
        cause: Option<io::Error>,
    ) -> Error {
        let stats = self.stats(pool);
        Error::OutOfMemory {
            device: Device::Cpu,
            asked,
            alignment,
            figures: Box::new(stats.into()),
            cause: cause.map(Into::into),
        }
    }
}
