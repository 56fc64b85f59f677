//! One block of memory: the counts, then the value. Where it comes from and how it goes.

use std::alloc::{Layout, dealloc};
use std::mem::{MaybeUninit, offset_of};
use std::ptr::{self, NonNull};

use super::counts::{Counts, Last};

#[repr(C, align(16))]
pub(super) struct Inner<T> {
    counts: Counts,
    space: MaybeUninit<u64>,
    value: T,
}

#[cfg(not(loom))]
const _: () = assert!(offset_of!(Inner<u8>, value) == 16);

/// The raw pointer that handles hold. Copying it counts nothing.
pub(super) struct Block<T>(NonNull<Inner<T>>);

impl<T> Clone for Block<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Block<T> {}

impl<T> PartialEq for Block<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Block<T> {
    /// A block with one strong handle, which is the caller's.
    #[inline]
    pub(super) fn new(value: T) -> Self {
        // The room first, so that the value may be made where it stays.
        let mut inner = Box::<Inner<T>>::new_uninit();
        inner.write(Inner {
            counts: Counts::new(),
            space: MaybeUninit::uninit(),
            value,
        });
        // SAFETY: a box is never null, and what it holds was just written. `into_raw` and not `leak`, which would form a reference to
        // the whole block.
        Self(unsafe { NonNull::new_unchecked(Box::into_raw(inner).cast()) })
    }

    /// A pointer that is no block: an address that the alignment of every block rules out.
    pub(super) const fn none() -> Self {
        Self(NonNull::new(ptr::without_provenance_mut(usize::MAX)).expect("not null"))
    }

    /// Whether it is a block at all.
    pub(super) fn exists(self) -> bool {
        self != Self::none()
    }

    /// Address of the block, for tests of the layout.
    #[cfg(all(test, not(loom)))]
    pub(super) fn start(self) -> usize {
        self.0.addr().get()
    }

    /// The value's address. Valid for as long as R3 says that the value is alive.
    ///
    /// # Safety
    /// The block is there (R4).
    pub(super) unsafe fn value(self) -> *mut T {
        // SAFETY: the place lies inside the block, which is there; no reference is formed and nothing is read.
        unsafe { &raw mut (*self.0.as_ptr()).value }
    }

    /// The block around the value at `value`.
    ///
    /// # Safety
    /// `value` is what [`Block::value`] gave, with its provenance, and the block is there (R4).
    pub(super) unsafe fn around(value: *const T) -> Self {
        // SAFETY: the value lies that many bytes into its block, and the pointer came from one to the whole block, so
        // the step back stays inside it and is not null.
        let inner = unsafe { value.byte_sub(offset_of!(Inner<T>, value)) };
        // SAFETY: as above.
        Self(unsafe { NonNull::new_unchecked(inner.cast::<Inner<T>>().cast_mut()) })
    }

    /// The counts.
    ///
    /// # Safety
    /// The block is there (R4), and the reference is not used after the handle that keeps it there is given up. (The
    /// call that gives it up may be made through it: it covers an atomic and nothing else.)
    pub(super) unsafe fn counts<'a>(self) -> &'a Counts {
        // SAFETY: initialised in `new`, inside the block, changed through shared references only.
        unsafe { &(*self.0.as_ptr()).counts }
    }

    /// Gives the memory back. The value is not dropped.
    ///
    /// # Safety
    /// The caller is the one that R4 names, the value is gone, and nobody uses the pointer again.
    pub(super) unsafe fn free(self) {
        // SAFETY: the block is there until the next lines.
        unsafe { self.counts() }.end();
        // Loom's models keep the memory, so that a planted mistake is reported by them and is no use after free.
        if !cfg!(loom) {
            // SAFETY: `new` got the block from a `Box<Inner<T>>`, that is from the global allocator with this layout
            // (never of size 0); by R4 it is freed once and has no user left.
            unsafe { dealloc(self.0.as_ptr().cast(), Layout::new::<Inner<T>>()) };
        }
    }
}

/// What is left to do once the value is gone: done on drop, so that a destructor that panics does not leak the block.
pub(super) struct Remains<T> {
    block: Block<T>,
    last: Last,
}

impl<T> Remains<T> {
    /// # Safety
    /// `last` was given for `block`, and the value is dropped or moved out before the `Remains` is dropped.
    pub(super) unsafe fn new(block: Block<T>, last: Last) -> Self {
        Self { block, last }
    }
}

impl<T> Drop for Remains<T> {
    fn drop(&mut self) {
        // SAFETY: the strong handles' own weak count still keeps the block (R2, R4).
        if !self.last.weak || unsafe { self.block.counts() }.drop_weak() {
            // SAFETY: either there was no other handle when the last strong one went, or the last weak count was just
            // given up here: the one that R4 names. The value is gone (`new`).
            unsafe { self.block.free() };
        }
    }
}
