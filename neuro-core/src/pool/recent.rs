//! Small blocks that were freed a moment ago and are likely to be asked for again.
//!
//! A program that makes and drops small arrays of a few sizes would have the heap merge and split the same granules
//! forever. Instead such a block stays, for the heap, where it is, and waits here for the next request of its size:
//!
//! ```text
//! slot    address of a small block of the pool | granules (5 bits) | WAITING (1 bit); addresses are multiples of 64
//! waiting for every number of granules, which slots hold a waiting block of it
//! ```
//!
//! Invariants:
//! - W1: an address stands in no slot but the one that [`Recent::slot_of`] gives for it.
//! - W2: a slot names a block that is live for the heap. One that waits is free for everyone else; it leaves its slot only
//!   by being handed out or returned to the heap.
//! - W3: bit `s` of `waiting[n]` is set iff slot `s` holds a waiting block of `n` granules.

use super::region::GRANULE;

/// Blocks up to this many granules (1 KiB) are kept.
const MAX_UNITS: usize = 16;
const SLOTS: usize = 32;
const UNITS: usize = 0x1f;
const WAITING: usize = 0x20;

/// What is known of an address that is to be freed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Freed {
    /// It waits here now: its bytes.
    Kept(usize),
    /// It waited here already: a double free.
    Twice,
    /// It is not known here.
    Unknown,
}

#[derive(Default)]
pub(super) struct Recent {
    slots: [usize; SLOTS],
    waiting: [u32; MAX_UNITS + 1],
}

impl Recent {
    fn slot_of(address: usize) -> usize {
        (address / GRANULE) % SLOTS
    }

    /// A waiting block of exactly `units` granules; it is the caller's.
    pub(super) fn take(&mut self, units: u32) -> Option<usize> {
        let waiting = self.waiting.get_mut(units as usize)?;
        if *waiting == 0 {
            return None;
        }
        let slot = waiting.trailing_zeros() as usize;
        *waiting &= *waiting - 1;
        self.slots[slot] &= !WAITING;
        Some(self.slots[slot] & !(UNITS | WAITING))
    }

    /// Remembers a block that the heap hands out, if it is small and its slot has no waiting one.
    pub(super) fn note(&mut self, address: usize, units: u32) {
        let slot = &mut self.slots[Self::slot_of(address)];
        if units as usize <= MAX_UNITS && *slot & WAITING == 0 {
            *slot = address | units as usize;
        }
    }

    /// Lets the block at `address` wait, if it was remembered.
    pub(super) fn keep(&mut self, address: usize) -> Freed {
        let number = Self::slot_of(address);
        let slot = &mut self.slots[number];
        if *slot & !(UNITS | WAITING) != address {
            return Freed::Unknown;
        }
        if *slot & WAITING != 0 {
            return Freed::Twice;
        }
        let units = *slot & UNITS;
        *slot |= WAITING;
        self.waiting[units] |= 1 << number;
        Freed::Kept(units * GRANULE)
    }

    /// Whether the block at `address` waits here, so that nobody has it.
    pub(super) fn is_waiting(&self, address: usize) -> bool {
        let slot = self.slots[Self::slot_of(address)];
        slot & WAITING != 0 && slot & !(UNITS | WAITING) == address
    }

    /// Forgets a block that is live, before its length changes.
    pub(super) fn forget(&mut self, address: usize) {
        let slot = &mut self.slots[Self::slot_of(address)];
        if *slot & !UNITS == address {
            *slot = 0;
        }
    }

    /// Takes all waiting blocks out, one a call.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let units = self.waiting.iter().position(|&slots| slots != 0)?;
        let address = self.take(units as u32)?;
        self.forget(address);
        Some(address)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_block_waits_for_its_own_size_and_once() {
        let mut recent = Recent::default();
        let (a, b) = (64 * 100, 64 * 101);
        recent.note(a, 4);
        recent.note(b, 16);
        assert_eq!(recent.take(4), None);
        assert_eq!(recent.keep(a), Freed::Kept(4 * GRANULE));
        assert_eq!(recent.keep(a), Freed::Twice);
        assert!(recent.is_waiting(a) && !recent.is_waiting(b));
        assert_eq!((recent.take(16), recent.take(5)), (None, None));
        assert_eq!((recent.take(4), recent.take(4)), (Some(a), None));
        assert_eq!(recent.keep(b), Freed::Kept(16 * GRANULE));
        assert_eq!(recent.keep(a), Freed::Kept(4 * GRANULE));
        let popped = [recent.pop(), recent.pop(), recent.pop()];
        assert_eq!(popped, [Some(a), Some(b), None]);
        assert_eq!(recent.keep(a), Freed::Unknown);
    }

    #[test]
    fn large_blocks_and_forgotten_ones_are_not_known() {
        let mut recent = Recent::default();
        recent.note(6400, MAX_UNITS as u32 + 1);
        assert_eq!(recent.keep(6400), Freed::Unknown);
        recent.note(6400, 2);
        recent.forget(6400);
        assert_eq!(recent.keep(6400), Freed::Unknown);
        assert_eq!(recent.take(u32::MAX), None);
    }

    #[test]
    fn a_waiting_block_keeps_its_slot() {
        let mut recent = Recent::default();
        let (a, same_slot) = (6400, 6400 + GRANULE * SLOTS);
        recent.note(a, 1);
        assert_eq!(recent.keep(a), Freed::Kept(GRANULE));
        recent.note(same_slot, 1);
        assert_eq!(recent.keep(same_slot), Freed::Unknown);
        assert_eq!(recent.take(1), Some(a));
    }
}
