//! A region of a device pool: a slab, and the heap that says which of its bytes are free, and for whom.
//!
//! A free range carries the queue whose work used it last, as the heap's tag; `behind` has the number of the last such work of each
//! queue, of any range of the region. So a range is as good as idle when its queue is done up to there, and before that any
//! request can have it that is ordered behind it: on the same queue nothing has to be done for that.

use super::uses::Numbers;
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
        }
    }

    pub(super) fn heap(&self) -> &OffsetHeap {
        &self.heap
    }

    /// `units` units from ranges that `queue` used last, or that are idle; and the number of that queue's work that they are behind, 0 for none.
    #[inline(always)]
    pub(super) fn allocate(&mut self, units: u32, align: u32, queue: Queue) -> Option<(Block, u64)> {
        let block = self.heap.allocate(units, align, tag_of(queue))?;
        let idle = block.tag == Tag::IDLE;
        Some((block, if idle { 0 } else { self.behind[queue.index()] }))
    }

    /// Gives a block back behind the work `last`; false where several queues may still use it, with nothing changed.
    pub(super) fn free(&mut self, block: Block, last: &Numbers, done: &Numbers) -> bool {
        let in_use =
            |&queue: &Queue| last[queue.index()] > done[queue.index()] && !omitted(Omission::DoneBeforePendingIsFree);
        let mut using = QUEUES.into_iter().filter(in_use);
        let tag = match (using.next(), using.next()) {
            (None, _) => Tag::IDLE,
            (Some(queue), second) if second.is_none() || omitted(Omission::SecondQueue) => {
                let behind = &mut self.behind[queue.index()];
                *behind = last[queue.index()].max(*behind);
                tag_of(queue)
            }
            _ => return false,
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
