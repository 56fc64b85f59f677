//! "exact best fit": of all holes that are long enough the shortest, of equals the lowest, in one range that grows only
//! where no hole fits.
//!
//! The free tail of the range is no hole: it is the wilderness, and used last.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{GRANULE, Rule};

#[derive(Default)]
pub(crate) struct BestFit {
    /// Holes as length and start, in granules.
    by_len: BTreeSet<(u64, u64)>,
    /// The same holes: start and length.
    by_start: BTreeMap<u64, u64>,
    /// Where the wilderness begins.
    top: u64,
}

/// A block: start and length in granules.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    start: u64,
    len: u64,
}

impl BestFit {
    fn add(&mut self, start: u64, len: u64) {
        self.by_len.insert((len, start));
        self.by_start.insert(start, len);
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_len.remove(&(len, start));
        self.by_start.remove(&start);
    }
}

impl Rule for BestFit {
    const NAME: &'static str = "exact best fit";
    type Handle = Placed;

    fn new() -> Self {
        Self::default()
    }

    fn allocate(&mut self, bytes: u64) -> Result<Placed, String> {
        let len = bytes.div_ceil(GRANULE);
        let hole = self.by_len.range((len, 0)..).next().copied();
        let Some((hole, start)) = hole else {
            let start = self.top;
            self.top += len;
            return Ok(Placed { start, len });
        };
        self.remove(start, hole);
        if hole > len {
            self.add(start + len, hole - len);
        }
        Ok(Placed { start, len })
    }

    fn free(&mut self, block: Placed) {
        let Placed { mut start, mut len } = block;
        if let Some((&before, &more)) = self.by_start.range(..start).next_back()
            && before + more == start
        {
            self.remove(before, more);
            start = before;
            len += more;
        }
        if let Some(&more) = self.by_start.get(&(start + len)) {
            self.remove(start + len, more);
            len += more;
        }
        if start + len == self.top {
            self.top = start;
        } else {
            self.add(start, len);
        }
    }

    fn addresses(&self, block: Placed) -> Option<Range<u64>> {
        Some(block.start * GRANULE..(block.start + block.len) * GRANULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start of a new block, in granules.
    fn place(rule: &mut BestFit, granules: u64) -> Placed {
        rule.allocate(granules * GRANULE - 1).unwrap()
    }

    #[test]
    fn the_shortest_hole_is_taken_then_the_lowest_then_the_wilderness() {
        let mut rule = BestFit::new();
        let blocks: Vec<_> = [5, 1, 3, 1, 3, 1, 9].map(|len| place(&mut rule, len)).into();
        for hole in [0, 2, 4, 6] {
            rule.free(blocks[hole]);
        }
        assert_eq!(rule.top, 14); // the last block lay at the end: it is wilderness again, not a hole
        let starts = [3, 2, 5, 2, 6].map(|len| place(&mut rule, len).start);
        assert_eq!(starts, [6, 10, 0, 14, 16]);
    }

    #[test]
    fn neighbours_merge_and_nothing_is_left_in_the_end() {
        let mut rule = BestFit::new();
        let blocks: Vec<_> = (1..=6).map(|len| place(&mut rule, len)).collect();
        for index in [0, 2, 1] {
            rule.free(blocks[index]);
        }
        assert_eq!(rule.by_start, BTreeMap::from([(0, 6)]));
        for index in [4, 5, 3] {
            rule.free(blocks[index]);
        }
        assert!(rule.by_start.is_empty() && rule.by_len.is_empty() && rule.top == 0);
    }
}
