//! The process's end, and forked children: the driver is gone in both.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The process that started the driver; 0: nobody has.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static EXITED: AtomicBool = AtomicBool::new(false);
/// Calls in forked children.
static FORKED_CALLS: AtomicU64 = AtomicU64::new(0);

/// The driver is started in this process.
pub(crate) fn start() {
    let _ = PROCESS.compare_exchange(0, std::process::id(), Ordering::Relaxed, Ordering::Relaxed);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a function without arguments, which stays as long as the library does.
        unsafe { libc::atexit(at_exit) };
    });
}

extern "C" fn at_exit() {
    EXITED.store(true, Ordering::SeqCst);
}

/// Whether the process has begun to end.
pub(crate) fn has_exited() -> bool {
    EXITED.load(Ordering::Relaxed)
}

/// Whether this is a child of the process that started the driver.
pub(crate) fn is_forked() -> bool {
    let started = PROCESS.load(Ordering::Relaxed);
    started != 0 && started != std::process::id()
}

/// A call in a forked child is written down: at once, since the child may have locks that nobody lets go.
pub(crate) fn forked_call(call: &str) {
    FORKED_CALLS.fetch_add(1, Ordering::Relaxed);
    eprintln!("cuda-sim: FINDING {call} is called in a forked child of the process that started the driver");
}

/// How many calls were made in this process although it is a forked child.
#[must_use]
pub fn forked_calls() -> u64 {
    FORKED_CALLS.load(Ordering::Relaxed)
}
