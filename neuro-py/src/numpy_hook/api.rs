//! The part of NumPy's C interface that the hook needs, found at run time.
//!
//! NumPy publishes one table of function addresses for extension modules, `_multiarray_umath._ARRAY_API`. Its slots keep
//! their number and meaning while the interface version in slot 0 stays the same, so that version is checked before
//! any other slot is read.

use std::ffi::c_uint;
use std::ptr::NonNull;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::handler::{CAPSULE_NAME, Handler};

/// `PyArray_GetNDArrayCVersion`: which table this is.
const SLOT_ABI_VERSION: usize = 0;
/// `PyArray_GetNDArrayCFeatureVersion`: how long the table is.
const SLOT_FEATURE_VERSION: usize = 211;
/// `PyDataMem_SetHandler`.
const SLOT_SET_HANDLER: usize = 304;
/// `PyDataMem_DefaultHandler`: the address of the variable that holds the capsule of the default handler.
const SLOT_DEFAULT_HANDLER: usize = 306;

/// The tables this code was written against: NumPy 1 and NumPy 2.
const KNOWN_ABI_VERSIONS: [c_uint; 2] = [0x0100_0009, 0x0200_0000];
/// The first feature version (NumPy 1.22) with slots 304 to 306.
const FIRST_WITH_HANDLERS: c_uint = 0x0f;

type VersionFn = unsafe extern "C" fn() -> c_uint;
type SetHandlerFn = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;

/// What the hook uses of NumPy.
pub(super) struct NumpyApi {
    set_handler: SetHandlerFn,
    default_handler: NonNull<Handler>,
}

// SAFETY: both fields are addresses of statics of NumPy's shared library, which CPython never unloads; the handler is
// only read and written with the GIL held (see `install`).
unsafe impl Send for NumpyApi {}
// SAFETY: as above.
unsafe impl Sync for NumpyApi {}

impl NumpyApi {
    /// NumPy's table, looked up once. Imports NumPy.
    ///
    /// # Errors
    /// `ImportError` where NumPy is absent or has a table of an unknown version.
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static API: PyOnceLock<NumpyApi> = PyOnceLock::new();
        API.get_or_try_init(py, || Self::find(py))
    }

    fn find(py: Python<'_>) -> PyResult<Self> {
        let module = import_umath(py)?;
        let table = table_of(&module)?;
        // SAFETY: slot 0 has held this function in every version of the table.
        let abi = unsafe { slot::<VersionFn>(table, SLOT_ABI_VERSION)() };
        if !KNOWN_ABI_VERSIONS.contains(&abi) {
            return Err(PyImportError::new_err(format!(
                "nm.hooks.numpy: this NumPy has the C interface {abi:#010x}, known are {:#010x} (NumPy 1) and {:#010x} \
                 (NumPy 2); use a NumPy of 1.22 to 2.x, or a newer neuro_memory",
                KNOWN_ABI_VERSIONS[0], KNOWN_ABI_VERSIONS[1]
            )));
        }
        // SAFETY: slot 211 holds this function in both known tables.
        let feature = unsafe { slot::<VersionFn>(table, SLOT_FEATURE_VERSION)() };
        if feature < FIRST_WITH_HANDLERS {
            return Err(PyImportError::new_err(format!(
                "nm.hooks.numpy: this NumPy (C feature version {feature:#x}) has no memory handlers; use 1.22 or newer"
            )));
        }
        // SAFETY: with the versions checked, slot 304 is `PyDataMem_SetHandler` and slot 306 the address of a
        // `PyObject *` that NumPy's module initialisation has filled with a capsule.
        let (set_handler, capsule) = unsafe {
            let variable = slot::<*mut *mut ffi::PyObject>(table, SLOT_DEFAULT_HANDLER);
            (slot::<SetHandlerFn>(table, SLOT_SET_HANDLER), *variable)
        };
        // SAFETY: the GIL is held; `capsule` is a live object owned by NumPy for good.
        let handler = unsafe { ffi::PyCapsule_GetPointer(capsule, CAPSULE_NAME.as_ptr()) };
        match NonNull::new(handler.cast()) {
            Some(default_handler) => Ok(Self {
                set_handler,
                default_handler,
            }),
            None => Err(PyErr::fetch(py)),
        }
    }

    /// Sets the handler of the current context, or the default one, and returns the one that was set.
    ///
    /// # Errors
    /// What NumPy raises, `ValueError` for an object that is not a handler capsule.
    pub(super) fn set_handler<'py>(
        &self,
        py: Python<'py>,
        capsule: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let capsule = capsule.map_or(std::ptr::null_mut(), Bound::as_ptr);
        // SAFETY: the GIL is held (`py`); the function borrows its argument, checks it, and returns a new reference or
        // NULL with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, (self.set_handler)(capsule)) }
    }

    /// The handler that arrays get where no other was set: a static of NumPy, alive and writable for good. Its fields
    /// past `version` mean something only if [`Handler::is_known_default`].
    pub(super) fn default_handler(&self) -> NonNull<Handler> {
        self.default_handler
    }
}

/// The module with the table: its name moved with NumPy 2.
fn import_umath(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("numpy").map_err(|cause| {
        let error = PyImportError::new_err("nm.hooks.numpy needs NumPy, which cannot be imported; pip install numpy");
        error.set_cause(py, Some(cause));
        error
    })?;
    py.import("numpy._core._multiarray_umath")
        .or_else(|_| py.import("numpy.core._multiarray_umath"))
}

fn table_of(module: &Bound<'_, PyModule>) -> PyResult<*const *const ()> {
    let capsule = module.getattr("_ARRAY_API")?;
    // SAFETY: the GIL is held; the function checks that this is a capsule without a name, else raises.
    let table = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), std::ptr::null()) };
    if table.is_null() {
        return Err(PyErr::fetch(module.py()));
    }
    Ok(table.cast())
}

/// Slot `index` of the table as a `T`.
///
/// # Safety
/// The table has that slot, and it holds a `T` the size of a pointer.
unsafe fn slot<T: Copy>(table: *const *const (), index: usize) -> T {
    const { assert!(size_of::<T>() == size_of::<*const ()>()) };
    // SAFETY: by contract.
    unsafe { table.add(index).cast::<T>().read() }
}
