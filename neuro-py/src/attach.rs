//! Calls into Python from whatever thread the core calls on.
//!
//! A thread that waits for the interpreter while that ends is torn down in the middle, and the process with it. So from `atexit` on
//! nobody is called any more, and whoever is inside is waited for.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

/// Whether the interpreter is about to end.
static ENDING: AtomicBool = AtomicBool::new(false);
/// Calls that are being made, or are about to be.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// The process that these are of: a forked child has none of its parent's threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Runs `work` attached to the interpreter, on a thread that may be so already; not where the interpreter ends or is gone. An error
/// that the thread was handling stays.
pub(crate) fn attached(work: impl FnOnce(Python<'_>)) {
    // Sequentially consistent, as in `_end_calls`: either this sees that it ends, or that sees this inside.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let _inside = Inside;
    if !ENDING.load(Ordering::SeqCst) {
        let _ = Python::try_attach(|py| {
            let pending = PyErr::take(py);
            work(py);
            if let Some(pending) = pending {
                pending.restore(py);
            }
        });
    }
}

/// Runs `work`, which may attach to the interpreter by itself, on a thread that may be attached already; not where the interpreter ends or is
/// gone.
pub(crate) fn while_it_lives(work: &mut dyn FnMut()) {
    // Sequentially consistent, as in `attached`.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let _inside = Inside;
    if !ENDING.load(Ordering::SeqCst) {
        work();
    }
}

/// Counted in `INSIDE`, until it is dropped.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// From now on nobody is called. Waits for who is.
#[pyfunction]
fn _end_calls(py: Python<'_>) -> PyResult<()> {
    ENDING.store(true, Ordering::SeqCst);
    while PROCESS.load(Ordering::SeqCst) == std::process::id() && INSIDE.load(Ordering::SeqCst) > 0 {
        py.detach(|| std::thread::sleep(Duration::from_millis(1)));
        py.check_signals()?;
    }
    Ok(())
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    ENDING.store(false, Ordering::SeqCst);
    PROCESS.store(std::process::id(), Ordering::SeqCst);
    let end = wrap_pyfunction!(_end_calls, module)?;
    py.import(intern!(py, "atexit"))?
        .call_method1(intern!(py, "register"), (end,))?;
    Ok(())
}
