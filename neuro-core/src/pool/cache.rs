//! `Cache`: what one thread keeps of one pool's freed blocks, for its own next requests.
//!
//! A magazine for each class of small slots, a few places for medium blocks of one exact length each, and the counts of what
//! the thread handed out and took back. The thread reaches it through its gate, without a locked instruction; whoever has the
//! pool's lock can claim the gate and empty it: before the pool grows or fails, to count, to trim, at a fork.
//!
//! Bounds: at most 12 KiB a class, but 12 slots at least, and 16 blocks of at most 64 KiB, 256 KiB together: below 2 MiB a thread
//! and pool, which the reaper empties when the pool is idle.
//!
//! Invariants:
//! - C1: only who is inside the gate, or has claimed it, touches the store.
//! - C2: what lies in a cache is nobody's block: its record says that it is not live.
//! - C3: a cache is freed when both its thread and its pool have let go of it.
//! - C5: `pages` are of a region that the pool has: it takes it out of all caches, behind their gates, before it drops it.
//! - C4: `STARTS[class] <= ends[class] <= STARTS[class + 1]`, and the places of a class below its end hold a slot.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::Inner;
use super::gate::Gate;
use super::head::Head;
use super::lines::Drawer;
use super::record::{BlockWord, GRANULE, PAGE, Record};
use super::slab::{LIVE, REQUESTED, SMALL_UNITS, Slot};
use crate::ledger::Drift;

const CLASSES: usize = SMALL_UNITS as usize;
/// Bytes that a magazine may hold, but for the fewest and the most blocks.
const CLASS_BYTES: usize = 12 << 10;
const FEWEST: usize = 12;
const MOST: usize = 96;
/// Places for medium blocks, and bytes in them.
const PLACES: usize = 16;
const MEDIUM_BYTES: usize = 256 << 10;

/// Where each magazine begins in the array of all; the last entry is its length.
const STARTS: [u16; CLASSES + 1] = {
    let mut starts = [0; CLASSES + 1];
    let mut class = 0;
    while class < CLASSES {
        let fits = CLASS_BYTES / ((class + 1) * GRANULE);
        let room = if fits < FEWEST {
            FEWEST
        } else if fits > MOST {
            MOST
        } else {
            fits
        };
        starts[class + 1] = starts[class] + room as u16;
        class += 1;
    }
    starts
};
const SLOTS: usize = STARTS[CLASSES] as usize;

/// What a hit counts in a score of misses that count one, and where the score ends.
const HIT: i8 = 16;
const MOST_SCORE: i8 = 100;

/// A medium block of the heap that waits.
#[derive(Clone, Copy)]
pub(super) struct Medium {
    pub(super) ptr: NonNull<u8>,
    pub(super) record: NonNull<AtomicU64>,
    pub(super) units: u32,
}

/// What became of a block that a thread wanted to keep.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Kept {
    Yes,
    /// Yes, and the counts should be folded soon.
    AndFold,
    /// No room: the block is still the caller's.
    No,
    /// The same, and it is not worth to make room.
    Unwanted,
}

/// What lies behind the gate.
pub(super) struct Store {
    /// Where the next slot of each class goes: between its two [`STARTS`] (C4).
    ends: [u16; CLASSES],
    slots: Box<[Option<Slot>; SLOTS]>,
    medium: [Option<Medium>; PLACES],
    medium_bytes: usize,
    /// How well medium blocks are asked for again: rises with each hit, falls with each miss.
    score: i8,
    /// The region that this thread's small blocks come from, as long as the pool has it: its addresses, `len` bytes from `base`
    /// (0 without one), and the words of its pages.
    base: usize,
    len: usize,
    pages: *const AtomicU64,
    pub(super) drift: Drift,
    /// Which slabs it draws from. Set when the pool adopts it.
    pub(super) drawer: Drawer,
}

#[repr(align(128))] // no two caches in one line of memory, or in two that processors fetch together
pub(super) struct Cache {
    pub(super) gate: Gate,
    store: UnsafeCell<Store>,
    pub(super) pool: NonNull<Inner>,
    /// The pool has let go of it: `pool` must not be followed any more. Guarded by the lock of `local::ATTACHED`.
    pub(super) orphan: AtomicBool,
    owners: AtomicU8,
}

// SAFETY: the store is reached through the gate (C1); the rest is atomic or never changes.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

impl Cache {
    /// Owned by its thread and its pool: both must [`let_go`](Self::let_go).
    pub(super) fn new(pool: NonNull<Inner>) -> NonNull<Cache> {
        let cache = Box::new(Cache {
            gate: Gate::new(false),
            store: UnsafeCell::new(Store {
                ends: *STARTS.first_chunk().unwrap_or(&[0; CLASSES]),
                slots: Box::new([None; SLOTS]),
                medium: [None; PLACES],
                medium_bytes: 0,
                score: 0,
                base: 0,
                len: 0,
                pages: std::ptr::null(),
                drift: Drift::default(),
                drawer: Drawer::NOBODY,
            }),
            pool,
            orphan: AtomicBool::new(false),
            owners: AtomicU8::new(2),
        });
        NonNull::from(Box::leak(cache))
    }

    /// One of the two owners is done with it.
    ///
    /// # Safety
    /// `cache` is from [`new`](Self::new); each of the two owners calls this once, and does not use it afterwards.
    pub(super) unsafe fn let_go(cache: NonNull<Cache>) {
        // SAFETY: alive until the second owner has called this (C3). AcqRel: the second sees all that the first did.
        if unsafe { cache.as_ref() }.owners.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: from `Box::leak`, and nobody uses it any more.
            drop(unsafe { Box::from_raw(cache.as_ptr()) });
        }
    }

    /// Runs `work` inside, for the owner; `None` while somebody else has the cache. `work` does not come here again.
    #[inline]
    pub(super) fn inside<R>(&self, work: impl FnOnce(&mut Store) -> R) -> Option<R> {
        let _inside = self.gate.enter()?;
        // SAFETY: C1: this thread is inside until the end of this call, with one borrow.
        Some(work(unsafe { &mut *self.store.get() }))
    }

    /// The claimer's way in.
    ///
    /// # Safety
    /// The caller has claimed the gate and waited; no other borrow of the store is in use.
    #[expect(clippy::mut_from_ref, reason = "the gate keeps borrows apart, as a lock would")]
    pub(super) unsafe fn store_of_claimed(&self) -> &mut Store {
        // SAFETY: C1, by contract.
        unsafe { &mut *self.store.get() }
    }

    /// Bytes of bookkeeping.
    pub(super) const SIDE_BYTES: usize = size_of::<Cache>() + size_of::<[Option<Slot>; SLOTS]>();
}

fn place_of(units: u32) -> usize {
    (units.wrapping_mul(0x9E37_79B9) >> 28) as usize
}

impl Store {
    /// A small slot of exactly `units` granules, live, of which `requested` bytes are asked for.
    #[inline]
    pub(super) fn take(&mut self, units: u32, requested: usize) -> Option<NonNull<u8>> {
        let class = units as usize - 1;
        let end = *self.ends.get(class)?;
        if end == STARTS[class] || self.drift.is_far() {
            return None;
        }
        let slot = *self.slots.get(usize::from(end) - 1)?;
        self.ends[class] = end - 1;
        Some(self.hand_out(slot?, units, requested))
    }

    /// Makes a slot live and counts it.
    #[inline]
    pub(super) fn hand_out(&mut self, slot: Slot, units: u32, requested: usize) -> NonNull<u8> {
        let bytes = units as usize * GRANULE;
        // SAFETY: records live as long as the pool (L1), and the slot is nobody's but ours, so nobody else writes it.
        unsafe { slot.record.as_ref() }.store(LIVE | requested as u32, Ordering::Relaxed);
        self.drift.add_block(requested, bytes);
        slot.ptr
    }

    /// Keeps a slot that its owner has just freed.
    #[inline]
    pub(super) fn keep(&mut self, slot: Slot, units: u32, requested: usize) -> Kept {
        if !self.put(slot, units as usize - 1) {
            return Kept::No;
        }
        self.drift.remove_block(requested, units as usize * GRANULE);
        if self.drift.is_far() { Kept::AndFold } else { Kept::Yes }
    }

    /// Keeps the live slot at `address`, if it lies near, there is room, and nothing is to be said about it. The way of nearly
    /// all small blocks; `None` sends the caller the long way, with nothing done.
    #[inline]
    pub(super) fn free_near(&mut self, address: NonNull<u8>) -> Option<Kept> {
        let at = address.addr().get();
        let offset = at.wrapping_sub(self.base);
        if offset >= self.len {
            return None;
        }
        // SAFETY: C5: there is a word for each page.
        let word = unsafe { &*self.pages.add(offset / PAGE) }.load(Ordering::Acquire);
        let Record::Slab(slab) = Record::of(word) else {
            return None;
        };
        // SAFETY: the word was read at this address, and the pool lives: it claims the gate before it goes.
        let (_, record) = unsafe { slab.slot_at(at) }?;
        let was = record.load(Ordering::Relaxed);
        let slot = Slot {
            ptr: address,
            record: NonNull::from(record),
        };
        if was & LIVE == 0 || !self.put(slot, slab.class()) {
            return None;
        }
        record.store(0, Ordering::Relaxed);
        self.drift
            .remove_block((was & REQUESTED) as usize, slab.units() as usize * GRANULE);
        Some(if self.drift.is_far() { Kept::AndFold } else { Kept::Yes })
    }

    /// Small blocks come from this region now; or it is going to be dropped.
    pub(super) fn set_near(&mut self, near: Option<&Head>) {
        let Some(head) = near else {
            self.len = 0;
            return;
        };
        let addresses = head.addresses();
        (self.base, self.len) = (addresses.start, addresses.len());
        self.pages = head.pages();
    }

    /// Puts a slot that is nobody's into its magazine, if there is room.
    #[inline]
    pub(super) fn put(&mut self, slot: Slot, class: usize) -> bool {
        let end = self.ends[class];
        if end == STARTS[class + 1] {
            return false;
        }
        self.slots[usize::from(end)] = Some(slot);
        self.ends[class] = end + 1;
        true
    }

    /// Turns a magazine around, so that what was put first is taken first.
    pub(super) fn turn(&mut self, units: u32) {
        let class = units as usize - 1;
        self.slots[usize::from(STARTS[class])..usize::from(self.ends[class])].reverse();
    }

    /// Half of what a magazine can hold: how much goes to and from the pool at once.
    pub(super) fn batch(units: u32) -> usize {
        usize::from(STARTS[units as usize] - STARTS[units as usize - 1]).div_ceil(2)
    }

    /// Takes a slot out, to be given back to the pool.
    pub(super) fn pop(&mut self, units: u32) -> Option<Slot> {
        let class = units as usize - 1;
        if self.ends[class] == STARTS[class] {
            return None;
        }
        self.ends[class] -= 1;
        self.slots[usize::from(self.ends[class])]
    }

    /// A medium block of exactly `units` granules, live.
    pub(super) fn take_medium(&mut self, units: u32, requested: usize) -> Option<NonNull<u8>> {
        let place = &mut self.medium[place_of(units)];
        let Some(medium) = place.filter(|medium| medium.units == units) else {
            self.score = (self.score - 1).max(-HIT);
            return None;
        };
        self.score = (self.score + HIT).min(MOST_SCORE);
        *place = None;
        let bytes = units as usize * GRANULE;
        self.medium_bytes -= bytes;
        // SAFETY: the record belongs to a region that has this block, which keeps it from being dropped; the block is
        // nobody's but ours, so nobody else writes its record.
        let record = unsafe { medium.record.as_ref() };
        let word = BlockWord(record.load(Ordering::Relaxed)).again(bytes - requested);
        record.store(word.0, Ordering::Relaxed);
        self.drift.add_block(requested, bytes);
        Some(medium.ptr)
    }

    /// Keeps a medium block that its owner has just freed, if its place is vacant.
    pub(super) fn keep_medium(&mut self, medium: Medium, requested: usize) -> Kept {
        let bytes = medium.units as usize * GRANULE;
        let place = &mut self.medium[place_of(medium.units)];
        if place.is_some() || self.medium_bytes + bytes > MEDIUM_BYTES {
            // Lengths that are never asked for twice are not worth it, and the score finds out.
            return if self.score < 0 { Kept::Unwanted } else { Kept::No };
        }
        self.medium_bytes += bytes;
        *place = Some(medium);
        self.drift.remove_block(requested, bytes);
        if self.drift.is_far() { Kept::AndFold } else { Kept::Yes }
    }

    /// Takes the block out that is in the place of blocks of `units` granules, or any if there is none, to make room.
    pub(super) fn make_room(&mut self, units: u32) -> Option<Medium> {
        match self.medium[place_of(units)].take() {
            Some(out) => {
                self.medium_bytes -= out.units as usize * GRANULE;
                Some(out)
            }
            None => self.pop_medium(),
        }
    }

    /// Takes any medium block out, to be given back to the pool.
    pub(super) fn pop_medium(&mut self) -> Option<Medium> {
        let out = self.medium.iter_mut().find_map(Option::take)?;
        self.medium_bytes -= out.units as usize * GRANULE;
        Some(out)
    }

    /// Blocks and bytes that wait here.
    pub(super) fn contents(&self) -> (usize, usize) {
        let (mut blocks, mut bytes) = (0, 0);
        for (class, (end, start)) in self.ends.iter().zip(&STARTS).enumerate() {
            let count = usize::from(end - start);
            blocks += count;
            bytes += count * (class + 1) * GRANULE;
        }
        let medium = self.medium.iter().flatten().count();
        (blocks + medium, bytes + self.medium_bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cache_holds_less_than_two_mebibytes() {
        let most: usize = (0..CLASSES)
            .map(|class| usize::from(STARTS[class + 1] - STARTS[class]) * (class + 1) * GRANULE)
            .sum();
        assert!(most + MEDIUM_BYTES <= 2 << 20, "{most} B");
        const { assert!(Cache::SIDE_BYTES < 32 << 10) };
    }
}
