//! Handles: what a `neuro_tensor_t *` is, and how a wrong one is told from a right one.
//!
//! A handle is a number, not an address: it names a slot of a table that is never taken down and the generation of what
//! lies in the slot. Nothing that C hands in is ever dereferenced before its slot has said that the generation is alive, so
//! a released, foreign or made-up handle gives an error and no crash. A look-up is two loads.
//!
//! ```text
//!   63     47 46        30 29         5 4    3 2   0
//!  +---------+------------+------------+------+-----+
//!  |    0    | generation |   index    | kind | 000 |
//!  +---------+------------+------------+------+-----+
//! ```
//! 47 bits and the low ones clear, because scripting languages keep their own marks in the others. `kind` is never 0, so
//! no handle is NULL.
//!
//! Invariants:
//! - H1: slots lie in chunks that are never freed or moved, so an index below `made` always leads to a slot.
//! - H2: a slot's value is initialised exactly while its count is not 0.
//! - H3: a slot is on the free list, or owned by the one thread that fills or empties it, or counted: never two of these.
//!
//! Limits: a slot's generation comes round after 131,072 uses; one stale handle in so many is taken for a live one. Calls
//! that race with the last release of their own handle are the caller's error: whoever uses a handle holds a reference.
//!
//! Absent on purpose: locks, so that a forked child can use and release what it inherited.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

#[cfg(test)]
mod tests;

const KIND_SHIFT: u32 = 3;
const KIND_BITS: u32 = 2;
const INDEX_SHIFT: u32 = KIND_SHIFT + KIND_BITS;
const INDEX_BITS: u32 = 25;
const GENERATION_SHIFT: u32 = INDEX_SHIFT + INDEX_BITS;
const GENERATION_BITS: u32 = 17;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
/// Slots of the first chunk; each further one is twice as long.
const FIRST_CHUNK: u32 = 64;
const CHUNKS: usize = 19;
/// Slots of all chunks together.
const CAPACITY: u32 = FIRST_CHUNK * ((1 << CHUNKS) - 1);
/// Far from overflow even if every thread of the machine adds one to it at the same time.
const MAX_COUNT: u32 = 1 << 30;

const _: () = assert!(usize::BITS == 64 && GENERATION_SHIFT + GENERATION_BITS == 47);
const _: () = assert!(CAPACITY < 1 << INDEX_BITS);

/// All handles of one kind.
pub(crate) struct Table<T> {
    kind: usize,
    chunks: [AtomicPtr<Slot<T>>; CHUNKS],
    /// Slots that were ever used: the first `made` of the chunks.
    made: AtomicU32,
    /// Head of the free list: a count of changes (against ABA) above the index + 1, or 0 where it is empty.
    free: AtomicU64,
}

struct Slot<T> {
    /// Generation above the count of references.
    state: AtomicU64,
    /// Next of the free list, as index + 1.
    next: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: values go in on one thread and may come out on another (`T: Send`), and several threads may look at one at the
// same time (`T: Sync`); everything else in a table is atomic.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// The handle names nothing that lives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stale;

impl<T> Table<T> {
    /// A table of handles of kind `kind`: 1, 2 or 3.
    pub(crate) const fn new(kind: usize) -> Self {
        assert!(kind != 0 && kind < 1 << KIND_BITS);
        Self {
            kind,
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            made: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// Takes in what `make` makes; the handle has one reference. The slot is found first, so that `make` is called only
    /// where nothing else can fail; `full` makes the error where there is none.
    pub(crate) fn insert<E>(&self, make: impl FnOnce() -> Result<T, E>, full: impl FnOnce() -> E) -> Result<usize, E> {
        let index = self.pop_free().or_else(|| self.make_slot()).ok_or_else(full)?;
        let slot = self.slot(index).expect("both sources give slots that exist");
        let value = match make() {
            Ok(value) => value,
            Err(error) => {
                self.push_free(slot, index);
                return Err(error);
            }
        };
        let generation = split(slot.state.load(Ordering::Relaxed)).0;
        // SAFETY: the slot is off the free list and its count is 0, so this thread alone owns it (H3) and no value is
        // overwritten (H2).
        unsafe { (*slot.value.get()).write(value) };
        // Release: whoever sees the count sees the value.
        slot.state.store(join(generation, 1), Ordering::Release);
        Ok(self.handle(index, generation))
    }

    /// What `handle` names.
    ///
    /// # Safety
    /// Where the handle is live, a reference to it is held for as long as the result is used.
    pub(crate) unsafe fn get(&self, handle: usize) -> Result<&T, Stale> {
        let (slot, generation) = self.find(handle)?;
        // Acquire: pairs with the store in `insert`.
        let (now, count) = split(slot.state.load(Ordering::Acquire));
        if now != generation || count == 0 {
            return Err(Stale);
        }
        // SAFETY: the count is not 0, so the value is initialised (H2), and the caller's reference keeps it so;
        // while it is counted nobody has `&mut` to it.
        Ok(unsafe { (*slot.value.get()).assume_init_ref() })
    }

    /// One more reference.
    pub(crate) fn retain(&self, handle: usize) -> Result<(), Stale> {
        let (slot, generation) = self.find(handle)?;
        slot.state
            // Relaxed: the caller's own reference already orders everything before this one.
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                let (now, count) = split(state);
                (now == generation && count != 0 && count < MAX_COUNT).then(|| state + 1)
            })
            .map_or(Err(Stale), |_| Ok(()))
    }

    /// One reference less. After the last one the handle is stale and the value comes back, to be dropped.
    pub(crate) fn release(&self, handle: usize) -> Result<Option<T>, Stale> {
        let (slot, generation) = self.find(handle)?;
        let before = slot
            .state
            // AcqRel: what other threads did with the value before they released comes before its drop.
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
                let (now, count) = split(state);
                match count {
                    _ if now != generation => None,
                    0 => None,
                    1 => Some(join((generation + 1) & GENERATION_MASK, 0)),
                    _ => Some(state - 1),
                }
            })
            .map_err(|_| Stale)?;
        if split(before).1 != 1 {
            return Ok(None);
        }
        // SAFETY: the count went from 1 to 0 here, so the value was initialised (H2) and this thread alone owns the slot
        // until it is on the free list (H3).
        let value = unsafe { (*slot.value.get()).assume_init_read() };
        self.push_free(slot, index_of(handle));
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
        self.slot(index).map(|slot| (slot, generation)).ok_or(Stale)
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (chunk, offset) = place(index);
        // Acquire: pairs with the store in `chunk_of`; a chunk that can be seen is zeroed.
        let first = self.chunks.get(chunk)?.load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: a chunk has `FIRST_CHUNK << chunk` slots, `offset` is below that by `place`, and it is never freed
        // (H1); a zeroed slot is a valid one: atomics at 0 and an uninitialised value.
        Some(unsafe { &*first.add(offset) })
    }

    /// A slot that was never used.
    fn make_slot(&self) -> Option<u32> {
        let mut index = self.made.load(Ordering::Relaxed);
        loop {
            if index == CAPACITY {
                return None;
            }
            self.make_chunk(place(index).0)?;
            match self
                .made
                .compare_exchange_weak(index, index + 1, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(index),
                Err(now) => index = now,
            }
        }
    }

    fn make_chunk(&self, chunk: usize) -> Option<()> {
        let place = &self.chunks[chunk];
        if !place.load(Ordering::Relaxed).is_null() {
            return Some(());
        }
        let layout = Layout::array::<Slot<T>>((FIRST_CHUNK as usize) << chunk).ok()?;
        // SAFETY: a slot has atomics in it, so the layout is not empty.
        let new = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Slot<T>>();
        if new.is_null() {
            return None;
        }
        // Release: pairs with the load in `slot`.
        if place
            .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: allocated above with this layout and given to nobody: another thread's chunk stands there.
            unsafe { std::alloc::dealloc(new.cast(), layout) };
        }
        Some(())
    }

    fn pop_free(&self) -> Option<u32> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let (changes, first) = split(head);
            let index = first.checked_sub(1)?;
            // May be out of date, but then `changes` has moved on and the exchange below fails.
            let next = self.slot(index)?.next.load(Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                head,
                join(changes.wrapping_add(1), next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    fn push_free(&self, slot: &Slot<T>, index: u32) {
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            let (changes, first) = split(head);
            slot.next.store(first, Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                head,
                join(changes.wrapping_add(1), index + 1),
                // Release: who pops this slot sees `next`, the new generation, and that the value was moved out.
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

fn index_of(handle: usize) -> u32 {
    (handle >> INDEX_SHIFT) as u32 & ((1 << INDEX_BITS) - 1)
}

/// Chunk of slot `index`, and its place in there.
fn place(index: u32) -> (usize, usize) {
    let from_first = index + FIRST_CHUNK;
    let chunk = from_first.ilog2() - FIRST_CHUNK.ilog2();
    (chunk as usize, (from_first - (FIRST_CHUNK << chunk)) as usize)
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
