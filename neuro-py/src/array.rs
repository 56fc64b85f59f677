//! Exchange with arrays: NumPy's own protocols, and anything that can be shared as a tensor.
//!
//! NumPy is imported only when `numpy()` or `__array__` is called.

use neuro_core::DType;
use pyo3::exceptions::{PyAttributeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::tensor::{PyTensor, detached};
use crate::{buffer, cuda_array, dlpack_import, dtype};

#[pymethods]
impl PyTensor {
    /// NumPy array over the same memory. bfloat16 needs ml_dtypes.
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let asarray = py.import(intern!(py, "numpy"))?.getattr(intern!(py, "asarray"))?;
        let inner = &slf.get().inner;
        if inner.dtype() != DType::BF16 {
            return asarray.call1((slf,));
        }
        let bfloat16 = py.import(intern!(py, "ml_dtypes"))?.getattr(intern!(py, "bfloat16"))?;
        let bits = Bound::new(py, Self::from(buffer::reinterpret(inner, DType::U16)?))?;
        asarray.call1((bits,))?.call_method1(intern!(py, "view"), (bfloat16,))
    }

    /// What `np.asarray` calls where it finds no buffer.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let shared = Self::numpy(slf)?;
        let array = match dtype {
            None => shared.clone(),
            Some(dtype) => {
                let options = PyDict::new(py);
                options.set_item(intern!(py, "copy"), false)?;
                shared.call_method(intern!(py, "astype"), (dtype,), Some(&options))?
            }
        };
        match copy {
            Some(true) if array.is(&shared) => array.call_method0(intern!(py, "copy")),
            Some(false) if !array.is(&shared) => Err(PyValueError::new_err(format!(
                "a tensor of {} as another dtype takes a copy, and copy=False forbids it",
                slf.get().inner.dtype()
            ))),
            _ => Ok(array),
        }
    }

    /// NumPy's description of the memory, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Some(typestr) = dtype::typestr(self.inner.dtype()) else {
            return Err(PyAttributeError::new_err(
                "__array_interface__ has no bfloat16; use DLPack, or t.numpy() with ml_dtypes",
            ));
        };
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("typestr", typestr)?;
        dict.set_item("shape", self.shape(py)?)?;
        dict.set_item("strides", self.strides(py)?)?;
        dict.set_item("data", (self.data_ptr()?, self.inner.is_readonly()))?;
        Ok(dict)
    }
}

/// Whether `object` can be shared as a tensor.
pub(crate) fn is_exchangeable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(!is_numpy_scalar(object)? && (object.hasattr(intern!(object.py(), "__dlpack__"))? || has_buffer(object)))
}

fn has_buffer(object: &Bound<'_, PyAny>) -> bool {
    pyo3::buffer::PyUntypedBuffer::get(object).is_ok()
}

/// NumPy's scalars export buffers too, but are numbers. Unlike its arrays, none of them can be assigned into.
fn is_numpy_scalar(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    Ok(object.hasattr(intern!(py, "__array_interface__"))? && !object.hasattr(intern!(py, "__setitem__"))?)
}

/// `object` as a tensor, without a copy where the protocol has the type: a tensor itself, a buffer, a DLPack producer.
pub(crate) fn to_tensor<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTensor>> {
    share(object, false)
}

/// As [`to_tensor`]; `never_copy` forbids the producer to copy as well.
fn share<'py>(object: &Bound<'py, PyAny>, never_copy: bool) -> PyResult<Bound<'py, PyTensor>> {
    let py = object.py();
    if let Ok(tensor) = object.cast::<PyTensor>() {
        return Ok(tensor.clone());
    }
    // NumPy can export bfloat16 neither way, but can show its bits.
    if let Some(dtype) = object.getattr_opt(intern!(py, "dtype"))?
        && let Some(name) = dtype.getattr_opt(intern!(py, "name"))?
        && name.eq("bfloat16")?
        && object.hasattr(intern!(py, "__array_interface__"))?
    {
        let bits = object.call_method1(intern!(py, "view"), (intern!(py, "uint16"),))?;
        let name = PyString::intern(py, DType::BF16.name()).into_any();
        return Bound::new(py, buffer::from_buffer(&bits, Some(&name), None)?);
    }
    let tensor = match buffer::from_buffer(object, None, None) {
        Ok(tensor) => tensor,
        Err(_) if object.hasattr(intern!(py, "__dlpack__"))? || cuda_array::interface_of(object)?.is_some() => {
            dlpack_import::from_dlpack(object, None, never_copy.then_some(false))?
        }
        // It has no buffer at all, rather than one that is refused.
        Err(error) if error.is_instance_of::<PyTypeError>(py) && !has_buffer(object) => {
            return Err(PyTypeError::new_err(format!(
                "{} is no tensor and exports neither a buffer nor DLPack; make a NumPy array of it first",
                object.get_type()
            )));
        }
        Err(error) => return Err(error),
    };
    Bound::new(py, tensor)
}

/// `object` as a tensor: itself, or a view of its buffer or DLPack export.
///
/// copy: True copies into the default pool, False forbids DLPack producers to copy too, None shares where it can.
#[pyfunction]
#[pyo3(signature = (object, *, copy=None))]
fn asarray<'py>(object: &Bound<'py, PyAny>, copy: Option<bool>) -> PyResult<Bound<'py, PyTensor>> {
    let shared = share(object, copy == Some(false))?;
    if copy != Some(true) {
        return Ok(shared);
    }
    let inner = &shared.get().inner;
    let copied = detached(object.py(), inner.nbytes(), || inner.copy())?;
    Bound::new(object.py(), PyTensor::from(copied))
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(asarray, module)?)
}
