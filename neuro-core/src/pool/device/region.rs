//! A region of a device pool: a slab, and the heap that says which of its bytes are free, and for whom.
//!
//! A free range carries the queue whose work used it last, as the heap's tag; `behind` has the number of the last such work of each
//! queue, of any range of the region. So a range is as good as idle when its queue is done up to there, and before that any
//! request can have it that is ordered behind it: on the same queue nothing has to be done for that.
//!
//! The slab of an expandable pool is a range of addresses (`expand.rs`), and its heap has the units of the whole range. What is not mapped
//! lies in the heap's wilderness, of which nothing is handed out above the *ceiling*.
//!
//! Invariant G1: live blocks, and free ranges that are not idle, end at or below the ceiling; all below the ceiling is mapped.

use super::uses::{Numbers, Users};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{QUEUES, Queue, Slab};
use crate::heap::{Block, OffsetHeap, Tag};

/// The unit of the heap, in bytes: blocks begin on one, and are as long as so many.
pub(super) const GRANULE: u64 = 256;

#[derive(Debug)]
pub(super) struct Region {
    pub(super) slab: Slab,
    heap: OffsetHeap,
    behind: Numbers,
    /// Units that are mapped (G1).
    ceiling: u32,
    /// Bytes that have memory.
    mapped: u64,
    /// Bytes of a piece of memory in a range of addresses; `None`: all of the slab is memory.
    piece: Option<u64>,
    /// It is that of one block of debug mode (`debug.rs`).
    alone: bool,
}

fn tag_of(queue: Queue) -> Tag {
    Tag(queue.index() as u8 + 1)
}

impl Region {
    pub(super) fn new(slab: Slab) -> Self {
        let units = u32::try_from(slab.bytes / GRANULE).unwrap_or(u32::MAX);
        Self {
            slab,
            heap: OffsetHeap::new(units),
            behind: Numbers::default(),
            ceiling: units,
            mapped: slab.bytes,
            piece: None,
            alone: false,
        }
    }

    /// All of a slab for one block, of which the heap knows nothing.
    pub(super) fn alone(slab: Slab) -> Self {
        Self {
            slab,
            heap: OffsetHeap::new(0),
            behind: Numbers::default(),
            ceiling: 0,
            mapped: slab.bytes,
            piece: None,
            alone: true,
        }
    }

    /// Whether it is that of one block of debug mode.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// A range of addresses that has no memory yet, for `units` units.
    pub(super) fn expandable(slab: Slab, units: u32, piece: u64) -> Self {
        Self {
            slab,
            heap: OffsetHeap::new(units),
            behind: Numbers::default(),
            ceiling: 0,
            mapped: 0,
            piece: Some(piece),
            alone: false,
        }
    }

    /// Bytes that have memory.
    pub(super) fn mapped(&self) -> u64 {
        self.mapped
    }

    /// Bytes of a piece, of a range of addresses.
    pub(super) fn piece(&self) -> Option<u64> {
        self.piece
    }

    /// So many bytes, whole pieces, have memory now.
    pub(super) fn set_mapped(&mut self, bytes: u64) {
        self.mapped = bytes;
        self.ceiling =
            u32::try_from(bytes / GRANULE).map_or(self.heap.capacity(), |units| units.min(self.heap.capacity()));
    }

    /// Bytes that have to be mapped for `units` units behind everything that is in use; `None`: the range is too short.
    pub(super) fn end_for(&self, units: u32, align: u32) -> Option<u64> {
        let start = u64::from(self.heap.top()).next_multiple_of(align.into());
        let end = start + u64::from(units);
        (end <= self.heap.capacity().into()).then(|| (end * GRANULE).next_multiple_of(self.piece.unwrap_or(GRANULE)))
    }

    /// Bytes, whole pieces, up to the end of what is live or used by work that is not known to be done: memory behind that can be unmapped.
    pub(super) fn used_end(&self) -> u64 {
        let top = if omitted(Omission::PieceInUse) {
            let ends = self.heap.live_ranges().map(|(offset, len)| offset + len);
            ends.max().unwrap_or(0)
        } else if self
            .heap
            .free_ranges()
            .any(|(offset, _, tag)| offset == self.heap.top() && tag != Tag::IDLE)
        {
            self.heap.capacity()
        } else {
            self.heap.top()
        };
        (u64::from(top) * GRANULE).next_multiple_of(self.piece.unwrap_or(GRANULE))
    }

    pub(super) fn heap(&self) -> &OffsetHeap {
        &self.heap
    }

    /// `units` units from ranges that `queue` used last, or that are idle; and the number of that queue's work that they are behind, 0 for none.
    #[inline(always)]
    pub(super) fn allocate(&mut self, units: u32, align: u32, queue: Queue) -> Option<(Block, u64)> {
        let ceiling = if omitted(Omission::Ceiling) {
            self.heap.capacity()
        } else {
            self.ceiling
        };
        let block = self.heap.allocate_below(ceiling, units, align, tag_of(queue))?;
        let idle = block.tag == Tag::IDLE;
        Some((block, if idle { 0 } else { self.behind[queue.index()] }))
    }

    /// Gives a block back; false where several queues may still use it, with nothing changed.
    #[inline]
    pub(super) fn free(&mut self, block: Block, users: Users) -> bool {
        let tag = match users {
            Users::Nobody => Tag::IDLE,
            Users::One(last) => {
                let behind = &mut self.behind[last.queue.index()];
                *behind = last.number.max(*behind);
                tag_of(last.queue)
            }
            Users::Several => return false,
        };
        let freed = self.heap.free(block, tag);
        debug_assert!(freed.is_ok(), "{freed:?}");
        true
    }

    /// Makes idle what queues have finished with.
    pub(super) fn reclaim(&mut self, done: &Numbers) {
        for queue in QUEUES {
            if self.behind[queue.index()] <= done[queue.index()] || omitted(Omission::DoneBeforeIdle) {
                self.heap.retag(tag_of(queue), Tag::IDLE);
            }
        }
    }

    /// Whether no block is live and all of it is idle.
    pub(super) fn is_empty(&self) -> bool {
        self.heap.live_blocks() == 0 && self.heap.free_ranges().all(|(_, _, tag)| tag == Tag::IDLE)
    }

    /// The last work of each queue on ranges that are free.
    pub(super) fn behind(&self) -> &Numbers {
        &self.behind
    }
}
