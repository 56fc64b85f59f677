//! What stands in the words that say what lies at an address; `head.rs` keeps them.
//!
//! ```text
//! 63       33 32     17    15  14   3  2  1 0
//! |  node    |  size   | 0 |   sub   |  f | 2 |   a block starts here: on granule `sub`, with this node in the heap
//! |  node    | len,slk | 0 |   sub   |  f | 3 |   the same; its whole length stands here, since a cache may hold it
//! | page, granules of a slot |  address  | 1 |   the page belongs to a slab; the address is of its records
//! |                   0                   | 0 |   nothing
//! ```
//!
//! `f`: the block was freed, and waits in a cache or in the pending list. `size`: the bytes of the block beyond those asked
//! for; of a medium block its granules less one (10 bits), then those bytes (6 bits).

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use super::lines::LINE;
use super::slab::SMALL_UNITS;
use crate::heap::{Block, Tag};

/// The unit of the heap, in bytes: no block is smaller, and every block starts on one.
pub(super) const GRANULE: usize = 64;
/// Bytes of a page of records.
pub(super) const PAGE: usize = 4096;
/// Bytes that share a coarse word.
pub(super) const COARSE: usize = COARSE_UNITS as usize * GRANULE;
pub(super) const COARSE_UNITS: u32 = 4_096;
/// Granules of a page.
pub(super) const PAGE_UNITS: u32 = (PAGE / GRANULE) as u32;
/// Blocks of the heap up to this many granules (64 KiB) may wait in a thread's cache.
pub(super) const MEDIUM_UNITS: u32 = 1024;

const KIND: u64 = 3;
const SLAB: u64 = 1;
const LARGE: u64 = 2;
const MEDIUM: u64 = 3;
const FREED: u64 = 4;

/// A page's record, decoded. The word is kept with a block, to be exchanged.
#[derive(Clone, Copy)]
pub(super) enum Record {
    None,
    Slab(SlabWord),
    Block(BlockWord),
}

impl Record {
    #[inline]
    pub(super) fn of(word: u64) -> Record {
        match word & KIND {
            0 => Record::None,
            SLAB => Record::Slab(SlabWord(word)),
            _ => Record::Block(BlockWord(word)),
        }
    }
}

/// What stands in the word of a page of a slab: all that is needed to find the record of a slot.
#[derive(Clone, Copy)]
pub(super) struct SlabWord(u64);

/// By class, granules of a slot less one: 2^16 divided by the granules, rounded up. A slab has at most 1,024 granules, so a
/// multiplication divides exactly (tested).
static INVERSE: [u32; SMALL_UNITS as usize] = {
    let mut inverse = [0; SMALL_UNITS as usize];
    let mut class = 0;
    while class < SMALL_UNITS {
        inverse[class as usize] = (1 << 16) / (class + 1) + 1;
        class += 1;
    }
    inverse
};

impl SlabWord {
    /// Of page number `page` of a slab with slots of `units` granules.
    pub(super) fn word(records: NonNull<AtomicU32>, units: u32, page: usize) -> u64 {
        let address = records.as_ptr().expose_provenance() as u64;
        debug_assert!(address >> 48 == 0 && (1..=SMALL_UNITS).contains(&units) && page < 16);
        (page as u64) << 60 | u64::from(units - 1) << 48 | address | SLAB
    }

    /// Granules of a slot.
    #[inline]
    pub(super) fn units(self) -> u32 {
        self.class() as u32 + 1
    }

    /// Granules of a slot, less one: below 64.
    #[inline]
    pub(super) fn class(self) -> usize {
        (self.0 >> 48 & 63) as usize
    }

    /// The slab's records: the first line is not of slots.
    #[inline]
    pub(super) fn records(self) -> *const AtomicU32 {
        std::ptr::with_exposed_provenance((self.0 & 0xffff_ffff_fffc) as usize)
    }

    /// The number of the slot that starts at `address`, which is in the word's page, and its record.
    ///
    /// # Safety
    /// The pool lives, and the word was read from its region at `address`.
    #[inline]
    pub(super) unsafe fn slot_at<'a>(self, address: usize) -> Option<(u32, &'a AtomicU32)> {
        let offset = (self.0 >> 60) as u32 * PAGE as u32 + (address % PAGE) as u32;
        let slot = ((offset / GRANULE as u32) * INVERSE[self.class()]) >> 16;
        if slot * self.units() * GRANULE as u32 != offset {
            return None;
        }
        // SAFETY: behind a line, the records of a slab are as many as slots can begin in its pages; they live as long as the
        // pool (L1).
        Some((slot, unsafe { &*self.records().add(LINE + slot as usize) }))
    }
}

/// What stands in a page's record of the block that starts there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockWord(pub(super) u64);

impl BlockWord {
    /// A live block of `units` granules of which `requested` bytes were asked for. `may_wait`: a cache may hold it when it
    /// is freed.
    #[inline]
    pub(super) fn new(block: Block, units: u32, requested: usize, may_wait: bool) -> Self {
        let slack = units as usize * GRANULE - requested;
        debug_assert!(slack <= usize::from(u16::MAX) && block.node < 1 << 31);
        let (kind, size) = if may_wait && units <= MEDIUM_UNITS && slack < GRANULE {
            (MEDIUM, u64::from(units - 1) << 6 | slack as u64)
        } else {
            (LARGE, slack as u64)
        };
        let sub = u64::from(block.offset % Self::unit(units));
        Self(u64::from(block.node) << 33 | size << 17 | sub << 3 | kind)
    }

    /// Granules that share a word with those of a block of `units` granules.
    #[inline]
    fn unit(units: u32) -> u32 {
        if units > COARSE_UNITS { COARSE_UNITS } else { PAGE_UNITS }
    }

    #[inline]
    pub(super) fn is_freed(self) -> bool {
        self.0 & FREED != 0
    }

    #[inline]
    pub(super) fn freed(self) -> Self {
        Self(self.0 | FREED)
    }

    /// Whether it starts at `address`, which is `within` the bytes that share its word.
    #[inline]
    pub(super) fn starts_at(self, address: usize, within: usize) -> bool {
        address % within == (self.0 >> 3 & 16_383) as usize * GRANULE
    }

    /// Granules, of a block that a cache may hold.
    #[inline]
    pub(super) fn medium_units(self) -> Option<u32> {
        (self.0 & KIND == MEDIUM).then_some((self.0 >> 23 & 1023) as u32 + 1)
    }

    /// Bytes beyond those asked for.
    #[inline]
    pub(super) fn slack(self) -> usize {
        let size = (self.0 >> 17 & 0xffff) as usize;
        if self.0 & KIND == MEDIUM { size & 63 } else { size }
    }

    /// The same medium block, live again for another request of its length.
    #[inline]
    pub(super) fn again(self, slack: usize) -> Self {
        debug_assert!(self.0 & KIND == MEDIUM && slack < GRANULE);
        Self(self.0 & !(FREED | 63 << 17) | (slack as u64) << 17)
    }

    /// What the heap calls it. `offset` is that of its address.
    #[inline]
    pub(super) fn block(self, offset: u32) -> Block {
        Block {
            offset,
            node: (self.0 >> 33) as u32,
            tag: Tag::IDLE,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_put_into_them() {
        for (node, offset, units, slack, may_wait) in [
            (0, 0, 65, 0, true),
            ((1 << 31) - 1, 64 * 9 + 63, MEDIUM_UNITS, 63, true),
            (77, 5, MEDIUM_UNITS + 1, 63, true),
            (78, 4096 * 3 + 4095, COARSE_UNITS + 1, 63, true),
            (78, 6, u32::MAX, 65535, false),
            (79, 7, 100, 640, true),
            (80, 8, 100, 1, false),
        ] {
            let block = Block {
                offset,
                node,
                tag: Tag::IDLE,
            };
            let word = BlockWord::new(block, units, units as usize * GRANULE - slack, may_wait);
            let Record::Block(read) = Record::of(word.0) else {
                panic!("no block: {word:?}")
            };
            assert_eq!((read.slack(), read.block(offset)), (slack, block));
            assert!(!read.is_freed() && read.freed().is_freed());
            let within = if units > COARSE_UNITS { COARSE } else { PAGE };
            let address = offset as usize * GRANULE;
            assert!(read.starts_at(address, within) && !read.starts_at(address + GRANULE, within));
            let waits = may_wait && units <= MEDIUM_UNITS && slack < GRANULE;
            assert_eq!(read.medium_units(), waits.then_some(units));
            if waits {
                let again = read.freed().again(9);
                assert_eq!(
                    (again.slack(), again.is_freed(), again.medium_units()),
                    (9, false, Some(units))
                );
                assert_eq!(again.block(offset), block);
            }
        }
    }
}
