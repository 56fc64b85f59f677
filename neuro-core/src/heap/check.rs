//! The full check of the heap's invariants, for tests and debugging.

use super::{NIL, OffsetHeap};

impl OffsetHeap {
    /// Checks every invariant of the heap and of its parts (H1 to H6 of [the module](super), and M, S and B of the files
    /// below it). Visits every range: for tests and debugging.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_valid(&self) {
        self.starts.assert_valid();
        self.free.assert_valid();
        let (mut end, mut free_units, mut free_runs) = (0u64, 0u64, 0);
        let mut starts = self.starts.iter().peekable();
        let mut before = None;
        let mut last_free = NIL;
        while let Some(start) = starts.next() {
            let next = starts.peek().copied().unwrap_or(self.capacity);
            assert!(start < next, "H1: range at {start} ends at {next}");
            if end == 0 {
                assert_eq!(start, 0, "H1: the first range does not start at 0");
            }
            end = u64::from(next);
            let Some(index) = self.free.get(start) else {
                before = None;
                continue;
            };
            let node = self.nodes.get(index);
            assert_eq!(
                (node.offset, node.end()),
                (start, next),
                "H2: node of the range at {start}"
            );
            assert_ne!(before, Some(node.tag), "H3: two neighbours of one tag at {start}");
            before = Some(node.tag);
            free_units += u64::from(node.len);
            free_runs += 1;
            if next == self.capacity {
                last_free = index;
            }
        }
        assert_eq!(end, u64::from(self.capacity), "H1: the ranges end early");
        assert_eq!(last_free, self.wilderness, "H4: the wilderness");
        assert_eq!(free_units, u64::from(self.free_units), "H5: free units");
        assert_eq!(self.free.len(), free_runs, "H2: free ranges without a start");
        assert_eq!(self.nodes.iter().count(), free_runs, "H2: nodes without a range");
        assert_eq!(self.starts.iter().count() - free_runs, self.live, "H5: live blocks");
        let mut binned = 0;
        for (tag, bins) in self.bins.iter().enumerate() {
            binned += bins
                .as_ref()
                .map_or(0, |bins| bins.assert_valid(&self.nodes, super::Tag(tag as u8)));
        }
        assert_eq!(
            binned + usize::from(self.wilderness != NIL),
            free_runs,
            "H6: free ranges in no list"
        );
    }
}
