//! The slots of a table: chunks that appear when they are needed, and the list of slots that are free again.
//!
//! The free list is a stack, linked through its slots. Taking the top slot off reads what follows it first; if that slot
//! meanwhile went and came back, something else may follow it. So the head holds a count of the slots that came back,
//! and a count that moved on makes the exchange fail. Taking off need not be counted: no slot comes back unless it is
//! pushed.
//!
//! Limit: a thread that stands still inside `pop_free` for exactly 2^32 pushes, or a multiple, is deceived.

use std::mem::MaybeUninit;
use std::ptr;

use super::join;
use super::probe::{Mutant, chosen, look, unless};
use super::split;
use super::sync::{AtomicPtr, AtomicU32, AtomicU64, Cell, Ordering};

/// Slots of the first chunk; each further one is twice as long. Under loom few, so that threads meet in every place.
pub(super) const FIRST_CHUNK: u32 = if cfg!(loom) { 1 } else { 64 };
pub(super) const CHUNKS: usize = if cfg!(loom) { 3 } else { 18 };
/// Slots of all chunks together.
pub(super) const CAPACITY: u32 = FIRST_CHUNK * ((1 << CHUNKS) - 1);

/// Slots by index, and which of them are free.
pub(super) struct Slots<T> {
    chunks: [AtomicPtr<Slot<T>>; CHUNKS],
    /// Slots that were ever used: the first `made` of the chunks.
    pub(super) made: AtomicU32,
    /// Head of the free list: a count of the slots that came back above the index + 1, or 0 where it is empty.
    free: AtomicU64,
}

pub(super) struct Slot<T> {
    /// Generation above the count of references.
    pub(super) state: AtomicU64,
    /// Next of the free list, as index + 1.
    next: AtomicU32,
    pub(super) value: Cell<MaybeUninit<T>>,
}

impl<T> Slots<T> {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            made: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            made: AtomicU32::new(0),
            free: AtomicU64::new(0),
        }
    }

    /// A slot that belongs to the caller until he counts a reference to it or pushes it. `None`: all are in use, or the
    /// memory is.
    pub(super) fn take(&self) -> Option<u32> {
        self.pop_free().or_else(|| self.make_slot())
    }

    /// The slot `index`, if it was ever made.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let (chunk, offset) = place(index);
        // Acquire: pairs with the exchange in `make_chunk`; a chunk that can be seen has its slots.
        let first = self
            .chunks
            .get(chunk)?
            .load(unless(Mutant::SlotRelaxed, Ordering::Acquire, Ordering::Relaxed));
        if first.is_null() {
            return None;
        }
        // SAFETY: a chunk has `FIRST_CHUNK << chunk` slots, `offset` is below that by `place`, and it is never freed (H1).
        Some(unsafe { &*first.add(offset) })
    }

    /// A slot that was never used.
    fn make_slot(&self) -> Option<u32> {
        let mut index = look!(self.made, Ordering::Relaxed);
        loop {
            if index == CAPACITY {
                return None;
            }
            self.make_chunk(place(index).0)?;
            if chosen(Mutant::SlotMadeInTwoSteps) {
                self.made.store(index + 1, Ordering::Relaxed);
                return Some(index);
            }
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
        let length = (FIRST_CHUNK as usize) << chunk;
        let new = memory::allocate(length)?;
        if chosen(Mutant::ChunkReplaced) {
            place.store(new, Ordering::Release);
            return Some(());
        }
        // Release: pairs with the load in `slot`.
        let publish = unless(Mutant::ChunkRelaxed, Ordering::Release, Ordering::Relaxed);
        if place
            .compare_exchange(ptr::null_mut(), new, publish, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: allocated above with this length and given to nobody: another thread's chunk stands there.
            unsafe { memory::free(new, length) };
        }
        Some(())
    }

    fn pop_free(&self) -> Option<u32> {
        // Acquire, here and in each further turn: pairs with the exchange in `push`, and so does every later head, because
        // the head changes by exchanges alone.
        let mut head = look!(
            self.free,
            unless(Mutant::PopRelaxed, Ordering::Acquire, Ordering::Relaxed)
        );
        loop {
            let (pushes, first) = split(head);
            let index = first.checked_sub(1)?;
            // May be out of date, but then `pushes` has moved on and the exchange below fails.
            let next = self.slot(index)?.next.load(Ordering::Relaxed);
            match self.free.compare_exchange_weak(
                head,
                join(pushes, next),
                // Relaxed: it finds the head that was loaded, and what came with that is known already.
                Ordering::Relaxed,
                unless(Mutant::PopAgainRelaxed, Ordering::Acquire, Ordering::Relaxed),
            ) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Makes the caller's empty slot free. `slot` is the slot `index`.
    pub(super) fn push(&self, slot: &Slot<T>, index: u32) {
        let mut head = look!(self.free, Ordering::Relaxed);
        loop {
            let (pushes, first) = split(head);
            slot.next.store(first, Ordering::Relaxed);
            let counted = unless(Mutant::PushUncounted, pushes.wrapping_add(1), pushes);
            match self.free.compare_exchange_weak(
                head,
                join(counted, index + 1),
                // Release: who pops this slot sees `next`, the new generation, and that the value was moved out.
                unless(Mutant::PushRelaxed, Ordering::Release, Ordering::Relaxed),
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

/// Chunk of slot `index`, and its place in there.
pub(super) fn place(index: u32) -> (usize, usize) {
    let from_first = index + FIRST_CHUNK;
    let chunk = from_first.ilog2() - FIRST_CHUNK.ilog2();
    (chunk as usize, (from_first - (FIRST_CHUNK << chunk)) as usize)
}

/// Chunks of empty slots. Zeroed memory is that, and the system gives it out page by page as it is used.
#[cfg(not(loom))]
mod memory {
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    use super::Slot;

    pub(super) fn allocate<T>(length: usize) -> Option<*mut Slot<T>> {
        let layout = Layout::array::<Slot<T>>(length).ok()?;
        // SAFETY: a chunk has slots and a slot has atomics in it, so the layout is not empty. A zeroed slot is a valid
        // one: atomics at 0 and an uninitialised value.
        let chunk = unsafe { alloc_zeroed(layout) }.cast::<Slot<T>>();
        (!chunk.is_null()).then_some(chunk)
    }

    /// # Safety
    /// `chunk` is from `allocate(length)`, and nobody uses it any more.
    pub(super) unsafe fn free<T>(chunk: *mut Slot<T>, length: usize) {
        if let Ok(layout) = Layout::array::<Slot<T>>(length) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(chunk.cast(), layout) };
        }
    }
}

/// The same for loom, whose atomics and cells have to be made one by one.
#[cfg(loom)]
mod memory {
    use std::mem::MaybeUninit;

    use super::{AtomicU32, AtomicU64, Cell, Slot};

    pub(super) fn allocate<T>(length: usize) -> Option<*mut Slot<T>> {
        let slot = |_| Slot {
            state: AtomicU64::new(0),
            next: AtomicU32::new(0),
            value: Cell::new(MaybeUninit::uninit()),
        };
        let chunk: Box<[Slot<T>]> = (0..length).map(slot).collect();
        Some(Box::into_raw(chunk).cast())
    }

    /// # Safety
    /// `chunk` is from `allocate(length)`, and nobody uses it any more.
    pub(super) unsafe fn free<T>(chunk: *mut Slot<T>, length: usize) {
        // SAFETY: from `Box::into_raw` of a slice of this length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(chunk, length)) });
    }
}
