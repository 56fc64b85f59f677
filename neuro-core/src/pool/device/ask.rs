//! What a pool of a device is asked besides blocks, as a pool of the host is; and all such pools of the process.
//!
//! In a forked child each answers that there is nothing, and does nothing: its locks may be held by threads that are not there.

use super::handle::{Address, Visit};
use super::region::{GRANULE, Region};
use super::{DeviceBlock, DevicePool, State};
use crate::ledger::Counters;
use crate::pool::PoolStats;
use crate::sync::global::{Mutex, MutexGuard, lock};

/// Pools that a `MemoryPool` was made for, from then on until they are freed. Lock order: this list, a pool.
pub(crate) type Pools = Vec<Address>;

static POOLS: Mutex<Pools> = Mutex::new(Vec::new());

/// For a fork, which happens with no lock of the library held by anybody else.
pub(crate) fn lock_pools() -> MutexGuard<'static, Pools> {
    lock(&POOLS)
}

/// Enters a pool that has become public.
pub(super) fn enter(pool: &DevicePool) {
    lock_pools().push(pool.address);
}

/// Strikes out a pool that is about to be freed, if it is there.
pub(super) fn leave(pool: Address) {
    lock_pools().retain(|other| *other != pool);
}

/// Those that live: also one that has no handle any more, but a block. No lock is held when it returns.
pub(crate) fn pools() -> Vec<Visit> {
    // SAFETY: they are in the list, whose lock is held.
    lock_pools()
        .iter()
        .filter_map(|&pool| unsafe { Visit::begin(pool) })
        .collect()
}

impl DevicePool {
    /// Gives slabs in which nothing is live, nor used by work that is not done, back to the device, the latest first, and then what lies
    /// behind all that is in use of a range of addresses, until at most `keep` bytes are in no live block. Bytes given back.
    pub(crate) fn trim(&self, keep: usize) -> usize {
        if !self.engine.is_here() {
            return 0;
        }
        let slabs = self.trim_slabs(keep);
        slabs + self.shorten(keep)
    }

    /// Of [`trim`](Self::trim), slabs only.
    pub(super) fn trim_slabs(&self, keep: usize) -> usize {
        // Without an answer from the device nothing can be known to be done.
        let done = self.engine.poll().unwrap_or_else(|_| self.engine.done());
        let alone = self.give_back_done(&done);
        let mut gone = Vec::new();
        {
            let mut state = self.state();
            state.reclaim(&done);
            let target = keep.saturating_add(state.counters.allocated.current);
            for at in (0..state.regions.len()).rev() {
                if state.committed.current <= target {
                    break;
                }
                let Some(region) = state.regions[at]
                    .take_if(|region| region.piece().is_none() && !region.is_alone() && region.is_empty())
                else {
                    continue;
                };
                state.committed.remove(region.slab.bytes as usize);
                state.reserved.remove(region.slab.bytes as usize);
                gone.push(region);
            }
        }
        gone.iter()
            .for_each(|region| self.engine.retire(region.slab.id, *region.behind()));
        alone + gone.iter().map(|region| region.slab.bytes as usize).sum::<usize>()
    }

    /// The pool's figures.
    pub(crate) fn stats(&self) -> PoolStats {
        if !self.engine.is_here() {
            return PoolStats::default();
        }
        let state = self.state();
        let mut stats = PoolStats {
            limit_bytes: usize::try_from(self.limit).ok(),
            alignment: GRANULE as usize,
            regions: state.regions.iter().flatten().count(),
            ..PoolStats::default()
        };
        stats.set_counters(&state.counters);
        stats.committed_bytes = state.committed.current;
        stats.peak_committed_bytes = state.committed.peak;
        stats.total_committed_bytes = state.committed.total;
        stats.reserved_bytes = state.reserved.current;
        stats.peak_reserved_bytes = state.reserved.peak;
        stats.total_reserved_bytes = state.reserved.total;
        stats.side_bytes = size_of::<Self>()
            + state.regions.capacity() * size_of::<Option<Region>>()
            + (state.counters.blocks.current + state.spare.len()) * size_of::<DeviceBlock>();
        for heap in state.regions.iter().flatten().map(Region::heap) {
            stats.side_bytes += heap.side_bytes();
            stats.free_runs += heap.free_runs();
            stats.largest_free_bytes = stats
                .largest_free_bytes
                .max((u64::from(heap.largest_free()) * GRANULE) as usize);
            stats.hole_bytes += (u64::from(heap.free_units() - (heap.capacity() - heap.top())) * GRANULE) as usize;
            stats.largest_hole_bytes = stats
                .largest_hole_bytes
                .max((u64::from(heap.largest_hole()) * GRANULE) as usize);
        }
        stats
    }

    /// Peaks start again from what there is now.
    pub(crate) fn reset_peak(&self) {
        if self.engine.is_here() {
            let mut state = self.state();
            state.counters.reset_peak();
            state.committed.peak = state.committed.current;
            state.reserved.peak = state.reserved.current;
        }
    }

    /// Has the `n`-th allocation from now refused, the next being the first; 0 takes an order back.
    pub(crate) fn fail_nth(&self, n: u64) {
        if self.engine.is_here() {
            self.state().fail_in = (n > 0).then_some(n);
        }
    }

    /// Begins a scope: its number.
    pub(crate) fn begin_scope(&self) -> u64 {
        if !self.engine.is_here() {
            return 0;
        }
        let mut state = self.state();
        let counters = state.counters;
        state.scopes.begin(counters)
    }

    /// Works on the counters of a scope.
    pub(crate) fn with_scope<R>(&self, id: u64, work: impl FnOnce(&mut Counters) -> R) -> R {
        if !self.engine.is_here() {
            return work(&mut Counters::default());
        }
        self.state().scopes.with(id, work)
    }

    pub(crate) fn end_scope(&self, id: u64) {
        if self.engine.is_here() {
            self.state().scopes.end(id);
        }
    }
}

impl State {
    /// Counts a block in or out, in all scopes, too.
    pub(super) fn count(&mut self, count: impl Fn(&mut Counters)) {
        count(&mut self.counters);
        self.scopes.count(count);
    }

    /// Counts down to the failure that was asked for.
    pub(super) fn must_fail(&mut self) -> bool {
        let Some(left) = self.fail_in else { return false };
        self.fail_in = (left > 1).then(|| left - 1);
        left == 1
    }
}
