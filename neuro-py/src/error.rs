//! Exceptions, and which one each core error becomes.
//!
//! Protocol refusals are `BufferError`, wrong arguments `ValueError`, `TypeError` or `IndexError`, as a Python user expects.

use std::io::ErrorKind;

use neuro_core::Error;
use pyo3::exceptions::{
    PyBufferError, PyException, PyFileNotFoundError, PyIndexError, PyMemoryError, PyOSError, PyPermissionError,
    PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static OUT_OF_MEMORY: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CORRUPTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The Python exception for a core error.
pub(crate) fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    let mut error = error;
    while let Error::KernelArgument { why, .. } = error {
        error = *why;
    }
    match error {
        Error::OutOfMemory { .. } => ours(&OUT_OF_MEMORY, text),
        Error::Corrupted { .. } => ours(&CORRUPTED, text),
        Error::OutOfRange { .. } => PyIndexError::new_err(text),
        Error::DTypeMismatch { .. } | Error::UnknownDType { .. } => PyTypeError::new_err(text),
        Error::InvalidArgument { .. }
        | Error::SizeOverflow { .. }
        | Error::ShapeMismatch { .. }
        | Error::UnknownDevice { .. }
        | Error::NotContiguous { .. }
        | Error::ReadOnly { .. }
        | Error::Format { .. } => PyValueError::new_err(text),
        Error::Exchange { .. } | Error::Shared { .. } => PyBufferError::new_err(text),
        // OSError picks the subclass (FileNotFoundError, ...) from the number itself.
        Error::Io { path, source } => match source.raw_os_error() {
            Some(number) => {
                let what = source.to_string();
                let what = what.split(" (os error").next().unwrap_or_default().to_owned();
                PyOSError::new_err((number, what, path.into_os_string()))
            }
            // A wrapped error keeps its kind, not its number.
            None if source.kind() == ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
            None if source.kind() == ErrorKind::PermissionDenied => PyPermissionError::new_err(text),
            None => PyOSError::new_err(text),
        },
        // `Error` may grow; what Python has no better word for is ours.
        _ => ours(&BASE, text),
    }
}

fn ours(class: &PyOnceLock<Py<PyType>>, text: String) -> PyErr {
    Python::attach(|py| match class.get(py) {
        Some(class) => PyErr::from_type(class.bind(py).clone(), text),
        None => PyException::new_err(text),
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = BASE.get_or_try_init(py, || {
        let bases = PyTuple::new(py, [py.get_type::<PyException>()])?;
        define(
            py,
            "NeuroMemoryError",
            bases,
            "What neuro_memory raises where no built-in exception says it.",
        )
    })?;
    let out_of_memory = OUT_OF_MEMORY.get_or_try_init(py, || {
        let bases = PyTuple::new(py, [base.bind(py).clone(), py.get_type::<PyMemoryError>()])?;
        define(
            py,
            "OutOfMemoryError",
            bases,
            "A pool has no room: the message says what was asked and what is there.",
        )
    })?;
    let corrupted = CORRUPTED.get_or_try_init(py, || {
        let bases = PyTuple::new(py, [base.bind(py).clone()])?;
        define(
            py,
            "CorruptedError",
            bases,
            "A pool in debug mode found memory written that nobody may write: the message says where.",
        )
    })?;
    module.add("CorruptedError", corrupted.clone_ref(py))?;
    module.add("NeuroMemoryError", base.clone_ref(py))?;
    module.add("OutOfMemoryError", out_of_memory.clone_ref(py))
}

/// A new exception class; `PyErr::new_type` takes one base only, and `OutOfMemoryError` has two.
fn define(py: Python<'_>, name: &str, bases: Bound<'_, PyTuple>, doc: &str) -> PyResult<Py<PyType>> {
    let body = PyDict::new(py);
    body.set_item("__module__", "neuro_memory")?;
    body.set_item("__doc__", doc)?;
    let class = py.get_type::<PyType>().call1((name, bases, body))?;
    Ok(class.cast_into::<PyType>()?.unbind())
}
