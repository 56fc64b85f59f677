//! `Scope`: counts of one pool from one moment on; `Counters` and `Usage`: what it says.

use std::sync::{Mutex, MutexGuard, PoisonError};

use neuro_core::{Counters, Scope, Usage};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// One count: current, what there is now; peak, the most at once; total, all that was ever added.
#[pyclass(frozen, get_all, eq, name = "Usage", module = "neuro_memory")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct PyUsage {
    /// What there is now, what was there before included.
    current: usize,
    /// The most there was at once since the scope began or was reset.
    peak: usize,
    /// All that was added since then.
    total: u64,
}

#[pymethods]
impl PyUsage {
    fn __repr__(&self) -> String {
        format!(
            "Usage(current={}, peak={}, total={})",
            self.current, self.peak, self.total
        )
    }
}

impl From<Usage> for PyUsage {
    fn from(usage: Usage) -> Self {
        Self {
            current: usage.current,
            peak: usage.peak,
            total: usage.total,
        }
    }
}

/// What a scope counted, at one moment.
#[pyclass(frozen, get_all, eq, name = "Counters", module = "neuro_memory")]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct PyCounters {
    /// Bytes as asked for.
    requested: PyUsage,
    /// Bytes that blocks occupy.
    allocated: PyUsage,
    /// Blocks; their total is the number of allocations.
    blocks: PyUsage,
}

#[pymethods]
impl PyCounters {
    fn __repr__(&self) -> String {
        format!(
            "Counters(requested={}, allocated={}, blocks={})",
            self.requested.__repr__(),
            self.allocated.__repr__(),
            self.blocks.__repr__()
        )
    }
}

impl From<Counters> for PyCounters {
    fn from(counters: Counters) -> Self {
        Self {
            requested: counters.requested.into(),
            allocated: counters.allocated.into(),
            blocks: counters.blocks.into(),
        }
    }
}

/// Counts of one pool from pool.scope() on: current values are the pool's, peaks begin at them, totals at 0.
///
/// Exact, from all threads; while a scope lasts, every request takes the pool's lock. Any number at once, each for itself. As a
/// context manager it ends with the block; what it counted can be asked afterwards. Any thread may use it.
#[pyclass(frozen, weakref, name = "Scope", module = "neuro_memory")]
pub(crate) struct PyScope {
    state: Mutex<State>,
}

enum State {
    Counting(Scope),
    Ended(Counters),
}

impl From<Scope> for PyScope {
    fn from(scope: Scope) -> Self {
        Self {
            state: Mutex::new(State::Counting(scope)),
        }
    }
}

#[pymethods]
impl PyScope {
    /// What was counted so far, or until the end.
    fn counters(&self) -> PyCounters {
        match &*self.lock() {
            State::Counting(scope) => scope.counters().into(),
            State::Ended(counters) => (*counters).into(),
        }
    }

    /// Lets peaks begin again at what is live now, and totals at 0. ValueError after the end.
    fn reset(&self) -> PyResult<()> {
        match &*self.lock() {
            State::Counting(scope) => scope.reset(),
            State::Ended(_) => {
                return Err(PyValueError::new_err(
                    "the scope has ended; begin another with pool.scope()",
                ));
            }
        }
        Ok(())
    }

    /// Stops counting. A second time, nothing.
    fn end(&self) {
        let mut state = self.lock();
        if let State::Counting(scope) = &*state {
            let counters = scope.counters();
            *state = State::Ended(counters);
        }
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, value, traceback, /))]
    fn __exit__(&self, kind: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, traceback: &Bound<'_, PyAny>) {
        let _ = (kind, value, traceback);
        self.end();
    }

    fn __repr__(&self) -> String {
        let ended = matches!(&*self.lock(), State::Ended(_));
        format!(
            "Scope({}, {})",
            self.counters().__repr__(),
            if ended { "ended" } else { "counting" }
        )
    }
}

impl PyScope {
    // Held for moments, and never while Python code runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyUsage>()?;
    module.add_class::<PyCounters>()?;
    module.add_class::<PyScope>()
}
