//! `Bins`: the free ranges of one tag, in lists by size.
//!
//! Lists are rings, doubly linked, so that a range can leave its list when a neighbour merges with it, and does so without a
//! branch: whether a list ends here is as good as random, and a processor that guesses wrong loses more time than all the
//! rest takes. The heads of the lists come first among the links, then the nodes by their numbers:
//!
//! ```text
//! links   | head of class 0 | head of class 1 | .. | head of class 239 | node 0 | node 1 | ..
//! ```
//!
//! A size class spans an eighth of a power of two (sizes below 16 have a class each):
//!
//! ```text
//! size  1 .. 15 | 16 18 20 22 24 26 28 30 | 32 36 40 .. | ..   3.9e9
//! class 1 .. 15 | 16 17 18 ..          23 | 24 25 26 .. | .. 239       the first size of each class
//! ```
//!
//! Invariants (`assert_valid`):
//! - B1: each range in a list has the size and the tag of that list, and knows its class; links agree with their neighbours'.
//! - B2: the bit of a class is set iff its list is not empty.
//! - B3: no range of a list is longer than the list's `longest`, which may be stale upwards, and anything of an empty list.
//!
//! Absent on purpose: where ranges lie next to each other and when they merge (`OffsetHeap`).

use super::Tag;
use super::node::{NIL, Nodes};

/// Size classes are an eighth of a power of two wide.
const MANTISSA_BITS: u32 = 3;
pub(super) const CLASSES: usize = 240;
/// Ranges of one class looked at before the next class is asked. More buys nothing on the traces.
const SCAN: usize = 4;

/// The lists of one tag. Takes no memory of its own until it is used.
#[derive(Debug, Default)]
pub(super) struct Bins {
    filled: [u64; CLASSES.div_ceil(64)],
    /// By class.
    longest: Vec<u32>,
    links: Vec<Link>,
}

/// Neighbours in a ring, as positions among the links.
#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
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
    /// Enters a free range of `len` units into the list of its `class`.
    #[inline]
    pub(super) fn push(&mut self, node: u32, class: usize, len: u32) {
        let here = node as usize + CLASSES;
        if here >= self.links.len() {
            self.make_place(here);
        }
        let links = &mut self.links[..];
        let next = links[class].next;
        links[here] = Link {
            prev: class as u32,
            next,
        };
        links[class].next = here as u32;
        links[next as usize].prev = here as u32;
        let longest = &mut self.longest[class];
        let keep = u32::from(next as usize != class).wrapping_neg(); // nothing, if the list was empty
        *longest = len.max(*longest & keep);
        self.filled[class / 64] |= 1 << (class % 64);
    }

    #[cold]
    fn make_place(&mut self, position: usize) {
        if self.links.is_empty() {
            self.links.reserve_exact(CLASSES + 8);
            let heads = 0..CLASSES as u32;
            self.links.extend(heads.map(|class| Link {
                prev: class,
                next: class,
            }));
            self.longest = vec![0; CLASSES];
        }
        if position >= self.links.capacity() {
            // A quarter, not twice: small heaps count their bytes.
            let least = position + 1 - self.links.len();
            self.links.reserve_exact(least.max(self.links.len() / 4));
        }
        self.links.resize(position + 1, Link { prev: NIL, next: NIL });
    }

    /// A range of a list has now `len` units, which are of the same class.
    #[inline]
    pub(super) fn lengthen(&mut self, class: usize, len: u32) {
        let longest = &mut self.longest[class];
        *longest = len.max(*longest);
    }

    /// Takes a range out of its list.
    #[inline]
    pub(super) fn remove(&mut self, node: u32, class: u8) {
        let links = &mut self.links[..];
        let Link { prev, next } = links[node as usize + CLASSES];
        links[prev as usize].next = next;
        links[next as usize].prev = prev;
        let (class, was_last) = (usize::from(class), prev == next);
        self.filled[class / 64 % 4] &= !(u64::from(was_last) << (class % 64));
    }

    /// Gives back what is kept for nodes from `nodes` on.
    pub(super) fn shrink(&mut self, nodes: usize) {
        self.links.truncate(CLASSES + nodes);
        self.links.shrink_to_fit();
    }

    pub(super) fn side_bytes(&self) -> usize {
        size_of::<Self>() + self.longest.capacity() * size_of::<u32>() + self.links.capacity() * size_of::<Link>()
    }

    /// Any one free range of this tag.
    pub(super) fn any(&self) -> Option<u32> {
        self.class_from(0).and_then(|class| self.list(class).next())
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

    #[inline(always)]
    fn lowest_of_few(&self, nodes: &Nodes, class: usize, len: u32, align: u32) -> Option<u32> {
        if self.longest[class] < len {
            return None;
        }
        // The offset above the number, so that the least is of the lowest range: which one fits is not to be foreseen either.
        let mut best = u64::MAX;
        for index in self.list(class).take(SCAN) {
            let node = nodes.get(index);
            let candidate = u64::from(node.offset) << 32 | u64::from(index);
            best = best.min(if node.fits(len, align) { candidate } else { u64::MAX });
        }
        (best != u64::MAX).then_some(best as u32)
    }

    /// A range for the request if there is one at all. A list that was searched in vain learns its true `longest`, so that
    /// a full heap with many holes does not search it again for each request.
    pub(super) fn find_exhaustively(&mut self, nodes: &Nodes, len: u32, align: u32) -> Option<u32> {
        let mut class = class_of(len);
        loop {
            class = self.class_from(class)?;
            if self.longest[class] >= len {
                let mut longest = 0;
                for index in self.list(class) {
                    let node = nodes.get(index);
                    if node.fits(len, align) {
                        return Some(index);
                    }
                    longest = longest.max(node.len);
                }
                self.longest[class] = longest;
            }
            class += 1;
        }
    }

    /// Length of the longest range; 0 if there is none. Walks the list of the highest class.
    pub(super) fn longest(&self, nodes: &Nodes) -> u32 {
        let highest = self.filled.iter().rposition(|&word| word != 0);
        let Some(word) = highest else { return 0 };
        let class = word * 64 + 63 - self.filled[word].leading_zeros() as usize;
        self.list(class).map(|index| nodes.get(index).len).max().unwrap_or(0)
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

    /// The ranges of one class, by the numbers of their nodes.
    #[inline]
    fn list(&self, class: usize) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.links[class].next as usize;
        std::iter::from_fn(move || {
            let node = next.checked_sub(CLASSES)?; // a ring ends at its head
            next = self.links[next].next as usize;
            Some(node as u32)
        })
    }

    /// Checks B1 to B3; how many ranges the lists hold.
    pub(super) fn assert_valid(&self, nodes: &Nodes, tag: Tag) -> usize {
        let mut count = 0;
        for class in 0..if self.links.is_empty() { 0 } else { CLASSES } {
            let bit = self.filled[class / 64] >> (class % 64) & 1 == 1;
            assert_eq!(bit, self.links[class].next as usize != class, "B2: class {class}");
            let mut prev = class;
            for index in self.list(class) {
                let node = nodes.get(index);
                let here = index as usize + CLASSES;
                assert_eq!(
                    (class_of(node.len), usize::from(node.class), node.tag),
                    (class, class, tag),
                    "B1: range at {}",
                    node.offset
                );
                assert_eq!(self.links[here].prev as usize, prev, "B1: link back at {}", node.offset);
                assert!(
                    node.len <= self.longest[class],
                    "B3: {} > {} in class {class}",
                    node.len,
                    self.longest[class]
                );
                prev = here;
                count += 1;
            }
            assert_eq!(self.links[class].prev as usize, prev, "B1: end of class {class}");
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::{Node, State};
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
            state: State::Free,
            tag: Tag::IDLE,
            seam: false,
            class: 0,
        };
        assert_eq!(range(3, 6).fit(5, 4), Some(4));
        assert_eq!(range(3, 6).fit(6, 4), None);
        assert_eq!(range(5, 2).fit(1, 8), None);
        assert_eq!(range(u32::MAX - 5, 5).fit(1, 1 << 31), None);
    }
}
