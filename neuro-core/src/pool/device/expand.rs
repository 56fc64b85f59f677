//! Memory that grows in one range of addresses: an expandable pool has no slabs between whose borders memory is lost.
//!
//! ```text
//! 0                                      top      ceiling                         capacity
//! | block | free | block |  free  | block | idle     |   addresses without memory      |
//! |       piece        |       piece      |  piece   |
//! ```
//!
//! Addresses for all that the pool may ever hold are reserved by the first allocation; memory is mapped where something does not fit
//! otherwise, and unmapped from the end by [`MemoryPool::trim`]. Blocks lie across pieces as if there were none. Invariant G1 of
//! `region.rs`: what is in use ends at or below the ceiling.
//!
//! - X1: one thread at a time maps or unmaps, under the lock `growth`. The ceiling is lowered before memory goes, and raised after
//!   memory has come.
//! - X2: memory is unmapped when all work that used it is known to be done; it is waited for by nobody, and stays until the next trim.
//!
//! Absent on purpose: unmapping in the middle. A hole is there for the next block that fits, and what is below the last block stays.

use super::place::Request;
use super::region::{GRANULE, Region};
use super::{DevicePool, State};
use crate::backend::range::Ranges;
use crate::backend::{Refusal, Slab, SlabKind};
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::sync::global::{Ordering, lock};

/// A pool of [`LARGE`] bytes and more gets its memory in pieces of about this many bytes, a smaller one in the least that the device has.
const PIECE: u64 = 32 << 20;
const LARGE: u64 = 1 << 30;

impl MemoryPool {
    /// Lets a pool of a device grow in one range of addresses, into which memory is mapped piece by piece (CUDA's virtual memory
    /// management; elsewhere also known as expandable segments). What was served once in small blocks serves a large one later,
    /// whereas a pool of slabs cannot join two of them. [`trim`](Self::trim) gives back what lies behind the last block in use.
    ///
    /// Memory comes in whole pieces, 2 MiB in a small pool and 32 MiB in one of 1 GiB or more, so it can be up to one piece above the
    /// limit of the blocks. Statistics count it as committed, and the range of addresses, which costs nothing, as reserved.
    ///
    /// Told before the first allocation, which reports it if the device cannot; what the pool has by then stays as it is. A pool of host
    /// memory grows in place anyway, and goes on as before. Other processes cannot import such memory: not with
    /// [`with_export`](Self::with_export).
    #[must_use]
    pub fn with_expandable(self, expandable: bool) -> Self {
        if let Some(pool) = self.device_pool() {
            // Relaxed: who told the pool orders that before his requests.
            pool.expands.store(expandable, Ordering::Relaxed);
        }
        self
    }
}

/// A range of addresses: its place among the regions, its slab, what is mapped and what a request needs.
struct Range {
    at: usize,
    slab: Slab,
    piece: u64,
    mapped: u64,
    /// `None`: however much is mapped, it does not fit.
    need: Option<u64>,
}

impl DevicePool {
    /// Whether it grows in one range of addresses; not where every block is an allocation.
    pub(super) fn expands(&self) -> bool {
        self.expands.load(Ordering::Relaxed) && !self.debugs()
    }

    /// Units of the range of addresses that such a pool has.
    fn range_units(&self) -> u32 {
        let most = self.limit.min(self.engine().backend().facts().memory_bytes);
        u32::try_from(most / GRANULE).unwrap_or(u32::MAX)
    }

    /// No block is longer than this, whatever is given back.
    pub(super) fn longest_block(&self) -> u64 {
        if self.expands() {
            return u64::from(self.range_units()) * GRANULE;
        }
        self.engine().longest_slab().min(self.limit)
    }

    /// Gives back what may stand in the way of growing: bytes. A range of addresses grows where it ends, so its own end does not.
    pub(super) fn make_way(&self) -> usize {
        if self.expands() {
            self.trim_slabs(0)
        } else {
            self.trim(0)
        }
    }

    /// What maps memory.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the device has no such thing, or the pool is to be exported, too.
    fn ranges(&self) -> Result<&'static dyn Ranges> {
        let unavailable = |reason: &str| Error::Unavailable {
            what: format!("a pool with_expandable on {}", self.engine().device()),
            reason: reason.to_owned(),
        };
        if self.kind_of_slabs()? != SlabKind::Device {
            return Err(unavailable(
                "its memory cannot be exported; make one pool with_export(true), and another with_expandable(true)",
            ));
        }
        self.engine().backend().ranges().ok_or_else(|| {
            unavailable(
                "it takes a CUDA device and driver with virtual memory management (cuMemAddressReserve, cuMemMap; driver 450 or newer); \
                 make the pool without it",
            )
        })
    }

    /// Maps as much memory as the request needs, and some more; false where the limit or the device leaves less. The caller has the lock
    /// `growth`.
    ///
    /// # Errors
    /// As [`ranges`](Self::ranges), or what the driver said.
    pub(super) fn expand(&self, request: Request) -> Result<bool> {
        let ranges = self.ranges()?;
        let told = |refusal| match refusal {
            Refusal::NoMemory => Ok(false),
            refusal => Err(self.engine().error(refusal)),
        };
        let found = self.state().range(request);
        let range = match found {
            Some(range) => range,
            None => {
                let units = self.range_units();
                let bytes = u64::from(units) * GRANULE;
                let least = ranges.granularity();
                let piece = if bytes >= LARGE {
                    PIECE.next_multiple_of(least)
                } else {
                    least
                };
                let slab = match ranges.reserve(bytes.next_multiple_of(piece), piece) {
                    Ok(slab) => slab,
                    Err(refusal) => return told(refusal),
                };
                let mut state = self.state();
                state.enter(Region::expandable(slab, units, piece));
                let Some(range) = state.range(request) else {
                    return Ok(false);
                };
                range
            }
        };
        let Range { piece, mapped, .. } = range;
        let Some(need) = range.need else { return Ok(false) };
        if need <= mapped {
            return Ok(true); // something has been freed meanwhile
        }
        let room = self.limit.saturating_sub(self.state().committed.current as u64);
        let most = mapped
            .saturating_add(room.next_multiple_of(piece))
            .min(range.slab.bytes);
        if need > most {
            return Ok(false);
        }
        let want = (mapped + mapped / 8).next_multiple_of(piece).clamp(need, most);
        let need = need - mapped;
        let Some(mut more) = self.engine().within_budget(need, want - mapped, piece) else {
            return Ok(false);
        };
        loop {
            match ranges.extend(range.slab.id, mapped + more) {
                Ok(()) => break,
                Err(Refusal::NoMemory) if more > need => more = (more / 2).next_multiple_of(piece).max(need),
                Err(refusal) => return told(refusal),
            }
        }
        let mut state = self.state();
        state.committed.add(more as usize);
        if let Some(region) = &mut state.regions[range.at] {
            region.set_mapped(mapped + more);
        }
        Ok(true)
    }

    /// Unmaps what lies behind all that is in use, until at most `keep` bytes are in no live block: the bytes of it.
    pub(super) fn shorten(&self, keep: usize) -> usize {
        let Some(ranges) = self.engine().backend().ranges() else {
            return 0;
        };
        let _growing = lock(&self.growth);
        let mut state = self.state();
        let target = keep.saturating_add(state.counters.allocated.current);
        let above = state.committed.current.saturating_sub(target) as u64;
        let Some((at, region)) = state.expandable() else {
            return 0;
        };
        let (slab, had) = (region.slab.id, region.mapped());
        let stays = had
            .saturating_sub(above)
            .next_multiple_of(region.piece().unwrap_or(GRANULE));
        let to = region.used_end().max(stays);
        if to >= had {
            return 0;
        }
        region.set_mapped(to); // nothing behind that is handed out from here on
        drop(state);
        // SAFETY: the range is ours and we have the lock `growth` (X1). No block lies behind `to`, nor comes to, and no work that is not
        // done has used what is there: it is idle.
        let left = unsafe { ranges.shorten(slab, to) };
        let mut state = self.state();
        if let Some(region) = &mut state.regions[at] {
            region.set_mapped(left);
        }
        let gone = (had - left) as usize;
        state.committed.remove(gone);
        gone
    }
}

impl State {
    /// The range of addresses, if there is one, and its place.
    fn expandable(&mut self) -> Option<(usize, &mut Region)> {
        let mut regions = self.regions.iter_mut().enumerate();
        regions.find_map(|(at, region)| Some((at, region.as_mut().filter(|region| region.piece().is_some())?)))
    }

    fn range(&mut self, request: Request) -> Option<Range> {
        let (at, region) = self.expandable()?;
        Some(Range {
            at,
            slab: region.slab,
            piece: region.piece()?,
            mapped: region.mapped(),
            need: region.end_for(request.units, request.align),
        })
    }
}
