//! What pools hold: of one pool, or of all.

use neuro_core::{MemoryPool, PoolStats};

use crate::guard;
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::neuro_status_t;
use crate::structs::SizedStruct;

/// What a pool holds, all of one moment. Set `struct_size` before the call.
///
/// `requested_bytes <= live_bytes <= committed_bytes <= reserved_bytes`: bytes asked for, bytes that blocks occupy (whole
/// granules of 64), bytes that may be resident, and address space, which costs nothing. A leak shows as live bytes, a cache
/// as `cached_bytes`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct neuro_pool_stats_t {
    /// `sizeof(neuro_pool_stats_t)`, set by the caller.
    pub struct_size: usize,
    /// Bytes that live blocks may take together. 0: no limit.
    pub limit_bytes: usize,
    /// Bytes to which blocks are aligned.
    pub alignment: usize,
    /// Bytes in live blocks now.
    pub live_bytes: usize,
    /// The most bytes that were in live blocks at one time: exact while one thread allocates, at most 64 KiB too high for
    /// each other thread that does.
    pub peak_bytes: usize,
    /// Bytes of address space held.
    pub reserved_bytes: usize,
    /// Bytes of it that may take up memory.
    pub committed_bytes: usize,
    /// Bytes of the pool's own records.
    pub side_bytes: usize,
    /// Live blocks now.
    pub live_blocks: usize,
    /// The most blocks that were live at one time.
    pub peak_blocks: usize,
    /// Blocks handed out since the beginning.
    pub total_allocations: u64,
    /// Regions of address space.
    pub regions: usize,
    /// Free runs, in all regions together.
    pub free_runs: usize,
    /// Bytes of the largest free run.
    pub largest_free_bytes: usize,
    /// Bytes asked for, of live blocks.
    pub requested_bytes: usize,
    /// The most bytes asked for at one time.
    pub peak_requested_bytes: usize,
    /// Bytes ever asked for.
    pub total_requested_bytes: u64,
    /// Bytes of all blocks ever handed out.
    pub total_bytes: u64,
    /// The most bytes of address space held at one time.
    pub peak_reserved_bytes: usize,
    /// Bytes of address space ever taken.
    pub total_reserved_bytes: u64,
    /// The most bytes committed at one time.
    pub peak_committed_bytes: usize,
    /// Bytes ever committed: much more than the peak means that memory goes to and fro.
    pub total_committed_bytes: u64,
    /// Committed bytes in no block: what `neuro_pool_trim` can give back, rounded to steps of 2 MiB.
    pub cached_bytes: usize,
    /// Bytes in free runs below the highest block: holes.
    pub hole_bytes: usize,
    /// Bytes of the largest hole.
    pub largest_hole_bytes: usize,
    /// How much of the holes a single block cannot use, in percent: 0 where they are one piece or none.
    pub fragmentation_percent: usize,
    /// Threads that have a cache of the pool.
    pub caches: usize,
    /// Blocks that wait in such caches.
    pub cache_blocks: usize,
    /// Bytes of those blocks.
    pub cache_bytes: usize,
    /// Bytes kept for small blocks outside the caches.
    pub slab_free_bytes: usize,
    /// Bytes that are locked in memory because devices reach them there, of a pool with `NEURO_POOL_GPU_SUPPORT`: counted in steps of
    /// 2 MiB.
    pub pinned_bytes: usize,
}

// SAFETY: repr(C), integers of the same size (u64 and a 64-bit usize), `struct_size` first.
unsafe impl SizedStruct for neuro_pool_stats_t {}

impl From<PoolStats> for neuro_pool_stats_t {
    fn from(stats: PoolStats) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            limit_bytes: stats.limit_bytes.unwrap_or(0),
            alignment: stats.alignment,
            live_bytes: stats.live_bytes,
            peak_bytes: stats.peak_bytes,
            reserved_bytes: stats.reserved_bytes,
            committed_bytes: stats.committed_bytes,
            side_bytes: stats.side_bytes,
            live_blocks: stats.live_blocks,
            peak_blocks: stats.peak_blocks,
            total_allocations: stats.total_allocations,
            regions: stats.regions,
            free_runs: stats.free_runs,
            largest_free_bytes: stats.largest_free_bytes,
            requested_bytes: stats.requested_bytes,
            peak_requested_bytes: stats.peak_requested_bytes,
            total_requested_bytes: stats.total_requested_bytes,
            total_bytes: stats.total_bytes,
            peak_reserved_bytes: stats.peak_reserved_bytes,
            total_reserved_bytes: stats.total_reserved_bytes,
            peak_committed_bytes: stats.peak_committed_bytes,
            total_committed_bytes: stats.total_committed_bytes,
            cached_bytes: stats.cached_bytes(),
            hole_bytes: stats.hole_bytes,
            largest_hole_bytes: stats.largest_hole_bytes,
            fragmentation_percent: (stats.fragmentation() * 100.0).round() as usize,
            caches: stats.caches,
            cache_blocks: stats.cache_blocks,
            cache_bytes: stats.cache_bytes,
            slab_free_bytes: stats.slab_free_bytes,
            pinned_bytes: stats.pinned_bytes,
        }
    }
}

/// What `pool` (NULL: the default pool) holds. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
///
/// # Safety
/// A live `pool` is not released meanwhile; `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_get_stats(
    pool: *const neuro_pool_t,
    out: *mut neuro_pool_stats_t,
) -> neuro_status_t {
    const OP: &str = "neuro_pool_get_stats";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_struct(OP, out, || Ok(pool_or_default(OP, pool)?.stats().into())) }
}

/// What all pools of the process hold together. Its limit is 0. Set `out->struct_size` first.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_get_stats(out: *mut neuro_pool_stats_t) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    unsafe { guard::give_struct("neuro_get_stats", out, || Ok(MemoryPool::global_stats().into())) }
}

/// Lets the peaks of `pool` (NULL: the default pool) begin again at what there is now. To measure a part of a program without
/// disturbing others who do, use `neuro_pool_scope_begin`.
///
/// # Safety
/// A live `pool` is not released meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_reset_peak(pool: *mut neuro_pool_t) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: as this function's condition says.
        unsafe { pool_or_default("neuro_pool_reset_peak", pool) }?.reset_peak();
        Ok(())
    })
}
