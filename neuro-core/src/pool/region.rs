//! A region: one reservation, the heap that says which of its bytes are free, and which of its steps hold memory.
//!
//! Invariants:
//! - R1: the heap's unit is [`GRANULE`] bytes and unit 0 is the first byte of the reservation, which is aligned to `STEP`;
//!   so an alignment up to `STEP` within the heap is an alignment of the address.
//! - R2: a block that is handed out lies in opened memory.
//! - R3: the steps not marked in `held` read as zeros and cost no memory. A step is marked before a block that touches it
//!   is handed out.
//! - R4: so do the bytes from `used` on: no block that reached them was ever handed out.
//! - R5: what is marked in `locked` lies in held steps, which stay so: a driver has locked it in memory, or is about to. Each run of it
//!   has a seam of the heap at both ends: no block reaches from one into another, or out of one, so that a driver, which keeps each run
//!   by itself, takes a copy of any block as one.

mod locked;

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::Inner;
use super::head::Head;
use super::record::GRANULE;
use super::steps::Steps;
use crate::backend::host::{Reservation, STEP};
use crate::heap::{Block, OffsetHeap, Tag};

use self::locked::Locked;
pub(crate) use self::locked::Piece;

/// Blocks from this many bytes on are laid for speed where the pool has no limit: on a step, so that their pages are whole huge
/// pages, which are zeroed by exchanging them and never split; and [`STAGGER`] longer than asked.
pub(super) const LARGE: usize = 32 << 20;
/// Granules (16 KiB) that keep large blocks side by side from starting a power of two apart, where the memory's banks wait
/// for each other: measured, `x + x` of 256 MiB takes 1.5 times as long without.
const STAGGER: u32 = (16 << 10) / GRANULE as u32;
const STEP_UNITS: u32 = (STEP / GRANULE) as u32;

/// How far a region may go for a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Holes, and memory that it holds already.
    Held,
    /// All that it has reserved.
    All,
}

/// A block that was just taken from a heap. It has no record yet.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) ptr: NonNull<u8>,
    pub(super) block: Block,
    pub(super) units: u32,
    /// The end of the part of it, in bytes from its start, behind which it is known to read as zeros.
    pub(super) dirty_from: usize,
    pub(super) dirty_to: usize,
}

/// What a region is for. Slabs have regions of their own: a slab lives as long as any slot of it, and would stand in the
/// middle of what large blocks leave behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Blocks,
    Slabs,
}

pub(super) struct Region {
    pub(super) kind: Kind,
    /// Devices use its memory: none goes back.
    pub(super) pinned: bool,
    memory: Reservation,
    /// Made by `Box::leak`; the address table and stale readers know it by its address.
    head: NonNull<Head>,
    heap: OffsetHeap,
    held: Steps,
    locked: Locked,
    /// Where the block that reached furthest ended, in bytes.
    used: usize,
    /// What `used` was at most before memory went back.
    furthest: usize,
    /// Granules up to which every step is held and open: up to the step of `used`, where nothing was trimmed below.
    whole: u32,
}

// SAFETY: the head belongs to this region alone and is shared by reference only; `Head` holds atomics and plain facts.
unsafe impl Send for Region {}

impl Region {
    /// A region of `want` granules for `pool`, or of fewer, down to `need`, where the system refuses.
    pub(super) fn new(kind: Kind, want: u32, need: u32, pool: NonNull<Inner>, number: u64) -> io::Result<Self> {
        let memory = Reservation::new(want as usize * GRANULE, need as usize * GRANULE)?;
        let units = u32::try_from(memory.len() / GRANULE).unwrap_or(u32::MAX).min(want);
        let head = Head::new(kind, memory.base(), memory.len(), pool, number)?;
        Ok(Self {
            kind,
            pinned: false,
            memory,
            head: NonNull::from(Box::leak(Box::new(head))),
            heap: OffsetHeap::new(units),
            held: Steps::default(),
            locked: Locked::default(),
            used: 0,
            furthest: 0,
            whole: 0,
        })
    }

    pub(super) fn prefault(&mut self) {
        self.memory.set_prefault();
    }

    /// Its records, for the address table.
    pub(super) fn head_ptr(&self) -> NonNull<Head> {
        self.head
    }

    pub(super) fn head(&self) -> &Head {
        // SAFETY: made in `new`, freed in `drop`.
        unsafe { self.head.as_ref() }
    }

    /// The addresses it covers.
    #[inline]
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.memory.base().addr().get();
        start..start + self.memory.len()
    }

    /// Bytes up to the end of the block that reached furthest.
    pub(super) fn extent(&self) -> usize {
        self.furthest.max(self.used)
    }

    /// The extent starts again from what is in use.
    pub(super) fn reset_extent(&mut self) {
        self.furthest = self.heap.top() as usize * GRANULE;
    }

    /// Granules that its heap has handed out.
    pub(super) fn used_units(&self) -> u32 {
        self.heap.capacity() - self.heap.free_units()
    }

    pub(super) fn heap(&self) -> &OffsetHeap {
        &self.heap
    }

    /// Bytes of the steps that may hold memory.
    pub(super) fn committed(&self) -> usize {
        (self.held.count * STEP).min(self.heap.capacity() as usize * GRANULE)
    }

    /// Bytes of bookkeeping.
    pub(super) fn side_bytes(&self) -> usize {
        self.heap.side_bytes() + self.held.side_bytes() + self.locked.side_bytes() + self.head().side_bytes(self.used)
    }

    /// The addresses of its free ranges; behind the last granule nothing can live.
    pub(super) fn free_addresses(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let (capacity, own) = (self.heap.capacity(), self.addresses());
        self.heap.free_ranges().map(move |(offset, len, _)| {
            let end = if offset + len == capacity {
                own.end
            } else {
                own.start + (offset + len) as usize * GRANULE
            };
            own.start + offset as usize * GRANULE..end
        })
    }

    /// Hands out `units` granules on a multiple of `align` granules; `None` where no free run within reach holds them. A roomy
    /// pool lays large ones for speed.
    ///
    /// # Errors
    /// What the system said when asked for memory; nothing has changed then.
    pub(super) fn allocate(&mut self, units: u32, align: u32, roomy: bool, reach: Reach) -> io::Result<Option<Placed>> {
        let Some((block, units)) = self.find(units, align, roomy, reach) else {
            return Ok(None);
        };
        match self.place(block, units) {
            Ok(placed) => Ok(Some(placed)),
            Err(error) => {
                let undone = self.heap.free(block, Tag::IDLE);
                debug_assert!(undone.is_ok());
                Err(error)
            }
        }
    }

    /// A block in memory that is held anyway: nothing to ask the system, nothing to mark. `None` where there is none, where
    /// some of the memory below has gone back.
    #[inline(always)]
    pub(super) fn reuse(&mut self, units: u32, align: u32, roomy: bool) -> Option<Placed> {
        if self.whole == 0 {
            return None;
        }
        if roomy && units >= (LARGE / GRANULE) as u32 {
            let (block, units) = self.find_for_speed(units, align, self.whole)?;
            return Some(self.place_in_whole(block, units));
        }
        let block = self.heap.allocate_below(self.whole, units, align, Tag::IDLE)?;
        Some(self.place_in_whole(block, units))
    }

    /// A block below `whole`.
    #[inline(always)]
    fn place_in_whole(&mut self, block: Block, units: u32) -> Placed {
        let (start, bytes) = (block.offset as usize * GRANULE, units as usize * GRANULE);
        let dirty_to = self.used.saturating_sub(start).min(bytes);
        if start + bytes > self.used {
            self.reach(start + bytes);
        }
        // SAFETY: as in `place`; R2, since `whole` is opened.
        let ptr = unsafe { self.memory.base().add(start) };
        Placed {
            ptr,
            block,
            units,
            dirty_from: 0,
            dirty_to,
        }
    }

    /// A free range for a block of `units`, and its length.
    fn find(&mut self, units: u32, align: u32, roomy: bool, reach: Reach) -> Option<(Block, u32)> {
        let ceiling = match reach {
            Reach::Held => (self.used.next_multiple_of(STEP) / GRANULE) as u32,
            Reach::All => u32::MAX,
        };
        if roomy && units as usize * GRANULE >= LARGE {
            return self.find_for_speed(units, align, ceiling);
        }
        Some((self.heap.allocate_below(ceiling, units, align, Tag::IDLE)?, units))
    }

    /// The same for a large block: on a step and longer than asked, where the range that is found allows it.
    fn find_for_speed(&mut self, units: u32, align: u32, ceiling: u32) -> Option<(Block, u32)> {
        if align > 1 {
            return Some((self.heap.allocate_below(ceiling, units, align, Tag::IDLE)?, units));
        }
        let more = units.saturating_add(STAGGER);
        self.heap.allocate_roomy(ceiling, units, more, STEP_UNITS, Tag::IDLE)
    }

    fn place(&mut self, block: Block, units: u32) -> io::Result<Placed> {
        if block.offset + units <= self.whole {
            return Ok(self.place_in_whole(block, units));
        }
        let (start, bytes) = (block.offset as usize * GRANULE, units as usize * GRANULE);
        let end = start + bytes;
        if end > self.memory.opened().min(self.head().opened()) {
            self.memory.open_up_to(end)?;
            self.head().open_up_to(self.memory.opened())?;
        }
        let steps = start / STEP..end.div_ceil(STEP);
        let before = self.held.count;
        let dirty = self.held.mark(steps).map_or(0..0, |held| {
            let first = (held.start * STEP).max(start);
            let last = (held.end * STEP).min(end).min(self.used).max(first);
            first - start..last - start
        });
        if self.held.count > before {
            // SAFETY: the pool lives while it has regions.
            let pool = unsafe { self.head().pool.as_ref() };
            if pool.has_gpu_support() {
                pool.locking.note_grown();
            }
        }
        if end > self.used {
            self.reach(end);
        }
        if self.held.count == self.used.div_ceil(STEP) {
            self.whole = (self.used.next_multiple_of(STEP) / GRANULE) as u32;
        }
        // SAFETY: `end <= capacity * GRANULE <= memory.len()`, so the address lies in the reservation.
        let ptr = unsafe { self.memory.base().add(start) };
        Ok(Placed {
            ptr,
            block,
            units,
            dirty_from: dirty.start,
            dirty_to: dirty.end,
        })
    }

    /// Gives a block back to the heap; its length in granules.
    #[inline]
    pub(super) fn free(&mut self, block: Block) -> Option<u32> {
        let freed = self.heap.free(block, Tag::IDLE);
        debug_assert!(freed.is_ok(), "{freed:?}");
        freed.ok()
    }

    /// Gives a live block a new length where it lies, if there is room behind it.
    pub(super) fn resize(&mut self, block: Block, units: u32) -> bool {
        let Some(old) = self.heap.len_of(block) else {
            return false;
        };
        if !self.heap.resize(block, units, Tag::IDLE) {
            return false;
        }
        if units > old && self.place(block, units).is_err() {
            let undone = self.heap.resize(block, old, Tag::IDLE);
            debug_assert!(undone);
            return false;
        }
        true
    }

    /// Gives back at least `excess` bytes of memory that no block uses and that is not locked, highest addresses first, or all there is.
    /// Returns the bytes given back.
    pub(super) fn trim(&mut self, excess: usize) -> usize {
        let start = self.addresses().start;
        let mut free: Vec<Range<usize>> = self
            .free_addresses()
            .filter(|free| !self.locked.contains(free.start - start)) // all of it is, or none (R5)
            .map(|free| (free.start - start).div_ceil(STEP)..(free.end - start) / STEP)
            .filter(|steps| steps.start < steps.end)
            .collect();
        free.sort_unstable_by_key(|steps| std::cmp::Reverse(steps.start));
        let before = self.committed();
        for range in free {
            let mut end = range.end;
            while before - self.committed() < excess {
                let Some(run) = self.held.last_run(range.start..end) else {
                    break;
                };
                let wanted = (excess - (before - self.committed())).div_ceil(STEP);
                let run = run.end.saturating_sub(wanted).max(run.start)..run.end;
                // SAFETY: the steps lie in a free run of the heap, so nobody owns their contents, and the pool's lock,
                // which the caller holds, keeps it so. Marked steps are open (R2, R3).
                if unsafe { self.memory.discard(run.start * STEP..run.end * STEP) }.is_err() {
                    return before - self.committed(); // locked pages: they stay, and stay counted
                }
                self.held.clear(run.clone());
                self.whole = 0;
                end = run.start;
            }
        }
        // R4: where all behind the last block has gone back, it is fresh again.
        let top = (self.heap.top() as usize * GRANULE).next_multiple_of(STEP);
        if self.held.last_run(top / STEP..usize::MAX).is_none() {
            self.furthest = self.extent();
            self.used = self.used.min(top);
        }
        self.heap.shrink();
        before - self.committed()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: from `Box::leak` in `new`. The address table has forgotten it (T3), no block of it is live, and no cache
        // has a block of it, so only a caller who breaks `MemoryPool::free`'s contract could still look at it.
        drop(unsafe { Box::from_raw(self.head.as_ptr()) });
    }
}
