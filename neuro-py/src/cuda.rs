//! CUDA's own names for what tensors lie in, streams of other libraries, and the compiler of CUDA C. `python/neuro_memory/cuda.py` is the
//! module that users see.
//!
//! What a stream is, and that it stays, is the caller's promise, as with every protocol that hands over an address.

use neuro_core::cuda::{self, Access, Stream};
use neuro_core::{Device, MemoryPool};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::raise;
use crate::pool::PyMemoryPool;
use crate::tensor::PyTensor;
use crate::transfer::PyTransfer;
use crate::{create, dtype, element, shape};

/// A stream of another library's, as this one knows it: Stream(device, stream).
///
/// device: "cuda:0" and the like.
/// stream: the address of a CUstream of the device's primary context, as an int (0: the legacy default stream), or an object that has
///     one: PyTorch's, CuPy's, or any with `__cuda_stream__`. The object is kept as long as this.
///
/// What wait_for and record say is all that the library knows of work on the stream. At most five different ones are open on a device
/// at a time. Any thread may use it.
#[pyclass(frozen, weakref, name = "Stream", module = "neuro_memory.cuda")]
pub(crate) struct PyStream {
    // First, so that it is let go before its owner is.
    pub(crate) inner: Stream,
    owner: Option<Py<PyAny>>,
}

#[pymethods]
impl PyStream {
    #[new]
    #[pyo3(signature = (device, stream), text_signature = "(device, stream)")]
    fn new(py: Python<'_>, device: &Bound<'_, PyAny>, stream: &Bound<'_, PyAny>) -> PyResult<Self> {
        let device = create::parse_device(device)?;
        let (raw, is_number) = raw_stream(stream)?;
        // SAFETY: the caller's promise; an object that has the stream is kept.
        let inner = py.detach(|| unsafe { Stream::of(device, raw) }).map_err(raise)?;
        let owner = (!is_number).then(|| stream.clone().unbind());
        Ok(Self { inner, owner })
    }

    // Nothing is cleared: the stream has to stay as long as this. A cycle is undone elsewhere in it.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.owner.as_ref().map_or(Ok(()), |owner| visit.call(owner))
    }

    /// Has all that is submitted to the stream from now on wait, on the device, for what was submitted on a tensor: for its writes, and
    /// with write=True for its reads, too. Of a Transfer to the stream's device: for its copy; waits here until that was submitted.
    ///
    /// What then uses the tensor is told by record().
    #[pyo3(signature = (tensor, write=false), text_signature = "($self, tensor, write=False)")]
    fn wait_for(&self, py: Python<'_>, tensor: &Bound<'_, PyAny>, write: bool) -> PyResult<()> {
        if let Ok(transfer) = tensor.cast::<PyTransfer>() {
            let transfer = transfer.get().inner();
            return py.detach(|| self.inner.wait_for_transfer(transfer)).map_err(raise);
        }
        let Ok(tensor) = tensor.cast::<PyTensor>() else {
            return Err(PyTypeError::new_err(format!(
                "wait_for() takes a Tensor or a Transfer, not {}",
                tensor.get_type()
            )));
        };
        let tensor = &tensor.get().inner;
        py.detach(|| self.inner.wait_for(tensor, access(write))).map_err(raise)
    }

    /// Says that what was submitted to the stream up to now reads a tensor, or with write=True writes it: its memory is handed out again
    /// behind that, and what is done with it elsewhere waits.
    #[pyo3(signature = (tensor, write=false), text_signature = "($self, tensor, write=False)")]
    fn record(&self, py: Python<'_>, tensor: &Bound<'_, PyTensor>, write: bool) -> PyResult<()> {
        let tensor = &tensor.get().inner;
        py.detach(|| self.inner.record(tensor, access(write))).map_err(raise)
    }

    /// Tensor whose contents are whatever was there, to be used on this stream first: it may be memory that work of this stream uses
    /// still, which that work needs no wait for.
    ///
    /// pool: one of the stream's device (None: its default pool).
    #[pyo3(signature = (shape, dtype=None, pool=None), text_signature = "($self, shape, dtype='float32', pool=None)")]
    fn empty(
        &self,
        py: Python<'_>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        pool: Option<&Bound<'_, PyMemoryPool>>,
    ) -> PyResult<PyTensor> {
        let (shape, dtype) = (shape::parse(shape)?, dtype::parse_or_default(dtype)?);
        let pool = pool.map(|pool| pool.get().inner.clone());
        let make = || {
            let pool = pool.map_or_else(|| MemoryPool::of_device(self.inner.device()), Ok)?;
            self.inner.empty(&pool, &shape, dtype)
        };
        Ok(py.detach(make).map_err(raise)?.into())
    }

    /// The device it is of: "cuda:0".
    #[getter]
    fn device(&self) -> String {
        self.inner.device().to_string()
    }

    /// Address of the CUstream.
    #[getter]
    fn ptr(&self) -> usize {
        self.inner.raw()
    }

    /// For other libraries: the version of this protocol, and the address of the CUstream.
    fn __cuda_stream__(&self) -> (u32, usize) {
        (0, self.inner.raw())
    }

    fn __repr__(&self) -> String {
        format!("Stream({}, {:#x})", self.inner.device(), self.inner.raw())
    }
}

fn access(write: bool) -> Access {
    if write { Access::Write } else { Access::Read }
}

/// The address that a number, or an object that has a stream, means; and whether it is a number.
fn raw_stream(stream: &Bound<'_, PyAny>) -> PyResult<(usize, bool)> {
    let py = stream.py();
    if let Some(number) = element::index(stream)? {
        return Ok((address(&number)?, true));
    }
    if let Some(protocol) = stream.getattr_opt(intern!(py, "__cuda_stream__"))? {
        let (version, handle): (u32, Bound<'_, PyAny>) = protocol.call0()?.extract()?;
        if version != 0 {
            return Err(PyValueError::new_err(format!(
                "__cuda_stream__ is of version {version}; known is 0"
            )));
        }
        return Ok((address(&handle)?, false));
    }
    for name in [intern!(py, "cuda_stream"), intern!(py, "ptr")] {
        if let Some(handle) = stream.getattr_opt(name)? {
            return Ok((address(&handle)?, false));
        }
    }
    Err(PyTypeError::new_err(format!(
        "a stream is an int, or has __cuda_stream__(), cuda_stream (PyTorch) or ptr (CuPy); {} is not and has not",
        stream.get_type()
    )))
}

fn address(number: &Bound<'_, PyAny>) -> PyResult<usize> {
    number.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(number.py()) {
            PyValueError::new_err(format!("{number} is no address of a stream"))
        } else {
            error
        }
    })
}

/// What CUDA calls a device: CUdevice, CUcontext, the CUstreams for kernels and copies, compute capability, and the driver's version.
#[pyfunction]
#[expect(clippy::type_complexity, reason = "cuda.py gives the parts their names")]
fn _cuda_handles(
    py: Python<'_>,
    device: &Bound<'_, PyAny>,
) -> PyResult<(i32, usize, usize, usize, usize, (u32, u32), u32)> {
    let device: Device = create::parse_device(device)?;
    let handles = py.detach(|| cuda::handles(device)).map_err(raise)?;
    Ok((
        handles.device,
        handles.context,
        handles.compute,
        handles.upload,
        handles.download,
        handles.capability,
        handles.driver_version,
    ))
}

/// CUdeviceptr of a tensor's first element.
#[pyfunction]
fn _cuda_pointer(tensor: &Bound<'_, PyTensor>) -> PyResult<u64> {
    cuda::pointer(&tensor.get().inner).map_err(raise)
}

/// Has NVRTC be looked for in one more place.
#[pyfunction]
fn _cuda_add_nvrtc_path(path: std::path::PathBuf) -> PyResult<()> {
    if path.as_os_str().is_empty() {
        return Err(PyValueError::new_err("the path is empty"));
    }
    cuda::add_nvrtc_path(path);
    Ok(())
}

/// Version of NVRTC, which is loaded if it was not.
#[pyfunction]
fn _cuda_nvrtc_version(py: Python<'_>) -> PyResult<(u32, u32)> {
    py.detach(cuda::nvrtc_version).map_err(raise)
}

/// What NVRTC makes of CUDA C, as PTX. Needs no device.
#[pyfunction]
fn _cuda_ptx<'py>(py: Python<'py>, source: &str, name: &str, options: Vec<String>) -> PyResult<Bound<'py, PyBytes>> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let compiled = py.detach(|| cuda::compile(source, name, &options)).map_err(raise)?;
    Ok(PyBytes::new(py, &compiled.ptx))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // By the name of the module that users see, where it is `Stream`.
    module.add("_CudaStream", module.py().get_type::<PyStream>())?;
    module.add_function(wrap_pyfunction!(_cuda_handles, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_pointer, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_add_nvrtc_path, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_nvrtc_version, module)?)?;
    module.add_function(wrap_pyfunction!(_cuda_ptx, module)?)
}
