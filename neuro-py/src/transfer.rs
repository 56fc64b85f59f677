//! `Transfer`: a tensor on its way, as Python waits for it, awaits it, or is called when it is there.
//!
//! A callable that waits for its call belongs to the core until then, together with the `Transfer` it is called with; a cycle of
//! them ends with the call, which comes from a thread of the library (`attach.rs`).

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use neuro_core::Transfer;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::attach::attached;
use crate::error::raise;
use crate::tensor::PyTensor;

/// How often who waits looks whether somebody pressed Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// A tensor on its way, from Tensor.to(..., non_blocking=True).
///
/// It goes on to its end whether or not anybody keeps this. Any thread may use it. `await` works in asyncio.
#[pyclass(frozen, weakref, name = "Transfer", module = "neuro_memory")]
pub(crate) struct PyTransfer {
    inner: Transfer,
    tensor: PyOnceLock<Py<PyTensor>>,
}

impl From<Transfer> for PyTransfer {
    fn from(inner: Transfer) -> Self {
        Self {
            inner,
            tensor: PyOnceLock::new(),
        }
    }
}

impl PyTransfer {
    /// The core's own.
    pub(crate) fn inner(&self) -> &Transfer {
        &self.inner
    }
}

#[pymethods]
impl PyTransfer {
    /// Waits until the tensor is there, and returns it: the same object each time. Raises what went wrong on the way. Other threads
    /// run meanwhile, and Ctrl-C is heard: the transfer goes on then.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyTensor>> {
        if !self.inner.is_done() {
            let over = Arc::new((Mutex::new(false), Condvar::new()));
            let tell = Arc::clone(&over);
            self.inner.then(move |result| {
                drop(result);
                *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                tell.1.notify_all();
            });
            while !py.detach(|| is_told(&over)) {
                py.check_signals()?;
            }
        }
        let tensor = self.tensor.get_or_try_init(py, || {
            let tensor = self.inner.wait().map_err(raise)?;
            Py::new(py, PyTensor::from(tensor))
        })?;
        Ok(tensor.clone_ref(py))
    }

    /// Whether it is over, well or not: wait() would not wait.
    fn done(&self) -> bool {
        self.inner.is_done()
    }

    /// Has callable(transfer) called once: at once if the transfer is over, else on the thread that brings it, when it is there. That
    /// thread brings others too, so be quick, and do not wait there for one that is not over. What it raises goes to
    /// sys.unraisablehook. When the interpreter ends, those that are not over are not called; nor are they in a child of fork.
    #[pyo3(text_signature = "($self, callable, /)")]
    fn then(slf: &Bound<'_, Self>, callable: Bound<'_, PyAny>) -> PyResult<()> {
        if !callable.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "then() takes what is called with the transfer; {} cannot be called",
                callable.get_type()
            )));
        }
        let (transfer, callable) = (slf.clone().unbind(), callable.unbind());
        slf.get().inner.then(move |result| {
            drop(result);
            call(callable, transfer);
        });
        Ok(())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        py.import(intern!(py, "neuro_memory._await"))?
            .call_method1(intern!(py, "awaiting"), (slf,))
    }

    fn __repr__(&self) -> &'static str {
        if self.inner.is_done() {
            "Transfer(done)"
        } else {
            "Transfer(under way)"
        }
    }
}

/// Whether it has been told within the time of a look.
fn is_told(over: &(Mutex<bool>, Condvar)) -> bool {
    let told = over.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (told, _) = over
        .1
        .wait_timeout_while(told, LOOK, |told| !*told)
        .unwrap_or_else(PoisonError::into_inner);
    *told
}

/// Calls, on whatever thread, unless the interpreter ends.
fn call(callable: Py<PyAny>, transfer: Py<PyTransfer>) {
    let mut things = Some((callable, transfer));
    attached(|py| {
        if let Some((callable, transfer)) = things.take()
            && let Err(error) = callable.call1(py, (transfer,))
        {
            error.write_unraisable(py, Some(callable.bind(py)));
        }
    });
    // Objects of an interpreter that is gone, or about to be: nobody frees them.
    std::mem::forget(things);
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTransfer>()
}
