//! `Bins`: the free ranges of one tag, in lists by size.
//!
//! Lists are doubly linked by node number, so that a range can leave its list when a neighbour merges with it. A size class
//! spans an eighth of a power of two (sizes below 16 have a class each):
//!
//! ```text
//! size  1 .. 15 | 16 18 20 22 24 26 28 30 | 32 36 40 .. | ..   3.9e9
//! class 1 .. 15 | 16 17 18 ..          23 | 24 25 26 .. | .. 239       the first size of each class
//! ```
//!
//! Invariants (`assert_valid`):
//! - B1: each range in a list has the size and the tag of that list, and its links agree with its neighbours'.
//! - B2: the bit of a class is set iff its list is not empty.
//! - B3: no range of a list is longer than the list's `longest`, which may be stale upwards.
//!
//! Absent on purpose: where ranges lie next to each other and when they merge (`OffsetHeap`).

use super::Tag;
use super::node::{NIL, Node, Nodes};

/// Size classes are an eighth of a power of two wide.
const MANTISSA_BITS: u32 = 3;
pub(super) const CLASSES: usize = 240;
/// Ranges of one class looked at before the next class is asked. More buys nothing on the traces.
const SCAN: usize = 4;

/// The lists of one tag.
#[derive(Debug)]
pub(super) struct Bins {
    filled: [u64; CLASSES.div_ceil(64)],
    lists: [List; CLASSES],
}

#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    longest: u32,
}

/// The class of a size above 0.
#[inline]
pub(super) fn class_of(len: u32) -> usize {
    if len < 1 << MANTISSA_BITS {
        return len as usize;
    }
    let exponent = 31 - len.leading_zeros();
    let mantissa = len >> (exponent - MANTISSA_BITS) & ((1 << MANTISSA_BITS) - 1);
    (((exponent - MANTISSA_BITS + 1) << MANTISSA_BITS) + mantissa) as usize
}

impl Bins {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            filled: [0; 4],
            lists: [List { head: NIL, longest: 0 }; CLASSES],
        })
    }

    #[inline]
    pub(super) fn push(&mut self, nodes: &mut Nodes, index: u32) {
        let len = nodes.get(index).len;
        let class = class_of(len);
        let list = &mut self.lists[class];
        let node = nodes.get_mut(index);
        node.prev = NIL;
        node.next = list.head;
        if list.head == NIL {
            self.filled[class / 64] |= 1 << (class % 64);
        } else {
            nodes.get_mut(list.head).prev = index;
        }
        list.head = index;
        list.longest = list.longest.max(len);
    }

    #[inline]
    pub(super) fn unlink(&mut self, nodes: &mut Nodes, node: &Node) {
        let Node { len, prev, next, .. } = *node;
        if next != NIL {
            nodes.get_mut(next).prev = prev;
        }
        if prev != NIL {
            nodes.get_mut(prev).next = next;
            return;
        }
        let class = class_of(len);
        self.lists[class].head = next;
        if next == NIL {
            self.lists[class].longest = 0;
            self.filled[class / 64] &= !(1 << (class % 64));
        }
    }

    /// Any one free range of this tag.
    pub(super) fn any(&self) -> Option<u32> {
        self.class_from(0).map(|class| self.lists[class].head)
    }

    /// A range for the request: from the first class that has one among its first few ranges, the one at the lowest
    /// address. May miss a range that lies deep in its list; [`Bins::find_exhaustively`] does not.
    #[inline]
    pub(super) fn find(&self, nodes: &Nodes, len: u32, align: u32) -> Option<u32> {
        let mut class = class_of(len);
        loop {
            class = self.class_from(class)?;
            let found = self.lowest_of_few(nodes, class, len, align);
            if found.is_some() {
                return found;
            }
            class += 1;
        }
    }

    fn lowest_of_few(&self, nodes: &Nodes, class: usize, len: u32, align: u32) -> Option<u32> {
        let list = self.lists[class];
        let mut best: Option<(u32, u32)> = None;
        let mut index = list.head;
        for _ in 0..if list.longest >= len { SCAN } else { 0 } {
            if index == NIL {
                break;
            }
            let node = nodes.get(index);
            if node.fit(len, align).is_some() && best.is_none_or(|(offset, _)| node.offset < offset) {
                best = Some((node.offset, index));
            }
            index = node.next;
        }
        best.map(|(_, index)| index)
    }

    /// A range for the request if there is one at all. A list that was searched in vain learns its true `longest`, so that
    /// a full heap with many holes does not search it again for each request.
    pub(super) fn find_exhaustively(&mut self, nodes: &Nodes, len: u32, align: u32) -> Option<u32> {
        let mut class = class_of(len);
        loop {
            class = self.class_from(class)?;
            if self.lists[class].longest >= len {
                let mut longest = 0;
                for index in self.list(nodes, class) {
                    let node = nodes.get(index);
                    if node.fit(len, align).is_some() {
                        return Some(index);
                    }
                    longest = longest.max(node.len);
                }
                self.lists[class].longest = longest;
            }
            class += 1;
        }
    }

    /// Length of the longest range; 0 if there is none. Walks the list of the highest class.
    pub(super) fn longest(&self, nodes: &Nodes) -> u32 {
        let highest = self.filled.iter().rposition(|&word| word != 0);
        let Some(word) = highest else { return 0 };
        let class = word * 64 + 63 - self.filled[word].leading_zeros() as usize;
        self.list(nodes, class)
            .map(|index| nodes.get(index).len)
            .max()
            .unwrap_or(0)
    }

    /// The first class at or above `class` whose list is not empty.
    fn class_from(&self, class: usize) -> Option<usize> {
        let mut word = class / 64;
        let mut bits = *self.filled.get(word)? & (u64::MAX << (class % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// The ranges of one class.
    fn list<'a>(&self, nodes: &'a Nodes, class: usize) -> impl Iterator<Item = u32> + use<'a> {
        let mut next = self.lists[class].head;
        std::iter::from_fn(move || {
            let now = next;
            (now != NIL).then(|| {
                next = nodes.get(now).next;
                now
            })
        })
    }

    /// Checks B1 to B3; how many ranges the lists hold.
    pub(super) fn assert_valid(&self, nodes: &Nodes, tag: Tag) -> usize {
        let mut count = 0;
        for class in 0..CLASSES {
            let list = self.lists[class];
            let bit = self.filled[class / 64] >> (class % 64) & 1 == 1;
            assert_eq!(bit, list.head != NIL, "B2: class {class}");
            let mut prev = NIL;
            for index in self.list(nodes, class) {
                let node = nodes.get(index);
                assert_eq!(
                    (class_of(node.len), node.tag, node.prev),
                    (class, tag, prev),
                    "B1: range at {}",
                    node.offset
                );
                assert!(
                    node.len <= list.longest,
                    "B3: {} > {} in class {class}",
                    node.len,
                    list.longest
                );
                prev = index;
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::State;
    use super::*;

    /// Classes are contiguous, ascend with the size, and never span more than an eighth.
    #[test]
    fn classes_ascend_in_eighths() {
        let mut first_of_class = 1u32;
        for len in 1..100_000u32 {
            if class_of(len) != class_of(first_of_class) {
                assert_eq!(class_of(len), class_of(first_of_class) + 1);
                first_of_class = len;
            }
            assert!(u64::from(len - first_of_class) * 8 < u64::from(first_of_class.max(8)));
        }
        assert_eq!(class_of(u32::MAX), CLASSES - 1);
        assert_eq!(class_of(1 << 31), CLASSES - 8);
    }

    #[test]
    fn fit_counts_the_alignment_gap() {
        let range = |offset, len| Node {
            offset,
            len,
            before: NIL,
            after: NIL,
            prev: NIL,
            next: NIL,
            state: State::Free,
            tag: Tag::IDLE,
        };
        assert_eq!(range(3, 6).fit(5, 4), Some(4));
        assert_eq!(range(3, 6).fit(6, 4), None);
        assert_eq!(range(5, 2).fit(1, 8), None);
        assert_eq!(range(u32::MAX - 5, 5).fit(1, 1 << 31), None);
    }
}
