//! Every pool of the process: for totals, and for `fork`.
//!
//! Lock order: caches come and go (`local.rs`), registry, pools in the registry's order, odd blocks, address table, imports, pools of
//! devices. Nobody takes an earlier one while holding a later one.
//!
//! Fork: the forking thread takes all of them first and claims every cache, so no other thread is inside when the process is
//! copied, and gives them back on both sides. The child then has its own copy of every pool, whole, and goes on with it. What
//! the caches of the threads held that it does not have returns to the pools; it has no reaper until it wakes one.

use std::collections::HashMap;
use std::ptr::NonNull;

use super::record::BlockWord;
use super::region::Region;
use super::state::State;
use super::{Inner, MemoryPool, device, gate, local, reaper, table};
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
    let _ = os::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
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

/// Runs `visit` on every pool, one after the other, with its lock held.
pub(super) fn for_each(mut visit: impl FnMut(&Inner, &mut State)) {
    for pool in lock(&POOLS).iter() {
        visit(pool.get(), &mut lock(&pool.get().state));
    }
}

/// All locks, held over a fork. Fields are dropped in this order: the reverse of taking them.
struct Held {
    _devices: MutexGuard<'static, device::Pools>,
    imports: MutexGuard<'static, device::ImportTable>,
    _table: MutexGuard<'static, ()>,
    odd: Vec<MutexGuard<'static, HashMap<usize, BlockWord>>>,
    pools: Vec<(PoolRef, MutexGuard<'static, State>)>,
    _registry: MutexGuard<'static, Vec<PoolRef>>,
    _attached: MutexGuard<'static, ()>,
}

// SAFETY: `Held` is made and dropped by one thread, the forking one: `before_fork` and `after_fork` run in it, and no
// other thread can take it out in between, since the next `before_fork` first waits for `_registry`.
unsafe impl Send for Held {}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

extern "C" fn before_fork() {
    // Whoever is making the default pool must be done with it: the child would wait for ever for a thread it does not have.
    MemoryPool::global();
    let attached = local::lock_attached();
    let registry = lock(&POOLS);
    let mut pools: Vec<_> = registry
        .iter()
        .map(|&pool| {
            // SAFETY: the pool stays in the registry, hence alive, while `_registry` is held, and the guard is dropped
            // before that one.
            let state: &'static Mutex<State> = unsafe { &pool.0.as_ref().state };
            (pool, lock(state))
        })
        .collect();
    for (pool, state) in &mut pools {
        state.claim_caches(pool.get());
    }
    let odd = registry
        .iter()
        .map(|pool| {
            // SAFETY: as above.
            let odd: &'static Mutex<HashMap<usize, BlockWord>> = unsafe { &pool.0.as_ref().odd };
            lock(odd)
        })
        .collect();
    let table = table::lock_writer();
    let imports = device::lock_imports();
    let held = Held {
        _devices: device::lock_pools(),
        imports,
        _table: table,
        odd,
        pools,
        _registry: registry,
        _attached: attached,
    };
    *lock(&HELD) = Some(held);
}

extern "C" fn after_fork_in_parent() {
    let held = lock(&HELD).take();
    if let Some(mut held) = held {
        held.pools.iter_mut().for_each(|(_, state)| state.release_caches());
    }
}

extern "C" fn after_fork_in_child() {
    let held = lock(&HELD).take();
    reaper::gone();
    device::gone();
    gate::barrier::prepare();
    if let Some(mut held) = held {
        held.imports.leave();
        held.odd.clear(); // burying looks blocks up
        for (pool, state) in &mut held.pools {
            state.bury_others(pool.get());
            state.regions.iter_mut().for_each(Region::forget_locked);
            state.release_caches();
        }
    }
}
