//! A region: one reservation, the heap that says which of its bytes are free, and which of its steps hold memory.
//!
//! Invariants:
//! - R1: the heap's unit is [`GRANULE`] bytes and unit 0 is the first byte of the reservation, which is aligned to `STEP`;
//!   so an alignment up to `STEP` within the heap is an alignment of the address.
//! - R2: a block that is handed out lies in opened memory.
//! - R3: the steps not marked in `held` read as zeros and cost no memory. A step is marked before a block that touches it
//!   is handed out.
//! - R4: so do the bytes from `used` on: no block that reached them was ever handed out.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use crate::backend::host::{Reservation, STEP};
use crate::heap::{Block, FreeError, OffsetHeap, Tag};

/// The unit of the heap, in bytes: no block is smaller, and every block starts on one.
pub(super) const GRANULE: usize = 64;

/// Blocks from this many bytes on are laid for speed where the pool has no limit: on a step, so that their pages are whole huge
/// pages, which are zeroed by exchanging them and never split; and [`STAGGER`] longer than asked.
pub(super) const LARGE: usize = 32 << 20;
/// Granules (16 KiB) that keep large blocks side by side from starting a power of two apart, where the memory's banks wait
/// for each other: measured, `x + x` of 256 MiB takes 1.5 times as long without.
const STAGGER: u32 = (16 << 10) / GRANULE as u32;
const STEP_UNITS: u32 = (STEP / GRANULE) as u32;

/// A block that was just handed out.
pub(super) struct Placed {
    pub(super) ptr: NonNull<u8>,
    /// Its length, whole granules.
    pub(super) bytes: usize,
    /// The part of it, from its start, outside which it is known to read as zeros.
    pub(super) dirty: Range<usize>,
}

impl Placed {
    /// A small block that was used before and never left the heap.
    pub(super) fn again(address: usize, units: u32) -> Option<Self> {
        let bytes = units as usize * GRANULE;
        Some(Self {
            ptr: NonNull::new(std::ptr::with_exposed_provenance_mut(address))?,
            bytes,
            dirty: 0..bytes,
        })
    }
}

pub(super) struct Region {
    memory: Reservation,
    heap: OffsetHeap,
    held: Steps,
    /// Where the block that reached furthest ended, in bytes.
    used: usize,
}

impl Region {
    /// A region of `want` granules, or of fewer, down to `need`, where the system refuses.
    pub(super) fn new(want: u32, need: u32) -> io::Result<Self> {
        let memory = Reservation::new(want as usize * GRANULE, need as usize * GRANULE)?;
        let units = u32::try_from(memory.len() / GRANULE).unwrap_or(u32::MAX).min(want);
        Ok(Self {
            memory,
            heap: OffsetHeap::new(units),
            held: Steps::default(),
            used: 0,
        })
    }

    /// The addresses it covers.
    pub(super) fn addresses(&self) -> Range<usize> {
        let start = self.memory.base().as_ptr().addr();
        start..start + self.memory.len()
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
        self.heap.side_bytes() + self.held.words.capacity() * size_of::<u64>()
    }

    /// Hands out `units` granules on a multiple of `align` granules; `None` where no free run holds them. A roomy pool lays
    /// large ones for speed.
    ///
    /// # Errors
    /// What the system said when asked for memory; nothing has changed then.
    pub(super) fn allocate(&mut self, units: u32, align: u32, roomy: bool) -> io::Result<Option<Placed>> {
        let Some((block, units)) = self.find(units, align, roomy) else {
            return Ok(None);
        };
        match self.place(block.offset, units) {
            Ok(placed) => Ok(Some(placed)),
            Err(error) => {
                let undone = self.heap.free(block.offset, Tag::IDLE);
                debug_assert!(undone.is_ok());
                Err(error)
            }
        }
    }

    /// A free range for a block of `units`, and its length.
    fn find(&mut self, units: u32, align: u32, roomy: bool) -> Option<(Block, u32)> {
        if roomy && units as usize * GRANULE >= LARGE {
            let more = units.saturating_add(STAGGER);
            if let Some(block) = self.heap.allocate(more, STEP_UNITS, Tag::IDLE) {
                return Some((block, more));
            }
        }
        Some((self.heap.allocate(units, align, Tag::IDLE)?, units))
    }

    fn place(&mut self, offset: u32, units: u32) -> io::Result<Placed> {
        let (start, bytes) = (offset as usize * GRANULE, units as usize * GRANULE);
        let end = start + bytes;
        self.memory.open_up_to(end)?;
        let steps = start / STEP..end.div_ceil(STEP);
        let dirty = self.held.mark(steps).map_or(0..0, |held| {
            let first = (held.start * STEP).max(start);
            let last = (held.end * STEP).min(end).min(self.used).max(first);
            first - start..last - start
        });
        self.used = self.used.max(end);
        // SAFETY: `end <= capacity * GRANULE <= memory.len()`, so the address lies in the reservation.
        let ptr = unsafe { self.memory.base().add(start) };
        Ok(Placed { ptr, bytes, dirty })
    }

    /// The offset of `address` in granules, if it lies here on the start of one.
    fn offset_of(&self, address: usize) -> Option<u32> {
        let bytes = address.checked_sub(self.memory.base().as_ptr().addr())?;
        bytes
            .is_multiple_of(GRANULE)
            .then(|| u32::try_from(bytes / GRANULE).ok())?
    }

    /// Takes back the block at `address`; its length in bytes.
    ///
    /// # Errors
    /// Why it is not a live block; nothing has changed then.
    pub(super) fn free(&mut self, address: usize) -> Result<usize, &'static str> {
        let offset = self.offset_of(address).ok_or(NOT_A_BLOCK)?;
        match self.heap.free(offset, Tag::IDLE) {
            Ok(units) => Ok(units as usize * GRANULE),
            Err(FreeError::AlreadyFree) => Err(ALREADY_FREE),
            Err(FreeError::NotABlock) => Err(NOT_A_BLOCK),
        }
    }

    /// Bytes of the live block at `address`.
    pub(super) fn len_of(&self, address: usize) -> Option<usize> {
        Some(self.heap.len_of(self.offset_of(address)?)? as usize * GRANULE)
    }

    /// Gives the live block at `address` a new length where it lies, if there is room behind it.
    pub(super) fn resize(&mut self, address: usize, units: u32) -> bool {
        let Some((offset, old)) = self.offset_of(address).and_then(|at| Some((at, self.heap.len_of(at)?))) else {
            return false;
        };
        if !self.heap.resize(offset, units, Tag::IDLE) {
            return false;
        }
        if units > old && self.place(offset, units).is_err() {
            let undone = self.heap.resize(offset, old, Tag::IDLE);
            debug_assert!(undone);
            return false;
        }
        true
    }

    /// Gives back at least `excess` bytes of memory that no block uses, highest addresses first, or all there is.
    /// Returns the bytes given back.
    pub(super) fn trim(&mut self, excess: usize) -> usize {
        let capacity = self.heap.capacity();
        let mut free: Vec<Range<usize>> = self
            .heap
            .free_ranges()
            .map(|(offset, len, _)| {
                // Behind the last granule nothing can live, so the last step counts as free to its end.
                let end = if offset + len == capacity {
                    self.memory.len()
                } else {
                    (offset + len) as usize * GRANULE
                };
                (offset as usize * GRANULE).div_ceil(STEP)..end / STEP
            })
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
                end = run.start;
            }
        }
        before - self.committed()
    }
}

pub(super) const ALREADY_FREE: &str = "the block there is already free";
const NOT_A_BLOCK: &str = "no block of the pool starts there";

/// A set of steps, one bit each, as long as the highest one marked.
#[derive(Default)]
struct Steps {
    words: Vec<u64>,
    count: usize,
}

impl Steps {
    fn contains(&self, step: usize) -> bool {
        self.words
            .get(step / 64)
            .is_some_and(|word| word >> (step % 64) & 1 == 1)
    }

    /// Marks `steps`. Returns the hull of those that were marked already.
    fn mark(&mut self, steps: Range<usize>) -> Option<Range<usize>> {
        let words = steps.end.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let mut held: Option<Range<usize>> = None;
        for step in steps {
            let (word, bit) = (&mut self.words[step / 64], 1 << (step % 64));
            if *word & bit != 0 {
                held = Some(held.map_or(step, |hull| hull.start)..step + 1);
            } else {
                *word |= bit;
                self.count += 1;
            }
        }
        held
    }

    fn clear(&mut self, steps: Range<usize>) {
        for step in steps {
            debug_assert!(self.contains(step));
            self.words[step / 64] &= !(1 << (step % 64));
            self.count -= 1;
        }
    }

    /// The highest run of marked steps within `steps`.
    fn last_run(&self, steps: Range<usize>) -> Option<Range<usize>> {
        let steps = steps.start..steps.end.min(self.words.len() * 64);
        let last = steps.clone().rev().find(|&step| self.contains(step))?;
        let first = (steps.start..last)
            .rev()
            .take_while(|&step| self.contains(step))
            .last()
            .unwrap_or(last);
        Some(first..last + 1)
    }
}
