//! Which caches this thread has: one table a thread.
//!
//! A thread gets a cache for a pool once it has asked it for a few small blocks, or freed some. It has at most [`PLACES`] caches; after
//! that, one takes the place of another. What a thread's caches hold goes back when the thread ends.
//!
//! Lock order: [`ATTACHED`], registry, pools, odd blocks, address table.

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use super::cache::{Cache, Kept, Store};
use super::{Inner, gate};
use crate::sync::global::{Mutex, MutexGuard, lock, try_lock};

/// Caches a thread can have.
const PLACES: usize = 8;

/// Held while caches come and go, so that neither a thread nor a pool ends while the other lets go of it.
static ATTACHED: Mutex<()> = Mutex::new(());

struct Place {
    /// Number of the pool; 0 for none: numbers begin at 1 and are never used twice.
    pool: Cell<u64>,
    cache: Cell<Option<NonNull<Cache>>>,
}

/// What a thread has: one variable, since in a shared library each costs a call to reach.
struct Local {
    /// The cache that was used last, and the number of its pool, if this thread still has it.
    last: Place,
    places: [Place; PLACES],
    /// The place that is taken over next, if all are taken.
    next: Cell<usize>,
}

impl Place {
    const fn vacant() -> Place {
        Place {
            pool: Cell::new(0),
            cache: Cell::new(None),
        }
    }
}

thread_local! {
    // Without a destructor, so that looking costs no check; `ENDING` has it.
    static LOCAL: Local = const { Local { last: Place::vacant(), places: [const { Place::vacant() }; PLACES], next: Cell::new(0) } };
    static ENDING: Ending = const { Ending(Cell::new(false)) };
}

/// Gives the caches back when the thread ends.
struct Ending(Cell<bool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.set(true);
        LOCAL.with(|local| local.places.iter().for_each(|place| vacate(local, place)));
    }
}

/// Takes the lock under which caches come and go.
pub(super) fn lock_attached() -> MutexGuard<'static, ()> {
    lock(&ATTACHED)
}

/// This thread's cache of the pool, if it has one; it is the last one used from now on.
#[inline]
pub(super) fn cache_of(pool: u64) -> Option<NonNull<Cache>> {
    LOCAL.with(|local| {
        if local.last.pool.get() == pool {
            return local.last.cache.get();
        }
        let place = local.places.iter().find(|place| place.pool.get() == pool)?;
        local.last.pool.set(pool);
        local.last.cache.set(place.cache.get());
        place.cache.get()
    })
}

/// Runs `work` inside this thread's cache of the pool; `None` if it has none or somebody has claimed it.
#[inline]
pub(super) fn with_store<R>(pool: u64, work: impl FnOnce(&mut Store) -> R) -> Option<R> {
    let cache = cache_of(pool)?;
    // SAFETY: a cache lives until its thread has let go of it, and that is this thread.
    unsafe { cache.as_ref() }.inside(work)
}

/// Frees a small block into the cache that was used last, if it belongs there: [`Store::free_near`]. The pool comes along for a
/// fold.
#[inline]
pub(super) fn free_near(address: NonNull<u8>) -> Option<(Kept, NonNull<Inner>)> {
    let cache = LOCAL.with(|local| local.last.cache.get())?;
    // SAFETY: as in `with_store`; `last` is emptied with the cache's own place.
    let cache = unsafe { cache.as_ref() };
    Some((cache.inside(|store| store.free_near(address))??, cache.pool))
}

/// Runs `work` inside the cache that was used last.
pub(super) fn with_last(work: impl FnOnce(&Cache, &mut Store)) {
    if let Some(cache) = LOCAL.with(|local| local.last.cache.get()) {
        // SAFETY: as in `free_near`.
        let cache = unsafe { cache.as_ref() };
        cache.inside(|store| work(cache, store));
    }
}

/// Whether this thread has a cache of the pool.
pub(super) fn has_cache(pool: u64) -> bool {
    cache_of(pool).is_some()
}

/// Whether the system has what gates need. Asked once, or a few times at once: a lock that a fork could catch in the middle
/// would keep the child waiting for ever.
fn can_have_caches() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    // Relaxed: the answer is all that is exchanged.
    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let answer = gate::barrier::prepare();
            ANSWER.store(if answer { YES } else { NO }, Ordering::Relaxed);
            answer
        }
        answer => answer == YES,
    }
}

/// Gives this thread a cache of the pool, unless the thread is ending; or else, if it may not `wait`, somebody is busy with the
/// pool. No lock of a pool is held.
#[cold]
pub(super) fn attach(pool: NonNull<Inner>, number: u64, wait: bool) {
    let ending = ENDING.try_with(|ending| ending.0.get()).unwrap_or(true);
    if ending {
        return;
    }
    if !can_have_caches() {
        return;
    }
    LOCAL.with(|local| {
        let vacant = local.places.iter().find(|place| place.cache.get().is_none());
        let place = vacant.unwrap_or_else(|| {
            let next = local.next.get();
            local.next.set((next + 1) % PLACES);
            &local.places[next]
        });
        if place.cache.get().is_some() {
            if !wait {
                return; // to empty another cache takes other locks
            }
            vacate(local, place);
        }
        let attached = if wait {
            Some(lock_attached())
        } else {
            try_lock(&ATTACHED)
        };
        // SAFETY: the caller has a handle or a block of the pool, so it lives.
        let state = unsafe { &pool.as_ref().state };
        let state = if wait { Some(lock(state)) } else { try_lock(state) };
        let (Some(_attached), Some(mut state)) = (attached, state) else {
            return;
        };
        let cache = Cache::new(pool);
        if state.adopt(cache) {
            place.pool.set(number);
            place.cache.set(Some(cache));
        } else {
            // SAFETY: neither owner has used it.
            unsafe {
                Cache::let_go(cache);
                Cache::let_go(cache);
            }
        }
    });
}

/// Empties a place of the table: what its cache holds goes back to the pool.
fn vacate(local: &Local, place: &Place) {
    place.pool.set(0);
    let Some(cache) = place.cache.take() else { return };
    local.last.pool.set(0);
    local.last.cache.set(None);
    let _attached = lock_attached();
    // SAFETY: this thread has not let go of it.
    let shared = unsafe { cache.as_ref() };
    // Relaxed: written under the lock that we hold.
    if !shared.orphan.load(Ordering::Relaxed) {
        // SAFETY: a pool makes its caches orphans under that lock before it goes.
        let state = &mut *lock(unsafe { &shared.pool.as_ref().state });
        state.dismiss(cache);
    }
    // SAFETY: this thread's one time.
    unsafe { Cache::let_go(cache) };
}
