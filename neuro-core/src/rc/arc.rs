//! `Arc`: a strong handle, which keeps the value alive.

use std::mem::{ManuallyDrop, forget};
use std::ops::Deref;
use std::ptr;

use super::block::{Block, Remains};
use super::counts::Last;
use super::weak::Weak;

/// Shared ownership of a `T`, across threads. The value is dropped with the last `Arc`, wherever that happens.
///
/// The same names and meanings as the standard library's `Arc`, with a header of 16 bytes in front of the value and a
/// [`get_mut`](Arc::get_mut) that takes no lock. More than 2^31 - 1 handles of one value abort the process.
///
/// # Examples
/// ```
/// use neuro_core::Arc;
/// let data = Arc::new(vec![1, 2, 3, 4, 5]);
/// let reference = data.clone();
/// assert_eq!(Arc::strong_count(&data), 2);
/// drop(data);
/// assert_eq!(reference[4], 5);
/// ```
pub struct Arc<T> {
    pub(super) block: Block<T>,
}

// SAFETY: a handle gives `&T` to its thread (hence `T: Sync`) and may drop or move out the `T` there (hence `T: Send`).
// The counts are atomic, and R5 orders what was done elsewhere before the drop.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: `&Arc<T>` gives `&T`, and a clone, which is the case above.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// Moves `value` to the heap, with one handle.
    #[inline]
    pub fn new(value: T) -> Self {
        Self {
            block: Block::new(value),
        }
    }

    /// A handle that does not keep the value alive.
    pub fn downgrade(this: &Self) -> Weak<T> {
        // SAFETY: `this` keeps the block (R1, R4).
        unsafe { this.block.counts() }.add_weak();
        Weak { block: this.block }
    }

    /// How many `Arc`s the value has. Other threads may change it at any time.
    pub fn strong_count(this: &Self) -> usize {
        // SAFETY: `this` keeps the block (R1, R4).
        unsafe { this.block.counts() }.read().0
    }

    /// How many [`Weak`]s the value has. Other threads may change it at any time.
    pub fn weak_count(this: &Self) -> usize {
        // SAFETY: `this` keeps the block (R1, R4).
        unsafe { this.block.counts() }.read().1
    }

    /// The value, to change, if there is no other `Arc` and no [`Weak`].
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        // SAFETY: `this` keeps the block (R1, R4).
        if !unsafe { this.block.counts() }.is_sole() {
            return None;
        }
        // SAFETY: the value is alive (R3). No other handle exists, none can be made while `this` is borrowed mutably,
        // and all that was done through former ones happened before (R5): the borrow is exclusive.
        Some(unsafe { &mut *this.block.value() })
    }

    /// The value itself, if there is no other `Arc`. [`Weak`]s then find it gone.
    ///
    /// # Errors
    /// The handle, unchanged, if there is another `Arc`. If several threads do this with the last handles at once, it may
    /// fail for all of them.
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        // SAFETY: `this` keeps the block (R1, R4).
        let Some(last) = unsafe { this.block.counts() }.take_last() else {
            return Err(this);
        };
        let block = this.block;
        // Its count is taken already.
        forget(this);
        // SAFETY: `last` is of this block; the value is moved out on the next line, which cannot panic.
        let _remains = unsafe { Remains::new(block, last) };
        // SAFETY: strong went to 0 here, so the value is alive until moved out here, once (R3); what others did to it
        // happened before (R5).
        Ok(unsafe { ptr::read(block.value()) })
    }

    /// Whether both are handles of one value.
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.block == other.block
    }

    /// The value's address, for reading while a handle lives.
    pub fn as_ptr(this: &Self) -> *const T {
        // SAFETY: `this` keeps the block (R1, R4).
        unsafe { this.block.value() }
    }

    /// The value's address, with the handle's count in it: [`Arc::from_raw`] gives the handle back, and nothing else
    /// frees it.
    pub fn into_raw(this: Self) -> *const T {
        Self::as_ptr(&ManuallyDrop::new(this))
    }

    /// The handle that [`Arc::into_raw`] turned into `pointer`.
    ///
    /// # Safety
    /// `pointer` came from `into_raw` of this very `T`, and each count in it (one from `into_raw`, one from each
    /// [`Arc::increment_strong_count`]) is taken back once.
    pub unsafe fn from_raw(pointer: *const T) -> Self {
        // SAFETY: the caller's count keeps the block; `into_raw` took the pointer from `Block::value`.
        let block = unsafe { Block::around(pointer) };
        Self { block }
    }

    /// Counts one more handle at `pointer`, as a clone would.
    ///
    /// # Safety
    /// `pointer` came from [`Arc::into_raw`] of this very `T`, and the value is alive.
    pub unsafe fn increment_strong_count(pointer: *const T) {
        // SAFETY: the value is alive by contract, so a count of it can be borrowed; `ManuallyDrop` does not give it up.
        let borrowed = ManuallyDrop::new(unsafe { Self::from_raw(pointer) });
        forget(Self::clone(&borrowed));
    }

    /// Gives up one handle at `pointer`, as a drop would.
    ///
    /// # Safety
    /// As [`Arc::from_raw`]: it takes one of the counts in `pointer` back.
    pub unsafe fn decrement_strong_count(pointer: *const T) {
        // SAFETY: forwarded.
        drop(unsafe { Self::from_raw(pointer) });
    }

    /// Out of line: most drops are not the last.
    #[inline(never)]
    fn drop_value(&mut self, last: Last) {
        // SAFETY: `last` is of this block; the value is dropped below, before the guard, also if that panics.
        let _remains = unsafe { Remains::new(self.block, last) };
        // SAFETY: strong went to 0 in `drop`, so the value is dropped here, once (R3); what others did to it happened
        // before (R5).
        unsafe { ptr::drop_in_place(self.block.value()) };
    }
}

impl<T> Clone for Arc<T> {
    /// Another handle of the same value.
    fn clone(&self) -> Self {
        // SAFETY: `self` keeps the block (R1, R4).
        unsafe { self.block.counts() }.add_strong();
        Self { block: self.block }
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        // SAFETY: this handle's count keeps the block until the call that gives it up.
        if let Some(last) = unsafe { self.block.counts() }.drop_strong() {
            self.drop_value(last);
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this handle keeps the value alive (R3), and nobody has `&mut T` while there are two handles or a
        // borrow of one (`get_mut`).
        unsafe { &*self.block.value() }
    }
}
