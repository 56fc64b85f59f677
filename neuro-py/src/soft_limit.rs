//! What a pool calls above its soft limit: a Python callable, from any thread, attached to the interpreter or not.
//!
//! The callable belongs to the `MemoryPool` object, which the garbage collector can look into; the core's pool only knows
//! of it. So a callable that names its own pool does not keep it for ever.

use std::sync::{Arc, Mutex, PoisonError};

use neuro_core::PoolStats;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::attach::attached;
use crate::stats::PyPoolStats;

/// A callable until the garbage collector takes it. Its lock is held attached and for moments only: no Python code runs, and
/// nobody waits for the interpreter, under it.
pub(crate) struct OnSoftLimit(Mutex<Option<Py<PyAny>>>);

impl OnSoftLimit {
    pub(crate) fn new(callable: Bound<'_, PyAny>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(callable.unbind()))))
    }

    /// What the core calls: it holds no lock then, so that waiting for the interpreter cannot stop another thread that has it.
    pub(crate) fn caller(self: &Arc<Self>) -> impl Fn(&PoolStats) + Send + Sync + 'static {
        let weak = Arc::downgrade(self);
        move |stats| {
            attached(|py| {
                if let Some(callback) = weak.upgrade() {
                    callback.call(py, *stats);
                }
            });
        }
    }

    fn call(&self, py: Python<'_>, stats: PoolStats) {
        let callable = self.lock().as_ref().map(|callable| callable.clone_ref(py));
        let Some(callable) = callable else { return };
        if let Err(error) = callable.call1(py, (PyPoolStats::from(stats),)) {
            error.write_unraisable(py, Some(callable.bind(py)));
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs attached, so nobody has the lock.
        match self.0.try_lock() {
            Ok(callable) => visit.call(callable.as_ref()),
            Err(_) => Ok(()),
        }
    }

    /// Lets the callable go.
    pub(crate) fn clear(&self) {
        let callable = self.lock().take();
        drop(callable); // may run Python code: after the lock
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
