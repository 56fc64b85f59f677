//! `_C_API`: how a C extension finds the C interface that this module carries, without linking it.

use std::ffi::CStr;
use std::ptr::NonNull;

use neuro_memory::function::neuro_find_function;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// What `PyCapsule_Import` is called with: where the capsule is found, from the package on.
const NAME: &CStr = c"neuro_memory._C_API";

/// Adds the capsule: it holds the address of `neuro_find_function`, which gives all others by name.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let find = NonNull::new(neuro_find_function as *mut ()).expect("a function has an address");
    // SAFETY: the name is static, and the code stays as long as the process: Python never unloads an extension.
    let capsule = unsafe { PyCapsule::new_with_pointer(module.py(), find.cast(), NAME)? };
    module.add("_C_API", capsule)
}
