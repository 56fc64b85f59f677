//! `MemoryPool`: blocks of memory from a few large regions, with a limit, exact statistics, and reuse without page faults.
//!
//! - `mod.rs`: the handle and its life; `serve.rs`, `free.rs`, `realloc.rs`: allocate, free, reallocate; `options.rs`, `ask.rs`: what
//!   else a handle does.
//! - `record.rs`, `head.rs`: words that say what lies at an address; `table.rs`: which region it belongs to. Read without a lock.
//! - `slab.rs`, `class.rs`, `lines.rs`: small blocks, cut from blocks of the heap; `depot.rs`: those on their way between threads.
//! - `cache.rs`, `local.rs`, `gate.rs`: what each thread keeps for itself, and how it is taken away from it.
//! - `pending.rs`: what was freed while the lock was taken.
//! - `state.rs`, `plain.rs`, `small.rs`, `live.rs`, `grow.rs`, `flush.rs`: what the lock guards. `region.rs`, `steps.rs`: one reservation, its heap, its committed steps, what of it is locked.
//! - `gpu.rs`, `locking.rs`: memory that devices reach where it lies, and locked in place. `reaper.rs`: the thread that gives unused memory back. `registry.rs`: all pools of the process; fork.
//! - `guard.rs`, `asan.rs`: debug mode and AddressSanitizer. `scope.rs`, `stats.rs`: figures. `ptr.rs`: `PoolPtr`.
//!
//! The way of a small block: this thread's cache, no lock. Of a large one: the pool's lock, its heap, a record. Back: the
//! record says what it is and is marked; then the cache, or the lock if nobody has it, or else the pending list: a free
//! waits for nobody.
//!
//! Life of a pool: while it has a handle, blocks are counted where it is cheap. When the last handle goes, the caches and the
//! pending list are closed, so that from then on every block is counted under the lock, and whoever frees the last one,
//! frees the pool. So a block keeps its pool alive without a count of its own.

mod ask;
mod asan;
mod cache;
mod class;
mod depot;
pub(crate) mod device;
mod flush;
mod free;
mod gate;
mod gpu;
mod grow;
mod guard;
mod head;
mod lines;
mod live;
mod local;
mod locking;
mod options;
mod pending;
mod plain;
mod ptr;
mod realloc;
mod reaper;
mod record;
mod region;
mod registry;
mod scope;
mod serve;
mod slab;
mod small;
mod state;
mod stats;
mod steps;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32};

use self::device::PoolOwner;
use self::locking::Locking;
use self::options::Options;
use self::pending::Pending;
use self::record::{BlockWord, GRANULE};
use self::state::State;
use crate::sync::global::{AtomicU64, AtomicUsize, Mutex, MutexGuard, OnceLock, Ordering, lock};

pub use self::device::shutdown;
pub use self::ptr::PoolPtr;
pub use self::scope::Scope;
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
    /// Never used twice in a process; begins at 1.
    number: u64,
    /// Alignment where none is asked for, as given: checked when used.
    alignment: AtomicUsize,
    /// Whether it has a guard.
    guarded: AtomicBool,
    /// Whether devices may use its memory where it lies; and whether one ever did, which stays.
    gpu_support: AtomicBool,
    gpu_reached: AtomicBool,
    locking: Locking,
    /// Whether every request has to come to the lock: `State::slow`, for those who do not have it.
    slow: AtomicBool,
    /// Small requests of threads that have no cache yet.
    newcomers: AtomicU32,
    pending: Pending,
    state: Mutex<State>,
    /// Blocks whose page has another record, by address. Held for a look-up only.
    odd: Mutex<HashMap<usize, BlockWord>>,
    /// Where the registry keeps it; read and written under the registry's lock.
    slot: AtomicUsize,
    /// The pool of a device's memory that this stands for: then nothing else here is used.
    device: Option<PoolOwner>,
}

impl Inner {
    #[inline]
    fn alignment(&self) -> usize {
        // Relaxed: an option, set before the pool is shared.
        self.alignment.load(Ordering::Relaxed)
    }

    fn is_slow(&self) -> bool {
        // Relaxed: a hint.
        self.slow.load(Ordering::Relaxed)
    }

    fn is_guarded(&self) -> bool {
        // Relaxed: set before the pool is shared.
        self.guarded.load(Ordering::Relaxed)
    }

    /// Whether a device may be asked to use its memory.
    fn has_gpu_support(&self) -> bool {
        // Relaxed: an option.
        self.gpu_support.load(Ordering::Relaxed)
    }

    /// Whether a device may have imported some of its memory.
    fn is_gpu_reached(&self) -> bool {
        // Relaxed: set under the pool's lock, before the first import. Whoever frees and takes memory of it came after that.
        self.gpu_reached.load(Ordering::Relaxed)
    }

    fn odd(&self) -> MutexGuard<'_, HashMap<usize, BlockWord>> {
        lock(&self.odd)
    }
}

/// Takes a pool's lock.
#[inline]
fn lock_state(pool: &Inner) -> MutexGuard<'_, State> {
    lock(&pool.state)
}

// SAFETY: `Inner` is Sync (its state is behind a lock), it outlives every handle, and handles are counted under the lock.
unsafe impl Send for MemoryPool {}
// SAFETY: as above; a shared handle gives access through the lock, the caches' gates and atomics only.
unsafe impl Sync for MemoryPool {}

impl MemoryPool {
    /// A pool whose blocks take at most `limit_bytes` (rounded up to 64), together.
    pub fn new(limit_bytes: usize) -> Self {
        Self::make(Some(limit_bytes), None)
    }

    /// A pool with no limit but the machine's.
    pub fn unlimited() -> Self {
        Self::make(None, None)
    }

    /// The default pool, for those who name none: no limit, 64-byte alignment. Leave its options alone: everyone shares it.
    pub fn global() -> &'static MemoryPool {
        static GLOBAL: OnceLock<MemoryPool> = OnceLock::new();
        GLOBAL.get_or_init(MemoryPool::unlimited)
    }

    fn make(limit: Option<usize>, device: Option<PoolOwner>) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let inner = Box::new(Inner {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            alignment: AtomicUsize::new(GRANULE),
            guarded: AtomicBool::new(false),
            gpu_support: AtomicBool::new(false),
            gpu_reached: AtomicBool::new(false),
            locking: Locking::default(),
            slow: AtomicBool::new(false),
            newcomers: AtomicU32::new(0),
            pending: Pending::new(),
            state: Mutex::new(State::new(Options::new(limit))),
            odd: Mutex::new(HashMap::new()),
            slot: AtomicUsize::new(0),
            device,
        });
        let pool = NonNull::from(Box::leak(inner));
        registry::enter(pool);
        let pool = MemoryPool(pool);
        pool.set_guard(false); // of its own accord under AddressSanitizer
        pool
    }

    /// Sets the alignment of blocks for which none is asked: a power of two up to 2 MiB. Every block is aligned to 64 bytes
    /// at least. An alignment that cannot be met is reported by the first allocation. It is the pool's: all its handles
    /// see it.
    #[must_use]
    pub fn with_alignment(self, bytes: usize) -> Self {
        self.inner().alignment.store(bytes, Ordering::Relaxed);
        self
    }

    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: the pool lives while it has a handle, and this is one.
        unsafe { self.0.as_ref() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock_state(self.inner())
    }
}

/// The last handle is gone: from now on the last block takes the pool along.
#[cold]
fn close(pool: NonNull<Inner>) {
    let attached = local::lock_attached();
    // SAFETY: the caller took the last handle away, and only this function lets the pool go without one.
    let inner = unsafe { pool.as_ref() };
    let mut state = lock_state(inner);
    state.close(inner);
    let abandoned = state.is_abandoned();
    drop(state);
    drop(attached);
    if abandoned {
        // SAFETY: no handle and no block is left, both counted under the lock that we held: nobody can reach it.
        unsafe { destroy(pool) };
    }
}

/// Frees a pool that nobody can reach.
///
/// # Safety
/// The pool has no handle and no live block, and the caller is the one who took the last away.
#[cold]
unsafe fn destroy(pool: NonNull<Inner>) {
    registry::leave(pool);
    // SAFETY: it lives until the next lines.
    gpu::release(unsafe { pool.as_ref() }, 0);
    // SAFETY: from `Box::leak` in `make`. Out of the registry, with neither handle nor block, it is ours alone; a thread
    // that still leaves `lock` after its own free no longer touches it.
    let inner = unsafe { Box::from_raw(pool.as_ptr()) };
    lock_state(&inner).release_regions(&inner);
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
        let last = state.handles == 0;
        drop(state);
        if last {
            close(self.0);
        }
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryPool({:?})", self.stats())
    }
}
