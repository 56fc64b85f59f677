//! `Locked`: what of a region is locked in memory, as the runs that were locked by one call each.
//!
//! Invariant: runs do not overlap, are not empty, and stand in order. Two that touch stay two.

use std::ops::Range;

/// Runs of bytes, from the start of the region.
#[derive(Default)]
pub(super) struct Locked(Vec<Range<usize>>);

impl Locked {
    /// Bytes of bookkeeping.
    pub(super) fn side_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Range<usize>>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first run that ends above `at`.
    fn from(&self, at: usize) -> usize {
        self.0.partition_point(|run| run.end <= at)
    }

    pub(super) fn contains(&self, at: usize) -> bool {
        self.0.get(self.from(at)).is_some_and(|run| run.start <= at)
    }

    /// The parts of `range` that no run has, in order.
    pub(super) fn gaps(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for run in &self.0[self.from(range.start)..] {
            if run.start >= range.end {
                break;
            }
            if run.start > at {
                gaps.push(at..run.start);
            }
            at = run.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Enters a run.
    pub(super) fn add(&mut self, run: Range<usize>) {
        let place = self.from(run.start);
        debug_assert!(self.0.get(place).is_none_or(|next| run.end <= next.start), "{run:?}");
        self.0.insert(place, run);
    }

    /// Takes out a run that was entered; whether it was there.
    pub(super) fn remove(&mut self, run: &Range<usize>) -> bool {
        let place = self.from(run.start);
        let found = self.0.get(place) == Some(run);
        if found {
            self.0.remove(place);
        }
        found
    }

    /// Takes all out.
    pub(super) fn take(&mut self) -> Vec<Range<usize>> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Runs and gaps are what byte by byte says.
        #[test]
        fn gaps_are_what_no_run_has(steps in prop::collection::vec((any::<bool>(), 0usize..60, 1usize..9), 0..40), within in (0usize..70, 0usize..70)) {
            let mut locked = Locked::default();
            let mut owner = [0; 80];
            for (number, (add, start, len)) in steps.into_iter().enumerate() {
                let run = start..start + len;
                if add && owner[run.clone()].iter().all(|&owner| owner == 0) {
                    owner[run.clone()].fill(number + 1);
                    locked.add(run);
                } else if !add {
                    let whole = owner[start] > 0
                        && owner[run.clone()].iter().all(|&other| other == owner[start])
                        && owner.iter().filter(|&&other| other == owner[start]).count() == len;
                    prop_assert_eq!(locked.remove(&run), whole);
                    if whole {
                        owner[run].fill(0);
                    }
                }
            }
            let within = within.0..within.1.max(within.0);
            let mut expected: Vec<Range<usize>> = Vec::new();
            for at in within.clone().filter(|&at| owner[at] == 0) {
                match expected.last_mut() {
                    Some(gap) if gap.end == at => gap.end += 1,
                    _ => expected.push(at..at + 1),
                }
            }
            prop_assert_eq!(locked.gaps(within), expected);
            prop_assert!((0..80).all(|at| locked.contains(at) == (owner[at] > 0)));
            prop_assert_eq!(locked.is_empty(), owner == [0; 80]);
        }
    }
}
