//! NumPy's arrays on our pools, through NumPy's own allocation hook (NEP 49).
//!
//! Two ways in, one set of callbacks:
//! - **a scope** ([`scope`]): a handler capsule of ours is set in a context variable. Every array made meanwhile keeps a
//!   reference to the capsule; the capsule owns the pool handle and is freed with the last of them.
//! - **the process** ([`install`]): the functions of NumPy's own default handler are replaced in place, which reaches
//!   every thread, also those that started earlier and those that Python did not start.
//!
//! Invariants:
//! - H1: the callbacks call no Python, so they work without the GIL, in a forked child, and after the interpreter's
//!   modules are torn down. No panic leaves them.
//! - H2: nobody's word is taken for whose memory a pointer is: the pool is asked by address. What is not a pool's goes
//!   to the functions NumPy had before, with the size NumPy gave.
//! - H3: a context (pool and alignment) is freed only while the GIL is held and nothing refers to it. NumPy enters
//!   `malloc` and `calloc` only right after `PyCapsule_GetPointer`, which needs the GIL, and our callbacks never release
//!   it, so no thread is inside a context then.
//!
//! Absent on purpose: NumPy's headers and the `numpy` crate. The five functions needed are reached through the table
//! that NumPy publishes for extension modules ([`api`]), so one build serves every NumPy since 1.22, or none at all.

mod api;
mod handler;
mod install;
mod scope;

use neuro_core::MemoryPool;
use pyo3::prelude::*;

/// Adds the functions that `neuro_memory/hooks/_numpy.py` builds on.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(scope::numpy_handler, module)?)?;
    module.add_function(wrap_pyfunction!(scope::numpy_set_handler, module)?)?;
    module.add_function(wrap_pyfunction!(scope::numpy_disarm_handler, module)?)?;
    module.add_function(wrap_pyfunction!(install::numpy_install, module)?)?;
    module.add_function(wrap_pyfunction!(install::numpy_uninstall, module)?)?;
    module.add_function(wrap_pyfunction!(owns_address, module)?)
}

/// Whether `address` lies in memory of a pool.
#[pyfunction(name = "_owns_address")]
fn owns_address(address: usize) -> bool {
    MemoryPool::owns(address as *const u8)
}
