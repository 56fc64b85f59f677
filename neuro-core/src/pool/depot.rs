//! Depots: slots on their way back to the thread that draws from their slab, under the pool's lock.
//!
//! A thread that frees what another allocates fills its magazines, and the other empties its own. Slots that go through here do
//! not go back into slabs in between, where each costs a search: both sides move half a magazine at once. Each cache has a depot,
//! and gets none but slots of its own slabs: what lies side by side stays with one thread.
//!
//! Bounds: as much of each class as one magazine holds. Emptied with the caches; nothing comes in while those are claimed.

use std::sync::atomic::Ordering;

use super::cache::Store;
use super::lines::{Drawer, OWNER};
use super::record::{GRANULE, Record};
use super::slab::{SMALL_UNITS, Slot};
use super::state::State;

pub(super) struct Depot {
    is_vacant: bool,
    /// By granules of a slot, less one. Empty until the first slot.
    classes: Vec<Vec<Slot>>,
}

impl Default for Depot {
    fn default() -> Self {
        Self {
            is_vacant: true,
            classes: Vec::new(),
        }
    }
}

impl Depot {
    /// Room of a class.
    fn most(units: u32) -> usize {
        2 * Store::batch(units)
    }

    /// Keeps a slot that is nobody's; false if there is no room.
    pub(super) fn put(&mut self, slot: Slot, units: u32) -> bool {
        if self.classes.is_empty() {
            self.classes.resize_with(SMALL_UNITS as usize, Vec::new);
        }
        let class = &mut self.classes[units as usize - 1];
        let has_room = class.len() < Self::most(units);
        if has_room {
            class.push(slot);
        }
        has_room
    }

    pub(super) fn take(&mut self, units: u32) -> Option<Slot> {
        self.classes.get_mut(units as usize - 1)?.pop()
    }

    /// Slots, and their bytes.
    pub(super) fn contents(&self) -> (usize, usize) {
        let classes = self.classes.iter().zip(1..);
        classes.fold((0, 0), |(slots, bytes), (class, units)| {
            (slots + class.len(), bytes + class.len() * units * GRANULE)
        })
    }

    pub(super) fn side_bytes(&self) -> usize {
        let slots: usize = self.classes.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot>() + self.classes.capacity() * size_of::<Vec<Slot>>()
    }
}

impl State {
    /// Keeps a slot that is nobody's for the cache that draws from its slab, or gives it back to the slab.
    pub(super) fn stow(&mut self, slot: Slot, units: u32) {
        let kept = self.slow == 0
            && self.owner_of(slot).is_some_and(|owner| {
                let depot = self.depots.get_mut(owner.0 as usize);
                depot.is_some_and(|depot| depot.put(slot, units))
            });
        if !kept {
            self.return_slot(slot.ptr);
        }
    }

    /// Who draws from the slab of this slot.
    fn owner_of(&mut self, slot: Slot) -> Option<Drawer> {
        let address = slot.ptr.addr().get();
        let Record::Slab(slab) = self.region_of(address)?.head().look(address).0 else {
            return None;
        };
        // SAFETY: the word was read at this address, from the pool whose lock this thread has; records begin with a line.
        let owner = unsafe { (*slab.records().add(OWNER)).load(Ordering::Relaxed) };
        (owner != Drawer::NOBODY.0).then_some(Drawer(owner))
    }

    /// Makes a depot for one more cache.
    pub(super) fn add_depot(&mut self) -> Drawer {
        let vacant = self.depots.iter().skip(1).position(|depot| depot.is_vacant);
        let number = vacant.map_or(self.depots.len().max(1), |at| at + 1);
        if number >= self.depots.len() {
            self.depots.resize_with(number + 1, Depot::default);
        }
        self.depots[number].is_vacant = false;
        Drawer(number as u32)
    }

    /// The cache that had it is gone.
    pub(super) fn drop_depot(&mut self, drawer: Drawer) {
        self.empty_depot(drawer.0 as usize);
        self.slabs.forget(drawer);
        self.depots[drawer.0 as usize] = Depot::default();
    }

    /// Gives all that is in depots back to the slabs; whether there was anything.
    pub(super) fn empty_depots(&mut self) -> bool {
        let mut any = false;
        for number in 0..self.depots.len() {
            any |= self.empty_depot(number);
        }
        any
    }

    fn empty_depot(&mut self, number: usize) -> bool {
        let mut any = false;
        for units in 1..=SMALL_UNITS {
            while let Some(slot) = self.depots[number].take(units) {
                self.return_slot(slot.ptr);
                any = true;
            }
        }
        any
    }
}
