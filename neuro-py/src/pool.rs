//! `MemoryPool`, its statistics, and those of the whole process.

use neuro_core::{MemoryPool, PoolStats};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::create;
use crate::shape;
use crate::tensor::PyTensor;

/// Memory that tensors are made in: bounded by a limit, aligned, recycled.
///
/// Every tensor keeps its pool's memory alive; dropping the pool object early is safe.
///
/// limit: bytes that may be live at once (None: no limit).
/// alignment: bytes, a power of two up to 2 MiB; data is aligned to at least 64.
#[pyclass(frozen, weakref, name = "MemoryPool", module = "neuro_memory")]
pub(crate) struct PyMemoryPool {
    pub(crate) inner: MemoryPool,
}

#[pymethods]
impl PyMemoryPool {
    #[new]
    #[pyo3(signature = (limit=None, alignment=None), text_signature = "(limit=None, alignment=64)")]
    fn new(limit: Option<&Bound<'_, PyAny>>, alignment: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let mut inner = match shape::bytes("limit", limit)? {
            Some(limit) => MemoryPool::new(limit),
            None => MemoryPool::unlimited(),
        };
        if let Some(alignment) = shape::bytes("alignment", alignment)? {
            inner = inner.with_alignment(alignment);
        }
        Ok(Self { inner })
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

macro_rules! stats_class {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty,)*) => {
        /// Counts of a pool, or of all pools together, at one moment.
        #[pyclass(frozen, get_all, eq, name = "PoolStats", module = "neuro_memory")]
        #[derive(PartialEq, Eq)]
        pub(crate) struct PyPoolStats {
            $($(#[doc = $doc])* $name: $type),*
        }

        impl From<PoolStats> for PyPoolStats {
            fn from(stats: PoolStats) -> Self {
                Self { $($name: stats.$name),* }
            }
        }

        #[pymethods]
        impl PyPoolStats {
            /// All counts by name.
            fn asdict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
                let dict = PyDict::new(py);
                $(dict.set_item(stringify!($name), self.$name)?;)*
                Ok(dict)
            }

            fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
                let fields: Vec<String> = self
                    .asdict(py)?
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                Ok(format!("PoolStats({})", fields.join(", ")))
            }
        }
    };
}

stats_class! {
    /// Bytes that may be live at once; None where there is no limit.
    limit_bytes: Option<usize>,
    /// Bytes that data is aligned to by default.
    alignment: usize,
    /// Bytes in live blocks.
    live_bytes: usize,
    /// Most bytes that were live at once since the start or the last reset.
    peak_bytes: usize,
    /// Bytes of address space held.
    reserved_bytes: usize,
    /// Bytes of it that the system backs with memory.
    committed_bytes: usize,
    /// Bytes of the pool's own records.
    side_bytes: usize,
    /// Live blocks.
    live_blocks: usize,
    /// Most blocks that were live at once.
    peak_blocks: usize,
    /// Blocks ever handed out.
    total_allocations: u64,
    /// Ranges of address space the pool is made of.
    regions: usize,
    /// Free ranges between the live blocks.
    free_runs: usize,
    /// Bytes of the largest free range.
    largest_free_bytes: usize,
}

/// The pool that tensors are made in where the caller names none.
#[pyfunction]
fn default_pool() -> PyMemoryPool {
    PyMemoryPool {
        inner: MemoryPool::global().clone(),
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
    module.add_class::<PyPoolStats>()?;
    module.add_function(wrap_pyfunction!(default_pool, module)?)?;
    module.add_function(wrap_pyfunction!(stats, module)?)?;
    module.add_function(wrap_pyfunction!(trim, module)?)
}
