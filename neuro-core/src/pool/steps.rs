//! `Steps`: which steps of a region are something, one bit each.

use std::ops::Range;

/// A set of steps, as long as the highest one marked.
#[derive(Default)]
pub(super) struct Steps {
    words: Vec<u64>,
    pub(super) count: usize,
}

impl Steps {
    /// Bytes of bookkeeping.
    pub(super) fn side_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    #[inline]
    pub(super) fn contains(&self, step: usize) -> bool {
        self.words
            .get(step / 64)
            .is_some_and(|word| word >> (step % 64) & 1 == 1)
    }

    /// Marks `steps`. Returns the hull of those that were marked already.
    #[inline]
    pub(super) fn mark(&mut self, steps: Range<usize>) -> Option<Range<usize>> {
        // Nearly all blocks lie in a step or two that are held already.
        if steps.len() == 1 && self.contains(steps.start) {
            return Some(steps);
        }
        let words = steps.end.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
        let mut held: Option<Range<usize>> = None;
        for step in steps {
            let (word, bit) = (&mut self.words[step / 64], 1 << (step % 64));
            if *word & bit != 0 {
                held = Some(held.map_or(step, |hull| hull.start)..step + 1);
            } else {
                *word |= bit;
                self.count += 1;
            }
        }
        held
    }

    pub(super) fn clear(&mut self, steps: Range<usize>) {
        for step in steps {
            debug_assert!(self.contains(step));
            self.words[step / 64] &= !(1 << (step % 64));
            self.count -= 1;
        }
    }

    /// The highest run of marked steps within `steps`.
    pub(super) fn last_run(&self, steps: Range<usize>) -> Option<Range<usize>> {
        let steps = steps.start..steps.end.min(self.words.len() * 64);
        let has = |&step: &usize| self.contains(step);
        let last = steps.clone().rev().find(has)?;
        let first = (steps.start..last).rev().take_while(has).last().unwrap_or(last);
        Some(first..last + 1)
    }

    /// All runs of marked steps within `steps`, in order.
    pub(super) fn runs(&self, steps: Range<usize>) -> Vec<Range<usize>> {
        let end = steps.end.min(self.words.len() * 64);
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut step = steps.start;
        while step < end {
            let word = self.words.get(step / 64).map_or(0, |word| word >> (step % 64));
            if word == 0 {
                step = (step / 64 + 1) * 64;
                continue;
            }
            step += word.trailing_zeros() as usize;
            if step >= end {
                break;
            }
            match runs.last_mut() {
                Some(run) if run.end == step => run.end += 1,
                _ => runs.push(step..step + 1),
            }
            step += 1;
        }
        runs
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(bits: &[bool]) -> Steps {
        let mut steps = Steps::default();
        for (at, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
            steps.mark(at..at + 1);
        }
        steps
    }

    proptest! {
        /// Runs are what bit by bit says, in both directions.
        #[test]
        fn runs_are_the_bits(bits in prop::collection::vec(any::<bool>(), 0..300), ends in any::<(u16, u16)>()) {
            let within = usize::from(ends.0 % 320)..usize::from(ends.1 % 320);
            let steps = of(&bits);
            let mut expected: Vec<Range<usize>> = Vec::new();
            for at in within.clone().filter(|&at| at < bits.len() && bits[at]) {
                match expected.last_mut() {
                    Some(run) if run.end == at => run.end += 1,
                    _ => expected.push(at..at + 1),
                }
            }
            prop_assert_eq!(steps.runs(within.clone()), expected.clone());
            prop_assert_eq!(steps.last_run(within), expected.last().cloned());
            prop_assert_eq!(steps.count, bits.iter().filter(|bit| **bit).count());
        }
    }
}
