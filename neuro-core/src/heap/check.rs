//! The full check of the heap's invariants, for tests and debugging.

use super::node::{NIL, State};
use super::{OffsetHeap, Tag};

impl OffsetHeap {
    /// Checks every invariant of the heap and of its parts (H1 to H7 of [the module](super), and B of bins.rs). Visits every
    /// range: for tests and debugging.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_valid(&self) {
        let (mut end, mut free_units, mut free_runs, mut live) = (0, 0u64, 0, 0);
        let (mut before, mut last_free) = (NIL, NIL);
        let mut before_tag = None;
        let mut next = self.nodes.first().unwrap_or(NIL);
        while next != NIL {
            let node = *self.nodes.get(next);
            assert_eq!(node.before, before, "H1: link back at {}", node.offset);
            assert!(
                node.offset == end && node.len > 0,
                "H1: range at {} after {end}",
                node.offset
            );
            end = node.end();
            assert!(!node.seam || before != NIL, "H7: a seam at 0");
            match node.state {
                State::Vacant => panic!("H1: the range at {} is vacant", node.offset),
                State::Live => {
                    live += 1;
                    before_tag = None;
                }
                State::Free => {
                    assert!(
                        before_tag != Some(node.tag) || node.seam,
                        "H3: two neighbours of one tag at {}",
                        node.offset
                    );
                    before_tag = Some(node.tag);
                    free_units += u64::from(node.len);
                    free_runs += 1;
                    if end == self.capacity {
                        last_free = next;
                    }
                }
            }
            before = next;
            next = node.after;
        }
        assert_eq!(end, self.capacity, "H1: the ranges end early");
        assert_eq!(last_free, self.wilderness, "H4: the wilderness");
        assert_eq!(free_units, u64::from(self.free_units), "H5: free units");
        assert_eq!(
            (free_runs, live),
            (self.free_runs, self.live),
            "H5: free ranges, live blocks"
        );
        assert_eq!(
            self.nodes.of_state(State::Free).count(),
            free_runs,
            "H2: free nodes outside the region"
        );
        assert_eq!(
            self.nodes.of_state(State::Live).count(),
            live,
            "H2: live nodes outside the region"
        );
        let mut binned = 0;
        for (tag, bins) in self.bins.iter().enumerate() {
            binned += bins.assert_valid(&self.nodes, Tag(tag as u8));
        }
        assert_eq!(
            binned + usize::from(self.wilderness != NIL),
            free_runs,
            "H6: free ranges in no list"
        );
    }
}
