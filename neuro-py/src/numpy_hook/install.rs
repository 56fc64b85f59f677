//! The process-wide form: our functions in NumPy's own default handler.
//!
//! All arrays made without another handler share that one structure, those made before included. So `realloc` and
//! `free` go in with the first install and stay for good: they ask the pools whose a block is, and the arrays with
//! blocks of ours may outlive the uninstall and the interpreter's modules. `malloc` and `calloc` (with their context)
//! come and go.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::prelude::*;

use super::api::NumpyApi;
use super::handler::{Allocator, Context, Handler, foreign, resize};
use super::scope::know_default;
use crate::pool::PyMemoryPool;

/// The context that the default handler points to while installed, from `Box::into_raw`; else NULL. Changed only with
/// the GIL held.
static INSTALLED: AtomicPtr<Context> = AtomicPtr::new(null_mut());

/// The strictest alignment of all installs. After an uninstall a resized array has no context to tell its own, and an
/// array must not lose alignment by being resized.
static ALIGNMENT: AtomicUsize = AtomicUsize::new(1);

/// Puts all new arrays of the process into `pool`, `alignment` bytes aligned. Replaces an
/// earlier install. False, with nothing changed, where NumPy's default handler is not the one known here.
///
/// # Errors
/// `ImportError` where NumPy is absent or unknown; `ValueError` for a pool of a device.
#[pyfunction(name = "_numpy_install")]
pub(super) fn numpy_install(py: Python<'_>, pool: &Bound<'_, PyMemoryPool>, alignment: usize) -> PyResult<bool> {
    let pool = pool.get().for_host()?;
    let api = NumpyApi::get(py)?;
    let handler = api.default_handler();
    // SAFETY: a handler of NumPy, alive for good.
    if !unsafe { Handler::is_known_default(handler) } {
        return Ok(false);
    }
    know_default(api);
    ALIGNMENT.fetch_max(alignment, Ordering::Relaxed);
    let context = Box::into_raw(Box::new(Context { pool, alignment }));
    // SAFETY: known layout; the GIL is held, so nobody reads the functions meanwhile; the context lives until it is
    // replaced here or in `numpy_uninstall`.
    unsafe {
        let allocator = functions_of(handler);
        *allocator = Context::allocator(context);
        (*allocator).realloc = realloc;
    }
    replace_installed(context);
    Ok(true)
}

/// Gives new arrays NumPy's own memory again. Nothing happens where nothing is installed.
///
/// # Errors
/// `ImportError` where NumPy is absent or unknown.
#[pyfunction(name = "_numpy_uninstall")]
pub(super) fn numpy_uninstall(py: Python<'_>) -> PyResult<()> {
    if INSTALLED.load(Ordering::Relaxed).is_null() {
        return Ok(());
    }
    let original = foreign();
    // SAFETY: installed, so the layout is known and the handler ours to write; the GIL is held.
    unsafe {
        let allocator = functions_of(NumpyApi::get(py)?.default_handler());
        (*allocator).ctx = original.ctx;
        (*allocator).malloc = original.malloc;
        (*allocator).calloc = original.calloc;
    }
    replace_installed(null_mut());
    Ok(())
}

/// The functions in a handler, without a reference to them: NumPy reads them by its own pointer.
fn functions_of(handler: NonNull<Handler>) -> *mut Allocator {
    // SAFETY: only computes an address inside the structure.
    unsafe { &raw mut (*handler.as_ptr()).allocator }
}

/// Swaps the owner of the context and drops the old one, which nothing points to any more (H3).
fn replace_installed(context: *mut Context) {
    let old = INSTALLED.swap(context, Ordering::Relaxed);
    if !old.is_null() {
        // SAFETY: from `Box::into_raw` in `numpy_install`, taken out here once; the default handler no longer has it.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// `realloc` of the default handler. Its context is NumPy's own after an uninstall, so it is not looked at.
///
/// # Safety
/// `ptr` is NULL or a block that NumPy owns.
unsafe extern "C" fn realloc(_: *mut c_void, ptr: *mut c_void, bytes: usize) -> *mut c_void {
    // SAFETY: by contract. NULL is nobody's block and goes to the functions before us, which allocate.
    unsafe { resize(ptr, bytes, ALIGNMENT.load(Ordering::Relaxed)) }
}
