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
        let index = match self.find(ceiling, len, align, queue) {
            Some(index) => index,
            None if queue != Tag::IDLE => self.find(ceiling, len, align, Tag::IDLE)?,
            None => return None,
        };
        self.live += 1;
        self.free_units -= len;
        let range = *self.nodes.get(index);
        // From the wilderness the front, so that the region fills from below. From a hole the back: the rest keeps its node.
        let start = if index == self.wilderness {
            range.fit(len, align)?
        } else {
            (range.end() - len) & !(align - 1)
        };
        Some(Block {
            offset: start,
            node: self.carve(index, &range, start, len),
            tag: range.tag,
        })
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
    /// `tag`. A growth needs a long enough free range right behind the block, tagged `tag` or idle. `false`, with nothing
    /// changed, also if it is no live block or `new_len` is 0.
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
                .add(new_end, len - new_len, block.node, after, State::Live, tag);
            self.free_units += len - new_len;
            self.release(tail, tag);
        } else if new_len > len {
            if after == NIL {
                return false;
            }
            let range = *self.nodes.get(after);
            let admissible = range.is_free(tag) || range.is_free(Tag::IDLE);
            if !admissible || range.len < new_end - end {
                return false;
            }
            self.unlink(after, &range);
            self.free_units -= new_end - end;
            self.nodes.get_mut(block.node).len = new_len;
            if range.end() == new_end {
                self.free_runs -= 1;
                self.nodes.remove(after);
            } else {
                let rest = self.nodes.get_mut(after);
                rest.offset = new_end;
                rest.len = range.end() - new_end;
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
            let node = *self.nodes.get(index);
            self.unlink(index, &node);
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
        let bins = self.bins.get_mut(usize::from(tag.0)).and_then(Option::as_mut);
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

    /// Makes `start..start + len` of the free range `index` (which `range` is a copy of) a live node; what lies before and
    /// behind stays free.
    #[inline]
    fn carve(&mut self, index: u32, range: &Node, start: u32, len: u32) -> u32 {
        let end = start + len;
        if end < range.end() {
            if start == range.offset && index == self.wilderness {
                let rest = self.nodes.get_mut(index);
                rest.offset = end;
                rest.len -= len;
                return self.nodes.add(start, len, range.before, index, State::Live, range.tag);
            }
            // Over-aligned: something is left on either side, or behind a hole.
            return self.carve_middle(index, range, start, len);
        }
        let rest = start - range.offset;
        if rest == 0 {
            self.unlink(index, range);
            self.free_runs -= 1;
            self.nodes.get_mut(index).state = State::Live;
            return index;
        }
        self.shorten(index, range, rest);
        self.nodes.add(start, len, index, range.after, State::Live, range.tag)
    }

    #[cold]
    fn carve_middle(&mut self, index: u32, range: &Node, start: u32, len: u32) -> u32 {
        let (end, head) = (start + len, start - range.offset);
        self.unlink(index, range);
        let live = if head == 0 {
            self.free_runs -= 1;
            let node = self.nodes.get_mut(index);
            node.len = len;
            node.state = State::Live;
            index
        } else {
            self.nodes.get_mut(index).len = head;
            let live = self.nodes.add(start, len, index, range.after, State::Live, range.tag);
            self.link(index);
            live
        };
        let tail = self
            .nodes
            .add(end, range.end() - end, live, range.after, State::Free, range.tag);
        self.free_runs += 1;
        self.link(tail);
        live
    }

    /// Gives a hole another length at its front end; its list changes only if its class does.
    #[inline]
    fn shorten(&mut self, index: u32, range: &Node, len: u32) {
        if index != self.wilderness && class_of(range.len) == class_of(len) {
            self.nodes.get_mut(index).len = len;
            return;
        }
        self.unlink(index, range);
        self.nodes.get_mut(index).len = len;
        self.link(index);
    }

    /// Makes the range `index`, which is in no list and not counted as free, free under `tag`, merged with its neighbours.
    #[inline]
    fn release(&mut self, index: u32, tag: Tag) {
        let node = *self.nodes.get(index);
        let (mut index, mut start, mut end) = (index, node.offset, node.end());
        let mut merged = false;
        if node.after != NIL {
            let after = *self.nodes.get(node.after);
            if after.is_free(tag) {
                self.unlink(node.after, &after);
                end = after.end();
                self.nodes.remove(node.after);
                merged = true;
            }
        }
        if node.before != NIL {
            let before = *self.nodes.get(node.before);
            if before.is_free(tag) {
                self.unlink(node.before, &before);
                start = before.offset;
                self.nodes.remove(index);
                index = node.before;
                self.free_runs -= usize::from(merged);
                merged = true;
            }
        }
        self.free_runs += usize::from(!merged);
        let node = self.nodes.get_mut(index);
        node.offset = start;
        node.len = end - start;
        node.state = State::Free;
        node.tag = tag;
        self.link(index);
    }

    /// Puts a free range where requests look for it: into the list of its class, or as the wilderness.
    #[inline]
    fn link(&mut self, index: u32) {
        let node = self.nodes.get(index);
        if node.end() == self.capacity {
            self.wilderness = index;
            return;
        }
        let tag = usize::from(node.tag.0);
        if tag >= self.bins.len() {
            self.bins.resize_with(tag + 1, || None);
        }
        self.bins[tag]
            .get_or_insert_with(Bins::new)
            .push(&mut self.nodes, index);
    }

    /// Takes a free range (`node` is a copy of it) out of its list.
    #[inline]
    fn unlink(&mut self, index: u32, node: &Node) {
        if index == self.wilderness {
            self.wilderness = NIL;
            return;
        }
        if let Some(bins) = self.bins[usize::from(node.tag.0)].as_mut() {
            bins.unlink(&mut self.nodes, node);
        }
    }

    /// Any one free range of a tag.
    fn any_of(&self, tag: Tag) -> Option<u32> {
        if self.wilderness != NIL && self.nodes.get(self.wilderness).tag == tag {
            return Some(self.wilderness);
        }
        self.bins.get(usize::from(tag.0))?.as_ref()?.any()
    }
}
