//! `Scope`: what a pool handed out and took back between two moments, with its own peak. Any number at once.

use std::fmt;

use super::{MemoryPool, lock_state};
use crate::ledger::Counters;

/// The scope as the pool's lock guards it.
pub(super) struct ScopeState {
    id: u64,
    /// What was live when it began counts as there, and its peaks begin with it.
    pub(super) counters: Counters,
}

/// Counts of one pool from one moment on: see [`MemoryPool::scope`]. Ends when dropped.
pub struct Scope {
    pool: MemoryPool,
    id: u64,
}

impl MemoryPool {
    /// Begins to count for itself: current values are the pool's, peaks begin at what is live now, totals at 0. Scopes do
    /// not disturb each other: each can be [reset](Scope::reset) alone.
    ///
    /// A scope is exact, from all threads: while one lasts, every request goes through the pool's lock.
    pub fn scope(&self) -> Scope {
        let inner = self.inner();
        let mut state = lock_state(inner);
        state.begin_slow(inner);
        state.last_scope += 1;
        let id = state.last_scope;
        let mut counters = state.counters;
        counters.start_over();
        state.scopes.push(ScopeState { id, counters });
        drop(state);
        Scope { pool: self.clone(), id }
    }
}

impl Scope {
    /// The counts, as of now.
    pub fn counters(&self) -> Counters {
        self.with(|counters| *counters)
    }

    /// Peaks begin again at what is live now, and totals at 0.
    pub fn reset(&self) {
        self.with(Counters::start_over);
    }

    fn with<R>(&self, work: impl FnOnce(&mut Counters) -> R) -> R {
        let inner = self.pool.inner();
        let mut state = lock_state(inner);
        state.drain(inner);
        let id = self.id;
        let found = state.scopes.iter_mut().find(|scope| scope.id == id);
        // It is there from `MemoryPool::scope` until the drop.
        let mut gone = Counters::default();
        work(found.map_or(&mut gone, |scope| &mut scope.counters))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let inner = self.pool.inner();
        let mut state = lock_state(inner);
        state.scopes.retain(|scope| scope.id != self.id);
        state.end_slow(inner);
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", self.counters())
    }
}
