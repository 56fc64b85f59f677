//! What a pool's lock guards: its regions, its counters, its options.
//!
//! Invariants:
//! - P1: the capacities of the regions add up to at most the limit, rounded up to a granule; so the heaps keep it exact.
//! - P2: the address table names this pool for exactly the addresses of its regions.
//! - P3: a region that is dropped has no live block.
//! - P4: small blocks that wait in `recent` are live for the heap and not for the counters; `settle` ends that before
//!   anything looks at the heap as a whole.
//!
//! Absent on purpose: foreign code. Nothing here calls out, so the lock is never held for longer than a system call.

use std::ptr::NonNull;

use super::recent::{Freed, Recent};
use super::region::{ALREADY_FREE, GRANULE, Placed, Region};
use super::{Inner, PoolStats, table};
use crate::backend::host::{STEP, os};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ledger::Counters;

/// Alignments a pool can give, in bytes: powers of two up to this.
const MAX_ALIGNMENT: usize = STEP;
/// A region's heap counts granules in 32 bits: 256 GiB, less one granule.
const MAX_REGION_UNITS: usize = u32::MAX as usize;

/// # Errors
/// [`Error::InvalidArgument`] for an alignment that no pool can give.
pub(super) fn check_alignment(alignment: usize) -> Result<()> {
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        op: "allocate",
        what: format!("alignment {alignment} B is not a power of two up to {MAX_ALIGNMENT} B"),
    })
}

pub(super) struct State {
    /// `MemoryPool` values that name this pool.
    pub(super) handles: usize,
    /// Most bytes in blocks.
    pub(super) limit: Option<usize>,
    /// Alignment where none is asked for, as given: checked when first used.
    pub(super) alignment: usize,
    pub(super) counters: Counters,
    regions: Vec<Region>,
    recent: Recent,
}

impl State {
    pub(super) fn new(limit: Option<usize>) -> Self {
        Self {
            handles: 1,
            limit,
            alignment: GRANULE,
            counters: Counters::default(),
            regions: Vec::new(),
            recent: Recent::default(),
        }
    }

    /// Whether nobody can reach the pool any more: no handle, no block.
    pub(super) fn is_abandoned(&self) -> bool {
        self.handles == 0 && self.counters.live_blocks == 0
    }

    /// Hands out a block of `bytes` for `pool`, whose state this is.
    pub(super) fn allocate(&mut self, pool: NonNull<Inner>, bytes: usize, alignment: usize) -> Result<Placed> {
        check_alignment(alignment)?;
        let units = match u32::try_from(bytes.max(1).div_ceil(GRANULE)) {
            Ok(units) => units,
            Err(_) => return Err(self.out_of_memory(bytes, alignment, None)),
        };
        // Both are powers of two; a granule is aligned to itself.
        let align = (alignment / GRANULE).max(1) as u32;
        if align == 1
            && let Some(placed) = self.recent.take(units).and_then(|at| Placed::again(at, units))
        {
            self.counters.add_block(placed.bytes);
            return Ok(placed);
        }
        match self.place(pool, units, align) {
            Ok(Some(placed)) => {
                self.counters.add_block(placed.bytes);
                self.recent.note(placed.ptr.as_ptr().expose_provenance(), units); // `Placed::again` takes it back
                Ok(placed)
            }
            Ok(None) => Err(self.out_of_memory(bytes, alignment, None)),
            Err(cause) => Err(self.out_of_memory(bytes, alignment, Some(cause))),
        }
    }

    /// `units` granules on a multiple of `align`, in a region there is or else in a new one.
    fn place(&mut self, pool: NonNull<Inner>, units: u32, align: u32) -> std::io::Result<Option<Placed>> {
        // Under a limit every granule counts.
        let roomy = self.limit.is_none();
        loop {
            for region in &mut self.regions {
                if let Some(placed) = region.allocate(units, align, roomy)? {
                    return Ok(Some(placed));
                }
            }
            if !self.settle() {
                break;
            }
        }
        let mut grown = self.grow(pool, units);
        // Regions have the sizes of earlier days. Empty ones can stand in the way of the one that is needed now: within
        // the limit, and within the addresses that the system gives.
        if !matches!(grown, Ok(true)) && self.drop_empty_regions() {
            grown = self.grow(pool, units);
        }
        match (grown?, self.regions.last_mut()) {
            (true, Some(region)) => region.allocate(units, align, roomy),
            _ => Ok(None),
        }
    }

    /// One more region, the last, that holds at least `need` granules; false where the limit leaves no room for it.
    fn grow(&mut self, pool: NonNull<Inner>, need: u32) -> std::io::Result<bool> {
        let room = match self.limit {
            // P1: what the limit allows beyond the regions there are.
            Some(limit) => limit.div_ceil(GRANULE) - self.capacity() / GRANULE,
            None => os::machine_memory() / GRANULE,
        };
        // Without a limit the machine's memory is a guess at a good size; a larger request may still be granted.
        let room = if self.limit.is_none() {
            room.max(need as usize)
        } else {
            room
        };
        let room = u32::try_from(room.min(MAX_REGION_UNITS)).unwrap_or(u32::MAX);
        if room < need {
            return Ok(false);
        }
        // Addresses are plenty but not endless, above all under `ulimit -v`: leave most of what is left to others, and
        // the more the more regions there are.
        let share = os::address_space_left() / (4 * (table::regions() + 1)) / GRANULE;
        let want = u32::try_from(share).unwrap_or(u32::MAX).clamp(need, room);
        let region = Region::new(want, need)?;
        table::claim(region.addresses(), pool);
        self.regions.push(region);
        Ok(true)
    }

    /// Gives the regions without a live block back; whether there were any. Nothing waits in `recent`.
    fn drop_empty_regions(&mut self) -> bool {
        let before = self.regions.len();
        for index in (0..before).rev() {
            if self.regions[index].heap().live_blocks() == 0 {
                self.drop_region(index);
            }
        }
        self.regions.len() < before
    }

    fn drop_region(&mut self, index: usize) {
        let region = self.regions.remove(index);
        table::unclaim(region.addresses());
        drop(region); // after its addresses are erased: T3
    }

    fn capacity(&self) -> usize {
        self.regions
            .iter()
            .map(|region| region.heap().capacity() as usize * GRANULE)
            .sum()
    }

    fn region_of(&mut self, address: usize) -> Option<&mut Region> {
        self.regions
            .iter_mut()
            .find(|region| region.addresses().contains(&address))
    }

    /// Takes back the block at `address`.
    pub(super) fn free(&mut self, address: usize) -> Result<()> {
        let refused = |reason| Error::InvalidFree { address, reason };
        match self.recent.keep(address) {
            Freed::Kept(bytes) => {
                self.counters.remove_block(bytes);
                return Ok(());
            }
            Freed::Twice => return Err(refused(ALREADY_FREE)),
            Freed::Unknown => {}
        }
        let region = self
            .region_of(address)
            .ok_or(refused("its pool has given the memory back"))?;
        let bytes = region.free(address).map_err(refused)?;
        self.counters.remove_block(bytes);
        Ok(())
    }

    /// Bytes of the live block at `address`.
    pub(super) fn len_of(&mut self, address: usize) -> Option<usize> {
        if self.recent.is_waiting(address) {
            return None;
        }
        self.region_of(address)?.len_of(address)
    }

    /// Gives the live block at `address` room for `bytes` where it lies, if it can.
    pub(super) fn resize(&mut self, address: usize, bytes: usize) -> bool {
        let Ok(units) = u32::try_from(bytes.max(1).div_ceil(GRANULE)) else {
            return false;
        };
        if self.recent.is_waiting(address) {
            return false;
        }
        self.recent.forget(address);
        let Some(region) = self.region_of(address) else {
            return false;
        };
        let Some(old) = region.len_of(address) else {
            return false;
        };
        // What stands behind it may only wait in `recent`.
        let fits = region.resize(address, units)
            || self.settle()
                && self
                    .region_of(address)
                    .is_some_and(|region| region.resize(address, units));
        if fits {
            self.counters.resize_block(old, units as usize * GRANULE);
        }
        fits
    }

    /// Gives memory that no block uses back to the system until at most `keep` bytes are cached beyond live ones.
    /// Returns the bytes given back.
    pub(super) fn trim(&mut self, keep: usize) -> usize {
        self.settle();
        let committed = self.committed();
        let target = keep.saturating_add(self.counters.live_bytes);
        for index in (0..self.regions.len()).rev() {
            let now = self.committed();
            let region = &mut self.regions[index];
            if region.heap().live_blocks() == 0 && now - region.committed() >= target.min(now) {
                self.drop_region(index);
            } else if now > target {
                region.trim(now - target);
            }
        }
        committed - self.committed()
    }

    /// Returns all waiting blocks to the heap; whether there were any.
    fn settle(&mut self) -> bool {
        let mut any = false;
        while let Some(address) = self.recent.pop() {
            let freed = self.region_of(address).map(|region| region.free(address));
            debug_assert!(matches!(freed, Some(Ok(_)))); // W2
            any = true;
        }
        any
    }

    fn committed(&self) -> usize {
        self.regions.iter().map(Region::committed).sum()
    }

    /// Gives up every region. None has a live block.
    pub(super) fn release_regions(&mut self) {
        debug_assert_eq!(self.counters.live_blocks, 0);
        self.settle();
        for region in self.regions.drain(..) {
            table::unclaim(region.addresses());
        }
    }

    pub(super) fn stats(&mut self) -> PoolStats {
        self.settle();
        let heaps = || self.regions.iter().map(Region::heap);
        PoolStats {
            limit_bytes: self.limit,
            alignment: self.alignment,
            live_bytes: self.counters.live_bytes,
            peak_bytes: self.counters.peak_bytes,
            reserved_bytes: self.regions.iter().map(|region| region.addresses().len()).sum(),
            committed_bytes: self.committed(),
            side_bytes: size_of::<Inner>()
                + self.regions.capacity() * size_of::<Region>()
                + self.regions.iter().map(Region::side_bytes).sum::<usize>(),
            live_blocks: self.counters.live_blocks,
            peak_blocks: self.counters.peak_blocks,
            total_allocations: self.counters.total_allocations,
            regions: self.regions.len(),
            free_runs: heaps().map(|heap| heap.free_runs()).sum(),
            largest_free_bytes: heaps()
                .map(|heap| heap.largest_free() as usize * GRANULE)
                .max()
                .unwrap_or(0),
        }
    }

    #[cold]
    fn out_of_memory(&mut self, asked: usize, alignment: usize, cause: Option<std::io::Error>) -> Error {
        let stats = self.stats();
        Error::OutOfMemory {
            device: Device::Cpu,
            asked,
            alignment,
            live: stats.live_bytes,
            live_blocks: stats.live_blocks,
            reserved: stats.reserved_bytes,
            largest: stats.largest_free_bytes,
            limit: stats.limit_bytes,
            cause,
        }
    }

    /// Every law of every heap; for tests.
    #[cfg(all(test, not(loom)))]
    pub(super) fn assert_valid(&mut self) {
        self.settle();
        for region in &self.regions {
            region.heap().assert_valid();
            let addresses = region.addresses();
            for end in [addresses.start, addresses.end - 1] {
                assert!(table::find(end).is_some()); // P2
            }
        }
        let live: u32 = self
            .regions
            .iter()
            .map(|region| region.heap().capacity() - region.heap().free_units())
            .sum();
        assert_eq!(live as usize * GRANULE, self.counters.live_bytes);
    }
}
