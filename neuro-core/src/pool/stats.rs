//! `PoolStats`: one consistent set of a pool's figures.

use super::record::GRANULE;
use super::state::State;
use super::{Inner, device, table};
use crate::error::PoolFigures;
use crate::ledger::{Counters, Usage};

/// A pool's figures, all of one moment.
///
/// `requested ≤ live ≤ committed ≤ reserved`. Bytes asked for are *requested*; what blocks occupy, whole granules of 64 bytes
/// (and 16 KiB more for a block of 32 MiB and above in a pool without a limit and GPU support), is *live*; memory that may be resident, in
/// blocks or cached for the next ones, is *committed*; address space, which costs nothing, is *reserved*. A leak shows as live
/// bytes, a cache as [`cached_bytes`](Self::cached_bytes).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most bytes the pool may hold in blocks; `None` where only the machine sets a limit.
    pub limit_bytes: Option<usize>,
    /// Alignment of a block for which none was asked, in bytes.
    pub alignment: usize,
    /// Bytes asked for, of live blocks.
    pub requested_bytes: usize,
    /// Most bytes asked for at once.
    pub peak_requested_bytes: usize,
    /// Bytes ever asked for.
    pub total_requested_bytes: u64,
    /// Bytes in live blocks.
    pub live_bytes: usize,
    /// Most bytes ever in live blocks at once, or since the last reset: exact while one thread allocates, and at most 64 KiB
    /// too high for each other thread that does.
    pub peak_bytes: usize,
    /// Bytes of all blocks ever handed out.
    pub total_bytes: u64,
    /// Bytes of address space held.
    pub reserved_bytes: usize,
    /// Most address space held at once.
    pub peak_reserved_bytes: usize,
    /// Address space ever taken.
    pub total_reserved_bytes: u64,
    /// Bytes that may be resident: counted in steps of 2 MiB.
    pub committed_bytes: usize,
    /// Most bytes committed at once.
    pub peak_committed_bytes: usize,
    /// Bytes ever committed: much more than the peak means that memory goes to and fro.
    pub total_committed_bytes: u64,
    /// Bytes from the start of each region to the end of the block that reached furthest, ever or since the last reset: what the
    /// blocks have needed at most, with all holes between them.
    pub extent_bytes: usize,
    /// Bytes of bookkeeping, outside the blocks.
    pub side_bytes: usize,
    /// Live blocks.
    pub live_blocks: usize,
    /// Most live blocks at once, or since the last reset.
    pub peak_blocks: usize,
    /// Blocks ever handed out.
    pub total_allocations: u64,
    /// Ranges of addresses.
    pub regions: usize,
    /// Pieces of free address space, all regions together: one each when nothing is live.
    pub free_runs: usize,
    /// Bytes of the largest such piece.
    pub largest_free_bytes: usize,
    /// Bytes in free pieces below the highest block: holes.
    pub hole_bytes: usize,
    /// Bytes of the largest hole.
    pub largest_hole_bytes: usize,
    /// Threads that have a cache of the pool.
    pub caches: usize,
    /// Blocks that wait in such caches.
    pub cache_blocks: usize,
    /// Bytes of those blocks.
    pub cache_bytes: usize,
    /// Bytes of free slots of slabs, outside the caches.
    pub slab_free_bytes: usize,
    /// Bytes that are locked in memory because devices reach them there, of a pool [with GPU support](crate::MemoryPool::with_gpu_support):
    /// counted in steps of 2 MiB.
    pub pinned_bytes: usize,
}

impl PoolStats {
    /// Committed bytes that are in no block: what [`trim`](crate::MemoryPool::trim) can give back, rounded to steps.
    pub fn cached_bytes(&self) -> usize {
        self.committed_bytes.saturating_sub(self.live_bytes)
    }

    /// How much of the holes a single block cannot use: 0 where they are one piece (or none), towards 1 where they are many.
    pub fn fragmentation(&self) -> f64 {
        if self.hole_bytes == 0 {
            return 0.0;
        }
        1.0 - self.largest_hole_bytes as f64 / self.hole_bytes as f64
    }

    pub(super) fn set_counters(&mut self, counters: &Counters) {
        let Counters {
            requested,
            allocated,
            blocks,
        } = counters;
        (
            self.requested_bytes,
            self.peak_requested_bytes,
            self.total_requested_bytes,
        ) = parts(requested);
        (self.live_bytes, self.peak_bytes, self.total_bytes) = parts(allocated);
        (self.live_blocks, self.peak_blocks, self.total_allocations) = parts(blocks);
    }

    /// Adds another pool's figures. Peaks add up too, so the sum is an upper bound of the common peak.
    pub(super) fn add(&mut self, other: &PoolStats) {
        self.alignment = self.alignment.max(other.alignment);
        self.requested_bytes += other.requested_bytes;
        self.peak_requested_bytes += other.peak_requested_bytes;
        self.total_requested_bytes += other.total_requested_bytes;
        self.live_bytes += other.live_bytes;
        self.peak_bytes += other.peak_bytes;
        self.total_bytes += other.total_bytes;
        self.reserved_bytes += other.reserved_bytes;
        self.peak_reserved_bytes += other.peak_reserved_bytes;
        self.total_reserved_bytes += other.total_reserved_bytes;
        self.committed_bytes += other.committed_bytes;
        self.peak_committed_bytes += other.peak_committed_bytes;
        self.total_committed_bytes += other.total_committed_bytes;
        self.extent_bytes += other.extent_bytes;
        self.side_bytes += other.side_bytes;
        self.live_blocks += other.live_blocks;
        self.peak_blocks += other.peak_blocks;
        self.total_allocations += other.total_allocations;
        self.regions += other.regions;
        self.free_runs += other.free_runs;
        self.largest_free_bytes = self.largest_free_bytes.max(other.largest_free_bytes);
        self.hole_bytes += other.hole_bytes;
        self.largest_hole_bytes = self.largest_hole_bytes.max(other.largest_hole_bytes);
        self.caches += other.caches;
        self.cache_blocks += other.cache_blocks;
        self.cache_bytes += other.cache_bytes;
        self.slab_free_bytes += other.slab_free_bytes;
        self.pinned_bytes += other.pinned_bytes;
    }
}

fn parts(usage: &Usage) -> (usize, usize, u64) {
    (usage.current, usage.peak, usage.total)
}

impl State {
    pub(super) fn stats(&mut self, pool: &Inner) -> PoolStats {
        let (cache_blocks, cache_bytes) = self.gather(pool);
        let mut stats = PoolStats {
            limit_bytes: self.options.limit,
            alignment: pool.alignment(),
            extent_bytes: self.regions.iter().map(super::region::Region::extent).sum(),
            side_bytes: self.side_bytes(),
            regions: self.regions.len(),
            caches: self.caches.len(),
            cache_blocks,
            cache_bytes,
            slab_free_bytes: self.slabs.free_bytes(),
            pinned_bytes: device::imported_bytes(pool.number),
            ..PoolStats::default()
        };
        stats.set_counters(&self.counters);
        (
            stats.reserved_bytes,
            stats.peak_reserved_bytes,
            stats.total_reserved_bytes,
        ) = parts(&self.reserved);
        (
            stats.committed_bytes,
            stats.peak_committed_bytes,
            stats.total_committed_bytes,
        ) = parts(&self.committed);
        for heap in self.regions.iter().map(super::region::Region::heap) {
            stats.free_runs += heap.free_runs();
            stats.largest_free_bytes = stats.largest_free_bytes.max(heap.largest_free() as usize * GRANULE);
            stats.hole_bytes += (heap.free_units() - (heap.capacity() - heap.top())) as usize * GRANULE;
            stats.largest_hole_bytes = stats.largest_hole_bytes.max(heap.largest_hole() as usize * GRANULE);
        }
        stats
    }

    /// All bytes of bookkeeping.
    fn side_bytes(&self) -> usize {
        size_of::<Inner>()
            + self.regions.capacity() * size_of::<super::region::Region>()
            + self
                .regions
                .iter()
                .map(super::region::Region::side_bytes)
                .sum::<usize>()
            + self.slabs.side_bytes()
            + self.depots.iter().map(super::depot::Depot::side_bytes).sum::<usize>()
            + self.caches.capacity() * size_of::<usize>()
            + self.caches.len() * super::cache::Cache::SIDE_BYTES
    }
}

impl From<PoolStats> for PoolFigures {
    fn from(stats: PoolStats) -> Self {
        PoolFigures {
            requested: stats.requested_bytes,
            live: stats.live_bytes,
            live_blocks: stats.live_blocks,
            peak: stats.peak_bytes,
            committed: stats.committed_bytes,
            reserved: stats.reserved_bytes,
            cached: stats.cached_bytes(),
            in_caches: stats.cache_bytes + stats.slab_free_bytes,
            largest: stats.largest_free_bytes,
            free_runs: stats.free_runs,
            fragmentation_percent: (stats.fragmentation() * 100.0).round() as u32,
            limit: stats.limit_bytes,
        }
    }
}

/// The figures of all pools, those of devices too, added up, and the address table's own bytes.
pub(super) fn of_all() -> PoolStats {
    let mut total = PoolStats {
        side_bytes: table::side_bytes(),
        ..PoolStats::default()
    };
    super::registry::for_each(|pool, state| total.add(&state.stats(pool)));
    device::pools().iter().for_each(|pool| total.add(&pool.stats()));
    total
}
