//! `PoolPtr`: a block of a pool that goes back when dropped.

use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::MemoryPool;
use super::guard::tell;
use crate::error::Error;

/// Room for `len` values of `T` in a pool, uninitialised. Dropping it, on any thread, returns the block.
///
/// The pool's memory outlives its handles: a `PoolPtr` stays valid when the last [`MemoryPool`] is gone. Values that
/// were written into it are not dropped with it.
pub struct PoolPtr<T> {
    ptr: NonNull<T>,
    len: usize,
    owns: PhantomData<MaybeUninit<T>>,
}

// SAFETY: a PoolPtr owns its bytes alone, like a Box of uninitialised values, and a block may be freed on any thread.
unsafe impl<T: Send> Send for PoolPtr<T> {}
// SAFETY: a shared PoolPtr gives shared access only, as `&[MaybeUninit<T>]` would.
unsafe impl<T: Sync> Sync for PoolPtr<T> {}

impl<T> PoolPtr<T> {
    /// # Safety
    /// `ptr` is a live block of a pool that nobody else frees or uses, aligned for `T`, of at least `len` values.
    pub(super) unsafe fn new(ptr: NonNull<T>, len: usize) -> Self {
        Self {
            ptr,
            len,
            owns: PhantomData,
        }
    }

    /// Address of the first value.
    pub fn as_ptr(&self) -> *const T {
        self.ptr.as_ptr()
    }

    /// Address of the first value, to write through.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }

    /// Address of the first value, for owners that keep track of borrows themselves.
    pub(crate) fn as_non_null(&self) -> NonNull<T> {
        self.ptr
    }

    /// Values it has room for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has room for none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The room, to read what was written.
    pub fn as_uninit(&self) -> &[MaybeUninit<T>] {
        // SAFETY: the block is live while `self` is, aligned for and of the size of `len` values (`new`'s contract);
        // MaybeUninit needs no initialisation; `&self` keeps writers through `as_uninit_mut` away.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) }
    }

    /// The room, to write into.
    pub fn as_uninit_mut(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: as `as_uninit`; `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) }
    }
}

impl<T> Drop for PoolPtr<T> {
    fn drop(&mut self) {
        // SAFETY: the block is live and ours (`new`'s contract), and nobody uses it after this.
        match unsafe { MemoryPool::free(self.ptr.cast()) } {
            Ok(()) => {}
            // Freed all the same; a drop has nobody to return it to.
            Err(error @ Error::Corrupted { .. }) => tell(&error.to_string()),
            Err(error) => debug_assert!(false, "{error:?}"),
        }
    }
}

impl<T> fmt::Debug for PoolPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PoolPtr({:p}, {} × {})",
            self.ptr,
            self.len,
            std::any::type_name::<T>()
        )
    }
}
