//! Pickling: out of band with protocol 5 (Dask, Ray, multiprocessing hand the buffer over without a copy), else in band.
//!
//! The bytes travel as a flat uint8 view, so that bfloat16, which the buffer protocol does not have, goes the same way.

use neuro_core::DType;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyTuple};

use crate::error::raise;
use crate::tensor::{PyTensor, detached};
use crate::{buffer, dtype};

#[pymethods]
impl PyTensor {
    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: i32) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let inner = &slf.get().inner;
        let dense = detached(py, inner.nbytes(), || inner.contiguous())?;
        let flat = dense.reshape(&[dense.numel()]).map_err(raise)?;
        let bytes = Bound::new(py, Self::from(buffer::reinterpret(&flat, DType::U8)?))?;
        let payload = if protocol >= 5 {
            py.import(intern!(py, "pickle"))?
                .getattr(intern!(py, "PickleBuffer"))?
                .call1((bytes,))?
        } else if inner.is_readonly() {
            py.get_type::<PyBytes>().call1((bytes,))?
        } else {
            // Mutable, so that the tensor on the other side can borrow it and stay writable.
            py.get_type::<PyByteArray>().call1((bytes,))?
        };
        let rebuild = py
            .import(intern!(py, "neuro_memory._neuro_memory"))?
            .getattr(intern!(py, "_rebuild"))?;
        (rebuild, (payload, dtype::name(py, inner.dtype()), slf.get().shape(py)?)).into_pyobject(py)
    }
}

/// The tensor that was pickled as these bytes: borrows them where they are aligned for the dtype, else copies once.
#[pyfunction]
fn _rebuild(payload: &Bound<'_, PyAny>, dtype: &Bound<'_, PyAny>, shape: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let wanted = dtype::parse(dtype)?;
    let bytes = buffer::from_buffer(payload, Some(dtype::name(payload.py(), DType::U8).as_any()), None)?;
    let aligned = bytes.inner.data_ptr().addr().is_multiple_of(wanted.align());
    let bytes = if aligned {
        bytes.inner
    } else {
        detached(payload.py(), bytes.inner.nbytes(), || bytes.inner.copy())?
    };
    buffer::reinterpret(&bytes, wanted)?
        .reshape(&crate::shape::parse(shape)?)
        .map(PyTensor::from)
        .map_err(raise)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_rebuild, module)?)
}
