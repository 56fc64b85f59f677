//! `PoolStats`: one consistent set of a pool's figures.

/// A pool's figures, all of one moment. Byte counts of blocks are what they occupy: whole granules of 64 bytes, and 16 KiB
/// more for a block of 32 MiB and above in a pool without a limit (it keeps large blocks from starting alike).
///
/// `live ≤ committed ≤ reserved`: live bytes are in blocks; committed memory may be resident, in blocks or cached for the
/// next ones; reserved is address space, which costs nothing.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most bytes the pool may hold in blocks; `None` where only the machine sets a limit.
    pub limit_bytes: Option<usize>,
    /// Alignment of a block for which none was asked, in bytes.
    pub alignment: usize,
    /// Bytes in live blocks.
    pub live_bytes: usize,
    /// Most bytes ever in live blocks at once, or since the last reset.
    pub peak_bytes: usize,
    /// Bytes of address space held.
    pub reserved_bytes: usize,
    /// Bytes that may be resident: counted in steps of 2 MiB.
    pub committed_bytes: usize,
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
}

impl PoolStats {
    /// Committed bytes that are in no block: what [`trim`](crate::MemoryPool::trim) can give back, rounded to steps.
    pub fn cached_bytes(&self) -> usize {
        self.committed_bytes.saturating_sub(self.live_bytes)
    }

    /// Adds another pool's figures. Peaks add up too, so the sum is an upper bound of the common peak.
    pub(super) fn add(&mut self, other: &PoolStats) {
        self.alignment = self.alignment.max(other.alignment);
        self.live_bytes += other.live_bytes;
        self.peak_bytes += other.peak_bytes;
        self.reserved_bytes += other.reserved_bytes;
        self.committed_bytes += other.committed_bytes;
        self.side_bytes += other.side_bytes;
        self.live_blocks += other.live_blocks;
        self.peak_blocks += other.peak_blocks;
        self.total_allocations += other.total_allocations;
        self.regions += other.regions;
        self.free_runs += other.free_runs;
        self.largest_free_bytes = self.largest_free_bytes.max(other.largest_free_bytes);
    }
}
