//! `Starts`: the sorted set of offsets at which a range, live or free, begins.
//!
//! A live block has no node and no header: its length is the distance to the next start, its neighbours are the starts
//! around it. The set is kept in pages of 65,536 units (4 MiB of 64-byte granules), each in the cheaper of two forms, so
//! that neither many small blocks nor few large ones cost more than 8 bytes a block (blocks above 256 KiB cost what the
//! table of pages costs: 24 bytes for 4 MiB):
//!
//! ```text
//! page    List   sorted 16-bit offsets in the page: 2 bytes a start (up to twice that in spare capacity)
//!         Bits   one bit a unit and one summary bit a 64-bit word: 8.2 KiB, once more than 1,280 starts are there
//! Starts  pages: Vec<Page>, up to the highest page ever used (24 bytes each); occupied: one bit a page
//! ```
//!
//! Invariants (`assert_valid`):
//! - S1: a list is strictly ascending; a page of bits counts its bits, and a summary bit is set iff its word is not 0.
//! - S2: an occupied bit is set iff its page holds a start.
//!
//! Absent on purpose: which ranges are free (the map of `OffsetHeap`), and the end of the last range (its capacity).

use super::page::{PAGE, Page, first_bit_from, last_bit_below};

/// The starts next to a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) before: Option<u32>,
    pub(super) after: Option<u32>,
    /// A hint for [`Starts::remove`]: where the start was found.
    pub(super) at: usize,
}

#[derive(Debug, Default)]
pub(super) struct Starts {
    pages: Vec<Page>,
    occupied: Vec<u64>,
}

fn split(offset: u32) -> (usize, u16) {
    (offset as usize / PAGE, offset as u16)
}

fn join(page: usize, low: u16) -> u32 {
    page as u32 * PAGE as u32 + u32::from(low)
}

impl Starts {
    /// Adds a start that is not in the set.
    pub(super) fn insert(&mut self, offset: u32) {
        let (page, low) = split(offset);
        if page >= self.pages.len() {
            if page >= self.pages.capacity() {
                let missing = page + 1 - self.pages.len();
                self.pages.reserve_exact(missing.max(self.pages.len() / 4));
            }
            self.pages.resize_with(page + 1, || Page::List(Vec::new()));
            self.occupied.resize(page / 64 + 1, 0);
        }
        self.pages[page].insert(low);
        self.occupied[page / 64] |= 1 << (page % 64);
    }

    /// Takes a start out of the set; it must be in it. `near` is the `at` of a start that was found next to it, or any
    /// number: the search is shorter if it is right.
    pub(super) fn remove(&mut self, offset: u32, near: usize) {
        let (page, low) = split(offset);
        if self.pages[page].remove(low, near) == 0 {
            self.occupied[page / 64] &= !(1 << (page % 64));
        }
    }

    /// The starts on both sides of `offset`; `None` if no range starts at `offset` itself.
    pub(super) fn around(&self, offset: u32) -> Option<Around> {
        let (page, low) = split(offset);
        let (before, after, at) = self.pages.get(page)?.around(low)?;
        Some(Around {
            before: before
                .map(|low| join(page, low))
                .or_else(|| self.last_before_page(page)),
            after: after.map(|low| join(page, low)).or_else(|| self.first_after_page(page)),
            at,
        })
    }

    /// The start of the range in which `offset` lies: the greatest start that is at most `offset`.
    pub(super) fn at_or_before(&self, offset: u32) -> Option<u32> {
        let (page, low) = split(offset);
        let here = self.pages.get(page).and_then(|p| p.at_or_before(low));
        here.map(|low| join(page, low)).or_else(|| self.last_before_page(page))
    }

    /// Bytes the set has committed.
    pub(super) fn side_bytes(&self) -> usize {
        self.pages.capacity() * size_of::<Page>()
            + self.occupied.capacity() * size_of::<u64>()
            + self.pages.iter().map(Page::side_bytes).sum::<usize>()
    }

    /// Gives back the memory of pages above the highest start.
    pub(super) fn shrink(&mut self) {
        let used = self
            .last_before_page(self.pages.len())
            .map_or(0, |last| split(last).0 + 1);
        self.pages.truncate(used);
        self.pages.shrink_to_fit();
        self.occupied.truncate(used.div_ceil(64));
        self.occupied.shrink_to_fit();
    }

    /// All starts, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = self.first_after_page_index(0);
        std::iter::from_fn(move || {
            let now = next?;
            next = self.around(now)?.after;
            Some(now)
        })
    }

    fn last_before_page(&self, page: usize) -> Option<u32> {
        let page = last_bit_below(&self.occupied, page)?;
        self.pages[page].last().map(|low| join(page, low))
    }

    fn first_after_page(&self, page: usize) -> Option<u32> {
        self.first_after_page_index(page + 1)
    }

    fn first_after_page_index(&self, page: usize) -> Option<u32> {
        let page = first_bit_from(&self.occupied, page)?;
        self.pages[page].first().map(|low| join(page, low))
    }

    pub(super) fn assert_valid(&self) {
        for (index, page) in self.pages.iter().enumerate() {
            page.assert_valid();
            let marked = self.occupied[index / 64] >> (index % 64) & 1 == 1;
            assert_eq!(marked, page.first().is_some(), "S2: page {index}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::LIST_MAX;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(starts: &Starts, model: &BTreeSet<u32>, probe: u32) {
        let around = model.contains(&probe).then(|| {
            (
                model.range(..probe).next_back().copied(),
                model.range(probe + 1..).next().copied(),
            )
        });
        assert_eq!(starts.around(probe).map(|around| (around.before, around.after)), around);
        assert_eq!(starts.at_or_before(probe), model.range(..=probe).next_back().copied());
    }

    proptest! {
        /// Law: the set answers as a `BTreeSet` does, within pages, across them, and over empty ones between.
        #[test]
        fn agrees_with_a_tree(ops in prop::collection::vec((0u32..300, 0u32..8), 0..300), high in 0u32..40) {
            let (mut starts, mut model) = (Starts::default(), BTreeSet::new());
            for (low, page) in ops {
                // Pages far apart, and offsets at both edges of a page.
                let offset = page * high * PAGE as u32 + if low % 2 == 0 { low } else { PAGE as u32 - low };
                if model.insert(offset) {
                    starts.insert(offset);
                } else {
                    model.remove(&offset);
                    // A hint that is right, off by one, or wild.
                    starts.remove(offset, starts.around(offset).unwrap().at.wrapping_sub(low as usize % 3));
                }
                check(&starts, &model, offset);
                check(&starts, &model, offset ^ 1);
            }
            starts.assert_valid();
            prop_assert!(starts.iter().eq(model.iter().copied()));
            starts.shrink();
            starts.assert_valid();
            prop_assert!(starts.iter().eq(model.iter().copied()));
        }
    }

    /// A page that fills and empties again passes through both forms, both ways.
    #[test]
    fn page_changes_its_form_and_back() {
        let (mut starts, mut model) = (Starts::default(), BTreeSet::new());
        let mut state = 1u32;
        let offsets: Vec<u32> = (0..3 * LIST_MAX)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 15
            })
            .filter(|&offset| model.insert(offset))
            .collect();
        for &offset in &offsets {
            starts.insert(offset);
        }
        starts.assert_valid();
        assert!(matches!(starts.pages[0], Page::Bits(_)) && matches!(starts.pages[1], Page::Bits(_)));
        assert!(starts.iter().eq(model.iter().copied()));
        for &offset in &offsets {
            check(&starts, &model, offset);
            check(&starts, &model, offset + 1);
            model.remove(&offset);
            starts.remove(offset, 0);
        }
        starts.assert_valid();
        assert!(
            starts
                .pages
                .iter()
                .all(|page| matches!(page, Page::List(list) if list.is_empty()))
        );
        assert!(
            starts.side_bytes() < 1024,
            "{} bytes kept for no start",
            starts.side_bytes()
        );
    }

    /// The last unit of the largest region is an ordinary start.
    #[test]
    fn reaches_the_last_unit() {
        let mut starts = Starts::default();
        starts.insert(0);
        starts.insert(u32::MAX - 1);
        assert_eq!(starts.around(0).unwrap().after, Some(u32::MAX - 1));
        assert_eq!(starts.around(u32::MAX - 1).unwrap().before, Some(0));
        assert!(starts.side_bytes() < 4 << 20);
    }
}
