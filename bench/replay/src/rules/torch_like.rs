//! "torch-like": PyTorch's CUDA allocator with its default settings, as its published source states the rules.
//!
//! - Sizes are rounded up to 512 bytes.
//! - Up to 1 MiB: from the small pool, whose segments have 2 MiB. Above: from the large pool, whose segments have 20 MiB
//!   for requests below 10 MiB, else the request's own size rounded up to 2 MiB.
//! - The free block of the pool with the least size that is enough, of equals the lowest. It is split where 512 bytes or
//!   more remain (small pool), or more than 1 MiB (large pool); else it is handed out whole.
//! - A freed block merges with its free neighbours in the segment. Segments are kept.
//!
//! Absent on purpose: what happens when the device is full (giving segments back and trying again), and streams.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::Rule;

const MIB: u64 = 1 << 20;
const ROUND: u64 = 512;
const SMALL: u64 = MIB;
const SMALL_SEGMENT: u64 = 2 * MIB;
const LARGE_SEGMENT: u64 = 20 * MIB;
/// Requests from here on get a segment of their own.
const OWN_SEGMENT: u64 = 10 * MIB;
const OWN_ROUND: u64 = 2 * MIB;

/// A block: start and length in bytes. Segments follow one another, a gap between them so that none merge.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    start: u64,
    len: u64,
    is_small: bool,
}

/// The free blocks of one pool.
#[derive(Default)]
struct Side {
    by_len: BTreeSet<(u64, u64)>,
    by_start: BTreeMap<u64, u64>,
}

#[derive(Default)]
pub(crate) struct TorchLike {
    small: Side,
    large: Side,
    reserved: u64,
    next_segment: u64,
}

impl Side {
    fn add(&mut self, start: u64, len: u64) {
        self.by_len.insert((len, start));
        self.by_start.insert(start, len);
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_len.remove(&(len, start));
        self.by_start.remove(&start);
    }
}

impl TorchLike {
    fn side(&mut self, is_small: bool) -> &mut Side {
        if is_small { &mut self.small } else { &mut self.large }
    }

    /// A new segment for `len` bytes: its start and its length.
    fn grow(&mut self, len: u64) -> (u64, u64) {
        let segment = if len <= SMALL {
            SMALL_SEGMENT
        } else if len < OWN_SEGMENT {
            LARGE_SEGMENT
        } else {
            len.next_multiple_of(OWN_ROUND)
        };
        let start = self.next_segment;
        self.next_segment += segment + ROUND;
        self.reserved += segment;
        (start, segment)
    }
}

impl Rule for TorchLike {
    const NAME: &'static str = "torch-like";
    type Handle = Placed;

    fn new() -> Self {
        Self::default()
    }

    fn allocate(&mut self, bytes: u64) -> Result<Placed, String> {
        let len = bytes.next_multiple_of(ROUND);
        let is_small = len <= SMALL;
        let side = self.side(is_small);
        let found = side.by_len.range((len, 0)..).next().copied();
        let (start, available) = match found {
            Some((available, start)) => {
                side.remove(start, available);
                (start, available)
            }
            None => self.grow(len),
        };
        let rest = available - len;
        let is_split = if is_small { rest >= ROUND } else { rest > SMALL };
        let len = if is_split { len } else { available };
        if is_split {
            self.side(is_small).add(start + len, rest);
        }
        Ok(Placed { start, len, is_small })
    }

    fn free(&mut self, block: Placed) {
        let Placed {
            mut start,
            mut len,
            is_small,
        } = block;
        let side = self.side(is_small);
        if let Some((&before, &more)) = side.by_start.range(..start).next_back()
            && before + more == start
        {
            side.remove(before, more);
            start = before;
            len += more;
        }
        if let Some(&more) = side.by_start.get(&(start + len)) {
            side.remove(start + len, more);
            len += more;
        }
        side.add(start, len);
    }

    fn addresses(&self, block: Placed) -> Option<Range<u64>> {
        Some(block.start..block.start + block.len)
    }

    fn reserved(&self) -> Option<u64> {
        Some(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a new rule reserves for these blocks, all live at once, in MiB.
    fn reserved(sizes: &[u64]) -> f64 {
        let mut rule = TorchLike::new();
        for &bytes in sizes {
            rule.allocate(bytes).unwrap();
        }
        rule.reserved as f64 / MIB as f64
    }

    #[test]
    fn segments_have_the_sizes_of_their_pools() {
        assert_eq!(reserved(&[1]), 2.0);
        assert_eq!(reserved(&[MIB, MIB]), 2.0);
        assert_eq!(reserved(&[MIB, MIB, 1]), 4.0);
        assert_eq!(reserved(&[MIB + 1]), 20.0);
        assert_eq!(reserved(&[10 * MIB - ROUND]), 20.0);
        assert_eq!(reserved(&[10 * MIB]), 10.0);
        assert_eq!(reserved(&[10 * MIB + 1]), 12.0);
    }

    #[test]
    fn splits_leave_what_their_pool_can_use() {
        let mut rule = TorchLike::new();
        assert_eq!(rule.allocate(1).unwrap().len, ROUND);
        let whole = rule.allocate(11 * MIB).unwrap(); // 12 MiB: 1 MiB remains, which is not more than 1 MiB
        assert_eq!(whole.len, 12 * MIB);
        rule.free(whole);
        assert_eq!(rule.allocate(11 * MIB - ROUND).unwrap().len, 11 * MIB - ROUND);
        assert_eq!(rule.reserved, 14 * MIB);
    }

    #[test]
    fn free_neighbours_merge_within_their_segment_only() {
        let mut rule = TorchLike::new();
        let blocks: Vec<_> = (0..4).map(|_| rule.allocate(MIB).unwrap()).collect();
        for block in blocks {
            rule.free(block);
        }
        let free: Vec<_> = rule.small.by_start.values().copied().collect();
        assert_eq!(free, [2 * MIB, 2 * MIB]);
    }
}
