//! `Weak`: a handle that keeps the block, not the value.

use std::fmt;

use super::arc::Arc;
use super::block::Block;

/// A handle that does not keep the value alive: what breaks a cycle of [`Arc`]s.
///
/// It keeps the memory of the value, not the value; that goes with the last `Arc`.
///
/// # Examples
/// ```
/// use neuro_core::Arc;
/// let strong = Arc::new(7);
/// let weak = Arc::downgrade(&strong);
/// assert_eq!(weak.upgrade().as_deref(), Some(&7));
/// drop(strong);
/// assert!(weak.upgrade().is_none());
/// ```
pub struct Weak<T> {
    pub(super) block: Block<T>,
}

// SAFETY: as for `Arc`, which a `Weak` can become.
unsafe impl<T: Send + Sync> Send for Weak<T> {}
// SAFETY: as for `Arc`, which a `Weak` can become.
unsafe impl<T: Send + Sync> Sync for Weak<T> {}

impl<T> Weak<T> {
    /// A handle of no value. Allocates nothing, and never upgrades.
    pub const fn new() -> Self {
        Self { block: Block::none() }
    }

    /// An `Arc` of the value, if it is alive.
    pub fn upgrade(&self) -> Option<Arc<T>> {
        if !self.block.exists() {
            return None;
        }
        // SAFETY: `self` keeps the block (R2, R4).
        let alive = unsafe { self.block.counts() }.try_add_strong();
        alive.then(|| Arc { block: self.block })
    }

    /// How many [`Arc`]s the value has; 0 once it is gone. Other threads may change it at any time.
    pub fn strong_count(&self) -> usize {
        self.counts().0
    }

    /// How many `Weak`s the value has; 0 once it is gone. Other threads may change it at any time.
    pub fn weak_count(&self) -> usize {
        self.counts().1
    }

    /// Whether both are handles of one value, or both of none.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        self.block == other.block
    }

    fn counts(&self) -> (usize, usize) {
        if !self.block.exists() {
            return (0, 0);
        }
        // SAFETY: `self` keeps the block (R2, R4).
        unsafe { self.block.counts() }.read()
    }
}

impl<T> Clone for Weak<T> {
    fn clone(&self) -> Self {
        if self.block.exists() {
            // SAFETY: `self` keeps the block (R2, R4).
            unsafe { self.block.counts() }.add_weak();
        }
        Self { block: self.block }
    }
}

impl<T> Drop for Weak<T> {
    fn drop(&mut self) {
        // SAFETY: this handle's count keeps the block until the call that gives it up.
        if self.block.exists() && unsafe { self.block.counts() }.drop_weak() {
            // SAFETY: the last weak count was given up here, hence the value is gone (R2) and this is the one that R4
            // names.
            unsafe { self.block.free() };
        }
    }
}

impl<T> Default for Weak<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Weak<T> {
    /// Does not look at the value: it may hold this very `Weak`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(Weak)")
    }
}
