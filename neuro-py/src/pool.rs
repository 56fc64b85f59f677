//! `MemoryPool`, and what is asked of all pools of the process.

use std::sync::Arc;
use std::time::Duration;

use neuro_core::{Device, MemoryPool};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::create;
use crate::error::raise;
use crate::scope::PyScope;
use crate::shape;
use crate::soft_limit::OnSoftLimit;
use crate::stats::PyPoolStats;
use crate::tensor::PyTensor;

/// Memory that tensors are made in: bounded by a limit, aligned, recycled.
///
/// Every tensor keeps its pool's memory alive; dropping the pool object early is safe.
///
/// Any thread may use it.
///
/// limit: bytes that may be live at once (None: no limit).
/// alignment: bytes, a power of two up to 2 MiB; data is aligned to at least 64. One that cannot be met is reported by the
///     first tensor.
/// prefault: touch memory when it is taken from the system, so that its first use does not fault.
/// decay: seconds that free memory may stay unused before it goes back to the system by itself (None: never, only trim()
///     gives it back). What is used again and again stays.
/// keep: bytes of free memory that never go back by themselves.
/// soft_limit: live bytes above which on_soft_limit is called: once until they have been at or below it again. What threads
///     serve from caches of their own is noticed when it comes to 64 KiB a thread.
/// on_soft_limit: called with a PoolStats, as long as this object lives, on whichever thread allocates, in the middle of
///     that; it may free, trim, allocate and ask. What it raises goes to sys.unraisablehook.
/// debug: find writes past the end of tensors and after their release: by check(), and by a line on standard error. Slower. In a pool
///     of a device every tensor becomes an allocation of the driver's own instead, so that compute-sanitizer and the like see what is wrong.
/// gpu_support: let devices use its memory where it lies: the property gpu_support has the names of those that do. Where there is a
///     CUDA device, all its memory is page-locked as the pool takes it: pinned_bytes of its figures.
/// device: where its memory lies: "cpu", or "vulkan:0" and the like, whose memory is the limit where none is given. Of the other
///     options such a pool has debug, export and expandable only.
/// export: other processes can import its memory: see Tensor.export_fd. A device that cannot is reported by the first tensor.
/// expandable: memory of a CUDA device grows in one range of addresses, so that what was short tensors serves a long one later; in
///     whole pieces, up to one of 2 MiB (32 MiB from 1 GiB on) above the limit. A device that cannot is reported by the first tensor.
///     Not with export.
#[pyclass(frozen, weakref, name = "MemoryPool", module = "neuro_memory")]
pub(crate) struct PyMemoryPool {
    pub(crate) inner: MemoryPool,
    on_soft_limit: Option<Arc<OnSoftLimit>>,
}

impl PyMemoryPool {
    /// The pool, for arrays of the host.
    ///
    /// # Errors
    /// `ValueError` for one of a device.
    pub(crate) fn for_host(&self) -> PyResult<MemoryPool> {
        match self.inner.device() {
            Device::Cpu => Ok(self.inner.clone()),
            device => Err(PyValueError::new_err(format!(
                "the pool is of {device}, where the processor does not reach it; arrays need one of host memory"
            ))),
        }
    }
}

#[pymethods]
impl PyMemoryPool {
    #[new]
    #[pyo3(
        signature = (
            limit=None, alignment=None, *, prefault=false, decay=Some(1.0), keep=None, soft_limit=None, on_soft_limit=None,
            debug=false, gpu_support=false, device=None, export=false, expandable=false
        ),
        text_signature = "(limit=None, alignment=64, *, prefault=False, decay=1.0, keep=0, soft_limit=None, on_soft_limit=None, debug=False, gpu_support=False, device='cpu', export=False, expandable=False)"
    )]
    #[expect(clippy::too_many_arguments, reason = "they are keywords, each with a default")]
    fn new(
        limit: Option<&Bound<'_, PyAny>>,
        alignment: Option<&Bound<'_, PyAny>>,
        prefault: bool,
        decay: Option<f64>,
        keep: Option<&Bound<'_, PyAny>>,
        soft_limit: Option<&Bound<'_, PyAny>>,
        on_soft_limit: Option<Bound<'_, PyAny>>,
        debug: bool,
        gpu_support: bool,
        device: Option<&Bound<'_, PyAny>>,
        export: bool,
        expandable: bool,
    ) -> PyResult<Self> {
        let device = device.map(create::parse_device).transpose()?.unwrap_or_default();
        if device != Device::Cpu {
            if prefault
                || gpu_support
                || alignment.is_some()
                || keep.is_some()
                || soft_limit.is_some()
                || on_soft_limit.is_some()
            {
                return Err(PyValueError::new_err(format!(
                    "a pool of {device} has no option but its limit, debug, export and expandable"
                )));
            }
            if export && expandable {
                return Err(PyValueError::new_err(
                    "export and expandable at once, and memory that grows in place cannot be exported; make two pools",
                ));
            }
            let inner = match shape::bytes("limit", limit)? {
                Some(limit) => MemoryPool::new_gpu(device, limit),
                None => MemoryPool::of_device(device),
            };
            let mut inner = inner.map_err(raise)?;
            if debug || export || expandable {
                // The default pool's memory is for nobody else, and in slabs.
                let limit = inner.limit().unwrap_or(usize::MAX);
                inner = MemoryPool::new_gpu(device, limit)
                    .map_err(raise)?
                    .with_export(export)
                    .with_expandable(expandable)
                    .with_debug(debug);
            }
            return Ok(Self {
                inner,
                on_soft_limit: None,
            });
        }
        if export {
            return Err(PyValueError::new_err(
                "export: a pool of the cpu has nothing to export; name a device, as device=\"vulkan:0\"",
            ));
        }
        if expandable {
            return Err(PyValueError::new_err(
                "expandable: a pool of the cpu grows in place anyway; name a device, as device=\"cuda:0\", or leave it out",
            ));
        }
        let decay = decay.map(seconds).transpose()?;
        let soft = soft_limit_of(shape::bytes("soft_limit", soft_limit)?, on_soft_limit)?;
        let mut inner = match shape::bytes("limit", limit)? {
            Some(limit) => MemoryPool::new(limit),
            None => MemoryPool::unlimited(),
        };
        if let Some(alignment) = shape::bytes("alignment", alignment)? {
            inner = inner.with_alignment(alignment);
        }
        inner = inner
            .with_prefault(prefault)
            .with_decay(decay)
            .with_keep(shape::bytes("keep", keep)?.unwrap_or(0))
            .with_gpu_support(gpu_support);
        if debug {
            inner = inner.with_debug(true);
        }
        let mut on_soft_limit = None;
        if let Some((bytes, callable)) = soft {
            let callback = OnSoftLimit::new(callable);
            inner = inner.with_soft_limit(bytes, callback.caller());
            on_soft_limit = Some(callback);
        }
        Ok(Self { inner, on_soft_limit })
    }

    /// Where its memory lies: "cpu", "vulkan:0".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    /// Names of the devices that use this pool's memory where it lies; empty where none does: gpu_support_reason says why. Loads
    /// the drivers, the first time.
    #[getter]
    fn gpu_support<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let reached = py.detach(|| self.inner.gpu_support()).unwrap_or_default();
        PyTuple::new(py, reached.iter().map(ToString::to_string))
    }

    /// Why gpu_support is empty; None where it is not.
    #[getter]
    fn gpu_support_reason(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.inner.gpu_support()).err()
    }

    // The callable often names the pool: a cycle that the collector must see.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.on_soft_limit
            .as_ref()
            .map_or(Ok(()), |callback| callback.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(callback) = &self.on_soft_limit {
            callback.clear();
        }
    }

    /// Tensor whose contents are whatever was there.
    #[pyo3(signature = (shape, dtype=None, *, alignment=None), text_signature = "($self, shape, dtype='float32', *, alignment=None)")]
    fn empty(
        &self,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        alignment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyTensor> {
        create::empty_in(&self.inner, shape, dtype, alignment)
    }

    /// Tensor of zeros.
    #[pyo3(signature = (shape, dtype=None, *, alignment=None), text_signature = "($self, shape, dtype='float32', *, alignment=None)")]
    fn zeros(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        alignment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyTensor> {
        create::zeros_in(py, &self.inner, shape, dtype, alignment)
    }

    /// Tensor of ones.
    #[pyo3(signature = (shape, dtype=None, *, alignment=None), text_signature = "($self, shape, dtype='float32', *, alignment=None)")]
    fn ones(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        alignment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyTensor> {
        create::ones_in(py, &self.inner, shape, dtype, alignment)
    }

    /// Tensor with `value` everywhere.
    #[pyo3(signature = (shape, value, dtype=None, *, alignment=None), text_signature = "($self, shape, value, dtype='float32', *, alignment=None)")]
    fn full(
        &self,
        shape: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        alignment: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyTensor> {
        create::full_in(&self.inner, shape, value, dtype, alignment)
    }

    /// What the pool holds now and held at most.
    fn stats(&self) -> PyPoolStats {
        PyPoolStats::from(self.inner.stats())
    }

    /// Gives free memory back to the system, all but `keep` bytes; returns the bytes given back.
    #[pyo3(signature = (keep=None), text_signature = "($self, keep=0)")]
    fn trim(&self, py: Python<'_>, keep: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let keep = shape::bytes("keep", keep)?.unwrap_or(0);
        Ok(py.detach(|| self.inner.trim(keep)))
    }

    /// Lets `peak_bytes` and `peak_blocks` start again from what is live now.
    fn reset_peak(&self) {
        self.inner.reset_peak();
    }

    /// Begins to count what the pool hands out and takes back, with peaks and totals of its own: see Scope.
    fn scope(&self) -> PyScope {
        PyScope::from(self.inner.scope())
    }

    /// Looks at what a pool in debug mode guards: the ends of tensors, and released memory that waits.
    ///
    /// Raises CorruptedError if something was written that nobody may write; the message says where. A pool without debug
    /// mode finds nothing.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.check()).map_err(raise)
    }

    /// Has the n-th allocation from now raise OutOfMemoryError, the next being the first: for tests of what a program does then.
    ///
    /// It happens once; 0 takes it back, a new order replaces it.
    #[pyo3(text_signature = "($self, n, /)")]
    fn fail_nth(&self, n: &Bound<'_, PyAny>) -> PyResult<()> {
        let n = n.extract::<u64>().map_err(|error| {
            if error.is_instance_of::<PyOverflowError>(n.py()) {
                return PyValueError::new_err(format!("n {n} is out of range: give 0 to {}", u64::MAX));
            }
            error
        })?;
        self.inner.fail_nth(n);
        Ok(())
    }

    /// Bytes that may be live at once; None where there is no limit.
    #[getter]
    fn limit(&self) -> Option<usize> {
        self.inner.limit()
    }

    /// Bytes that data is aligned to where the caller names nothing else.
    #[getter]
    fn alignment(&self) -> usize {
        self.inner.alignment()
    }

    fn __repr__(&self) -> String {
        let stats = self.inner.stats();
        let limit = stats
            .limit_bytes
            .map_or_else(|| "None".to_owned(), |bytes| bytes.to_string());
        format!(
            "MemoryPool(limit={limit}, alignment={}, live_bytes={}, live_blocks={})",
            stats.alignment, stats.live_bytes, stats.live_blocks
        )
    }
}

/// A time that Python gave in seconds.
fn seconds(decay: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(decay).map_err(|_| {
        PyValueError::new_err(format!(
            "decay {decay} is out of range: give seconds, 0 or more, or None"
        ))
    })
}

/// The two parts of a soft limit: both, or neither.
fn soft_limit_of<'py>(
    bytes: Option<usize>,
    callable: Option<Bound<'py, PyAny>>,
) -> PyResult<Option<(usize, Bound<'py, PyAny>)>> {
    match (bytes, callable) {
        (None, None) => Ok(None),
        (Some(bytes), Some(callable)) if callable.is_callable() => Ok(Some((bytes, callable))),
        (Some(_), Some(other)) => Err(PyTypeError::new_err(format!(
            "on_soft_limit is called with a PoolStats; {} cannot be called",
            other.get_type()
        ))),
        (Some(_), None) => Err(PyValueError::new_err("soft_limit needs on_soft_limit, which it calls")),
        (None, Some(_)) => Err(PyValueError::new_err(
            "on_soft_limit needs soft_limit, the bytes above which it is called",
        )),
    }
}

/// The pool that tensors are made in where the caller names none.
#[pyfunction]
fn default_pool() -> PyMemoryPool {
    PyMemoryPool {
        inner: MemoryPool::global().clone(),
        on_soft_limit: None,
    }
}

/// Counts of all pools of the process together.
#[pyfunction]
fn stats() -> PyPoolStats {
    PyPoolStats::from(MemoryPool::global_stats())
}

/// Gives free memory of all pools back to the system, all but `keep` bytes a pool; returns the bytes given back.
#[pyfunction]
#[pyo3(signature = (keep=None), text_signature = "(keep=0)")]
fn trim(py: Python<'_>, keep: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    let keep = shape::bytes("keep", keep)?.unwrap_or(0);
    Ok(py.detach(|| MemoryPool::trim_all(keep)))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyMemoryPool>()?;
    module.add_function(wrap_pyfunction!(default_pool, module)?)?;
    module.add_function(wrap_pyfunction!(stats, module)?)?;
    module.add_function(wrap_pyfunction!(trim, module)?)
}
