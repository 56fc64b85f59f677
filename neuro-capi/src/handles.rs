//! Handles: what a `neuro_tensor_t *` is, and how a wrong one is told from a right one.
//!
//! A handle is a number, not an address: it names a slot of a table that is never taken down and the generation of what
//! lies in the slot. Nothing that C hands in is ever dereferenced before its slot has said that the generation is alive, so
//! a released, foreign or made-up handle gives an error and no crash. A look-up is two loads.
//!
//! ```text
//!   63     47 46        31 30         7 6    3 2   0
//!  +---------+------------+------------+------+-----+
//!  |    0    | generation |   index    | kind | 000 |
//!  +---------+------------+------------+------+-----+
//! ```
//! 47 bits and the low ones clear, because scripting languages keep their own marks in the others. `kind` is never 0, so
//! no handle is NULL.
//!
//! Invariants:
//! - H1: slots (`slots.rs`) lie in chunks that are never freed or moved, so an index below `made` always leads to a slot.
//! - H2: a slot's value is initialised exactly while its count is not 0.
//! - H3: a slot is on the free list, or owned by the one thread that fills or empties it, or counted: never two of these.
//!
//! Limits: a slot's generation comes round after 65,536 uses; one stale handle in so many is taken for a live one. Calls
//! that race with the last release of their own handle are the caller's error: whoever uses a handle holds a reference.
//!
//! Absent on purpose: locks, so that a forked child can use and release what it inherited.

use probe::{Mutant, chosen, unless};
use slots::{CAPACITY, Slot, Slots};
use sync::Ordering;

#[cfg(all(test, loom))]
mod loom_tests;
mod probe;
mod slots;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

const KIND_SHIFT: u32 = 3;
const KIND_BITS: u32 = 4;
const INDEX_SHIFT: u32 = KIND_SHIFT + KIND_BITS;
const INDEX_BITS: u32 = 24;
const GENERATION_SHIFT: u32 = INDEX_SHIFT + INDEX_BITS;
const GENERATION_BITS: u32 = 16;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
/// Far from overflow even if every thread of the machine adds one to it at the same time.
const MAX_COUNT: u32 = 1 << 30;

const _: () = assert!(usize::BITS == 64 && GENERATION_SHIFT + GENERATION_BITS == 47);
const _: () = assert!(CAPACITY < 1 << INDEX_BITS);

/// All handles of one kind.
pub(crate) struct Table<T> {
    kind: usize,
    slots: Slots<T>,
}

// SAFETY: values go in on one thread and may come out on another (`T: Send`), and several threads may look at one at the
// same time (`T: Sync`); everything else in a table is atomic.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// The one table of a kind of handle, for as long as the process lives. A static that is made when the program is built, so
/// that no thread waits for another to make it; only loom needs to make one at run time.
macro_rules! the_table {
    ($value:ty, $kind:literal) => {{
        #[cfg(not(loom))]
        static TABLE: $crate::handles::Table<$value> = $crate::handles::Table::new($kind);
        #[cfg(loom)]
        static TABLE: std::sync::LazyLock<$crate::handles::Table<$value>> =
            std::sync::LazyLock::new(|| $crate::handles::Table::new($kind));
        &TABLE
    }};
}
pub(crate) use the_table;

/// The handle names nothing that lives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale;

impl<T> Table<T> {
    /// A table of handles of kind `kind`: 1 to 15.
    #[cfg(not(loom))]
    pub(crate) const fn new(kind: usize) -> Self {
        assert!(kind != 0 && kind < 1 << KIND_BITS);
        let slots = Slots::new();
        Self { kind, slots }
    }

    /// The same for loom, whose atomics are made at run time.
    #[cfg(loom)]
    pub(crate) fn new(kind: usize) -> Self {
        let slots = Slots::new();
        Self { kind, slots }
    }

    /// Takes in what `make` makes; the handle has one reference. The slot is found first, so that `make` is called only
    /// where nothing else can fail; `full` makes the error where there is none.
    pub(crate) fn insert<E>(&self, make: impl FnOnce() -> Result<T, E>, full: impl FnOnce() -> E) -> Result<usize, E> {
        let index = self.slots.take().ok_or_else(full)?;
        let slot = self.slots.slot(index).expect("what is taken exists");
        let value = match make() {
            Ok(value) => value,
            Err(error) => {
                self.slots.push(slot, index);
                return Err(error);
            }
        };
        let generation = split(slot.state.load(Ordering::Relaxed)).0;
        // SAFETY: the slot is off the free list and its count is 0, so this thread alone owns it (H3) and no value is
        // overwritten (H2).
        slot.value.with_mut(|place| unsafe { (*place).write(value) });
        // Release: whoever sees the count sees the value.
        let publish = unless(Mutant::InsertRelaxed, Ordering::Release, Ordering::Relaxed);
        slot.state.store(join(generation, 1), publish);
        Ok(self.handle(index, generation))
    }

    /// What `handle` names.
    ///
    /// # Safety
    /// Where the handle is live, a reference to it is held for as long as the result is used.
    pub(crate) unsafe fn get(&self, handle: usize) -> Result<&T, Stale> {
        let (slot, generation) = self.find(handle)?;
        // Acquire: pairs with the store in `insert`.
        let (now, count) = split(
            slot.state
                .load(unless(Mutant::GetRelaxed, Ordering::Acquire, Ordering::Relaxed)),
        );
        if now != generation || count == 0 {
            return Err(Stale);
        }
        // SAFETY: the count is not 0, so the value is initialised (H2), and the caller's reference keeps it so;
        // while it is counted nobody has `&mut` to it.
        Ok(slot.value.with(|value| unsafe { (*value).assume_init_ref() }))
    }

    /// One more reference.
    pub(crate) fn retain(&self, handle: usize) -> Result<(), Stale> {
        let (slot, generation) = self.find(handle)?;
        // Relaxed: the caller's own reference already orders everything before this one.
        update(slot, Ordering::Relaxed, Mutant::RetainInTwoSteps, |state| {
            let (now, count) = split(state);
            (now == generation && count != 0 && count < MAX_COUNT).then(|| state + 1)
        })
        .map(drop)
    }

    /// One reference less. After the last one the handle is stale and the value comes back, to be dropped.
    pub(crate) fn release(&self, handle: usize) -> Result<Option<T>, Stale> {
        let (slot, generation) = self.find(handle)?;
        // AcqRel: what other threads did with the value before they released comes before its drop.
        let acquire = unless(Mutant::ReleaseUnpublished, Ordering::AcqRel, Ordering::Acquire);
        let both = unless(Mutant::ReleaseBlind, acquire, Ordering::Release);
        let next_generation = unless(Mutant::GenerationKept, (generation + 1) & GENERATION_MASK, generation);
        let before = update(slot, both, Mutant::ReleaseInTwoSteps, |state| {
            let (now, count) = split(state);
            match count {
                _ if now != generation => None,
                0 => None,
                1 => Some(join(next_generation, 0)),
                _ => Some(state - 1),
            }
        })?;
        if split(before).1 != 1 {
            return Ok(None);
        }
        // SAFETY: the count went from 1 to 0 here, so the value was initialised (H2) and this thread alone owns the slot
        // until it is on the free list (H3).
        let value = slot.value.with_mut(|value| unsafe { (*value).assume_init_read() });
        self.slots.push(slot, index_of(handle));
        Ok(Some(value))
    }

    /// References to `handle`.
    pub(crate) fn count(&self, handle: usize) -> Result<u32, Stale> {
        let (slot, generation) = self.find(handle)?;
        match split(slot.state.load(Ordering::Relaxed)) {
            (now, count) if now == generation && count != 0 => Ok(count),
            _ => Err(Stale),
        }
    }

    fn handle(&self, index: u32, generation: u32) -> usize {
        (generation as usize) << GENERATION_SHIFT | (index as usize) << INDEX_SHIFT | self.kind << KIND_SHIFT
    }

    /// The slot and the generation that `handle` speaks of.
    fn find(&self, handle: usize) -> Result<(&Slot<T>, u32), Stale> {
        let generation = (handle >> GENERATION_SHIFT) as u32 & GENERATION_MASK;
        let index = index_of(handle);
        if self.handle(index, generation) != handle {
            return Err(Stale);
        }
        self.slots.slot(index).map(|slot| (slot, generation)).ok_or(Stale)
    }
}

/// Changes a slot's state in one step, if `change` wants to; gives what it was before.
fn update<T>(
    slot: &Slot<T>,
    ordering: Ordering,
    mutant: Mutant,
    change: impl Fn(u64) -> Option<u64>,
) -> Result<u64, Stale> {
    if chosen(mutant) {
        let state = slot.state.fetch_add(0, Ordering::Relaxed);
        slot.state.store(change(state).ok_or(Stale)?, ordering);
        return Ok(state);
    }
    slot.state
        .fetch_update(ordering, Ordering::Relaxed, change)
        .map_err(|_| Stale)
}

fn index_of(handle: usize) -> u32 {
    (handle >> INDEX_SHIFT) as u32 & ((1 << INDEX_BITS) - 1)
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
