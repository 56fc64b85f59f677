//! The reaper: one thread of the process that gives memory back which pools have cached and not used for a while.
//!
//! Twice within a pool's decay time it looks at the most bytes that were in blocks since it looked last. A pool that handed out
//! blocks meanwhile keeps twice that (the holes between blocks are used again, too); one that did not keeps what it was told
//! to keep. The rest goes, at most 64 MiB under the lock at once. So a steady program keeps what it uses again and again, and
//! an idle pool is empty after its decay time and a half.
//!
//! It lives while some pool has cached bytes that may go, and a little longer; the next that caches something wakes another.
//! It blocks all signals, so that it takes none from the program. A forked child has none until it wakes one.

use std::time::Duration;

use super::state::State;
use super::{Inner, registry};
use crate::backend::host::{STEP, os};
use crate::sync::global::{AtomicBool, Ordering};

/// Bytes given back under a pool's lock at once.
const AT_ONCE: usize = 64 << 20;
/// Decay times below this are taken for it.
const SHORTEST: Duration = Duration::from_millis(20);
/// How long it sleeps at most; also the rest that it keeps when there is nothing to do, before it ends.
const LONGEST: Duration = Duration::from_millis(500);

static AWAKE: AtomicBool = AtomicBool::new(false);

/// Whether there is a reaper.
#[inline]
pub(super) fn is_awake() -> bool {
    AWAKE.load(Ordering::Relaxed)
}

/// Starts one if there is none. No lock is held. If the system gives no thread, memory stays cached until the next try.
#[cold]
pub(super) fn wake() {
    if AWAKE.swap(true, Ordering::Relaxed) {
        return;
    }
    let blocked = os::SignalsBlocked::now(); // a new thread inherits them
    let started = std::thread::Builder::new()
        .name("neuro-reaper".to_owned())
        .stack_size(64 << 10)
        .spawn(run);
    drop(blocked);
    if started.is_err() {
        AWAKE.store(false, Ordering::Relaxed);
    }
}

/// In a forked child, which has no other thread than the one that forked.
pub(super) fn gone() {
    AWAKE.store(false, Ordering::Relaxed);
}

fn run() {
    let mut idle = false;
    let mut sleep = LONGEST / 25;
    loop {
        std::thread::sleep(sleep);
        let mut next: Option<Duration> = None;
        registry::for_each(|pool, state| {
            if let Some(again) = state.decay(pool) {
                next = Some(next.map_or(again, |sooner| sooner.min(again)));
            }
        });
        match next {
            Some(again) => {
                idle = false;
                sleep = again.clamp(SHORTEST, LONGEST);
            }
            None if idle => break,
            None => {
                idle = true;
                sleep = LONGEST;
            }
        }
    }
    AWAKE.store(false, Ordering::Relaxed);
}

impl State {
    /// Whether there is more cached than what may stay.
    #[inline]
    pub(super) fn is_worth_reaping(&self) -> bool {
        let cached = self.committed.current.wrapping_sub(self.counters.allocated.current) as isize;
        cached > (STEP + self.options.keep.min(isize::MAX as usize / 2)) as isize && self.options.decay.is_some()
    }

    /// Gives back what was not used since the last time. When to come again; `None` if there is nothing to come for.
    fn decay(&mut self, pool: &Inner) -> Option<Duration> {
        let decay = self.options.decay?;
        if self.committed.current == 0 {
            return None;
        }
        self.gather(pool);
        let live = self.counters.allocated.current;
        let used = std::mem::replace(&mut self.recent_peak, live);
        let served = self.counters.blocks.total;
        let active = std::mem::replace(&mut self.served_before, served) != served;
        let keep = if active { (2 * used).saturating_sub(live) } else { 0 }.max(self.options.keep);
        let cached = self.committed.current.saturating_sub(live);
        if cached > keep {
            let given_back = self.trim(pool, keep, AT_ONCE);
            if given_back >= AT_ONCE {
                // The next round comes soon, and must judge as this one did.
                self.recent_peak = used;
                self.served_before = if active { served.wrapping_sub(1) } else { served };
                return Some(SHORTEST);
            }
            if given_back == 0 && !active {
                return None; // what is left lies between blocks
            }
        }
        (active || cached > self.options.keep).then_some(decay / 2)
    }
}
