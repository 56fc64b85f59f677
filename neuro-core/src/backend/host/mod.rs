//! Host memory: ranges of addresses, reserved at once and committed in steps.
//!
//! Invariants:
//! - H1: `base` is a multiple of [`STEP`] and `len` a multiple of it; the range belongs to this reservation alone.
//! - H2: exactly the first `open` bytes are readable and writable; `open` never shrinks.
//!
//! Absent on purpose: who uses which bytes (`heap/`), and how much may be used (`pool/`).

#[cfg(all(test, not(loom)))]
mod device;
pub(crate) mod library;
pub(crate) mod os;
pub(crate) mod words;

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Reservations start and end on this, and commit in it: the huge page of x86-64 and aarch64, in bytes.
pub(crate) const STEP: usize = 2 << 20;

/// Bytes that are made accessible ahead of their use.
const LEAST_AHEAD: usize = 4 << 20;
const MOST_AHEAD: usize = 1 << 30;

/// A range of reserved addresses, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    len: usize,
    open: usize,
    /// Whether the system has been told to use huge pages.
    advised: bool,
    prefault: bool,
}

// SAFETY: the range belongs to this value alone (H1) and a mapping is not tied to a thread.
unsafe impl Send for Reservation {}

impl Reservation {
    /// Reserves `want` bytes, or, where the system refuses, the largest half, quarter, … that is at least `need`.
    ///
    /// # Errors
    /// What the system said to the last and smallest try.
    pub(crate) fn new(want: usize, need: usize) -> io::Result<Self> {
        debug_assert!(0 < need && need <= want);
        let too_much = || io::Error::from_raw_os_error(libc::ENOMEM);
        let need = need.checked_next_multiple_of(STEP).ok_or_else(too_much)?;
        let mut len = want.checked_next_multiple_of(STEP).ok_or_else(too_much)?;
        loop {
            match Self::exactly(len) {
                Ok(reservation) => return Ok(reservation),
                Err(error) if len == need => return Err(error),
                Err(_) => len = (len / 2).next_multiple_of(STEP).max(need),
            }
        }
    }

    /// `len` bytes on a multiple of `STEP`: where the system happens to give them so (Linux does since 6.7), or else one step more,
    /// of which the ends are given back.
    fn exactly(len: usize) -> io::Result<Self> {
        let start = os::reserve(len)?;
        if start.as_ptr().align_offset(STEP) == 0 {
            return Ok(Self::at(start, len));
        }
        // SAFETY: just reserved, and nobody knows of it.
        unsafe { os::release(start, len) };
        let padded = len
            .checked_add(STEP)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let start = os::reserve(padded)?;
        let head = start.as_ptr().align_offset(STEP);
        // SAFETY: `head < STEP`, so `start + head` and `start + head + len` lie within the `len + STEP` bytes just
        // reserved; both ends are multiples of the page, belong to nobody else and were never accessible.
        unsafe {
            let base = start.add(head);
            if head > 0 {
                os::release(start, head);
            }
            os::release(base.add(len), STEP - head);
            Ok(Self::at(base, len))
        }
    }

    fn at(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            open: 0,
            advised: false,
            prefault: false,
        }
    }

    /// Address of the first byte, a multiple of [`STEP`].
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes reserved.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// From now on memory is touched when it is opened, so that its first use does not fault.
    pub(crate) fn set_prefault(&mut self) {
        self.prefault = true;
    }

    /// Bytes that are accessible, from the start.
    pub(crate) fn opened(&self) -> usize {
        self.open
    }

    /// Makes at least the first `end` bytes accessible, in whole steps; what was so before stays as it is. Opens ahead three
    /// times what is open (4 MiB to 1 GiB), which costs no memory, so that a region which grows step by step makes few system calls.
    ///
    /// # Errors
    /// What the system said; nothing has changed then.
    pub(crate) fn open_up_to(&mut self, end: usize) -> io::Result<()> {
        debug_assert!(end <= self.len);
        let end = end.next_multiple_of(STEP);
        if end <= self.open {
            return Ok(());
        }
        let ahead = if self.prefault {
            0
        } else {
            (3 * self.open).clamp(LEAST_AHEAD, MOST_AHEAD)
        };
        if ahead > 0 && self.open_exactly(end.saturating_add(ahead).min(self.len)).is_ok() {
            return Ok(());
        }
        self.open_exactly(end)
    }

    fn open_exactly(&mut self, end: usize) -> io::Result<()> {
        // SAFETY: `open < end <= len` (H1: `len` is a multiple of the step), so the part lies in the reservation.
        unsafe {
            let start = self.base.add(self.open);
            os::commit(start, end - self.open)?;
            // Not on the first step: a pool of a few small tensors must not cost two megabytes. All the rest at once.
            if end > STEP && !self.advised {
                os::advise_huge_pages(self.base.add(STEP), self.len - STEP);
                self.advised = true;
            }
            if self.prefault {
                os::populate(start, end - self.open);
            }
        }
        self.open = end;
        Ok(())
    }

    /// Gives the memory of `range` (bytes, whole pages, accessible) back to the system: it reads as zeros afterwards.
    ///
    /// # Errors
    /// What the system said.
    ///
    /// # Safety
    /// Nobody wants the contents of `range` or reads it at this moment.
    pub(crate) unsafe fn discard(&self, range: Range<usize>) -> io::Result<()> {
        debug_assert!(range.start < range.end && range.end <= self.open);
        // SAFETY: the range is accessible (H2); the caller gives up its contents.
        unsafe { os::discard(self.base.add(range.start), range.len()) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range is ours alone (H1), and whoever owned a block in it is gone: the pool drops a region only
        // when none is live.
        unsafe { os::release(self.base, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_when_new_and_after_a_discard() {
        let mut memory = Reservation::new(3 * STEP, STEP).unwrap();
        assert_eq!(memory.base().as_ptr().align_offset(STEP), 0);
        memory.open_up_to(STEP + 1).unwrap();
        // SAFETY: the first two steps are open and nobody else knows of them.
        unsafe {
            let last = memory.base().add(2 * STEP - 1);
            assert_eq!(last.read(), 0);
            last.write(7);
            memory.discard(STEP..2 * STEP).unwrap();
            assert_eq!(last.read(), 0);
        }
    }

    #[test]
    fn what_the_system_refuses_is_halved_down_to_the_need() {
        let memory = Reservation::new(1 << 50, 5 * STEP).unwrap();
        assert!(memory.len() >= 5 * STEP && memory.len() < 1 << 50);
        assert!(Reservation::new(1 << 50, 1 << 49).is_err());
        assert!(Reservation::new(usize::MAX, 1 << 60).is_err());
    }
}
