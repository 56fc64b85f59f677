//! Whether drivers may be called: not in a forked child, not when the process ends, not after [`shutdown`](crate::shutdown).
//!
//! Every call of a driver, and every touch of memory that a driver mapped, happens *inside*: between [`enter`] and the drop of what it
//! returns. Who closes the door waits until nobody is inside, and may then take everything away.
//!
//! Invariant (checked by loom, with each ordering weakened once): when [`Door::close`] has found nobody inside, all that was done
//! inside happened before, and nobody comes in any more. One word has both the number of those inside and whether it is closed, so
//! that either who enters sees that it is closed, or who closes sees him.
//!
//! Whoever is about to enter holds no lock that the thread which forks, or ends the process, might be waiting for.

use std::time::{Duration, Instant};

use super::host::os;
use crate::sync::global::{self, AtomicBool, AtomicU32};
use crate::sync::{AtomicUsize, Ordering};

const CLOSED: usize = 1;
const ONE: usize = 2;

pub(super) struct Door(AtomicUsize);

impl Door {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Whether the caller is inside now; if so, he leaves once.
    fn enter(&self) -> bool {
        // Relaxed: what is inside was made known otherwise.
        let open = self.0.fetch_add(ONE, Ordering::Relaxed) & CLOSED == 0;
        if !open {
            self.leave();
        }
        open
    }

    fn leave(&self) {
        self.0.fetch_sub(ONE, order::leave());
    }

    /// Lets nobody in from now on; whether somebody is inside still. May be called again.
    fn close(&self) -> bool {
        self.0.fetch_or(CLOSED, order::close()) >= ONE
    }
}

#[cfg(not(loom))]
static DOOR: Door = Door::new();
#[cfg(loom)]
static DOOR: std::sync::LazyLock<Door> = std::sync::LazyLock::new(Door::new);

/// The process that speaks to drivers, by its number; 0: none so far.
static OWNER: AtomicU32 = AtomicU32::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);

/// How long the end of the process waits for those inside.
const PATIENCE: Duration = Duration::from_secs(1);

/// Leave to call drivers, as long as it lives.
#[derive(Debug)]
pub(crate) struct Inside(());

impl Drop for Inside {
    fn drop(&mut self) {
        DOOR.leave();
    }
}

/// Asks for leave to call drivers. The first process that asks is the one that may from then on.
///
/// # Errors
/// Why not, in words.
pub(crate) fn enter() -> Result<Inside, String> {
    let me = std::process::id();
    let mut owner = OWNER.load(global::Ordering::Relaxed);
    if owner == 0 {
        owner = match OWNER.compare_exchange(0, me, global::Ordering::Relaxed, global::Ordering::Relaxed) {
            Ok(_) => me,
            Err(other) => other,
        };
    }
    if owner != me {
        return Err(format!(
            "forked: process {me} is a child of {owner}, whose devices it cannot use; start it anew (spawn) instead"
        ));
    }
    if DOOR.enter() {
        return Ok(Inside(()));
    }
    Err(if is_ending() {
        "the process is ending: drivers may be gone".to_owned()
    } else {
        "devices were shut down, for the rest of the process".to_owned()
    })
}

/// Whether the process is about to end: then nobody inside waits for anything.
pub(crate) fn is_ending() -> bool {
    ENDING.load(global::Ordering::Relaxed)
}

/// Lets nobody in any more, and waits until nobody is inside. The caller is not.
pub(crate) fn shut() {
    while DOOR.close() {
        std::thread::sleep(Duration::from_micros(100));
    }
}

extern "C" fn end() {
    ENDING.store(true, global::Ordering::Relaxed);
    if OWNER.load(global::Ordering::Relaxed) != std::process::id() {
        return; // those inside are threads of the parent
    }
    let start = Instant::now();
    // Who ends the process from inside is not waited for.
    while DOOR.close() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Has [`enter`] say no as soon as the process ends, and the end wait for those inside. What was registered last runs first, so this
/// is called whenever a driver may have registered something of its own.
#[cfg(any(feature = "cuda", feature = "vulkan"))]
pub(super) fn watch_for_the_end() {
    // Without memory for that, frees at the end reach the driver, as they do in any other program.
    let _ = os::at_exit(end);
}

/// The orderings of the invariant; the loom tests weaken them, and must then find out.
#[cfg(not(all(test, loom)))]
mod order {
    use super::Ordering;

    pub(super) const fn leave() -> Ordering {
        Ordering::Release
    }

    pub(super) const fn close() -> Ordering {
        Ordering::Acquire
    }
}
#[cfg(all(test, loom))]
use loom_tests as order;

#[cfg(all(test, loom))]
mod loom_tests;
