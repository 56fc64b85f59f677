//! What pools hold: of one pool, or of all.

use neuro_core::{MemoryPool, PoolStats};

use crate::guard;
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};

/// What a pool holds. Set `struct_size` before the call.
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
    /// The most bytes that were in live blocks at one time.
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
    unsafe { give_stats(OP, out, || Ok(pool_or_default(OP, pool)?.stats())) }
}

/// What all pools of the process hold together. Its limit is 0. Set `out->struct_size` first.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_get_stats(out: *mut neuro_pool_stats_t) -> neuro_status_t {
    // SAFETY: as this function's condition says.
    unsafe { give_stats("neuro_get_stats", out, || Ok(MemoryPool::global_stats())) }
}

/// Lets the peaks of `pool` (NULL: the default pool) begin again at what is live now.
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

/// # Safety
/// `out` is NULL or writable for its `struct_size`.
unsafe fn give_stats(
    op: &'static str,
    out: *mut neuro_pool_stats_t,
    body: impl FnOnce() -> Result<PoolStats>,
) -> neuro_status_t {
    guard::status(|| {
        if out.is_null() {
            return Err(Failure::argument(op, "out is NULL"));
        }
        // SAFETY: not NULL; writable for its `struct_size` as forwarded.
        unsafe {
            structs::write(op, out, &neuro_pool_stats_t::default())?;
            structs::write(op, out, &body()?.into())
        }
    })
}
