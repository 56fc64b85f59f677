//! Every pool of the process: for totals, and for `fork`.
//!
//! Lock order: registry, then pools in the registry's order, then the address table. Nobody takes an earlier one while
//! holding a later one.
//!
//! Fork: the forking thread takes all of them first, so no other thread is inside when the process is copied, and gives
//! them back on both sides. The child then has its own copy of every pool, whole, and goes on with it.

use std::ptr::NonNull;

use super::state::State;
use super::{Inner, MemoryPool, PoolStats, table};
use crate::backend::host::os;
use crate::sync::global::{Mutex, MutexGuard, Ordering, lock};

#[derive(Clone, Copy)]
struct PoolRef(NonNull<Inner>);

// SAFETY: an `Inner` is shared between threads anyway (it is Sync: everything mutable is behind its lock or atomic), and
// it leaves the registry before it is freed.
unsafe impl Send for PoolRef {}

impl PoolRef {
    fn get(&self) -> &Inner {
        // SAFETY: pools leave the registry, under its lock, before they are freed; whoever calls this holds that lock.
        unsafe { self.0.as_ref() }
    }
}

static POOLS: Mutex<Vec<PoolRef>> = Mutex::new(Vec::new());

os::at_load!(watch_forks);

/// Runs when the library is loaded, while there is one thread: registered with the first pool, a fork at that moment could
/// slip through.
extern "C" fn watch_forks() {
    // A failure means that no memory was left to note three addresses; forks are then as unsafe as anywhere else.
    let _ = os::at_fork(before_fork, after_fork, after_fork);
}

/// Enters a new pool.
pub(super) fn enter(pool: NonNull<Inner>) {
    let mut pools = lock(&POOLS);
    let pool = PoolRef(pool);
    pool.get().slot.store(pools.len(), Ordering::Relaxed);
    pools.push(pool);
}

/// Strikes out a pool that is about to be freed.
pub(super) fn leave(pool: NonNull<Inner>) {
    let mut pools = lock(&POOLS);
    // Relaxed: slots are read and written under the registry's lock only.
    let slot = PoolRef(pool).get().slot.load(Ordering::Relaxed);
    debug_assert!(pools[slot].0 == pool);
    pools.swap_remove(slot);
    if let Some(moved) = pools.get(slot) {
        moved.get().slot.store(slot, Ordering::Relaxed);
    }
}

/// Runs `visit` on every pool's state, one after the other.
pub(super) fn for_each(mut visit: impl FnMut(&mut State)) {
    for pool in lock(&POOLS).iter() {
        visit(&mut lock(&pool.get().state));
    }
}

/// The figures of all pools, added up, and the address table's own bytes.
pub(super) fn stats() -> PoolStats {
    let mut total = PoolStats {
        side_bytes: table::side_bytes(),
        ..PoolStats::default()
    };
    for_each(|state| total.add(&state.stats()));
    total
}

/// All locks, held over a fork. Fields are dropped in this order: the reverse of taking them.
struct Held {
    _table: MutexGuard<'static, ()>,
    _pools: Vec<MutexGuard<'static, State>>,
    _registry: MutexGuard<'static, Vec<PoolRef>>,
}

// SAFETY: `Held` is made and dropped by one thread, the forking one: `before_fork` and `after_fork` run in it, and no
// other thread can take it out in between, since the next `before_fork` first waits for `_registry`.
unsafe impl Send for Held {}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

extern "C" fn before_fork() {
    // Whoever is making the default pool must be done with it: the child would wait for ever for a thread it does not have.
    MemoryPool::global();
    let registry = lock(&POOLS);
    let pools = registry
        .iter()
        .map(|pool| {
            // SAFETY: the pool stays in the registry, hence alive, while `_registry` is held, and the guard is dropped
            // before that one.
            let state: &'static Mutex<State> = unsafe { &pool.0.as_ref().state };
            lock(state)
        })
        .collect();
    let held = Held {
        _table: table::lock_writer(),
        _pools: pools,
        _registry: registry,
    };
    *lock(&HELD) = Some(held);
}

extern "C" fn after_fork() {
    let held = lock(&HELD).take();
    drop(held);
}
