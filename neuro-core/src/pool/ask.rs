//! What a handle answers, and what it orders, besides handing out blocks.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::guard::Guard;
use super::record::GRANULE;
use super::region::Region;
use super::{MemoryPool, PoolStats, device, gpu, lock_state, locking, registry, stats, table};
use crate::error::{Error, Result};

impl MemoryPool {
    /// Whether `address` lies in the memory of any pool. Takes no lock.
    pub fn owns(address: *const u8) -> bool {
        table::find(address.addr()).is_some()
    }

    /// Bytes of the live block that starts at `address`, as it occupies them.
    ///
    /// # Safety
    /// The pool that `address` lies in, if any, is not being freed at this moment.
    pub unsafe fn block_of(address: *const u8) -> Option<usize> {
        let address = NonNull::new(address.cast_mut())?;
        // SAFETY: the table names a pool while it has regions; the caller vouches that it keeps them during the call.
        let pool = unsafe { table::find(address.addr().get())?.as_ref().pool.as_ref() };
        let (units, _) = lock_state(pool).live_at(pool, address)?;
        Some(units as usize * GRANULE)
    }

    /// The figures of this moment.
    pub fn stats(&self) -> PoolStats {
        let inner = self.inner();
        if let Some(pool) = &inner.device {
            return pool.stats();
        }
        lock_state(inner).stats(inner)
    }

    /// The figures of all pools of the process, those of devices included, added up; `limit_bytes` is `None`.
    pub fn global_stats() -> PoolStats {
        stats::of_all()
    }

    /// Gives cached memory back to the system until at most `keep_bytes` are cached, from the highest address down, in
    /// steps of 2 MiB. Returns the bytes given back. Empties the threads' caches first.
    ///
    /// A pool of a device gives back pieces as it got them from the device (64 MiB and longer), where none of their blocks is live
    /// and no work on them is under way.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        let inner = self.inner();
        if let Some(pool) = &inner.device {
            return pool.trim(keep_bytes);
        }
        gpu::release(inner, keep_bytes);
        lock_state(inner).trim(inner, keep_bytes, usize::MAX)
    }

    /// [`trim`](Self::trim) on every pool of the process.
    pub fn trim_all(keep_bytes: usize) -> usize {
        device::release_imports(None);
        locking::release_all(keep_bytes);
        // Drivers are called: before any lock is taken.
        let mut given_back: usize = device::pools().iter().map(|pool| pool.trim(keep_bytes)).sum();
        registry::for_each(|pool, state| given_back += state.trim(pool, keep_bytes, usize::MAX));
        given_back
    }

    /// Peaks start again from what there is now.
    pub fn reset_peak(&self) {
        let inner = self.inner();
        if let Some(pool) = &inner.device {
            return pool.reset_peak();
        }
        let mut state = lock_state(inner);
        state.gather(inner);
        state.counters.reset_peak();
        state.reserved.peak = state.reserved.current;
        state.committed.peak = state.committed.current;
        state.regions.iter_mut().for_each(Region::reset_extent);
    }

    /// Most bytes its blocks may take, if it has a limit.
    pub fn limit(&self) -> Option<usize> {
        self.state().options.limit
    }

    /// Alignment of blocks for which none is asked, in bytes.
    pub fn alignment(&self) -> usize {
        self.inner().alignment()
    }

    /// Whether both name the same pool.
    pub fn ptr_eq(&self, other: &MemoryPool) -> bool {
        self.0 == other.0
    }

    /// Debug mode: each block is followed by a red zone of 64 bytes at least, and freed ones are filled with poison and wait in
    /// a quarantine, so that a write past the end or after the free is found: when the block is freed
    /// ([`Error::Corrupted`]), when it leaves the quarantine (a line on standard error), and by [`check`](Self::check).
    /// Everything is slower, and red zones count against the limit.
    ///
    /// In a pool of a device every block becomes an allocation of the driver, of the bytes asked for, which goes back to it as soon as the
    /// work on it is known to be done: so tools that watch the driver, as compute-sanitizer, see what is wrong. Nothing of it can be reused, and
    /// each allocation and free calls the driver. Told before the first allocation; what the pool has by then stays as it is.
    /// `NEURO_DEVICE_DEBUG=1` in the environment makes all pools of devices so.
    ///
    /// In a program built with AddressSanitizer every pool has red zones and a quarantine without this, and
    /// AddressSanitizer reports the first touch of them, reads too.
    #[must_use]
    pub fn with_debug(self, debug: bool) -> Self {
        match self.device_pool() {
            Some(pool) => pool.set_debug(debug),
            None => self.set_guard(debug),
        }
        self
    }

    pub(super) fn set_guard(&self, fills: bool) {
        let inner = self.inner();
        let mut state = lock_state(inner);
        if state.guard.is_some() {
            state.release_quarantine(inner, true);
            if let Some(mut gone) = state.guard.take() {
                gone.forget(0..usize::MAX);
            }
            state.end_slow(inner);
        }
        if let Some(guard) = Guard::new(fills) {
            state.begin_slow(inner);
            state.guard = Some(guard);
        }
        inner.guarded.store(state.guard.is_some(), Ordering::Relaxed);
    }

    /// Looks at the red zones and the poison of a pool in [debug mode](Self::with_debug).
    ///
    /// # Errors
    /// [`Error::Corrupted`] with all that was found since the last time, also what has been told already.
    pub fn check(&self) -> Result<()> {
        let found = self.state().guard.as_mut().map_or_else(Vec::new, Guard::check);
        if found.is_empty() {
            return Ok(());
        }
        Err(Error::Corrupted {
            op: "check",
            what: found.join("; "),
        })
    }

    /// Has the `n`-th allocation from now refused as if there were no room, the next being the first: for tests of what a
    /// program does then. 0 takes an order back. All requests take the pool's lock until it has happened.
    pub fn fail_nth(&self, n: u64) {
        let inner = self.inner();
        if let Some(pool) = &inner.device {
            return pool.fail_nth(n);
        }
        let mut state = lock_state(inner);
        if state.fail_in.take().is_some() {
            state.end_slow(inner);
        }
        if n > 0 {
            state.begin_slow(inner);
            state.fail_in = Some(n);
        }
    }
}
