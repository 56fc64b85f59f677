//! `Pending`: blocks that were freed while somebody else had the pool's lock. Whoever takes the lock next, takes them back.
//!
//! So a free waits for nobody. The list runs through the first word of the blocks themselves: they are nobody's memory now,
//! and freeing must not need any.
//!
//! Invariants (checked by loom, with each ordering weakened once):
//! - Q1: a block is in the list once, between its push and the take that returns it.
//! - Q2: who takes a block sees all that its pusher did before: Release when pushing, Acquire when taking.
//! - Q3: nothing is pushed once the list is closed. A pool closes it when its last handle is gone and no allocation will come
//!   to look; from then on frees take the lock.

use std::ptr::NonNull;

use crate::sync::{AtomicUsize, Ordering};

const EMPTY: usize = 0;
const CLOSED: usize = 1;

pub(super) struct Pending {
    head: AtomicUsize,
}

impl Pending {
    pub(super) fn new() -> Self {
        Self {
            head: AtomicUsize::new(EMPTY),
        }
    }

    /// Adds a block; false, with nothing done, if the list is closed. After true the caller touches neither block nor pool.
    ///
    /// # Safety
    /// `block` is aligned for a word, one is writable there, and it is the caller's to give away.
    pub(super) unsafe fn push(&self, block: NonNull<u8>) -> bool {
        let address = block.as_ptr().expose_provenance();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                return false;
            }
            // SAFETY: by contract.
            unsafe { block.cast::<usize>().write(head) };
            match self
                .head
                .compare_exchange_weak(head, address, order::push(), Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => head = now,
            }
        }
    }

    /// Whether there is nothing to take: true of some moment.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) <= CLOSED
    }

    /// Takes all blocks out.
    pub(super) fn take(&self) -> Taken {
        if self.is_empty() {
            return Taken(EMPTY);
        }
        Taken(self.head.swap(EMPTY, order::take()))
    }

    /// Takes all blocks out and closes the list.
    pub(super) fn close(&self) -> Taken {
        Taken(self.head.swap(CLOSED, order::take()))
    }
}

/// Blocks that were taken out, last pushed first.
pub(super) struct Taken(usize);

impl Iterator for Taken {
    type Item = NonNull<u8>;

    fn next(&mut self) -> Option<NonNull<u8>> {
        if self.0 == CLOSED {
            return None; // closed before
        }
        let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(self.0))?;
        // SAFETY: `push` exposed the address and wrote the link there; the block is the taker's now (Q1), and the link is
        // visible to him (Q2).
        self.0 = unsafe { block.cast::<usize>().read() };
        Some(block)
    }
}

/// The orderings of Q2; the loom tests weaken them, and must then find out.
#[cfg(not(all(test, loom)))]
mod order {
    use super::Ordering;

    pub(super) const fn push() -> Ordering {
        Ordering::Release
    }

    pub(super) const fn take() -> Ordering {
        Ordering::Acquire
    }
}
#[cfg(all(test, loom))]
use loom_tests as order;

#[cfg(all(test, loom))]
mod loom_tests;
