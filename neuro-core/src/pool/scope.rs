//! `Scope`: what a pool handed out and took back between two moments, with its own peak. Any number at once.

use std::fmt;

use super::{MemoryPool, lock_state};
use crate::ledger::Counters;

/// The scopes of a pool, as its lock guards them.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    /// By number.
    list: Vec<(u64, Counters)>,
    last: u64,
}

impl Scopes {
    /// What is live counts as there, and peaks begin with it.
    pub(super) fn begin(&mut self, mut counters: Counters) -> u64 {
        counters.start_over();
        self.last += 1;
        self.list.push((self.last, counters));
        self.last
    }

    pub(super) fn end(&mut self, id: u64) {
        self.list.retain(|(scope, _)| *scope != id);
    }

    /// Works on the counters of one that has begun and not ended.
    pub(super) fn with<R>(&mut self, id: u64, work: impl FnOnce(&mut Counters) -> R) -> R {
        let found = self.list.iter_mut().find(|(scope, _)| *scope == id);
        let mut gone = Counters::default();
        work(found.map_or(&mut gone, |(_, counters)| counters))
    }

    /// Counts in all of them.
    #[inline]
    pub(super) fn count(&mut self, count: impl Fn(&mut Counters)) {
        self.list.iter_mut().for_each(|(_, counters)| count(counters));
    }
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
        let id = match &inner.device {
            Some(pool) => pool.begin_scope(),
            None => {
                let mut state = lock_state(inner);
                state.begin_slow(inner);
                let counters = state.counters;
                state.scopes.begin(counters)
            }
        };
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
        if let Some(pool) = &inner.device {
            return pool.with_scope(self.id, work);
        }
        let mut state = lock_state(inner);
        state.drain(inner);
        state.scopes.with(self.id, work)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let inner = self.pool.inner();
        if let Some(pool) = &inner.device {
            return pool.end_scope(self.id);
        }
        let mut state = lock_state(inner);
        state.scopes.end(self.id);
        state.end_slow(inner);
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", self.counters())
    }
}
