//! The table's door to atomics and cells: the standard library's, or loom's under `cfg(loom)`.
//!
//! Loom runs code that goes through here in every interleaving of its threads, and sees what happens in a cell.

#[cfg(loom)]
pub(super) use loom::cell::UnsafeCell as Cell;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

#[cfg(not(loom))]
pub(super) use shipped::Cell;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

pub(super) use std::sync::atomic::Ordering;

#[cfg(not(loom))]
mod shipped {
    use std::cell::UnsafeCell;

    /// An `UnsafeCell` that is used as loom's must be.
    #[repr(transparent)]
    pub(in crate::handles) struct Cell<T>(UnsafeCell<T>);

    impl<T> Cell<T> {
        /// For a look at the content.
        pub(in crate::handles) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
            look(self.0.get())
        }

        /// For a change of the content.
        pub(in crate::handles) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
            change(self.0.get())
        }
    }
}
