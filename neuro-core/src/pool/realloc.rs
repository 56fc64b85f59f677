//! Giving a block another length.

use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::guard::tell;
use super::{Init, MemoryPool, lock_state, locking, reaper, table};
use crate::error::{Error, Result};

impl MemoryPool {
    /// Gives the block at `address` room for `new_bytes`: where it lies if it can stay, else elsewhere in the same pool,
    /// with the contents of the shorter length moved. Returns its address.
    ///
    /// # Errors
    /// As [`allocate_bytes`](Self::allocate_bytes) and [`free`](Self::free); the old block is then as it was.
    ///
    /// # Safety
    /// As [`free`](Self::free), if the address returned is another one.
    pub unsafe fn reallocate(address: NonNull<u8>, new_bytes: usize, alignment: Option<usize>) -> Result<NonNull<u8>> {
        let at = address.addr().get();
        let refused = |reason| Error::InvalidFree { address: at, reason };
        let head = table::find(at).ok_or_else(|| refused("it lies in no pool"))?;
        // SAFETY: as in `free`. The block is not given up before the end, so it keeps the pool without a handle.
        let pool = ManuallyDrop::new(MemoryPool(unsafe { head.as_ref() }.pool));
        let alignment = alignment.unwrap_or_else(|| pool.alignment());
        let old_bytes = match pool.resize_in_place(address, new_bytes, alignment, false)? {
            Resized::Yes => return Ok(address),
            Resized::No(old_bytes) => old_bytes,
        };
        let new = match pool.allocate_bytes(new_bytes, Some(alignment), Init::Uninit) {
            Ok(new) => new,
            // What stands behind the block may only wait in a cache.
            Err(error) => match pool.resize_in_place(address, new_bytes, alignment, true)? {
                Resized::Yes => return Ok(address),
                Resized::No(_) => return Err(error),
            },
        };
        // SAFETY: both blocks are live, distinct, and at least that long; the caller owns the old one.
        let freed = unsafe {
            new.copy_from_nonoverlapping(address, old_bytes.min(new_bytes));
            Self::free(address)
        };
        if let Err(error) = freed {
            tell(&error.to_string()); // its contents are safe, and that is what was asked for
        }
        Ok(new)
    }

    /// Tries to give the block room where it lies, after emptying the caches if `settle`.
    fn resize_in_place(&self, address: NonNull<u8>, bytes: usize, alignment: usize, settle: bool) -> Result<Resized> {
        let inner = self.inner();
        let at = address.addr().get();
        let mut state = lock_state(inner);
        let (_, old_bytes) = state.live_at(inner, address).ok_or(Error::InvalidFree {
            address: at,
            reason: "no live block starts there",
        })?;
        super::state::check_alignment(alignment)?;
        if let Some(what) = state.guard.as_ref().and_then(|guard| guard.look_at(address)) {
            return Err(Error::Corrupted { op: "reallocate", what });
        }
        if settle {
            state.settle(inner);
        }
        if !at.is_multiple_of(alignment) || !state.resize(inner, address, bytes) {
            return Ok(Resized::No(old_bytes));
        }
        let callback = state.soft_limit_reached(inner);
        let wake = !reaper::is_awake() && state.is_worth_reaping();
        drop(state);
        locking::keep_up(inner);
        if wake {
            reaper::wake();
        }
        if let Some((callback, stats)) = callback {
            callback(&stats);
        }
        Ok(Resized::Yes)
    }
}

enum Resized {
    Yes,
    /// No; the bytes that were asked for, to be moved.
    No(usize),
}
