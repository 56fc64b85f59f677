//! The reaper: one thread of the process that gives memory back which pools have cached and not used for a while.
//!
//! Twice within a pool's decay time it looks at the most bytes that were in blocks since it looked last. A pool that handed out
//! blocks since the look before that keeps twice that (the holes between blocks are used again, too); one that did not keeps what it was told
//! to keep. The rest goes, at most 64 MiB under the lock at once. So a steady program keeps what it uses again and again, and
//! an idle pool is empty after its decay time and a half.
//!
//! It lives while some pool has cached bytes that may go, and a little longer; the next that caches something wakes another.
//! It blocks all signals, so that it takes none from the program. A forked child has none until it wakes one.

use std::time::{Duration, Instant};

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

/// There is no reaper any more, however it ended.
struct Asleep;

impl Drop for Asleep {
    fn drop(&mut self) {
        AWAKE.store(false, Ordering::Relaxed);
    }
}

fn run() {
    let _asleep = Asleep;
    let mut idle = false;
    let mut sleep = SHORTEST;
    loop {
        std::thread::sleep(sleep);
        let mut next = look();
        if next.is_none() && idle {
            // Whoever cached something since then may have seen it awake. Either he or this look finds out.
            AWAKE.store(false, Ordering::SeqCst);
            next = look();
            if next.is_none() || AWAKE.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        idle = next.is_none();
        sleep = next.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    }
}

/// Looks at every pool. How soon to come again; `None` if there is nothing to come for.
fn look() -> Option<Duration> {
    let mut next: Option<Duration> = None;
    registry::for_each(|pool, state| {
        if let Some(again) = state.decay(pool) {
            next = Some(next.map_or(again, |sooner| sooner.min(again)));
        }
    });
    next
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
        let now = Instant::now();
        let next = *self.next_look.get_or_insert(now + decay / 2);
        if now < next {
            return Some(next - now);
        }
        self.next_look = Some(now + decay / 2);
        self.gather(pool);
        let live = self.counters.allocated.current;
        let used = std::mem::replace(&mut self.recent_peak, live).max(live);
        let served = self.counters.blocks.total;
        let at_work = std::mem::replace(&mut self.served_before, served) != served;
        self.idle_looks = if at_work { 0 } else { self.idle_looks + 1 };
        let cached = self.committed.current.saturating_sub(live);
        let idle = self.idle_looks >= 2;
        let keep = if idle { 0 } else { used.saturating_mul(2) - live }.max(self.options.keep);
        if cached > keep {
            let given_back = self.trim(pool, keep, AT_ONCE);
            if given_back >= AT_ONCE {
                // The rest goes soon, and is judged as this was.
                self.recent_peak = used;
                self.served_before = served.wrapping_sub(u64::from(at_work));
                self.next_look = Some(now + SHORTEST);
            } else if given_back == 0 && idle {
                return None; // what is left lies between blocks
            }
        }
        (!idle || cached > self.options.keep)
            .then(|| self.next_look.map_or(decay, |next| next.saturating_duration_since(now)))
    }
}
