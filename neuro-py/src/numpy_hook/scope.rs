//! The scoped form: a handler capsule of ours in NumPy's context variable.
//!
//! Who keeps what alive: an array refers to the capsule, the capsule to its [`Scoped`], which holds the pool's handle.
//! NumPy drops an array's reference after it has freed the array's data, so the capsule's destructor, run by the last
//! reference, is after the last callback. An array that the interpreter never destroys keeps the capsule for good.

use std::ffi::c_void;
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::api::NumpyApi;
use super::handler::{CAPSULE_NAME, Context, Handler, foreign, remember_foreign};
use crate::pool::PyMemoryPool;

/// What a capsule points to. The handler is first, so that a pointer to one is a pointer to the other.
#[repr(C)]
struct Scoped {
    handler: Handler,
    context: Context,
}

/// A new handler capsule that allocates from `pool`, `alignment` bytes aligned.
///
/// # Errors
/// `ImportError` where NumPy is absent or unknown; `ValueError` for a pool of a device.
#[pyfunction(name = "_numpy_handler")]
pub(super) fn numpy_handler<'py>(
    py: Python<'py>,
    pool: &Bound<'py, PyMemoryPool>,
    alignment: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let pool = pool.get().for_host()?;
    know_default(NumpyApi::get(py)?);
    let context = Context { pool, alignment };
    let scoped = Box::into_raw(Box::new(Scoped {
        handler: Handler::new(Context::allocator(null_mut())),
        context,
    }));
    // SAFETY: just made, and nobody else's yet. The context is in its last place only now.
    unsafe { (*scoped).handler.allocator = Context::allocator(&raw mut (*scoped).context) };
    // SAFETY: the GIL is held; the name is static; `destroy` matches what is stored. On failure the box is taken back
    // before anybody saw it.
    unsafe {
        let capsule = ffi::PyCapsule_New(scoped.cast(), CAPSULE_NAME.as_ptr(), Some(destroy));
        if capsule.is_null() {
            drop(Box::from_raw(scoped));
        }
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

/// Makes `handler` (None: NumPy's default) the one of the current context and returns the one before.
///
/// # Errors
/// `ValueError` for an object that is not a handler capsule.
#[pyfunction(name = "_numpy_set_handler")]
#[pyo3(signature = (handler))]
pub(super) fn numpy_set_handler<'py>(
    py: Python<'py>,
    handler: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    NumpyApi::get(py)?.set_handler(py, handler)
}

/// Ends the use of a capsule from [`numpy_handler`] for new arrays, in whatever contexts it is still set: it hands out
/// ordinary memory from now on, and still frees and resizes what it handed out before.
///
/// # Errors
/// `ValueError` for an object that is not a handler capsule.
#[pyfunction(name = "_numpy_disarm_handler")]
pub(super) fn numpy_disarm_handler(handler: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the GIL is held; the name is checked by the call.
    let scoped = unsafe { ffi::PyCapsule_GetPointer(handler.as_ptr(), CAPSULE_NAME.as_ptr()) }.cast::<Scoped>();
    if scoped.is_null() {
        return Err(PyErr::fetch(handler.py()));
    }
    // SAFETY: only capsules of ours come here (`hooks/_numpy.py` passes its own); no thread reads the functions while
    // we hold the GIL (H3). The context stays for `realloc`.
    unsafe {
        let allocator = &raw mut (*scoped).handler.allocator;
        (*allocator).malloc = foreign_malloc;
        (*allocator).calloc = foreign_calloc;
    }
    Ok(())
}

/// Lets foreign memory go back to NumPy's own functions, if their layout is known.
pub(super) fn know_default(api: &NumpyApi) {
    let handler = api.default_handler();
    // SAFETY: a handler of NumPy, alive for good; its functions are read only after the layout is recognised.
    unsafe {
        if Handler::is_known_default(handler) {
            remember_foreign((&raw const (*handler.as_ptr()).allocator).read());
        }
    }
}

unsafe extern "C" fn foreign_malloc(_: *mut c_void, bytes: usize) -> *mut c_void {
    let foreign = foreign();
    // SAFETY: called as NumPy called us.
    unsafe { (foreign.malloc)(foreign.ctx, bytes) }
}

unsafe extern "C" fn foreign_calloc(_: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let foreign = foreign();
    // SAFETY: called as NumPy called us.
    unsafe { (foreign.calloc)(foreign.ctx, count, size) }
}

/// Runs when the last reference to a capsule goes, often inside an array's deallocation.
unsafe extern "C" fn destroy(capsule: *mut ffi::PyObject) {
    // SAFETY: CPython passes the capsule made in `numpy_handler`, once; nothing refers to it any more, so neither does
    // an array, and no callback can run on its context. Reading the pointer raises nothing: the name is the right one.
    unsafe {
        let scoped = ffi::PyCapsule_GetPointer(capsule, CAPSULE_NAME.as_ptr()).cast::<Scoped>();
        drop(Box::from_raw(scoped));
    }
}
