//! `Class`: the slabs with slots of one length, and those of them that have free ones.
//!
//! They are kept by who draws from them, then by address: a cache finds its own whatever others have.

use std::collections::BTreeMap;

use super::lines::Drawer;
use super::record::GRANULE;

/// Bytes of free slots that are a lot.
const PLENTY: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Class {
    /// Slabs with a free slot, by their owner's number and their address.
    pub(super) partial: BTreeMap<(u32, usize), u32>,
    /// The slab that slots were taken from last, if it has any left.
    pub(super) current: Option<u32>,
    /// Slots of all slabs of the class, and those with their bit set.
    pub(super) slots: usize,
    pub(super) free: usize,
}

impl Class {
    /// The slab at the lowest address of those with free slots from which `drawer` draws: its address and number.
    pub(super) fn first_of(&self, drawer: Drawer) -> Option<(usize, u32)> {
        let owned = self.partial.range((drawer.0, 0)..=(drawer.0, usize::MAX));
        owned.map(|(&(_, start), &id)| (start, id)).next()
    }

    /// The number of the one that a cache may draw from: its own, or nobody's.
    pub(super) fn first_for(&self, drawer: Drawer) -> Option<u32> {
        let (own, nobodys) = (self.first_of(drawer), self.first_of(Drawer::NOBODY));
        own.into_iter().chain(nobodys).min().map(|(_, id)| id)
    }

    /// The number of the one at the lowest address, whoever draws from it.
    pub(super) fn first(&self) -> Option<u32> {
        let (mut first, mut owner) = (None, 0);
        while let Some((&(next, start), &id)) = self.partial.range((owner, 0)..).next() {
            first = Some(first.map_or((start, id), |lower| (start, id).min(lower)));
            owner = next + 1;
        }
        first.map(|(_, id)| id)
    }

    /// Whether more than half of it is free, and a lot: then it is shared rather than made longer. Else each of many threads
    /// would keep what it needed at most, though not at once.
    pub(super) fn has_plenty(&self, units: u32) -> bool {
        self.free > self.slots / 2 && self.free * units as usize * GRANULE >= PLENTY
    }

    /// The slab at `start`, which has free slots, has another owner.
    pub(super) fn pass_on(&mut self, start: usize, from: Drawer, to: Drawer) {
        if let Some(id) = self.partial.remove(&(from.0, start)) {
            self.partial.insert((to.0, start), id);
        }
    }
}
