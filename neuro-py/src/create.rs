//! Making tensors: empty, zeros, ones, full, in the default pool or in one that is named.

use std::borrow::Cow;

use neuro_core::{Device, DynTensor, MemoryPool, Scalar};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::error::raise;
use crate::pool::PyMemoryPool;
use crate::tensor::{PyTensor, detached};
use crate::{dtype, element, shape};

/// Tensor whose contents are whatever was there.
#[pyfunction]
#[pyo3(
    signature = (shape, dtype=None, *, alignment=None, device=None, pool=None),
    text_signature = "(shape, dtype='float32', *, alignment=None, device='cpu', pool=None)"
)]
fn empty(
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    pool: Option<&Bound<'_, PyMemoryPool>>,
) -> PyResult<PyTensor> {
    let pool = pool_of(pool, device)?;
    empty_in(&pool, shape, dtype, alignment)
}

/// Tensor of zeros.
#[pyfunction]
#[pyo3(
    signature = (shape, dtype=None, *, alignment=None, device=None, pool=None),
    text_signature = "(shape, dtype='float32', *, alignment=None, device='cpu', pool=None)"
)]
fn zeros(
    py: Python<'_>,
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    pool: Option<&Bound<'_, PyMemoryPool>>,
) -> PyResult<PyTensor> {
    let pool = pool_of(pool, device)?;
    zeros_in(py, &pool, shape, dtype, alignment)
}

/// Tensor of ones.
#[pyfunction]
#[pyo3(
    signature = (shape, dtype=None, *, alignment=None, device=None, pool=None),
    text_signature = "(shape, dtype='float32', *, alignment=None, device='cpu', pool=None)"
)]
fn ones(
    py: Python<'_>,
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    pool: Option<&Bound<'_, PyMemoryPool>>,
) -> PyResult<PyTensor> {
    let pool = pool_of(pool, device)?;
    ones_in(py, &pool, shape, dtype, alignment)
}

/// Tensor with `value` everywhere.
#[pyfunction]
#[pyo3(
    signature = (shape, value, dtype=None, *, alignment=None, device=None, pool=None),
    text_signature = "(shape, value, dtype='float32', *, alignment=None, device='cpu', pool=None)"
)]
fn full(
    shape: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
    device: Option<&Bound<'_, PyAny>>,
    pool: Option<&Bound<'_, PyMemoryPool>>,
) -> PyResult<PyTensor> {
    let pool = pool_of(pool, device)?;
    full_in(&pool, shape, value, dtype, alignment)
}

/// The pool that is named, or the default one of the device that is.
pub(crate) fn pool_of<'a>(
    pool: Option<&'a Bound<'_, PyMemoryPool>>,
    device: Option<&Bound<'_, PyAny>>,
) -> PyResult<Cow<'a, MemoryPool>> {
    let device = device.map(parse_device).transpose()?;
    let Some(pool) = pool else {
        return match device.unwrap_or_default() {
            Device::Cpu => Ok(Cow::Borrowed(MemoryPool::global())),
            device => MemoryPool::of_device(device).map(Cow::Owned).map_err(raise),
        };
    };
    let pool = &pool.get().inner;
    match device {
        Some(device) if device != pool.device() => Err(PyValueError::new_err(format!(
            "device {device} and a pool of {} were given; name one of them",
            pool.device()
        ))),
        _ => Ok(Cow::Borrowed(pool)),
    }
}

/// A device by its name.
pub(crate) fn parse_device(device: &Bound<'_, PyAny>) -> PyResult<Device> {
    device.cast::<PyString>()?.to_str()?.parse().map_err(raise)
}

pub(crate) fn empty_in(
    pool: &MemoryPool,
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    let (shape, dtype) = (shape::parse(shape)?, dtype::parse_or_default(dtype)?);
    let alignment = shape::bytes("alignment", alignment)?;
    DynTensor::empty_in(pool, alignment, &shape, dtype)
        .map(PyTensor::from)
        .map_err(raise)
}

pub(crate) fn zeros_in(
    py: Python<'_>,
    pool: &MemoryPool,
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    let (shape, dtype) = (shape::parse(shape)?, dtype::parse_or_default(dtype)?);
    let alignment = shape::bytes("alignment", alignment)?;
    detached(py, guess_bytes(&shape, dtype.size()), || {
        DynTensor::zeros_in(pool, alignment, &shape, dtype)
    })
    .map(PyTensor::from)
}

pub(crate) fn ones_in(
    py: Python<'_>,
    pool: &MemoryPool,
    shape: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    filled(py, pool, shape, Scalar::Int(1), dtype, alignment)
}

pub(crate) fn full_in(
    pool: &MemoryPool,
    shape: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    filled(shape.py(), pool, shape, element::scalar(value)?, dtype, alignment)
}

fn filled(
    py: Python<'_>,
    pool: &MemoryPool,
    shape: &Bound<'_, PyAny>,
    value: Scalar,
    dtype: Option<&Bound<'_, PyAny>>,
    alignment: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    let (shape, dtype) = (shape::parse(shape)?, dtype::parse_or_default(dtype)?);
    let alignment = shape::bytes("alignment", alignment)?;
    detached(py, guess_bytes(&shape, dtype.size()), || {
        DynTensor::full_in(pool, alignment, &shape, dtype, value)
    })
    .map(PyTensor::from)
}

/// Bytes of a shape that nobody has checked yet: decides only whether the GIL is released.
fn guess_bytes(shape: &[usize], itemsize: usize) -> usize {
    shape.iter().fold(itemsize, |bytes, &dim| bytes.saturating_mul(dim))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(empty, module)?)?;
    module.add_function(wrap_pyfunction!(zeros, module)?)?;
    module.add_function(wrap_pyfunction!(ones, module)?)?;
    module.add_function(wrap_pyfunction!(full, module)?)
}
