//! `OffsetHeap`: which ranges of a region are free, and for which queue. Arithmetic only.
//!
//! A region is `0..capacity` in units that the pool chooses (64 bytes on the host). The heap never touches the memory it
//! manages, so one heap serves host, CUDA and Vulkan regions, and every law of it is tested without a device.
//!
//! ```text
//! 0                                                                   capacity
//! | block | free, idle | block | free, queue 3 | free, idle | block | wilderness |
//! ^       ^            ^       ^               ^            ^       ^
//! starts  a sorted set of all starts: a block's length is the distance to the next one (no record, no header)
//! free      start -> node, for free ranges only                          (map.rs)
//! nodes     offset, length, tag and list links of each free range        (bins.rs)
//! bins      for each tag, lists of free ranges by size class             (bins.rs)
//! ```
//!
//! A free range carries a [`Tag`]: the queue that last used it, or [`Tag::IDLE`]. A request of a queue is served from
//! ranges of that queue (ordered after its earlier work by the queue itself) or idle ones, never from another queue's.
//!
//! Fit: of the first few ranges of the request's own size class that are long enough, the one at the lowest address; then
//! the same in the next class that is not empty. On recorded traces this reserves as little as exact best fit. The
//! wilderness (the free range that ends at `capacity`) is used only when those have nothing, and before giving up all
//! ranges are searched, so that `None` means that no admissible range could hold the request. The wilderness is carved
//! from the front, so a region fills from below; holes are carved from the back, so that the rest keeps its start.
//!
//! Invariants (`assert_valid`, check.rs):
//! - H1: blocks and free ranges tile `0..capacity`: no gap, no overlap, none empty.
//! - H2: exactly the free ranges have a node, found in `free` by their start.
//! - H3: no two neighbouring free ranges have the same tag. Ranges of different tags never merge.
//! - H4: `wilderness` is the free range that ends at `capacity`, or none.
//! - H5: the counts of free units and live blocks are exact. Sizes are never rounded.
//! - H6: each free range but the wilderness is in the one list of its tag and size class.
//!
//! Absent on purpose: locks, growth and statistics (`pool`), when a queue has finished (its owner calls
//! [`OffsetHeap::retag`]), and which memory is committed.

mod bins;
mod check;
mod map;
mod ops;
mod page;
mod starts;
#[cfg(test)]
mod tests;

use bins::{Bins, Nodes};
use map::OffsetMap;
use starts::Starts;

/// No node; also the value of an empty slot of the map.
const NIL: u32 = u32::MAX;

/// The queue that last used a free range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u8);

impl Tag {
    /// No queue has work under way on the range: any request may have it.
    pub const IDLE: Tag = Tag(0);
}

/// A range handed out by [`OffsetHeap::allocate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First unit of the block.
    pub offset: u32,
    /// What the range was tagged before: the request's own queue, or idle.
    pub tag: Tag,
}

/// Why [`OffsetHeap::free`] refused an offset. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeError {
    /// The offset is not the start of a block: outside the region, or inside a live block.
    NotABlock,
    /// The offset lies in a range that is free already.
    AlreadyFree,
}

/// Which ranges of `0..capacity` are free, and for which queue. See [the module](self).
#[derive(Debug)]
pub struct OffsetHeap {
    capacity: u32,
    free_units: u32,
    live: usize,
    wilderness: u32,
    starts: Starts,
    free: OffsetMap,
    nodes: Nodes,
    bins: Vec<Option<Box<Bins>>>,
}

impl OffsetHeap {
    /// A heap of one idle free range. Holds a few hundred bytes, whatever the capacity, until it is used.
    pub fn new(capacity_units: u32) -> Self {
        let mut heap = Self {
            capacity: capacity_units,
            free_units: 0,
            live: 0,
            wilderness: NIL,
            starts: Starts::default(),
            free: OffsetMap::default(),
            nodes: Nodes::default(),
            bins: Vec::new(),
        };
        if capacity_units > 0 {
            heap.starts.insert(0);
            heap.free_units = capacity_units;
            heap.give_back(0, capacity_units, Tag::IDLE, None, 0);
        }
        heap
    }

    /// Length of the region in units.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Units in free ranges, of any tag.
    pub fn free_units(&self) -> u32 {
        self.free_units
    }

    /// How many free ranges there are, of any tag.
    pub fn free_runs(&self) -> usize {
        self.free.len()
    }

    /// How many blocks are live.
    pub fn live_blocks(&self) -> usize {
        self.live
    }

    /// Length of the longest free range of any tag, exactly. Walks one list of each tag: for reports and error messages.
    pub fn largest_free(&self) -> u32 {
        let wilderness = if self.wilderness == NIL {
            0
        } else {
            self.nodes.get(self.wilderness).len
        };
        let binned = self.bins.iter().flatten().map(|bins| bins.longest(&self.nodes)).max();
        wilderness.max(binned.unwrap_or(0))
    }

    /// All free ranges as offset, length and tag, in no promised order.
    pub fn free_ranges(&self) -> impl Iterator<Item = (u32, u32, Tag)> + '_ {
        self.nodes.iter().map(|node| (node.offset, node.len, node.tag))
    }

    /// End of the highest live block; 0 if there is none.
    pub fn highest_used(&self) -> u32 {
        let mut end = self.capacity;
        while let Some(start) = end.checked_sub(1).and_then(|unit| self.starts.at_or_before(unit)) {
            if self.free.get(start).is_none() {
                return end;
            }
            end = start;
        }
        0
    }

    /// Length of the live block at `offset`; `None` if no live block starts there.
    pub fn len_of(&self, offset: u32) -> Option<u32> {
        let around = self.starts.around(offset)?;
        if self.free.get(offset).is_some() {
            return None;
        }
        Some(around.after.unwrap_or(self.capacity) - offset)
    }

    /// All bytes the heap has committed for itself: the struct, and the full capacity of its tables.
    pub fn side_bytes(&self) -> usize {
        size_of::<Self>()
            + self.starts.side_bytes()
            + self.free.side_bytes()
            + self.nodes.side_bytes()
            + self.bins.capacity() * size_of::<Option<Box<Bins>>>()
            + self.bins.iter().flatten().count() * size_of::<Bins>()
    }
}
