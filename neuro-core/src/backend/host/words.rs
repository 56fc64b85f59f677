//! `Words`: a long array of atomic words, zero at first, that costs memory only where it was written.
//!
//! A long one is opened from the front as it is needed: what is not accessible, nobody has to look through (leak checkers read all
//! that is).
//!
//! Invariants:
//! - W1: `start..start + len` words are this value's alone until it is dropped.
//! - W2: the first `open` words are readable and writable; `open` never shrinks.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::os;

/// Arrays up to this many bytes come from the system's allocator: a mapping of their own would cost more.
const SMALL: usize = 32 << 10;

const AHEAD: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
    open: AtomicUsize,
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
            os::reserve(bytes.next_multiple_of(os::page_size()))?.cast()
        };
        let open = if bytes <= SMALL { len } else { 0 };
        Ok(Self {
            start,
            len,
            open: AtomicUsize::new(open),
        })
    }

    /// The same, all accessible.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(len: usize) -> io::Result<Self> {
        let words = Self::new(len)?;
        words.open_up_to(len)?;
        Ok(words)
    }

    /// Makes at least the first `words` accessible; and as many again, or [`AHEAD`] bytes of them, so that an array which grows
    /// step by step makes few system calls. One caller at a time.
    ///
    /// # Errors
    /// What the system said; nothing has changed then.
    pub(crate) fn open_up_to(&self, words: usize) -> io::Result<()> {
        debug_assert!(words <= self.len);
        let open = self.open.load(Ordering::Relaxed);
        if words <= open {
            return Ok(());
        }
        let bytes = words * size_of::<AtomicU64>();
        let most = (self.len * size_of::<AtomicU64>()).next_multiple_of(os::page_size());
        let (from, to) = (open * size_of::<AtomicU64>(), (2 * bytes).max(AHEAD).min(most));
        let to = to.next_multiple_of(os::page_size());
        // SAFETY: both ends are whole pages of the reservation (W1): `open` is 0 or ends with one, by the last line.
        unsafe { os::commit(self.start.cast::<u8>().add(from), to - from) }?;
        // Release: who reads `open` may touch the words.
        self.open
            .store((to / size_of::<AtomicU64>()).min(self.len), Ordering::Release);
        Ok(())
    }

    /// The accessible words.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: W1, W2; zeros are valid atomics, and the array is shorter than half the address space.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.open.load(Ordering::Acquire)) }
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

    #[test]
    fn small_and_large_arrays_are_zero_and_writable() {
        for len in [1, 100, SMALL / 8, SMALL / 8 + 1, 10 << 20] {
            let words = Words::new(len).unwrap();
            words.open_up_to(len / 2).unwrap();
            assert!(words.as_slice().len() >= len / 2);
            words.open_up_to(len).unwrap();
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
