//! What changes a heap: allocate, free, resize, retag.

use super::bins::{Bins, Node};
use super::{Block, FreeError, NIL, OffsetHeap, Tag};

impl OffsetHeap {
    /// Takes `len` units (above 0) that start at a multiple of `align` (a power of two, counted from offset 0), for
    /// `queue`: first from free ranges tagged `queue`, then from idle ones, never from another queue's. What is carved off
    /// before and behind stays free under the tag of its range.
    ///
    /// `None` only if no admissible free range could hold the request.
    ///
    /// # Panics
    /// If `len` is 0 or `align` is not a power of two.
    pub fn allocate(&mut self, len: u32, align: u32, queue: Tag) -> Option<Block> {
        assert!(len > 0 && align.is_power_of_two(), "{len} units aligned to {align}");
        let index = self.find(len, align, queue)?;
        let range = *self.nodes.get(index);
        // From the wilderness the front, so that the region fills from below. From a hole the back: the rest keeps its
        // start, and with it its place in the map.
        let start = if index == self.wilderness {
            range.fit(len, align)?
        } else {
            (range.end() - len) & !(align - 1)
        };
        self.carve(index, start, start + len);
        self.live += 1;
        if start > range.offset {
            self.starts.insert(start);
        }
        Some(Block {
            offset: start,
            tag: range.tag,
        })
    }

    /// Gives the block at `offset` back as a free range tagged `tag`, merged with neighbours of the same tag. Its length.
    ///
    /// # Errors
    /// [`FreeError`] if no live block starts at `offset`; then nothing changes.
    pub fn free(&mut self, offset: u32, tag: Tag) -> Result<u32, FreeError> {
        let around = self.starts.around(offset).ok_or_else(|| self.refusal(offset))?;
        if self.free.get(offset).is_some() {
            return Err(FreeError::AlreadyFree);
        }
        let len = around.after.unwrap_or(self.capacity) - offset;
        self.live -= 1;
        self.free_units += len;
        self.give_back(offset, len, tag, around.before, around.at);
        Ok(len)
    }

    /// Changes the length of the live block at `offset` without moving it; whether that was possible. A shrink leaves the
    /// tail free under `tag`. A growth needs a long enough free range right behind the block, tagged `tag` or idle.
    /// `false`, with nothing changed, also if no live block starts at `offset` or `new_len` is 0.
    pub fn resize(&mut self, offset: u32, new_len: u32, tag: Tag) -> bool {
        let Some(len) = self.len_of(offset).filter(|_| new_len > 0) else {
            return false;
        };
        let end = offset + len;
        if new_len < len {
            self.starts.insert(offset + new_len);
            self.free_units += len - new_len;
            self.give_back(offset + new_len, len - new_len, tag, None, 0);
        } else if new_len > len {
            let extra = new_len - len;
            let Some(index) = self.free.get(end) else { return false };
            let range = *self.nodes.get(index);
            if range.len < extra || (range.tag != tag && range.tag != Tag::IDLE) {
                return false;
            }
            self.carve(index, end, end + extra);
            self.starts.remove(end, 0);
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
            let Node { offset, len, .. } = *self.nodes.get(index);
            let before = offset.checked_sub(1).and_then(|unit| self.starts.at_or_before(unit));
            self.unlink(index);
            self.free.remove(offset);
            self.nodes.vacate(index);
            self.give_back(offset, len, to, before, 0);
        }
    }

    /// Gives back memory of the heap's own tables that its present ranges do not need; for after a large release.
    pub fn shrink(&mut self) {
        let ranges: Vec<_> = self.free_ranges().collect();
        self.nodes = super::Nodes::with_capacity(ranges.len());
        self.free = super::OffsetMap::default();
        self.bins.clear();
        self.bins.shrink_to_fit();
        for (offset, len, tag) in ranges {
            let index = self.nodes.add(offset, len, tag);
            self.free.insert(offset, index);
            self.link(index);
        }
        self.starts.shrink();
    }

    /// A range for the request, in the order that [`allocate`](Self::allocate) promises.
    fn find(&mut self, len: u32, align: u32, queue: Tag) -> Option<u32> {
        let own = self.find_tagged(len, align, queue);
        if own.is_some() || queue == Tag::IDLE {
            own
        } else {
            self.find_tagged(len, align, Tag::IDLE)
        }
    }

    fn find_tagged(&mut self, len: u32, align: u32, tag: Tag) -> Option<u32> {
        let bins = self.bins.get_mut(usize::from(tag.0)).and_then(Option::as_mut);
        if let Some(index) = bins.as_ref().and_then(|bins| bins.find(&self.nodes, len, align)) {
            return Some(index);
        }
        if self.wilderness != NIL {
            let node = self.nodes.get(self.wilderness);
            if node.tag == tag && node.fit(len, align).is_some() {
                return Some(self.wilderness);
            }
        }
        bins.and_then(|bins| bins.find_exhaustively(&self.nodes, len, align))
    }

    /// Takes `start..end` out of the free range `index`, which keeps what lies before and behind. Sets the start of what
    /// lies behind; the start of the taken part itself is the caller's.
    fn carve(&mut self, index: u32, start: u32, end: u32) {
        let range = *self.nodes.get(index);
        self.free_units -= end - start;
        self.unlink(index);
        let mut node = index;
        if start > range.offset {
            self.nodes.get_mut(index).len = start - range.offset;
            self.link(index);
            node = NIL;
        } else {
            self.free.remove(range.offset);
        }
        if end == range.end() {
            if node != NIL {
                self.nodes.vacate(node);
            }
            return;
        }
        self.starts.insert(end);
        if node == NIL {
            node = self.nodes.add(end, range.end() - end, range.tag);
        } else {
            let rest = self.nodes.get_mut(node);
            rest.offset = end;
            rest.len = range.end() - end;
        }
        self.free.insert(end, node);
        self.link(node);
    }

    /// Makes `offset..offset + len`, whose start is set and which no one owns, free under `tag`. `before` is the start of
    /// the range before it, if that may be free; `near` is where `offset` was found among the starts, if known.
    pub(super) fn give_back(&mut self, offset: u32, len: u32, tag: Tag, before: Option<u32>, near: usize) {
        let end = offset + len;
        let same = |start: u32| self.free.get(start).filter(|&index| self.nodes.get(index).tag == tag);
        let after = same(end);
        let before = before.and_then(same);
        let mut new_len = len;
        if let Some(after) = after {
            new_len += self.nodes.get(after).len;
            self.unlink(after);
            self.free.remove(end);
            self.starts.remove(end, near);
        }
        if let Some(before) = before {
            self.starts.remove(offset, near);
            if let Some(after) = after {
                self.nodes.vacate(after);
            }
            self.unlink(before);
            self.nodes.get_mut(before).len += new_len;
            return self.link(before);
        }
        let index = match after {
            Some(after) => {
                let node = self.nodes.get_mut(after);
                node.offset = offset;
                node.len = new_len;
                after
            }
            None => self.nodes.add(offset, len, tag),
        };
        self.free.insert(offset, index);
        self.link(index);
    }

    /// Puts a free range where requests look for it: into the list of its class, or as the wilderness.
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

    fn unlink(&mut self, index: u32) {
        if index == self.wilderness {
            self.wilderness = NIL;
            return;
        }
        let tag = usize::from(self.nodes.get(index).tag.0);
        if let Some(bins) = self.bins[tag].as_mut() {
            bins.unlink(&mut self.nodes, index);
        }
    }

    /// Any one free range of a tag.
    fn any_of(&self, tag: Tag) -> Option<u32> {
        if self.wilderness != NIL && self.nodes.get(self.wilderness).tag == tag {
            return Some(self.wilderness);
        }
        self.bins.get(usize::from(tag.0))?.as_ref()?.any()
    }

    /// Why `offset`, at which no range starts, cannot be freed.
    fn refusal(&self, offset: u32) -> FreeError {
        let range = self.starts.at_or_before(offset).filter(|_| offset < self.capacity);
        match range {
            Some(start) if self.free.get(start).is_some() => FreeError::AlreadyFree,
            _ => FreeError::NotABlock,
        }
    }
}
