//! `Gate`: the door of a thread's cache. Its owner passes without a locked instruction; anybody else, rarely, takes it away.
//!
//! ```text
//! owner   inside := 1; light barrier; claimed?   no: go in … inside := 0
//!                                                yes: inside := 0, and take the pool's lock instead
//! other   claimed := 1; heavy barrier; wait until inside = 0; the cache is his … claimed := 0
//! ```
//!
//! One of the two sees the other: that is Dekker's protocol, which needs a full barrier between the store and the load on both
//! sides. The owner goes through millions of times between two claims, so the claimer pays for both: the heavy barrier makes
//! every running thread of the process pass a full barrier (`membarrier`), and the light one only stops the compiler. Where
//! the system has no such call, there are no caches.
//!
//! Claimers hold the pool's lock, so there is one at a time. The owner never waits for that lock inside.
//!
//! Invariants (checked by loom, with each ordering weakened once):
//! - G1: owner and claimer are never in at the same time.
//! - G2: what one did inside is seen by the next one in: Release when leaving, Acquire when looking.

use crate::sync::{AtomicBool, Ordering, fence};

#[derive(Debug)]
pub(super) struct Gate {
    inside: AtomicBool,
    claimed: AtomicBool,
}

/// The owner is in. Leaves when dropped.
pub(super) struct Inside<'a>(&'a Gate);

impl Gate {
    /// Open, or claimed from the beginning.
    pub(super) fn new(claimed: bool) -> Self {
        Self {
            inside: AtomicBool::new(false),
            claimed: AtomicBool::new(claimed),
        }
    }

    /// The owner's way in; `None` while somebody else has the cache. One thread calls this, and not while it is in.
    #[inline]
    pub(super) fn enter(&self) -> Option<Inside<'_>> {
        self.inside.store(true, Ordering::Relaxed);
        barrier::light();
        let inside = Inside(self); // leaves again if claimed
        (!self.claimed.load(order::look())).then_some(inside)
    }

    /// Announces a claim: then [`barrier::heavy`], once for any number of gates, then [`wait`](Self::wait).
    pub(super) fn claim(&self) {
        self.claimed.store(true, Ordering::Relaxed);
    }

    /// Waits until the owner has left. He is there for some nanoseconds, unless the system has put him to sleep.
    pub(super) fn wait(&self) {
        let mut tries = 0u32;
        while self.inside.load(order::look()) {
            tries += 1;
            pause(tries);
        }
    }

    /// Lets the owner in again.
    pub(super) fn release(&self) {
        self.claimed.store(false, order::leave());
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.inside.store(false, order::leave());
    }
}

/// The owner needs a processor to leave: after a while the claimer goes off his, lest he has a higher priority.
#[cfg(not(loom))]
fn pause(tries: u32) {
    match tries {
        0..100 => std::hint::spin_loop(),
        100..110 => std::thread::yield_now(),
        _ => std::thread::sleep(std::time::Duration::from_micros(50)),
    }
}

#[cfg(loom)]
fn pause(_: u32) {
    loom::thread::yield_now();
}

#[cfg(not(loom))]
pub(super) mod barrier {
    use super::{Ordering, fence};
    use crate::backend::host::os;
    use std::sync::atomic::compiler_fence;

    /// Asks the system for its part, before the first cache, and in a forked child once more. Whether it can.
    pub(in super::super) fn prepare() -> bool {
        os::register_barrier().is_ok()
    }

    /// The owner's side.
    #[inline]
    pub(super) fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    /// The claimer's side: after it, every thread sees the stores before it, and their earlier stores are seen here.
    pub(in super::super) fn heavy() {
        fence(Ordering::SeqCst);
        if os::barrier_on_all_threads().is_err() {
            // Forbidden since it was registered, by a sandbox. A store leaves a processor's buffer within microseconds, and
            // a thread that is put to sleep passes a barrier: this is long enough for either.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Loom knows no system call: both sides pay.
#[cfg(loom)]
pub(super) mod barrier {
    use super::{Ordering, fence, order};

    pub(in super::super) fn prepare() -> bool {
        true
    }

    pub(super) fn light() {
        if order::has_light() {
            fence(Ordering::SeqCst);
        }
    }

    pub(in super::super) fn heavy() {
        if order::has_heavy() {
            fence(Ordering::SeqCst);
        }
    }
}

/// The orderings of G2; the loom tests weaken them, and must then find out.
#[cfg(not(all(test, loom)))]
mod order {
    use super::Ordering;

    #[inline]
    pub(super) const fn look() -> Ordering {
        Ordering::Acquire
    }

    #[inline]
    pub(super) const fn leave() -> Ordering {
        Ordering::Release
    }

    #[cfg(loom)]
    pub(super) const fn has_light() -> bool {
        true
    }

    #[cfg(loom)]
    pub(super) const fn has_heavy() -> bool {
        true
    }
}
#[cfg(all(test, loom))]
use loom_tests as order;

#[cfg(all(test, loom))]
mod loom_tests;
