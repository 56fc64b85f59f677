//! Scopes: what a pool handed out and took back from one moment on, with peaks of its own.

use neuro_core::{Counters, Scope, Usage};

use crate::guard::{self, Handle};
use crate::handles::{Table, the_table};
use crate::pool::{neuro_pool_t, pool_or_default};
use crate::status::neuro_status_t;
use crate::structs::SizedStruct;

/// Counts of one pool from one moment on. Any thread may use it. It holds its pool: the pool lives until the scope is ended.
pub struct neuro_scope_t(());

impl Handle for Scope {
    type Opaque = neuro_scope_t;
    const NAME: &'static str = "neuro_scope_t";
    fn table() -> &'static Table<Self> {
        the_table!(Scope, 4)
    }
}

/// One count.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_usage_t {
    /// What there is now, what was there before included.
    pub current: usize,
    /// The most there was at one time since the scope began or was reset.
    pub peak: usize,
    /// All that was added since then.
    pub total: u64,
}

/// What a scope counted. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_counters_t {
    /// `sizeof(neuro_counters_t)`, set by the caller.
    pub struct_size: usize,
    /// Bytes as asked for.
    pub requested: neuro_usage_t,
    /// Bytes that blocks occupy.
    pub allocated: neuro_usage_t,
    /// Blocks; their total is the number of allocations.
    pub blocks: neuro_usage_t,
}

// SAFETY: repr(C), integers of the same size (u64 and a 64-bit usize), `struct_size` first.
unsafe impl SizedStruct for neuro_counters_t {}

impl From<Usage> for neuro_usage_t {
    fn from(usage: Usage) -> Self {
        Self {
            current: usage.current,
            peak: usage.peak,
            total: usage.total,
        }
    }
}

impl From<Counters> for neuro_counters_t {
    fn from(counters: Counters) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            requested: counters.requested.into(),
            allocated: counters.allocated.into(),
            blocks: counters.blocks.into(),
        }
    }
}

/// Begins to count what `pool` (NULL: the default pool) hands out and takes back: current values are the pool's, peaks begin at
/// them, totals at 0. Exact, from all threads; while a scope lasts, every request takes the pool's lock. Any number at once,
/// each for itself. End `*out` once.
///
/// # Safety
/// A live `pool` is not released meanwhile; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_scope_begin(
    pool: *mut neuro_pool_t,
    out: *mut *mut neuro_scope_t,
) -> neuro_status_t {
    const OP: &str = "neuro_pool_scope_begin";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, || Ok(pool_or_default(OP, pool)?.scope())) }
}

/// What `scope` has counted so far. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
///
/// # Safety
/// A live `scope` is not ended meanwhile; `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_scope_get(scope: *const neuro_scope_t, out: *mut neuro_counters_t) -> neuro_status_t {
    const OP: &str = "neuro_scope_get";
    // SAFETY: as this function's condition says.
    unsafe { guard::give_struct(OP, out, || Ok(guard::live::<Scope>(OP, scope)?.counters().into())) }
}

/// Lets the peaks of `scope` begin again at what is live now, and its totals at 0.
///
/// # Safety
/// A live `scope` is not ended meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_scope_reset(scope: *mut neuro_scope_t) -> neuro_status_t {
    guard::status(|| {
        // SAFETY: as this function's condition says.
        unsafe { guard::live::<Scope>("neuro_scope_reset", scope) }?.reset();
        Ok(())
    })
}

/// Ends `scope`. NULL does nothing; a scope that was ended before is `NEURO_INVALID_FREE` and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_scope_end(scope: *mut neuro_scope_t) -> neuro_status_t {
    guard::release::<Scope>("neuro_scope_end", scope)
}
