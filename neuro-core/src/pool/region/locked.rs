//! What of a region is locked in memory: runs that are locked by one call each (R5).
//!
//! Invariant N1: runs do not overlap, are not empty, and stand in order. Two that touch stay two.
//!
//! Absent on purpose: who locks them, and when (`pool/locking.rs`).

use std::ops::Range;
use std::ptr::NonNull;

use super::super::record::GRANULE;
use super::Region;
use crate::backend::host::{STEP, os};

/// What is locked for blocks of fewer bytes reaches to the end of a step, for more of them; for others, to the end of their last page.
const ALONE: usize = 256 << 10;

/// Whole pages of a region, to be locked in memory by one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) start: NonNull<u8>,
    pub(crate) bytes: usize,
}

impl Piece {
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.bytes
    }
}

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

impl Region {
    /// Whether some of it is locked.
    pub(in crate::pool) fn is_locked(&self) -> bool {
        !self.locked.is_empty()
    }

    /// What is used, held and not locked.
    fn gaps(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let held = self.held.runs(0..usize::MAX).into_iter();
        let gaps = held.flat_map(|run| self.locked.gaps(run.start * STEP..run.end * STEP));
        gaps.filter(|gap| gap.start < self.used)
    }

    /// How much that is, about.
    pub(in crate::pool) fn bytes_to_lock(&self) -> usize {
        self.gaps().map(|gap| gap.len()).sum()
    }

    /// The addresses of runs that are free, in groups that lie side by side.
    pub(in crate::pool) fn locked_and_free(&self) -> Vec<Vec<Range<usize>>> {
        let (own, runs) = (self.addresses().start, &self.locked.0);
        let mut free = vec![false; runs.len()];
        for range in self.free_addresses() {
            let range = range.start - own..range.end - own;
            let at = self.locked.from(range.start);
            if runs.get(at) == Some(&range) {
                free[at] = true;
            }
        }
        let mut groups: Vec<Vec<Range<usize>>> = Vec::new();
        for (run, _) in runs.iter().zip(free).filter(|(_, free)| *free) {
            let run = own + run.start..own + run.end;
            match groups.last_mut() {
                Some(group) if group.last().is_some_and(|last| last.end == run.start) => group.push(run),
                _ => groups.push(vec![run]),
            }
        }
        groups
    }

    /// Marks what is used, held and not locked as locked, as far as it touches `wanted`: those runs. None ends within a block: where
    /// steps that are not held begin, or something that is locked, or what was never used, no block reaches across (R3, R5, R4).
    pub(in crate::pool) fn mark_locked(&mut self, wanted: &Range<usize>) -> Vec<Piece> {
        let wanted = self.within(wanted);
        let gaps: Vec<Range<usize>> = self
            .gaps()
            .filter(|gap| gap.start < wanted.end && gap.end > wanted.start)
            .collect();
        let pieces = gaps.into_iter().map(|gap| {
            let used = self.used.next_multiple_of(os::page_size());
            let end = if used - gap.start < ALONE {
                gap.end
            } else {
                used.min(gap.end)
            };
            let run = gap.start..end;
            let parted = [run.start, run.end].map(|at| self.heap.part(Self::unit_of(at)));
            debug_assert_eq!(parted, [true; 2], "{run:?}");
            self.locked.add(run.clone());
            // SAFETY: held steps lie in the reservation.
            let start = unsafe { self.memory.base().add(run.start) };
            Piece {
                start,
                bytes: run.len(),
            }
        });
        pieces.collect()
    }

    /// The run at `addresses` is locked no more; one that lies elsewhere does not count.
    pub(in crate::pool) fn clear_locked(&mut self, addresses: &Range<usize>) {
        let run = self.within(addresses);
        if self.locked.remove(&run) {
            self.join_around(&run);
        }
    }

    /// Nothing of it is locked in this process.
    pub(in crate::pool) fn forget_locked(&mut self) {
        for run in self.locked.take() {
            self.join_around(&run);
        }
    }

    /// Takes the seams of a run back that is not locked any more, where none of another is.
    fn join_around(&mut self, run: &Range<usize>) {
        if run.start > 0 && !self.locked.contains(run.start - 1) {
            self.heap.join(Self::unit_of(run.start));
        }
        if !self.locked.contains(run.end) {
            self.heap.join(Self::unit_of(run.end));
        }
    }

    /// The granule at a byte; one behind the last for those that are no heap's.
    fn unit_of(at: usize) -> u32 {
        u32::try_from(at / GRANULE).unwrap_or(u32::MAX)
    }

    /// The bytes of it that `addresses` cover.
    fn within(&self, addresses: &Range<usize>) -> Range<usize> {
        let own = self.addresses();
        let start = addresses.start.clamp(own.start, own.end) - own.start;
        let end = addresses.end.clamp(own.start, own.end) - own.start;
        start..end
    }

    /// A block ends at byte `end`, further than any before.
    #[cold]
    pub(super) fn reach(&mut self, end: usize) {
        self.used = end;
        // SAFETY: the pool lives while it has regions.
        let pool = unsafe { self.head().pool.as_ref() };
        if pool.has_gpu_support() && !self.locked.contains(end - 1) {
            pool.locking.note_grown();
        }
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
