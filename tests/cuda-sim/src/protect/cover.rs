//! How much of what uses each page of a world, and the protection that follows.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretch {
    end: u64,
    reads: u32,
    writes: u32,
}

impl Stretch {
    fn protection(&self) -> i32 {
        match (self.writes, self.reads) {
            (0, 0) => libc::PROT_READ | libc::PROT_WRITE,
            (0, _) => libc::PROT_READ,
            _ => libc::PROT_NONE,
        }
    }
}

/// Stretches of pages that are in use, by the number of uses. Those without any are not there.
#[derive(Debug, Default)]
pub(crate) struct Cover(BTreeMap<u64, Stretch>);

impl Cover {
    /// A use comes.
    pub(crate) fn add(&mut self, bytes: &Range<u64>, writes: bool) {
        self.change(bytes, writes, true);
    }

    /// A use goes.
    pub(crate) fn remove(&mut self, bytes: &Range<u64>, writes: bool) {
        self.change(bytes, writes, false);
    }

    fn change(&mut self, bytes: &Range<u64>, writes: bool, comes: bool) {
        let page = super::page();
        let (start, end) = (bytes.start - bytes.start % page, bytes.end.next_multiple_of(page));
        self.split(start);
        self.split(end);
        let mut at = start;
        while at < end {
            let next = self.0.range(at..end).next().map(|(&start, &stretch)| (start, stretch));
            let (start, was) = match next {
                Some((start, stretch)) if start == at => (start, stretch),
                // A gap up to the next one.
                other => {
                    let end = other.map_or(end, |(start, _)| start);
                    let none = Stretch {
                        end,
                        reads: 0,
                        writes: 0,
                    };
                    (at, none)
                }
            };
            let mut now = was;
            let count = if writes { &mut now.writes } else { &mut now.reads };
            *count = if comes { *count + 1 } else { count.saturating_sub(1) };
            if now.protection() != was.protection() {
                protect(start..now.end, now.protection());
            }
            if now.reads + now.writes == 0 {
                self.0.remove(&start);
            } else {
                self.0.insert(start, now);
            }
            at = now.end;
        }
    }

    fn split(&mut self, at: u64) {
        if let Some((&start, stretch)) = self.0.range_mut(..=at).next_back()
            && start < at
            && at < stretch.end
        {
            let rest = *stretch;
            stretch.end = at;
            self.0.insert(at, rest);
        }
    }

    /// Makes all pages accessible.
    pub(crate) fn clear(&mut self) {
        for (start, stretch) in std::mem::take(&mut self.0) {
            protect(start..stretch.end, libc::PROT_READ | libc::PROT_WRITE);
        }
    }
}

fn protect(pages: Range<u64>, protection: i32) {
    let start = std::ptr::with_exposed_provenance_mut(pages.start as usize);
    // SAFETY: pages of page-locked memory, which is accessible and stays mapped as long as it is locked; who touches them meanwhile
    // comes to the handler, which opens them. Where the system refuses, the pages stay as they are.
    unsafe { libc::mprotect(start, (pages.end - pages.start) as usize, protection) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_that_overlap_leave_nothing_behind() {
        // SAFETY: a new mapping, unmapped at the end; nobody touches it.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(
                std::ptr::null_mut(),
                1 << 20,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        let at = |offset: u64| start.addr() as u64 + offset * super::super::page();
        for seed in 1..40 {
            let mut random = crate::random::Random::new(seed);
            let mut cover = Cover::default();
            let mut live = Vec::new();
            let mut plain = [[0u32; 2]; 40];
            for _ in 0..60 {
                if live.is_empty() || random.next(2) == 0 {
                    let first = random.next(30);
                    let last = first + 1 + random.next(9);
                    let writes = random.next(2) == 1;
                    cover.add(&(at(first as u64) + 5..at(last as u64) - 7), writes);
                    live.push((first, last, writes));
                    plain[first..last]
                        .iter_mut()
                        .for_each(|page| page[usize::from(writes)] += 1);
                } else {
                    let (first, last, writes) = live.swap_remove(random.next(live.len()));
                    cover.remove(&(at(first as u64)..at(last as u64)), writes);
                    plain[first..last]
                        .iter_mut()
                        .for_each(|page| page[usize::from(writes)] -= 1);
                }
                for (page, counts) in plain.iter().enumerate() {
                    let found = cover
                        .0
                        .range(..=at(page as u64))
                        .next_back()
                        .filter(|(_, stretch)| stretch.end > at(page as u64));
                    assert_eq!(
                        found.map_or([0, 0], |(_, stretch)| [stretch.reads, stretch.writes]),
                        *counts
                    );
                }
            }
            live.iter()
                .for_each(|&(first, last, writes)| cover.remove(&(at(first as u64)..at(last as u64)), writes));
            assert!(cover.0.is_empty());
        }
        // SAFETY: mapped above.
        unsafe { libc::munmap(start, 1 << 20) };
    }
}
