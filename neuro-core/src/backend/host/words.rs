//! `Words`: a long array of atomic words, zero at first, that costs memory only where it was written.
//!
//! Invariant W1: `start..start + len` words are this value's alone, readable and writable until it is dropped.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::os;

/// Arrays up to this many bytes come from the system's allocator: a mapping of their own would cost more.
const SMALL: usize = 32 << 10;

#[derive(Debug)]
pub(crate) struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the words belong to this value alone (W1) and are not tied to a thread.
unsafe impl Send for Words {}
// SAFETY: shared access is through atomics only.
unsafe impl Sync for Words {}

impl Words {
    /// `len` words of zero; `len` is above 0.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let bytes = len * size_of::<AtomicU64>();
        let start = if bytes <= SMALL {
            let words: Box<[AtomicU64]> = (0..len).map(|_| AtomicU64::new(0)).collect();
            NonNull::from(Box::leak(words)).cast()
        } else {
            os::map_zeroed(bytes.next_multiple_of(os::page_size()))?.cast()
        };
        Ok(Self { start, len })
    }

    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: W1; zeros are valid atomics, and the array is shorter than half the address space.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Most bytes it can have made the system hold if words up to `used` were written.
    pub(crate) fn committed(&self, used: usize) -> usize {
        let bytes = self.len * size_of::<AtomicU64>();
        if bytes <= SMALL {
            return bytes;
        }
        (used.min(self.len) * size_of::<AtomicU64>()).next_multiple_of(os::page_size())
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<AtomicU64>();
        // SAFETY: made so in `new`, and nobody has it any more.
        unsafe {
            if bytes <= SMALL {
                drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
                    self.start.as_ptr(),
                    self.len,
                )));
            } else {
                os::release(self.start.cast(), bytes.next_multiple_of(os::page_size()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn small_and_large_arrays_are_zero_and_writable() {
        for len in [1, 100, SMALL / 8, SMALL / 8 + 1, 10 << 20] {
            let words = Words::new(len).unwrap();
            let slice = words.as_slice();
            assert_eq!(slice.len(), len);
            for index in [0, len / 2, len - 1] {
                assert_eq!(slice[index].swap(7, Ordering::Relaxed), 0);
                slice[index].store(0, Ordering::Relaxed);
            }
            assert!(words.committed(1) <= SMALL.max(4096) && words.committed(usize::MAX) >= len * 8);
        }
    }
}
