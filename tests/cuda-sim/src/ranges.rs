//! A set of numbers as ranges that neither touch nor overlap.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, Default)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let Range { mut start, mut end } = range;
        if start >= end {
            return;
        }
        while let Some((&other, &other_end)) = self.0.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.0.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    pub(crate) fn contains(&self, range: &Range<u64>) -> bool {
        let before = self.0.range(..=range.start).next_back();
        range.is_empty() || before.is_some_and(|(_, &end)| end >= range.end)
    }

    /// The parts of `range` that are not in it.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut at = range.start;
        let mut parts = Vec::new();
        let first = self.0.range(..=at).next_back().map_or(at, |(&start, _)| start);
        for (&start, &end) in self.0.range(first..range.end) {
            if start > at {
                parts.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            parts.push(at..range.end);
        }
        parts
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain set, with ranges that a rule makes.
    #[test]
    fn as_a_plain_set() {
        for seed in 1..50 {
            let mut random = crate::random::Random::new(seed);
            let (mut ranges, mut plain) = (Ranges::default(), [false; 64]);
            for _ in 0..12 {
                let start = random.next(60);
                let end = start + random.next(5);
                ranges.insert(start as u64..end as u64);
                plain[start..end].fill(true);
                let mut seen = [false; 64];
                ranges
                    .iter()
                    .for_each(|range| seen[range.start as usize..range.end as usize].fill(true));
                assert_eq!(seen, plain);
                let (start, len) = (random.next(50), random.next(14));
                let asked = start as u64..(start + len) as u64;
                assert_eq!(
                    ranges.contains(&asked),
                    plain[start..start + len].iter().all(|&set| set)
                );
                let missing: u64 = ranges
                    .missing(asked.clone())
                    .iter()
                    .map(|part| part.end - part.start)
                    .sum();
                assert_eq!(
                    missing as usize,
                    plain[start..start + len].iter().filter(|&&set| !set).count()
                );
            }
            let all: Vec<_> = ranges.iter().collect();
            assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
