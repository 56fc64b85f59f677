//! CUDA pools as allocators of frameworks: what `python/neuro_memory/hooks/` builds on. No logic of the frameworks is here.
//!
//! What a stream is, and that it stays, is the caller's promise, as with every protocol that hands over an address; an owner that is given
//! with it is kept as long as the stream may be used.

use std::any::Any;
use std::sync::Arc;

use neuro_core::cuda::{Hook, HookSlot, Keeper, OnFailure, refused_frees};
use pyo3::prelude::*;

use crate::error::raise;
use crate::pool::PyMemoryPool;

/// A CUDA pool as the allocator of somebody else, who knows blocks by their addresses.
#[pyclass(frozen, name = "_CudaHook", module = "neuro_memory._neuro_memory")]
pub(crate) struct PyHook(Arc<Hook>);

/// Who keeps a stream. What was not needed is dropped by the caller, who has the interpreter.
fn keep(owner: &mut Option<Py<PyAny>>) -> Keeper {
    owner.take().map(|owner| Box::new(owner) as Box<dyn Any + Send + Sync>)
}

#[pymethods]
impl PyHook {
    #[new]
    #[pyo3(signature = (pool), text_signature = "(pool)")]
    fn new(pool: &Bound<'_, PyMemoryPool>) -> PyResult<Self> {
        Ok(Self(Arc::new(Hook::new(&pool.get().inner).map_err(raise)?)))
    }

    /// Address of new memory, to be used on a stream (None: the legacy default stream and all that wait for it). 0 for 0 bytes.
    #[pyo3(signature = (size, stream, owner=None), text_signature = "($self, size, stream, owner=None)")]
    fn allocate(
        &self,
        py: Python<'_>,
        size: usize,
        stream: Option<usize>,
        mut owner: Option<Py<PyAny>>,
    ) -> PyResult<u64> {
        // SAFETY: the caller's promise; the owner is kept.
        py.detach(|| unsafe { self.0.allocate(size, stream, || keep(&mut owner)) })
            .map_err(raise)
    }

    /// The same, as an object that frees it, on the stream that it was allocated on.
    #[pyo3(signature = (size, stream, owner=None), text_signature = "($self, size, stream, owner=None)")]
    fn block(
        &self,
        py: Python<'_>,
        size: usize,
        stream: Option<usize>,
        owner: Option<Py<PyAny>>,
    ) -> PyResult<PyCudaBlock> {
        Ok(PyCudaBlock {
            address: self.allocate(py, size, stream, owner)?,
            hook: Arc::clone(&self.0),
        })
    }

    /// Frees on a stream (None: the one it was allocated on).
    #[pyo3(signature = (ptr, stream=None, owner=None), text_signature = "($self, ptr, stream=None, owner=None)")]
    fn free(&self, py: Python<'_>, ptr: u64, stream: Option<usize>, mut owner: Option<Py<PyAny>>) -> PyResult<()> {
        // SAFETY: as in `allocate`; whoever frees submits no more work on it.
        py.detach(|| unsafe { self.0.free(ptr, stream, || keep(&mut owner)) })
            .map_err(raise)
    }

    /// A block is used on another stream, too, until it is freed.
    #[pyo3(signature = (ptr, stream, owner=None), text_signature = "($self, ptr, stream, owner=None)")]
    fn record_stream(&self, py: Python<'_>, ptr: u64, stream: usize, mut owner: Option<Py<PyAny>>) -> PyResult<()> {
        // SAFETY: as in `allocate`.
        py.detach(|| unsafe { self.0.record_stream(ptr, stream, || keep(&mut owner)) })
            .map_err(raise)
    }

    /// Lets go of a stream and of who keeps it.
    #[pyo3(signature = (stream), text_signature = "($self, stream)")]
    fn forget_stream(&self, stream: usize) {
        self.0.forget_stream(stream);
    }

    /// Blocks that are allocated and not freed.
    #[getter]
    fn live_blocks(&self) -> usize {
        self.0.live_blocks()
    }
}

/// Memory that a hook gave out, freed when this goes.
#[pyclass(frozen, name = "_CudaBlock", module = "neuro_memory._neuro_memory")]
pub(crate) struct PyCudaBlock {
    hook: Arc<Hook>,
    address: u64,
}

#[pymethods]
impl PyCudaBlock {
    /// Address of the first byte; 0 for 0 bytes.
    #[getter]
    fn ptr(&self) -> u64 {
        self.address
    }
}

impl Drop for PyCudaBlock {
    fn drop(&mut self) {
        // SAFETY: whoever had this submits no more work on it. It is live, so only a device that is out of reach refuses.
        let _ = unsafe { self.hook.free(self.address, None, || None) };
    }
}

/// A number that PyTorch's functions allocate from a pool by, as long as this is there or a block lives that was allocated by it.
#[pyclass(frozen, name = "_TorchSlot", module = "neuro_memory._neuro_memory")]
pub(crate) struct PyTorchSlot(HookSlot);

#[pymethods]
impl PyTorchSlot {
    #[new]
    #[pyo3(signature = (pool, throws), text_signature = "(pool, throws)")]
    fn new(pool: &Bound<'_, PyMemoryPool>, throws: bool) -> PyResult<Self> {
        let on_failure = if throws { OnFailure::Throw } else { OnFailure::Null };
        Ok(Self(HookSlot::bind(&pool.get().inner, on_failure).map_err(raise)?))
    }

    /// The number.
    #[getter]
    fn number(&self) -> usize {
        self.0.number()
    }
}

/// Frees of this process through hooks of CUDA pools that were refused, since they named no live block.
#[pyfunction(name = "_refused_frees")]
fn count_refused_frees() -> u64 {
    refused_frees()
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyHook>()?;
    module.add_class::<PyCudaBlock>()?;
    module.add_class::<PyTorchSlot>()?;
    module.add_function(wrap_pyfunction!(count_refused_frees, module)?)
}
