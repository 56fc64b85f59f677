//! The Python module `neuro_memory._neuro_memory`: a thin skin over `neuro-core`. No logic here that C would need.
//!
//! One subject a file; each registers itself with one line below. `python/neuro_memory/__init__.py` re-exports the names.
//!
//! The C ABI is linked in and exported, so that C code that loads this extension and Python share one set of pools.
//!
//! The module declares nothing about free-threaded interpreters: it is built for the stable ABI of CPython 3.11, which
//! those builds do not load.

#[deny(unsafe_code)]
mod array;
#[deny(unsafe_code)]
mod attach;
mod buffer;
mod capsule;
#[deny(unsafe_code)]
mod create;
mod cuda;
mod cuda_hook;
mod cuda_array;
mod cuda_kernel;
#[deny(unsafe_code)]
mod devices;
mod dlpack;
mod dlpack_call;
mod dlpack_import;
mod dlpack_table;
#[deny(unsafe_code)]
mod dtype;
#[deny(unsafe_code)]
mod element;
#[deny(unsafe_code)]
mod error;
#[deny(unsafe_code)]
mod index;
mod numpy_hook;
#[deny(unsafe_code)]
mod pickle;
#[deny(unsafe_code)]
mod pool;
#[deny(unsafe_code)]
mod safetensors;
#[deny(unsafe_code)]
mod scope;
#[deny(unsafe_code)]
mod shape;
mod share;
#[deny(unsafe_code)]
mod soft_limit;
#[deny(unsafe_code)]
mod stats;
mod tensor;
#[deny(unsafe_code)]
mod transfer;

use pyo3::prelude::*;

/// Native part of `neuro_memory`.
#[pymodule]
fn _neuro_memory(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(module)?;
    pool::register(module)?;
    stats::register(module)?;
    scope::register(module)?;
    tensor::register(module)?;
    create::register(module)?;
    array::register(module)?;
    attach::register(module)?;
    buffer::register(module)?;
    capsule::register(module)?;
    cuda::register(module)?;
    cuda_hook::register(module)?;
    cuda_kernel::register(module)?;
    devices::register(module)?;
    dlpack_import::register(module)?;
    dlpack_table::register(module)?;
    dlpack_call::register(module)?;
    numpy_hook::register(module)?;
    pickle::register(module)?;
    safetensors::register(module)?;
    share::register(module)?;
    transfer::register(module)?;
    Ok(())
}
