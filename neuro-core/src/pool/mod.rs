//! `MemoryPool`: blocks of memory from a few large regions, with a limit, exact statistics, and reuse without page faults.
//!
//! - `mod.rs`: the handle and its life.
//! - `state.rs`: what its lock guards: regions, growth, limits, trim.
//! - `recent.rs`: small blocks that were just freed, for the next request of their size.
//! - `region.rs`: one reservation, its heap, and which of its steps hold memory.
//! - `table.rs`: which pool an address belongs to, lock-free.
//! - `registry.rs`: all pools of the process; fork.
//! - `ptr.rs`, `stats.rs`: `PoolPtr`, `PoolStats`.
//!
//! Life of a pool: it is freed when it has neither a handle nor a live block. Both are counted under its lock, and
//! whoever takes the last of either away, frees it. So a block keeps its pool alive without a count of its own, and
//! allocating and freeing touch no shared counter but the lock.

mod ptr;
mod recent;
mod region;
mod registry;
mod state;
mod stats;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::ptr::NonNull;

use self::region::LARGE;
use self::state::{State, check_alignment};
use crate::backend::host::{STEP, os};
use crate::error::{Error, Result};
use crate::sync::global::{AtomicUsize, Mutex, MutexGuard, OnceLock, lock};

pub use self::ptr::PoolPtr;
pub use self::stats::PoolStats;

/// What a new block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Init {
    /// Anything.
    Uninit,
    /// Zeros. Memory known to be fresh from the system is not written again.
    Zeroed,
}

/// A pool of host memory. A cheap handle: clones name the same pool, and any thread may use any of them.
///
/// Making a pool costs a few hundred bytes; it takes addresses with its first block. Freed blocks stay in the pool for
/// the next request until [`trim`](Self::trim) or until the pool is gone: that is when it has neither a handle nor a live
/// block.
///
/// ```
/// use neuro_core::MemoryPool;
///
/// let pool = MemoryPool::new(1 << 30).with_alignment(128);
/// let mut block = pool.allocate::<f32>(1000)?;
/// block.as_uninit_mut()[0].write(1.5);
/// assert!(block.as_ptr().addr().is_multiple_of(128));
/// drop(block);
/// assert_eq!(pool.stats().live_bytes, 0);
/// # Ok::<(), neuro_core::Error>(())
/// ```
pub struct MemoryPool(NonNull<Inner>);

/// A pool. Lives on the heap at one address from `MemoryPool::make` to `destroy`.
struct Inner {
    state: Mutex<State>,
    /// Where the registry keeps it; read and written under the registry's lock.
    slot: AtomicUsize,
}

// SAFETY: `Inner` is Sync (its state is behind a lock), it outlives every handle, and handles are counted under the lock.
unsafe impl Send for MemoryPool {}
// SAFETY: as above; a shared handle gives access through the lock only.
unsafe impl Sync for MemoryPool {}

impl MemoryPool {
    /// A pool whose blocks take at most `limit_bytes` (rounded up to 64), together.
    pub fn new(limit_bytes: usize) -> Self {
        Self::make(Some(limit_bytes))
    }

    /// A pool with no limit but the machine's.
    pub fn unlimited() -> Self {
        Self::make(None)
    }

    /// The default pool, for those who name none: no limit, 64-byte alignment. Leave its options alone: everyone shares it.
    pub fn global() -> &'static MemoryPool {
        static GLOBAL: OnceLock<MemoryPool> = OnceLock::new();
        GLOBAL.get_or_init(MemoryPool::unlimited)
    }

    fn make(limit: Option<usize>) -> Self {
        let inner = Box::new(Inner {
            state: Mutex::new(State::new(limit)),
            slot: AtomicUsize::new(0),
        });
        let pool = NonNull::from(Box::leak(inner));
        registry::enter(pool);
        MemoryPool(pool)
    }

    /// Sets the alignment of blocks for which none is asked: a power of two up to 2 MiB. Every block is aligned to 64 bytes
    /// at least. An alignment that cannot be met is reported by the first allocation. It is the pool's: all its handles
    /// see it.
    #[must_use]
    pub fn with_alignment(self, bytes: usize) -> Self {
        self.state().alignment = bytes;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // SAFETY: the pool lives while it has a handle, and this is one.
        lock(unsafe { &self.0.as_ref().state })
    }

    /// Room for `count` values of `T`, uninitialised, aligned as the pool says and as `T` needs.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the limit or the system leaves no room, and where the bytes overflow;
    /// [`Error::InvalidArgument`] for an alignment that is not a power of two up to 2 MiB.
    pub fn allocate<T>(&self, count: usize) -> Result<PoolPtr<T>> {
        let bytes = count.saturating_mul(size_of::<T>()); // saturated, it is refused below
        let mut state = self.state();
        check_alignment(state.alignment)?; // before the maximum, which could hide a wrong one
        let alignment = state.alignment.max(align_of::<T>());
        let placed = state.allocate(self.0, bytes, alignment)?;
        drop(state);
        // SAFETY: the block is new, so nobody else's; it is aligned for `T` and holds `count` values of it.
        Ok(unsafe { PoolPtr::new(placed.ptr.cast(), count) })
    }

    /// `bytes` bytes as an owned block.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub(crate) fn allocate_block(&self, bytes: usize, alignment: Option<usize>, init: Init) -> Result<PoolPtr<u8>> {
        let ptr = self.allocate_bytes(bytes, alignment, init)?;
        // SAFETY: the block is new, so nobody else's, and has `bytes` bytes.
        Ok(unsafe { PoolPtr::new(ptr, bytes) })
    }

    /// A block of at least `bytes` bytes, aligned to `alignment` (the pool's own where `None`), to be freed by its address
    /// alone with [`free`](Self::free). Zero bytes give a block too, with an address of its own.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_bytes(&self, bytes: usize, alignment: Option<usize>, init: Init) -> Result<NonNull<u8>> {
        let mut state = self.state();
        let alignment = alignment.unwrap_or(state.alignment);
        let placed = state.allocate(self.0, bytes, alignment)?;
        drop(state);
        if init == Init::Zeroed && !placed.dirty.is_empty() {
            // SAFETY: `dirty` is a range within the block, which is ours alone until it is returned.
            unsafe { zero(placed.ptr.add(placed.dirty.start), placed.dirty.len()) };
        }
        Ok(placed.ptr)
    }

    /// Returns the block at `address` to its pool, whichever that is. From any thread.
    ///
    /// # Errors
    /// [`Error::InvalidFree`] where no live block starts there: not from a pool, inside a block, or freed before. Nothing
    /// is changed then.
    ///
    /// # Safety
    /// If a live block starts at `address`, nobody uses it after this call. An address that was freed before is told as
    /// long as its pool lives and has not handed it out again.
    pub unsafe fn free(address: NonNull<u8>) -> Result<()> {
        let at = address.as_ptr().addr();
        let pool = table::find(at).ok_or(Error::InvalidFree {
            address: at,
            reason: "it lies in no pool",
        })?;
        // SAFETY: the table names a pool while it has regions. If a live block starts at `address`, it keeps the pool
        // alive, and it is the caller's, so nobody else frees it; if not, the caller vouches that the pool lives.
        let mut state = lock(unsafe { &pool.as_ref().state });
        state.free(at)?;
        let abandoned = state.is_abandoned();
        drop(state);
        if abandoned {
            // SAFETY: no handle and no block is left, both counted under the lock that we held: nobody can reach it.
            unsafe { destroy(pool) };
        }
        Ok(())
    }

    /// Gives the block at `address` room for `new_bytes`: where it lies if it can stay, else elsewhere in the same pool,
    /// with the contents of the shorter length moved. Returns its address.
    ///
    /// # Errors
    /// As [`allocate_bytes`](Self::allocate_bytes) and [`free`](Self::free); the old block is then as it was.
    ///
    /// # Safety
    /// As [`free`](Self::free), if the address returned is another one.
    pub unsafe fn reallocate(address: NonNull<u8>, new_bytes: usize, alignment: Option<usize>) -> Result<NonNull<u8>> {
        let at = address.as_ptr().addr();
        let refused = |reason| Error::InvalidFree { address: at, reason };
        let pool = table::find(at).ok_or_else(|| refused("it lies in no pool"))?;
        // SAFETY: as in `free`.
        let mut state = lock(unsafe { &pool.as_ref().state });
        let old_bytes = state.len_of(at).ok_or_else(|| refused("no live block starts there"))?;
        let alignment = alignment.unwrap_or(state.alignment);
        check_alignment(alignment)?;
        if at.is_multiple_of(alignment) && state.resize(at, new_bytes) {
            return Ok(address);
        }
        let placed = state.allocate(pool, new_bytes, alignment)?;
        drop(state);
        // SAFETY: both blocks are live, distinct, and at least that long; the caller owns the old one.
        unsafe {
            placed.ptr.copy_from_nonoverlapping(address, old_bytes.min(new_bytes));
            Self::free(address)?;
        }
        Ok(placed.ptr)
    }

    /// Whether `address` lies in the memory of any pool. Takes no lock.
    pub fn owns(address: *const u8) -> bool {
        table::find(address.addr()).is_some()
    }

    /// Bytes of the live block that starts at `address`, as it occupies them.
    ///
    /// # Safety
    /// The pool that `address` lies in, if any, is not being freed at this moment.
    pub unsafe fn block_of(address: *const u8) -> Option<usize> {
        let pool = table::find(address.addr())?;
        // SAFETY: the table names a pool while it has regions; the caller vouches that it keeps them during the call.
        lock(unsafe { &pool.as_ref().state }).len_of(address.addr())
    }

    /// The figures of this moment.
    pub fn stats(&self) -> PoolStats {
        self.state().stats()
    }

    /// The figures of all pools of the process, added up; `limit_bytes` is `None`.
    pub fn global_stats() -> PoolStats {
        registry::stats()
    }

    /// Gives cached memory back to the system until at most `keep_bytes` are cached, from the highest address down, in
    /// steps of 2 MiB. Returns the bytes given back.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        self.state().trim(keep_bytes)
    }

    /// [`trim`](Self::trim) on every pool of the process.
    pub fn trim_all(keep_bytes: usize) -> usize {
        let mut given_back = 0;
        registry::for_each(|state| given_back += state.trim(keep_bytes));
        given_back
    }

    /// Peaks start again from what is live now.
    pub fn reset_peak(&self) {
        self.state().counters.reset_peak();
    }

    /// Most bytes its blocks may take, if it has a limit.
    pub fn limit(&self) -> Option<usize> {
        self.state().limit
    }

    /// Alignment of blocks for which none is asked, in bytes.
    pub fn alignment(&self) -> usize {
        self.state().alignment
    }

    /// Whether both name the same pool.
    pub fn ptr_eq(&self, other: &MemoryPool) -> bool {
        self.0 == other.0
    }
}

/// Frees a pool that nobody can reach.
///
/// # Safety
/// The pool has no handle and no live block, and the caller is the one who took the last away.
#[cold]
unsafe fn destroy(pool: NonNull<Inner>) {
    registry::leave(pool);
    // SAFETY: from `Box::leak` in `make`. Out of the registry, with neither handle nor block, it is ours alone; a thread
    // that still leaves `lock` after its own free no longer touches it.
    let inner = unsafe { Box::from_raw(pool.as_ptr()) };
    lock(&inner.state).release_regions();
}

/// Makes `len` bytes at `start` zero.
///
/// # Safety
/// They are committed memory of a block that the caller owns.
unsafe fn zero(start: NonNull<u8>, len: usize) {
    if len >= LARGE {
        // Fresh pages cost nothing until they are touched. Whole steps only: a discard that ends inside a huge page makes the system split it, and the next touch pays.
        let head = start.as_ptr().align_offset(STEP);
        let steps = (len - head) / STEP * STEP;
        // SAFETY: `head < STEP <= len`; the three parts lie in the caller's bytes, and the middle one is whole pages of
        // private anonymous memory.
        unsafe {
            if os::discard(start.add(head), steps).is_ok() {
                start.write_bytes(0, head);
                start.add(head + steps).write_bytes(0, len - head - steps);
                return;
            }
        }
    }
    // SAFETY: the caller's bytes.
    unsafe { start.write_bytes(0, len) }
}

impl Clone for MemoryPool {
    fn clone(&self) -> Self {
        self.state().handles += 1;
        MemoryPool(self.0)
    }
}

impl Drop for MemoryPool {
    fn drop(&mut self) {
        let mut state = self.state();
        state.handles -= 1;
        let abandoned = state.is_abandoned();
        drop(state);
        if abandoned {
            // SAFETY: this was the last handle and no block is live, both counted under the lock that we held.
            unsafe { destroy(self.0) };
        }
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryPool({:?})", self.stats())
    }
}
