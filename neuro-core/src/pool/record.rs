//! What a pool knows of an address: one word for each 4 KiB page of a region, read without a lock.
//!
//! ```text
//! 63       33 32     17 16     9 8   3  2  1 0
//! |  node    |  size   |   0    | sub |  f | 2 |   a block starts in this page: on granule `sub`, with this node in the heap
//! |  node    | len,slk |   0    | sub |  f | 3 |   the same; its whole length stands here, since a cache may hold it
//! |           address of a Slab           | 1 |   the page belongs to a slab
//! |                   0                   | 0 |   neither
//! ```
//!
//! `f`: the block was freed, and waits in a cache or in the pending list. `size`: the bytes of the block beyond those asked
//! for; of a medium block its granules less one (10 bits), then those bytes (6 bits).
//!
//! A page has room for one block. One that starts in a page that has a record already is *odd* (two small blocks from the
//! heap itself, or the neighbour of a slab that was cut short): it stands in the pool's map of odd blocks instead.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Inner;
use super::slab::Slab;
use crate::backend::host::words::Words;
use crate::heap::{Block, Tag};

/// The unit of the heap, in bytes: no block is smaller, and every block starts on one.
pub(super) const GRANULE: usize = 64;
/// Bytes of a page of records.
pub(super) const PAGE: usize = 4096;
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
    Slab(NonNull<Slab>),
    Block(BlockWord),
}

impl Record {
    #[inline]
    pub(super) fn of(word: u64) -> Record {
        match word & KIND {
            0 => Record::None,
            SLAB => {
                let slab = std::ptr::with_exposed_provenance_mut((word & !KIND) as usize);
                NonNull::new(slab).map_or(Record::None, Record::Slab)
            }
            _ => Record::Block(BlockWord(word)),
        }
    }

    pub(super) fn slab_word(slab: &Slab) -> u64 {
        std::ptr::from_ref(slab).expose_provenance() as u64 | SLAB
    }
}

/// What stands in a page's record of the block that starts there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockWord(pub(super) u64);

impl BlockWord {
    /// A live block of `units` granules of which `requested` bytes were asked for. `may_wait`: a cache may hold it when it
    /// is freed.
    pub(super) fn new(block: Block, units: u32, requested: usize, may_wait: bool) -> Self {
        let slack = units as usize * GRANULE - requested;
        debug_assert!(slack <= usize::from(u16::MAX) && block.node < 1 << 31);
        let (kind, size) = if may_wait && units <= MEDIUM_UNITS && slack < GRANULE {
            (MEDIUM, u64::from(units - 1) << 6 | slack as u64)
        } else {
            (LARGE, slack as u64)
        };
        let sub = u64::from(block.offset % PAGE_UNITS);
        Self(u64::from(block.node) << 33 | size << 17 | sub << 3 | kind)
    }

    pub(super) fn is_freed(self) -> bool {
        self.0 & FREED != 0
    }

    pub(super) fn freed(self) -> Self {
        Self(self.0 | FREED)
    }

    /// Whether it starts at `address` within its page.
    pub(super) fn starts_at(self, address: usize) -> bool {
        address % PAGE == (self.0 >> 3 & 63) as usize * GRANULE
    }

    /// Granules, of a block that a cache may hold.
    pub(super) fn medium_units(self) -> Option<u32> {
        (self.0 & KIND == MEDIUM).then_some((self.0 >> 23 & 1023) as u32 + 1)
    }

    /// Bytes beyond those asked for.
    pub(super) fn slack(self) -> usize {
        let size = (self.0 >> 17 & 0xffff) as usize;
        if self.0 & KIND == MEDIUM { size & 63 } else { size }
    }

    /// The same medium block, live again for another request of its length.
    pub(super) fn again(self, slack: usize) -> Self {
        debug_assert!(self.0 & KIND == MEDIUM && slack < GRANULE);
        Self(self.0 & !(FREED | 63 << 17) | (slack as u64) << 17)
    }

    /// What the heap calls it. `offset` is that of its address.
    pub(super) fn block(self, offset: u32) -> Block {
        Block {
            offset,
            node: (self.0 >> 33) as u32,
            tag: Tag::IDLE,
        }
    }
}

/// What the address table leads to: the records of one region. Its address stays the same while the region lives.
pub(super) struct Head {
    base: NonNull<u8>,
    pub(super) pool: NonNull<Inner>,
    /// Number of the pool.
    pub(super) number: u64,
    records: Words,
}

impl Head {
    /// # Errors
    /// What the system said when asked for the records.
    pub(super) fn new(base: NonNull<u8>, len: usize, pool: NonNull<Inner>, number: u64) -> std::io::Result<Self> {
        Ok(Self {
            base,
            pool,
            number,
            records: Words::new(len.div_ceil(PAGE))?,
        })
    }

    /// The record of the page that `address`, which lies in the region, is in.
    #[inline]
    pub(super) fn record(&self, address: usize) -> &AtomicU64 {
        &self.records.as_slice()[(address - self.base.addr().get()) / PAGE]
    }

    /// The record, as it is now.
    #[inline]
    pub(super) fn look(&self, address: usize) -> Record {
        // Acquire: a slab's address is followed, whatever address the caller brought.
        Record::of(self.record(address).load(Ordering::Acquire))
    }

    /// The offset of `address`, which lies in the region, in granules.
    pub(super) fn offset_of(&self, address: usize) -> u32 {
        ((address - self.base.addr().get()) / GRANULE) as u32
    }

    /// Bytes of records that memory up to `used` bytes can have made the system hold.
    pub(super) fn side_bytes(&self, used: usize) -> usize {
        size_of::<Self>() + self.records.committed(used.div_ceil(PAGE))
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
            assert!(read.starts_at(offset as usize * GRANULE) && !read.starts_at((offset as usize + 1) * GRANULE));
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
