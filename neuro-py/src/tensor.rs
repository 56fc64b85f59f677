//! `Tensor`: its facts, and the views and copies that the core makes of it.
//!
//! The class is frozen: shape and dtype never change, and a view is another object that shares the storage. Its elements
//! do change, under the rules NumPy users know: whoever writes from two threads at once synchronises them.
//!
//! What else a tensor can do stands with its subject: `index`, `element`, `array`, `buffer`, `dlpack`, `pickle`.

use neuro_core::{Device, DynTensor};
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::error::raise;
use crate::pool::PyMemoryPool;
use crate::transfer::PyTransfer;
use crate::{create, dtype, element, shape};

/// Work on more bytes than this releases the GIL; below, releasing costs more than the work.
const DETACH_BYTES: usize = 64 << 10;

/// Runs `work` on `bytes` bytes, without the GIL where that pays.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    bytes: usize,
    work: impl FnOnce() -> neuro_core::Result<T> + Send,
) -> PyResult<T> {
    let result = if bytes > DETACH_BYTES { py.detach(work) } else { work() };
    result.map_err(raise)
}

/// Elements of one type in pooled, aligned memory, with a shape.
///
/// Made by empty, zeros, ones, full, asarray, from_buffer, from_dlpack and load_file. Exchanged without a copy through the
/// buffer protocol, DLPack and numpy(). Indexing with ints, slices and ... gives views.
#[pyclass(frozen, weakref, name = "Tensor", module = "neuro_memory")]
pub(crate) struct PyTensor {
    pub(crate) inner: DynTensor,
}

impl From<DynTensor> for PyTensor {
    fn from(inner: DynTensor) -> Self {
        Self { inner }
    }
}

#[pymethods]
impl PyTensor {
    /// Length of each dimension.
    #[getter]
    pub(crate) fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.shape())
    }

    /// Name of the element type, as NumPy has it.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        dtype::name(py, self.inner.dtype())
    }

    /// Bytes from one element to the next, for each dimension (bytes as in NumPy; DLPack counts elements).
    #[getter]
    pub(crate) fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let size = self.inner.dtype().size().cast_signed();
        PyTuple::new(py, self.inner.strides().iter().map(|stride| stride * size))
    }

    /// Number of dimensions.
    #[getter]
    fn ndim(&self) -> usize {
        self.inner.ndim()
    }

    /// Number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.inner.numel()
    }

    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.inner.dtype().size()
    }

    /// Bytes of all elements.
    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.nbytes()
    }

    /// Where the memory lies: "cpu", "vulkan:0".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    /// The tensor on another device: itself if it is there, else a copy in row-major order. To a device the copy may still be under
    /// way: what is done with it there is ordered behind. On the CPU it has arrived.
    ///
    /// A contiguous tensor of a pool with gpu_support is not copied to a device that shares the host's memory, nor back: both are
    /// the same bytes then, and who writes them on one side sees to it that nobody uses the other.
    ///
    /// device: "cpu", "vulkan:0" and the like; its default pool is used.
    /// pool: where to copy it to, in every case.
    /// non_blocking: return a Transfer at once, and bring the tensor meanwhile; nobody writes this one until then.
    /// copy: copy in every case.
    #[pyo3(signature = (device=None, *, pool=None, non_blocking=false, copy=false))]
    fn to<'py>(
        slf: &Bound<'py, Self>,
        device: Option<&Bound<'py, PyAny>>,
        pool: Option<&Bound<'py, PyMemoryPool>>,
        non_blocking: bool,
        copy: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, inner) = (slf.py(), &slf.get().inner);
        let target = match (device, pool) {
            (None, None) => return Err(PyTypeError::new_err("to() needs a device or a pool")),
            (Some(device), None) if !copy => Err(create::parse_device(device)?),
            _ => Ok(create::pool_of(pool, device)?),
        };
        // Never attached: it may wait for the device.
        if non_blocking {
            let transfer = py.detach(|| match &target {
                Ok(pool) => inner.to_pool_async(pool),
                Err(device) => inner.to_device_async(*device),
            });
            let transfer = PyTransfer::from(transfer.map_err(raise)?);
            return Ok(Bound::new(py, transfer)?.into_any());
        }
        let moved = match &target {
            Err(device) if *device == inner.device() => return Ok(slf.clone().into_any()),
            Err(device) => py.detach(|| inner.to_device(*device)),
            Ok(pool) => py.detach(|| inner.to_pool(pool)),
        };
        Ok(Bound::new(py, Self::from(moved.map_err(raise)?))?.into_any())
    }

    /// Waits until all work that was submitted on the tensor's memory is done. On the CPU there is none.
    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.synchronize()).map_err(raise)
    }

    /// A tensor of the CPU over the same bytes, for memory of a device that the processor reaches; it waits until work on them is
    /// done. Who writes on one side sees to it that nobody uses the other, and reads what a device wrote after synchronize().
    ///
    /// Raises NeuroMemoryError where the processor does not reach the memory, as on most graphics cards: use to("cpu") there.
    fn map(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        let (py, inner) = (slf.py(), &slf.get().inner);
        if inner.device() == Device::Cpu {
            return Ok(slf.clone().unbind());
        }
        let mapped = py.detach(|| inner.map()).map_err(raise)?;
        Py::new(py, Self::from(mapped))
    }

    /// Address of the first element.
    #[getter]
    pub(crate) fn data_ptr(&self) -> PyResult<usize> {
        on_host(&self.inner, "data_ptr")?;
        self.inner.storage().mark_exposed();
        Ok(self.inner.data_ptr().expose_provenance())
    }

    /// Largest power of two that divides the address, at most 2 MiB.
    #[getter]
    fn alignment(&self) -> usize {
        self.inner.alignment()
    }

    /// Whether writing is forbidden.
    #[getter]
    fn readonly(&self) -> bool {
        self.inner.is_readonly()
    }

    /// Whether the elements lie in page-locked host memory, as in a pool with gpu_support=True where there is a CUDA device.
    #[getter]
    fn is_pinned(&self) -> bool {
        self.inner.is_pinned()
    }

    /// Whether the elements lie in row-major order without gaps.
    #[getter]
    fn is_contiguous(&self) -> bool {
        self.inner.is_contiguous()
    }

    /// Owners of the storage: tensors that share it, DLPack exports included, in whatever language.
    #[getter]
    fn refcount(&self) -> usize {
        self.inner.refcount()
    }

    /// View with the dimensions in reverse order.
    #[getter(T)]
    fn reversed(&self) -> Self {
        self.inner.transpose().into()
    }

    /// View with the dimensions in the order of `axes`, reversed where none are given.
    #[pyo3(signature = (*axes))]
    fn transpose(&self, axes: &Bound<'_, PyTuple>) -> PyResult<Self> {
        if axes.is_empty() {
            return Ok(self.reversed());
        }
        let axes = shape::axes(&shape::one_or_many(axes)?, self.inner.ndim())?;
        self.inner.permute(&axes).map(Self::from).map_err(raise)
    }

    /// The elements under another shape: a view where that is possible, else a copy. One -1 is worked out.
    #[pyo3(signature = (*shape))]
    fn reshape(&self, py: Python<'_>, shape: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let shape = shape::with_wildcard(&shape::one_or_many(shape)?, self.inner.numel())?;
        detached(py, self.inner.nbytes(), || self.inner.reshape(&shape)).map(Self::from)
    }

    /// Copy in row-major order, in the default pool.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        detached(py, self.inner.nbytes(), || self.inner.copy()).map(Self::from)
    }

    /// This tensor where it is contiguous, else a copy that is.
    fn contiguous(slf: &Bound<'_, Self>) -> PyResult<Py<Self>> {
        let inner = &slf.get().inner;
        if inner.is_contiguous() {
            return Ok(slf.clone().unbind());
        }
        let copy = detached(slf.py(), inner.nbytes(), || inner.contiguous())?;
        Py::new(slf.py(), Self::from(copy))
    }

    fn __copy__(&self, py: Python<'_>) -> PyResult<Self> {
        self.copy(py)
    }

    fn __deepcopy__(&self, py: Python<'_>, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        self.copy(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        const SHOWN: usize = 16;
        let facts = format!(
            "shape={}, dtype='{}', device='{}'",
            self.shape(py)?.repr()?,
            self.inner.dtype(),
            self.inner.device()
        );
        if self.inner.device() != Device::Cpu {
            return Ok(format!("Tensor({facts})"));
        }
        // Without an element there still are lists, one for each index before the first dimension of length 0.
        let lists = self.inner.shape().iter().take_while(|&&dim| dim != 0);
        let entries = lists.fold(1usize, |entries, &dim| entries.saturating_mul(dim));
        if entries > SHOWN {
            return Ok(format!("Tensor({facts})"));
        }
        match element::nested(py, &self.inner) {
            Ok(elements) => Ok(format!("Tensor({}, {facts})", elements.repr()?)),
            // Uninitialised bytes need not be values: those of a bool are 0 and 1 only.
            Err(error) if error.is_instance_of::<PyValueError>(py) => Ok(format!("Tensor({facts})")),
            Err(error) => Err(error),
        }
    }
}

/// Refuses memory that the processor cannot reach.
pub(crate) fn on_host(tensor: &DynTensor, what: &str) -> PyResult<()> {
    match tensor.device() {
        Device::Cpu => Ok(()),
        device => Err(PyBufferError::new_err(format!(
            "{what}: the tensor is on {device}, where the processor does not reach it; call .to(\"cpu\") first"
        ))),
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTensor>()
}
