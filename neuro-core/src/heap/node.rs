//! `Nodes`: one record for each range of a region, live or free, linked to the ranges before and behind it.
//!
//! Nodes live in one `Vec` and are named by number, so that a range is freed, merged or split without a search. A vacant
//! place keeps the number of the next vacant one in `after`.

use super::{FreeError, Tag};

/// No node.
pub(super) const NIL: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Vacant,
    Free,
    Live,
}

/// A range, or a vacant place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) offset: u32,
    pub(super) len: u32,
    /// The ranges before and behind this one in the region.
    pub(super) before: u32,
    pub(super) after: u32,
    pub(super) state: State,
    pub(super) tag: Tag,
    /// Whether a seam is where it starts.
    pub(super) seam: bool,
    /// The size class of the list that it is in, if it is in one.
    pub(super) class: u8,
}

impl Node {
    pub(super) fn end(&self) -> u32 {
        self.offset + self.len
    }

    /// Where a block of `len` units at a multiple of `align` (a power of two) would start in this range.
    #[inline]
    pub(super) fn fit(&self, len: u32, align: u32) -> Option<u32> {
        let start = self.offset.checked_add(align - 1)? & !(align - 1);
        let head = start - self.offset;
        (head <= self.len && self.len - head >= len).then_some(start)
    }

    /// Whether it has room for such a block.
    #[inline]
    pub(super) fn fits(&self, len: u32, align: u32) -> bool {
        self.fit(len, align).is_some()
    }

    /// Whether this is a free range of `tag`.
    #[inline]
    pub(super) fn is_free(&self, tag: Tag) -> bool {
        self.state == State::Free && self.tag == tag
    }

    /// Whether it is one that becomes part of what lies before it.
    #[inline]
    pub(super) fn merges(&self, tag: Tag) -> bool {
        self.is_free(tag) && !self.seam
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    all: Vec<Node>,
    vacant: u32,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            vacant: NIL,
        }
    }
}

impl Nodes {
    /// A new node between two others.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "all that a node is")]
    pub(super) fn add(
        &mut self,
        offset: u32,
        len: u32,
        before: u32,
        after: u32,
        state: State,
        tag: Tag,
        seam: bool,
    ) -> u32 {
        let node = Node {
            offset,
            len,
            before,
            after,
            state,
            tag,
            seam,
            class: 0,
        };
        let index = if self.vacant == NIL {
            self.make_place()
        } else {
            self.vacant
        };
        let all = &mut self.all[..];
        let place = &mut all[index as usize];
        self.vacant = place.after;
        *place = node;
        if before != NIL {
            all[before as usize].after = index;
        }
        if after != NIL {
            all[after as usize].before = index;
        }
        index
    }

    /// One more vacant place.
    #[cold]
    fn make_place(&mut self) -> u32 {
        if self.all.len() == self.all.capacity() {
            // A quarter, not twice: small heaps count their bytes.
            self.all.reserve_exact((self.all.len() / 4).max(8));
        }
        let vacant = Node {
            offset: 0,
            len: 0,
            before: NIL,
            after: NIL,
            state: State::Vacant,
            tag: Tag::IDLE,
            seam: false,
            class: 0,
        };
        self.all.push(vacant);
        (self.all.len() - 1) as u32
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &Node {
        &self.all[index as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut Node {
        &mut self.all[index as usize]
    }

    /// The live node at `index` that starts at `offset`.
    #[inline]
    pub(super) fn live(&self, index: u32, offset: u32) -> Result<&Node, FreeError> {
        match self.all.get(index as usize) {
            Some(node) if node.state == State::Live && node.offset == offset => Ok(node),
            Some(node) if node.state != State::Live => Err(FreeError::AlreadyFree),
            _ => Err(FreeError::NotABlock),
        }
    }

    /// Takes a node out of the region; its neighbours are linked to each other.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) {
        let all = &mut self.all[..];
        let node = &mut all[index as usize];
        let (before, after) = (node.before, node.after);
        node.state = State::Vacant;
        node.after = self.vacant;
        self.vacant = index;
        if before != NIL {
            all[before as usize].after = after;
        }
        if after != NIL {
            all[after as usize].before = before;
        }
    }

    /// All nodes in one state.
    pub(super) fn of_state(&self, state: State) -> impl Iterator<Item = &Node> {
        self.all.iter().filter(move |node| node.state == state)
    }

    /// The range that `offset` lies in. Looks at all of them.
    pub(super) fn around(&self, offset: u32) -> Option<u32> {
        let is_around =
            |node: &Node| node.state != State::Vacant && node.offset <= offset && offset - node.offset < node.len;
        self.all.iter().position(is_around).map(|index| index as u32)
    }

    /// The node at offset 0, if there is any.
    pub(super) fn first(&self) -> Option<u32> {
        let is_first = |node: &Node| node.state != State::Vacant && node.before == NIL;
        self.all.iter().position(is_first).map(|index| index as u32)
    }

    /// Gives back the vacant places at the end.
    pub(super) fn shrink(&mut self) {
        let used = self.all.iter().rposition(|node| node.state != State::Vacant);
        self.all.truncate(used.map_or(0, |last| last + 1));
        self.all.shrink_to_fit();
        self.vacant = NIL;
        for index in (0..self.all.len()).rev() {
            if self.all[index].state == State::Vacant {
                self.all[index].after = self.vacant;
                self.vacant = index as u32;
            }
        }
    }

    /// Places, vacant ones included.
    pub(super) fn places(&self) -> usize {
        self.all.len()
    }

    pub(super) fn side_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Node>()
    }
}
