//! Slabs: blocks of the heap that are cut into equal slots for requests of up to 4 KiB.
//!
//! Every multiple of the granule up to 4 KiB is a class of its own, so a slot is never longer than the granule makes it. A
//! slab covers whole pages; the first of a class is small, later ones grow with the class, up to 64 KiB.
//!
//! ```text
//! slab     | slot | slot | slot | …            one block of the heap
//! records  one word a slot: LIVE | bytes that were asked for      (lines.rs; read and written by whoever has the slot, without
//!          a lock)
//! bits     one bit a slot: neither live nor in a thread's cache    (under the pool's lock)
//! ```
//!
//! Invariants:
//! - L2: a slot is live, or waits in one cache or the pending list, or has its bit set: exactly one of them.
//! - L3: `partial` of a class (class.rs) has the slabs with a bit set. One all of whose bits are set is nobody's.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use super::class::Class;
use super::lines::{Drawer, Records};
use super::record::{GRANULE, PAGE};
use crate::heap::Block;

/// Largest slot, in granules: 4 KiB.
pub(super) const SMALL_UNITS: u32 = 64;
/// Longest slab.
const FULL_BYTES: usize = 64 << 10;
/// Most slots of a slab.
const MAX_SLOTS: usize = 512;
/// The slot is somebody's.
pub(super) const LIVE: u32 = 1 << 31;
/// The bytes of the slot that were asked for.
pub(super) const REQUESTED: u32 = 0x1fff;

/// A slot that is nobody's, on its way from or to a slab.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) ptr: NonNull<u8>,
    pub(super) record: NonNull<AtomicU32>,
}

/// The part of a slab that the pool's lock guards.
struct SlabState {
    start: NonNull<u8>,
    block: Block,
    /// Bytes of the block, and of the pages that have a record of it.
    length: usize,
    bytes: usize,
    units: u32,
    slots: u32,
    free: u32,
    bits: [u64; MAX_SLOTS / 64],
}

/// All slabs of a pool.
#[derive(Default)]
pub(super) struct Slabs {
    records: Records,
    states: Vec<Option<SlabState>>,
    /// By granules of a slot, less one. Empty until the first slab.
    classes: Vec<Class>,
}

/// A slab to be made: its bytes, whole pages, and its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) bytes: usize,
    slots: u32,
}

/// A slab that was taken out, to be given back to the heap.
pub(super) struct Gone {
    pub(super) start: NonNull<u8>,
    pub(super) block: Block,
    /// Bytes whose pages have a record of it.
    pub(super) bytes: usize,
}

impl Slabs {
    /// A free slot of the class for `drawer`: from the slab of its own, or of nobody's, at the lowest address when the one before
    /// it was used up; if it has to `share`, from any.
    pub(super) fn take(&mut self, units: u32, drawer: Drawer, share: bool) -> Option<Slot> {
        let class = self.classes.get_mut(units as usize - 1)?;
        let may = |id: &u32| {
            let owner = self.records.owner(*id);
            share || owner == drawer || owner == Drawer::NOBODY
        };
        let id = match class.current.filter(may) {
            Some(id) => id,
            None if share => class.first()?,
            None => class.first_for(drawer)?,
        };
        class.current = Some(id);
        let state = self.states[id as usize].as_mut()?;
        let start = state.start.addr().get();
        let mut owner = self.records.owner(id);
        if drawer != Drawer::NOBODY && owner != drawer {
            class.pass_on(start, owner, drawer);
            self.records.set_owner(id, drawer);
            owner = drawer;
        }
        let word = state.bits.iter().position(|&bits| bits != 0)?;
        let slot = word * 64 + state.bits[word].trailing_zeros() as usize;
        state.bits[word] &= state.bits[word] - 1;
        state.free -= 1;
        class.free -= 1;
        if state.free == 0 {
            class.partial.remove(&(owner.0, start));
            class.current = None;
        }
        // SAFETY: `slot < slots`, and the slab's block has that many slots of this length.
        let ptr = unsafe { state.start.add(slot * units as usize * GRANULE) };
        let record = self.records.of_slot(id, slot);
        Some(Slot { ptr, record })
    }

    /// Takes a slot back that is nobody's. The slab's number if all of it is free now and the class can do without.
    pub(super) fn give(&mut self, id: u32, slot: usize) -> Option<u32> {
        let state = self.states[id as usize].as_mut()?;
        let class = &mut self.classes[state.units as usize - 1];
        debug_assert!(state.bits[slot / 64] >> (slot % 64) & 1 == 0, "L2");
        state.bits[slot / 64] |= 1 << (slot % 64);
        state.free += 1;
        class.free += 1;
        let (owner, start) = (self.records.owner(id), state.start.addr().get());
        if state.free == state.slots && owner != Drawer::NOBODY {
            // It may have had none free until now.
            class.partial.remove(&(owner.0, start));
            class.partial.insert((Drawer::NOBODY.0, start), id);
            self.records.set_owner(id, Drawer::NOBODY);
        } else if state.free == 1 {
            class.partial.insert((owner.0, start), id);
        }
        (state.free == state.slots && class.free > state.slots as usize).then_some(id)
    }

    /// Whether a class is better shared than made longer.
    pub(super) fn has_plenty(&self, units: u32) -> bool {
        let class = self.classes.get(units as usize - 1);
        class.is_some_and(|class| class.has_plenty(units))
    }

    /// The next slab of a class: as long as what the class has already, within its bounds.
    pub(super) fn plan(&self, units: u32) -> Plan {
        let slot = units as usize * GRANULE;
        let most = (FULL_BYTES / slot).min(MAX_SLOTS);
        let has = self.classes.get(units as usize - 1).map_or(0, |class| class.slots);
        let wanted = has.clamp(4, most) * slot;
        let bytes = wanted.next_multiple_of(PAGE);
        Plan {
            bytes,
            slots: (bytes / slot).min(most) as u32,
        }
    }

    /// A new slab in `block`, which starts at `start`. Its records, for the words of its pages.
    pub(super) fn add(&mut self, units: u32, plan: Plan, block: Block, start: NonNull<u8>) -> NonNull<AtomicU32> {
        if self.classes.is_empty() {
            self.classes.resize_with(SMALL_UNITS as usize, Class::default);
        }
        let slots = plan.slots as usize;
        let id = self.records.add(slots) as usize;
        self.states.resize_with(self.records.len(), || None);
        let mut bits = [0; MAX_SLOTS / 64];
        for slot in 0..slots {
            bits[slot / 64] |= 1 << (slot % 64);
        }
        self.states[id] = Some(SlabState {
            start,
            block,
            length: plan.bytes,
            bytes: plan.bytes,
            units,
            slots: plan.slots,
            free: plan.slots,
            bits,
        });
        let class = &mut self.classes[units as usize - 1];
        class.slots += slots;
        class.free += slots;
        // Records that were used before are nobody's since their slab went.
        class.partial.insert((Drawer::NOBODY.0, start.addr().get()), id as u32);
        self.records.start(id as u32)
    }

    /// Takes a slab out, all of whose slots are free.
    pub(super) fn remove(&mut self, id: u32) -> Option<Gone> {
        let state = self.states[id as usize].take()?;
        debug_assert_eq!(state.free, state.slots);
        let class = &mut self.classes[state.units as usize - 1];
        class.slots -= state.slots as usize;
        class.free -= state.slots as usize;
        class
            .partial
            .remove(&(self.records.owner(id).0, state.start.addr().get()));
        class.current = class.current.filter(|&current| current != id);
        self.records.remove(id);
        Some(Gone {
            start: state.start,
            block: state.block,
            bytes: state.bytes,
        })
    }

    /// A cache is gone.
    pub(super) fn forget(&mut self, drawer: Drawer) {
        for class in &mut self.classes {
            while let Some((start, _)) = class.first_of(drawer) {
                class.pass_on(start, drawer, Drawer::NOBODY);
            }
        }
        self.records.forget(drawer);
    }

    /// Numbers of the slabs all of whose slots are free.
    pub(super) fn empty(&self) -> Vec<u32> {
        let partial = self.classes.iter().flat_map(|class| &class.partial);
        partial
            .map(|(_, &id)| id)
            .filter(|&id| {
                self.states[id as usize]
                    .as_ref()
                    .is_some_and(|state| state.free == state.slots)
            })
            .collect()
    }

    /// Cuts every slab short behind its last slot that is in use. Each one's block and the granules that it keeps, of which
    /// there is at least one.
    pub(super) fn shorten(&mut self) -> Vec<(usize, NonNull<u8>, Block, u32)> {
        let mut cut = Vec::new();
        for (id, state) in self.states.iter_mut().enumerate() {
            let Some(state) = state.as_mut() else { continue };
            let in_use = |&slot: &u32| state.bits[slot as usize / 64] >> (slot % 64) & 1 == 0;
            let Some(last) = (0..state.slots).rev().find(in_use) else {
                continue;
            };
            let kept = last + 1;
            let gone = state.slots - kept;
            if state.length == (kept * state.units) as usize * GRANULE {
                continue;
            }
            for slot in kept..state.slots {
                state.bits[slot as usize / 64] &= !(1 << (slot % 64));
            }
            let class = &mut self.classes[state.units as usize - 1];
            class.slots -= gone as usize;
            class.free -= gone as usize;
            state.slots = kept;
            state.length = (kept * state.units) as usize * GRANULE;
            state.free -= gone;
            if state.free == 0 {
                let owner = self.records.owner(id as u32);
                class.partial.remove(&(owner.0, state.start.addr().get()));
                class.current = class.current.filter(|&current| current as usize != id);
            }
            cut.push((id, state.start, state.block, kept * state.units));
        }
        cut
    }

    /// Pages beyond a slab that was cut short have no record of it any more.
    pub(super) fn set_bytes(&mut self, id: usize, bytes: usize) {
        if let Some(state) = &mut self.states[id] {
            state.bytes = bytes;
        }
    }

    /// Bytes of slabs behind their last slot.
    #[cfg(all(test, not(loom)))]
    pub(super) fn rest_bytes(&self) -> usize {
        let states = self.states.iter().flatten();
        states
            .map(|state| state.length - (state.slots * state.units) as usize * GRANULE)
            .sum()
    }

    /// Every count agrees with the bits.
    #[cfg(all(test, not(loom)))]
    pub(super) fn assert_valid(&self) {
        for (units, class) in self.classes.iter().enumerate() {
            let of_class = |state: &&SlabState| state.units as usize == units + 1;
            let states: Vec<_> = self.states.iter().flatten().filter(of_class).collect();
            assert_eq!(
                class.slots,
                states.iter().map(|state| state.slots as usize).sum::<usize>()
            );
            assert_eq!(
                class.free,
                states.iter().map(|state| state.free as usize).sum::<usize>()
            );
            assert_eq!(
                class.partial.len(),
                states.iter().filter(|state| state.free > 0).count(),
                "L3"
            );
            for (&(owner, start), &id) in &class.partial {
                let state = self.states[id as usize].as_ref();
                assert!(
                    state.is_some_and(|state| state.start.addr().get() == start && state.free > 0),
                    "L3"
                );
                assert_eq!(self.records.owner(id), Drawer(owner), "L3");
                assert!(
                    owner == 0 || state.is_some_and(|state| state.free < state.slots),
                    "L3: an empty slab is somebody's"
                );
            }
            for state in states {
                let set: u32 = state.bits.iter().map(|bits| bits.count_ones()).sum();
                assert_eq!(set, state.free);
            }
        }
    }

    /// Bytes in slots that are nobody's, those in caches not counted.
    pub(super) fn free_bytes(&self) -> usize {
        let classes = self.classes.iter().enumerate();
        classes
            .map(|(less_one, class)| (less_one + 1) * GRANULE * class.free)
            .sum()
    }

    /// Bytes of bookkeeping.
    pub(super) fn side_bytes(&self) -> usize {
        let partial: usize = self.classes.iter().map(|class| class.partial.len()).sum();
        self.records.side_bytes()
            + self.states.capacity() * size_of::<Option<SlabState>>()
            + self.classes.capacity() * size_of::<Class>()
            + partial * 2 * size_of::<((u32, usize), u32)>()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::record::{Record, SlabWord};
    use super::*;
    use crate::heap::Tag;

    const BLOCK: Block = Block {
        offset: 0,
        node: 0,
        tag: Tag::IDLE,
    };

    /// For every class and plan: each address in the slab is told apart, slots from insides; records suffice.
    #[test]
    fn every_slot_is_found_and_nothing_else() {
        for units in 1..=SMALL_UNITS {
            let mut slabs = Slabs::default();
            let start = NonNull::new(std::ptr::without_provenance_mut::<u8>(1 << 20)).unwrap();
            for _ in 0..12 {
                let plan = slabs.plan(units);
                let slot = units as usize * GRANULE;
                assert!(plan.slots as usize * slot <= plan.bytes && plan.bytes <= FULL_BYTES);
                let records = slabs.add(units, plan, BLOCK, start);
                let room = slabs.records.room(slabs.records.len() as u32 - 1);
                for granule in 0..plan.bytes / GRANULE {
                    let address = (1 << 20) + granule * GRANULE;
                    let Record::Slab(word) = Record::of(SlabWord::word(records, units, granule * GRANULE / PAGE))
                    else {
                        panic!("no slab")
                    };
                    assert_eq!((word.units(), word.records()), (units, records.as_ptr().cast_const()));
                    // SAFETY: the records live while `slabs` does.
                    let found = unsafe { word.slot_at(address) }.map(|(slot, _)| slot as usize);
                    let expected = (granule % units as usize == 0).then_some(granule / units as usize);
                    assert_eq!(found, expected, "{units} {granule}");
                    assert!(found.is_none_or(|slot| slot < room), "{units} {granule}");
                    // SAFETY: as above.
                    assert!(unsafe { word.slot_at(address + 1) }.is_none());
                }
            }
        }
    }

    #[test]
    fn a_slab_comes_and_goes_with_its_slots() {
        let mut slabs = Slabs::default();
        assert!(slabs.take(3, Drawer::NOBODY, true).is_none());
        let start = NonNull::new(std::ptr::without_provenance_mut::<u8>(1 << 20)).unwrap();
        let plan = slabs.plan(3);
        slabs.add(3, plan, BLOCK, start);
        let slots: Vec<_> = (0..plan.slots)
            .map(|_| slabs.take(3, Drawer::NOBODY, true).unwrap())
            .collect();
        assert!(slabs.take(3, Drawer::NOBODY, true).is_none());
        slabs.assert_valid();
        for slot in &slots {
            let number = (slot.ptr.addr().get() - (1 << 20)) / (3 * GRANULE);
            assert_eq!(slabs.give(0, number), None, "the last slab of a class stays");
        }
        slabs.assert_valid();
        assert_eq!(slabs.empty(), vec![0]);
        assert_eq!(slabs.remove(0).unwrap().bytes, plan.bytes);
        assert!(slabs.empty().is_empty() && slabs.free_bytes() == 0);
        slabs.assert_valid();
    }
}
