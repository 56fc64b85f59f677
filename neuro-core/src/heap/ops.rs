//! What changes a heap: allocate, free, resize, retag.

use super::bins::{Bins, class_of};
use super::node::{NIL, Node, State};
use super::{Block, FreeError, OffsetHeap, Tag};

impl OffsetHeap {
    /// Takes `len` units (above 0) that start at a multiple of `align` (a power of two, counted from offset 0), for
    /// `queue`: first from free ranges tagged `queue`, then from idle ones, never from another queue's. What is carved off
    /// before and behind stays free under the tag of its range.
    ///
    /// `None` only if no admissible free range could hold the request.
    ///
    /// # Panics
    /// If `len` is 0 or `align` is not a power of two.
    #[inline]
    pub fn allocate(&mut self, len: u32, align: u32, queue: Tag) -> Option<Block> {
        self.allocate_below(self.capacity, len, align, queue)
    }

    /// As [`allocate`](Self::allocate), but takes nothing from the wilderness that would end above `ceiling`.
    ///
    /// # Panics
    /// As [`allocate`](Self::allocate).
    #[inline]
    pub fn allocate_below(&mut self, ceiling: u32, len: u32, align: u32, queue: Tag) -> Option<Block> {
        assert!(len > 0 && align.is_power_of_two(), "{len} units aligned to {align}");
        let index = self.find_for(ceiling, len, align, queue)?;
        let range = self.nodes.get(index);
        // From the wilderness the front, so that the region fills from below. From a hole the back: the rest keeps its node.
        let start = if index == self.wilderness {
            range.fit(len, align)?
        } else {
            (range.end() - len) & !(align - 1)
        };
        Some(self.take(index, start, len))
    }

    /// As [`allocate_below`](Self::allocate_below) with alignment 1; but `more` units (at least `len`) at a multiple of `align`
    /// where the range found has them at its front: for those who would like that, and do not search for it. And the length
    /// it became.
    ///
    /// # Panics
    /// As [`allocate`](Self::allocate).
    #[inline]
    pub fn allocate_roomy(
        &mut self,
        ceiling: u32,
        len: u32,
        more: u32,
        align: u32,
        queue: Tag,
    ) -> Option<(Block, u32)> {
        assert!(
            len > 0 && more >= len && align.is_power_of_two(),
            "{len} to {more} units aligned to {align}"
        );
        let index = self.find_for(ceiling, len, 1, queue)?;
        let range = self.nodes.get(index);
        let roomy = range.fit(more, align);
        let (start, len) = if index == self.wilderness {
            match roomy.filter(|start| ceiling.checked_sub(*start).is_some_and(|room| room >= more)) {
                Some(start) => (start, more),
                None => (range.offset, len),
            }
        } else if roomy == Some(range.offset) {
            (range.offset, more)
        } else {
            (range.end() - len, len)
        };
        Some((self.take(index, start, len), len))
    }

    /// A free range for a request of `queue`: its own, or else an idle one.
    #[inline]
    fn find_for(&mut self, ceiling: u32, len: u32, align: u32, queue: Tag) -> Option<u32> {
        match self.find(ceiling, len, align, queue) {
            None if queue != Tag::IDLE => self.find(ceiling, len, align, Tag::IDLE),
            found => found,
        }
    }

    /// Hands out a part of the free range `index`.
    #[inline]
    fn take(&mut self, index: u32, start: u32, len: u32) -> Block {
        self.live += 1;
        self.free_units -= len;
        let tag = self.nodes.get(index).tag;
        Block {
            offset: start,
            node: self.carve(index, start, len),
            tag,
        }
    }

    /// Gives a block back as a free range tagged `tag`, merged with neighbours of the same tag. Its length.
    ///
    /// # Errors
    /// [`FreeError`] if it is no live block; then nothing changes.
    #[inline]
    pub fn free(&mut self, block: Block, tag: Tag) -> Result<u32, FreeError> {
        let len = self.live_node(block)?.len;
        self.live -= 1;
        self.free_units += len;
        self.release(block.node, tag);
        Ok(len)
    }

    /// Changes the length of a live block without moving it; whether that was possible. A shrink leaves the tail free under
    /// `tag`. A growth needs a long enough free range right behind the block, tagged `tag` or idle, and no seam there. `false`,
    /// with nothing changed, also if it is no live block or `new_len` is 0.
    pub fn resize(&mut self, block: Block, new_len: u32, tag: Tag) -> bool {
        let Ok(&Node { len, after, .. }) = self.live_node(block) else {
            return false;
        };
        if new_len == 0 {
            return false;
        }
        let Some(new_end) = block.offset.checked_add(new_len) else {
            return false;
        };
        let end = block.offset + len;
        if new_len < len {
            self.nodes.get_mut(block.node).len = new_len;
            let tail = self
                .nodes
                .add(new_end, len - new_len, block.node, after, State::Live, tag, false);
            self.free_units += len - new_len;
            self.release(tail, tag);
        } else if new_len > len {
            if after == NIL {
                return false;
            }
            let range = self.nodes.get(after);
            let admissible = range.merges(tag) || range.merges(Tag::IDLE);
            let range_end = range.end();
            if !admissible || range_end < new_end {
                return false;
            }
            self.unlink(after);
            self.free_units -= new_end - end;
            self.nodes.get_mut(block.node).len = new_len;
            if range_end == new_end {
                self.free_runs -= 1;
                self.nodes.remove(after);
            } else {
                let rest = self.nodes.get_mut(after);
                rest.offset = new_end;
                rest.len = range_end - new_end;
                self.link(after);
            }
        }
        true
    }

    /// Makes every free range tagged `from` one tagged `to`, merged with neighbours of that tag: the queue `from` has
    /// finished (`to` idle), or is ordered before the queue `to`. Costs what the number of those ranges costs.
    pub fn retag(&mut self, from: Tag, to: Tag) {
        if from == to {
            return;
        }
        while let Some(index) = self.any_of(from) {
            self.unlink(index);
            self.free_runs -= 1;
            self.release(index, to);
        }
    }

    /// Gives back memory of the heap's own tables that its present ranges do not need; for after a large release.
    pub fn shrink(&mut self) {
        if self.live == 0 && self.free_runs <= 1 && self.wilderness_is_idle() {
            self.start_over();
        } else {
            self.nodes.shrink();
            let places = self.nodes.places();
            self.bins.iter_mut().for_each(|bins| bins.shrink(places));
        }
    }

    fn wilderness_is_idle(&self) -> bool {
        self.wilderness != NIL && self.nodes.get(self.wilderness).tag == Tag::IDLE
    }

    #[inline]
    pub(super) fn live_node(&self, block: Block) -> Result<&Node, FreeError> {
        self.nodes.live(block.node, block.offset)
    }

    /// A range of `tag` for the request, in the order that [the module](super) gives.
    #[inline]
    fn find(&mut self, ceiling: u32, len: u32, align: u32, tag: Tag) -> Option<u32> {
        let bins = self.bins.get_mut(usize::from(tag.0));
        if let Some(index) = bins.as_ref().and_then(|bins| bins.find(&self.nodes, len, align)) {
            return Some(index);
        }
        if self.wilderness != NIL {
            let node = self.nodes.get(self.wilderness);
            let fits = |start| ceiling.checked_sub(start).is_some_and(|room| room >= len);
            if node.tag == tag && node.fit(len, align).is_some_and(fits) {
                return Some(self.wilderness);
            }
        }
        bins.and_then(|bins| bins.find_exhaustively(&self.nodes, len, align))
    }

    /// Makes `start..start + len` of the free range `index` a live node; what lies before and behind stays free.
    // Fields are read one by one where they are needed: a copy of a node is written to memory to be read again.
    #[inline]
    fn carve(&mut self, index: u32, start: u32, len: u32) -> u32 {
        let range = self.nodes.get_mut(index);
        let (tag, after, head, tail) = (
            range.tag,
            range.after,
            start - range.offset,
            range.end() - (start + len),
        );
        if tail > 0 {
            if head > 0 || index != self.wilderness {
                // Over-aligned: something is left on either side, or behind a hole.
                return self.carve_middle(index, start, len);
            }
            range.offset += len;
            range.len = tail;
            let (before, seam) = (range.before, std::mem::take(&mut range.seam));
            return self.nodes.add(start, len, before, index, State::Live, tag, seam);
        }
        if head == 0 {
            range.state = State::Live;
            self.free_runs -= 1;
            self.unlink(index);
            return index;
        }
        self.set_len(index, head);
        self.nodes.add(start, len, index, after, State::Live, tag, false)
    }

    #[cold]
    fn carve_middle(&mut self, index: u32, start: u32, len: u32) -> u32 {
        let &Node {
            offset,
            len: old,
            after,
            tag,
            ..
        } = self.nodes.get(index);
        let (head, tail) = (start - offset, offset + old - (start + len));
        self.unlink(index);
        let live = if head == 0 {
            self.free_runs -= 1;
            let node = self.nodes.get_mut(index);
            node.len = len;
            node.state = State::Live;
            index
        } else {
            self.nodes.get_mut(index).len = head;
            let live = self.nodes.add(start, len, index, after, State::Live, tag, false);
            self.link(index);
            live
        };
        let tail = self.nodes.add(start + len, tail, live, after, State::Free, tag, false);
        self.free_runs += 1;
        self.link(tail);
        live
    }

    /// Gives a free range another length; its list changes only if its class does.
    #[inline]
    fn set_len(&mut self, index: u32, len: u32) {
        let node = self.nodes.get_mut(index);
        node.len = len;
        if index == self.wilderness || node.end() == self.capacity {
            self.unlink(index);
            self.link(index);
            return;
        }
        let (bins, class, old) = (&mut self.bins[usize::from(node.tag.0)], class_of(len), node.class);
        if class == usize::from(old) {
            bins.lengthen(class, len);
        } else {
            node.class = class as u8;
            bins.remove(index, old);
            bins.push(index, class, len);
        }
    }

    /// Makes the range `index`, which is in no list and not counted as free, free under `tag`, merged with its neighbours.
    #[inline]
    pub(super) fn release(&mut self, index: u32, tag: Tag) {
        let node = self.nodes.get(index);
        let (offset, before, after, seam) = (node.offset, node.before, node.after, node.seam);
        let (mut end, mut runs) = (node.end(), 1);
        if after != NIL && self.nodes.get(after).merges(tag) {
            end = self.nodes.get(after).end();
            self.unlink(after);
            self.nodes.remove(after);
            runs = 0;
        }
        if before != NIL && !seam && self.nodes.get(before).is_free(tag) {
            self.nodes.remove(index);
            self.free_runs = self.free_runs + runs - 1;
            let start = self.nodes.get(before).offset;
            self.set_len(before, end - start);
            return;
        }
        self.free_runs += runs;
        let node = self.nodes.get_mut(index);
        node.len = end - offset;
        node.state = State::Free;
        node.tag = tag;
        self.link(index);
    }

    /// Puts a free range where requests look for it: into the list of its class, or as the wilderness.
    #[inline]
    pub(super) fn link(&mut self, index: u32) {
        let node = self.nodes.get_mut(index);
        if node.end() == self.capacity {
            self.wilderness = index;
            return;
        }
        let (tag, class) = (usize::from(node.tag.0), class_of(node.len));
        node.class = class as u8;
        if tag >= self.bins.len() {
            self.bins.resize_with(tag + 1, Bins::default);
        }
        self.bins[tag].push(index, class, node.len);
    }

    /// Takes a free range out of its list.
    #[inline]
    pub(super) fn unlink(&mut self, index: u32) {
        if index == self.wilderness {
            self.wilderness = NIL;
        } else {
            let node = self.nodes.get(index);
            self.bins[usize::from(node.tag.0)].remove(index, node.class);
        }
    }

    /// Any one free range of a tag.
    fn any_of(&self, tag: Tag) -> Option<u32> {
        if self.wilderness != NIL && self.nodes.get(self.wilderness).tag == tag {
            return Some(self.wilderness);
        }
        self.bins.get(usize::from(tag.0))?.any()
    }
}
