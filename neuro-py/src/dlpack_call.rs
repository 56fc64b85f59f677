//! The call of `Tensor.__dlpack__`, a method of the C API rather than of PyO3.
//!
//! Every exchange calls it with three keywords, and taking them apart through PyO3 was half of its instructions: `np.from_dlpack`
//! of a tensor took 1.3 times as long as of an array. Consumers' keywords are interned, so here comparing addresses is enough
//! in all but odd cases.
//!
//! Invariant F1: the interpreter calls `call` attached, with a `Tensor` (method descriptors check that), `nargs` positional
//! values, and one more for each name in `kwnames`, which is NULL or a tuple of strings.

use std::ffi::c_int;
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use crate::dlpack::{Request, export};
use crate::tensor::PyTensor;

static NAMES: PyOnceLock<[Py<PyString>; 4]> = PyOnceLock::new();

/// `__dlpack__` itself.
///
/// # Safety
/// As F1.
unsafe extern "C" fn call(
    tensor: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: attached (F1), and nothing borrowed from `py` leaves this function.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: F1; the caller keeps all of them alive for the length of the call.
    let result = unsafe {
        let tensor = Borrowed::from_ptr(py, tensor);
        let kwnames = Borrowed::from_ptr_or_opt(py, kwnames).map(|names| names.cast_unchecked::<PyTuple>());
        request(py, values, nargs, kwnames)
            .and_then(|request| export(py, &tensor.cast_unchecked::<PyTensor>().get().inner, &request))
    };
    match result {
        Ok(capsule) => capsule.into_ptr(),
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// The arguments by name; `None` counts as left out.
///
/// # Safety
/// As F1.
unsafe fn request<'a, 'py>(
    py: Python<'py>,
    values: *const *mut ffi::PyObject,
    nargs: ffi::Py_ssize_t,
    kwnames: Option<Borrowed<'a, 'py, PyTuple>>,
) -> PyResult<Request<'a, 'py>> {
    if nargs != 0 {
        return Err(PyTypeError::new_err("__dlpack__() takes keyword arguments only"));
    }
    let mut request: Request<'a, 'py> = [None; 4];
    let Some(kwnames) = kwnames else { return Ok(request) };
    let known = NAMES.get(py).expect("filled by register");
    for i in 0..kwnames.len() {
        let name = kwnames.get_borrowed_item(i)?;
        let slot = known.iter().position(|known| known.as_ptr() == name.as_ptr());
        let slot = match slot {
            Some(slot) => slot,
            None => by_text(py, known, &name)?,
        };
        // SAFETY: as many values as names, no positional ones before them (F1).
        let value = unsafe { Borrowed::from_ptr(py, *values.add(i)) };
        request[slot] = (!value.is_none()).then_some(value);
    }
    Ok(request)
}

/// Which keyword a string is that is not the interned one.
#[cold]
fn by_text(py: Python<'_>, known: &[Py<PyString>; 4], name: &Bound<'_, PyAny>) -> PyResult<usize> {
    for (slot, known) in known.iter().enumerate() {
        if name.eq(known.bind(py))? {
            return Ok(slot);
        }
    }
    Err(PyTypeError::new_err(format!(
        "__dlpack__() got an unexpected keyword argument {}",
        name.repr()?
    )))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // In the order of `dlpack::Request`.
    let names = ["stream", "max_version", "dl_device", "copy"];
    NAMES.get_or_init(py, || names.map(|name| PyString::intern(py, name).unbind()));
    let class = py.get_type::<PyTensor>();
    let flags: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
    // Lives as long as the class, which is never freed.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"__dlpack__".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: call,
        },
        ml_flags: flags,
        ml_doc: c"__dlpack__($self, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n\
            Capsule that shares the tensor: versioned where max_version says that the consumer takes it."
            .as_ptr(),
    }));
    // SAFETY: attached; the class and the definition live for ever, and the flags say how `call` is called.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr("__dlpack__", method)
}
