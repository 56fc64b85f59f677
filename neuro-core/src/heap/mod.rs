//! `OffsetHeap`: which ranges of a region are free, and for which queue. Arithmetic only.
//!
//! A region is `0..capacity` in units that the pool chooses (64 bytes on the host). The heap never touches the memory it
//! manages, so one heap serves host, CUDA and Vulkan regions, and every law of it is tested without a device.
//!
//! ```text
//! 0                                                                   capacity
//! | block | free, idle | block | free, queue 3 | free, idle | block | wilderness |
//!     ^         ^
//! nodes     one for each range, live or free: offset, length, neighbours, tag     (node.rs)
//! bins      for each tag, lists of free ranges by size class, and a bitmap        (bins.rs)
//! ```
//!
//! A block is named by its offset and its node ([`Block`]), so that nothing has to be looked up to free it; who has only an
//! address finds both in the pool's page records.
//!
//! A *seam* is a place that no range reaches across, free or live: two sides of the memory that are not one to somebody else, such
//! as a driver that locked each of them by itself ([`OffsetHeap::part`]).
//!
//! A free range carries a [`Tag`]: the queue that last used it, or [`Tag::IDLE`]. A request of a queue is served from
//! ranges of that queue (ordered after its earlier work by the queue itself) or idle ones, never from another queue's.
//!
//! Fit: of the first few ranges of the request's own size class that are long enough, the one at the lowest address; then
//! the same in the next class that is not empty. On recorded traces this reserves as little as exact best fit. The
//! wilderness (the free range that ends at `capacity`) is used only when those have nothing, and before giving up all
//! ranges are searched, so that `None` means that no admissible range could hold the request. The wilderness is carved
//! from the front, so a region fills from below; holes are carved from the back, so that the rest keeps its node.
//!
//! Invariants (`assert_valid`, check.rs):
//! - H1: nodes, followed from neighbour to neighbour, tile `0..capacity`: no gap, no overlap, none empty.
//! - H2: every node is one of these ranges, or vacant.
//! - H3: no two neighbouring free ranges have the same tag, but on either side of a seam. Ranges of different tags never merge.
//! - H4: `wilderness` is the free range that ends at `capacity`, or none.
//! - H5: the counts of free units, free ranges and live blocks are exact. Sizes are never rounded.
//! - H6: each free range but the wilderness is in the one list of its tag and size class.
//! - H7: a seam is where a range starts, until it is taken back; none is at 0.
//!
//! Absent on purpose: locks, growth and statistics (`pool`), when a queue has finished (its owner calls
//! [`OffsetHeap::retag`]), and which memory is committed.

mod bins;
mod check;
mod node;
mod ops;
mod seam;
#[cfg(test)]
mod tests;

use bins::Bins;
use node::{NIL, Nodes, State};

/// The queue that last used a free range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub u8);

impl Tag {
    /// No queue has work under way on the range: any request may have it.
    pub const IDLE: Tag = Tag(0);
}

/// A range handed out by [`OffsetHeap::allocate`], by which it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First unit of the block.
    pub offset: u32,
    /// Number of its node: means something to its heap only.
    pub node: u32,
    /// What the range was tagged before: the request's own queue, or idle.
    pub tag: Tag,
}

/// Why [`OffsetHeap::free`] refused a block. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeError {
    /// The heap never handed this out, or a live block has another offset.
    NotABlock,
    /// The block is free already.
    AlreadyFree,
}

/// Which ranges of `0..capacity` are free, and for which queue. See [the module](self).
#[derive(Debug)]
pub struct OffsetHeap {
    capacity: u32,
    free_units: u32,
    free_runs: usize,
    live: usize,
    wilderness: u32,
    nodes: Nodes,
    bins: Vec<Bins>,
}

impl OffsetHeap {
    /// A heap of one idle free range. Holds a few hundred bytes, whatever the capacity, until it is used.
    pub fn new(capacity_units: u32) -> Self {
        let mut heap = Self {
            capacity: capacity_units,
            free_units: 0,
            free_runs: 0,
            live: 0,
            wilderness: NIL,
            nodes: Nodes::default(),
            bins: Vec::new(),
        };
        heap.start_over();
        heap
    }

    /// Everything free and idle again, with the smallest tables.
    fn start_over(&mut self) {
        self.nodes = Nodes::default();
        self.bins = Vec::new();
        self.free_units = self.capacity;
        self.free_runs = usize::from(self.capacity > 0);
        self.wilderness = NIL;
        if self.capacity > 0 {
            self.wilderness = self
                .nodes
                .add(0, self.capacity, NIL, NIL, State::Free, Tag::IDLE, false);
        }
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
        self.free_runs
    }

    /// How many blocks are live.
    pub fn live_blocks(&self) -> usize {
        self.live
    }

    /// Length of the longest free range of any tag, exactly. Walks one list of each tag: for reports and error messages.
    pub fn largest_free(&self) -> u32 {
        self.largest_hole().max(self.capacity - self.top())
    }

    /// The same, the wilderness left out.
    pub fn largest_hole(&self) -> u32 {
        let binned = self.bins.iter().map(|bins| bins.longest(&self.nodes));
        binned.max().unwrap_or(0)
    }

    /// All free ranges as offset, length and tag, in no promised order.
    pub fn free_ranges(&self) -> impl Iterator<Item = (u32, u32, Tag)> + '_ {
        self.nodes
            .of_state(State::Free)
            .map(|node| (node.offset, node.len, node.tag))
    }

    /// All live blocks as offset and length, in no promised order.
    pub fn live_ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.nodes.of_state(State::Live).map(|node| (node.offset, node.len))
    }

    /// First unit of the wilderness: nothing from here on is live. `capacity` if there is no wilderness.
    pub fn top(&self) -> u32 {
        if self.wilderness == NIL {
            self.capacity
        } else {
            self.nodes.get(self.wilderness).offset
        }
    }

    /// Length of a live block; `None` if it is none.
    pub fn len_of(&self, block: Block) -> Option<u32> {
        self.live_node(block).ok().map(|node| node.len)
    }

    /// All bytes the heap has committed for itself: the struct, and the full capacity of its tables.
    pub fn side_bytes(&self) -> usize {
        size_of::<Self>()
            + self.nodes.side_bytes()
            + self.bins.iter().map(Bins::side_bytes).sum::<usize>()
            + (self.bins.capacity() - self.bins.len()) * size_of::<Bins>()
    }
}
