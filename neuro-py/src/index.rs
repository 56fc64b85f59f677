//! `t[...]` with ints, slices and `...`: views, and Python numbers where every dimension is named by an int.
//!
//! Absent on purpose: lists, masks and new axes as indices. They copy or need array maths; `t.numpy()` has them.

use neuro_core::DynTensor;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PySlice, PyTuple};

use crate::array;
use crate::buffer;
use crate::element;
use crate::error::raise;
use crate::tensor::{PyTensor, detached};

#[pymethods]
impl PyTensor {
    fn __len__(&self) -> PyResult<usize> {
        let first = self.inner.shape().first().copied();
        first.ok_or_else(|| PyTypeError::new_err("a tensor without dimensions has no length"))
    }

    // The interpreter's own way, by index, ends at the first IndexError, and t[0] of a tensor without dimensions is one.
    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let Some(&len) = slf.get().inner.shape().first() else {
            return Err(PyTypeError::new_err(
                "a tensor without dimensions cannot be iterated over",
            ));
        };
        let builtins = py.import(intern!(py, "builtins"))?;
        let indices = builtins.getattr(intern!(py, "range"))?.call1((len,))?;
        let get = slf.getattr(intern!(py, "__getitem__"))?;
        builtins.getattr(intern!(py, "map"))?.call1((get, indices))
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (view, is_element) = pick(&self.inner, key)?;
        if is_element {
            return element::at(py, &view, &[]);
        }
        Ok(Bound::new(py, PyTensor::from(view))?.into_any())
    }

    fn __setitem__(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let view = PyTensor::from(pick(&self.inner, key)?.0);
        if value.cast::<PyTensor>().is_ok() || array::is_exchangeable(value)? {
            return view.copy_from(py, value);
        }
        let value = element::scalar(value)?;
        detached(py, view.inner.nbytes(), || buffer::fill(&view.inner, value))
    }

    fn __delitem__(&self, _key: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "elements of a tensor cannot be deleted: its shape is fixed",
        ))
    }

    /// Copies the elements of `source`: a tensor, or a buffer or DLPack object, of the same shape and dtype.
    fn copy_from(&self, py: Python<'_>, source: &Bound<'_, PyAny>) -> PyResult<()> {
        let source = array::to_tensor(source)?;
        let source = &source.get().inner;
        detached(py, self.inner.nbytes(), || buffer::copy(&self.inner, source))
    }
}

/// The view that `key` names, and whether every dimension was named by an int.
fn pick(tensor: &DynTensor, key: &Bound<'_, PyAny>) -> PyResult<(DynTensor, bool)> {
    let tuple = match key.cast::<PyTuple>() {
        Ok(tuple) => tuple.clone(),
        Err(_) => PyTuple::new(key.py(), [key])?,
    };
    let is_ellipsis = |item: &Bound<'_, PyAny>| item.is_instance_of::<PyEllipsis>();
    let ellipses = tuple.iter().filter(is_ellipsis).count();
    let named = tuple.len() - ellipses;
    if ellipses > 1 {
        return Err(PyIndexError::new_err("an index can have one ... only"));
    }
    if named > tensor.ndim() {
        return Err(PyIndexError::new_err(format!(
            "{named} indices for {} dimensions",
            tensor.ndim()
        )));
    }
    let mut view = tensor.clone();
    let mut axis = 0;
    let mut ints = 0;
    for item in tuple.iter() {
        if is_ellipsis(&item) {
            axis += tensor.ndim() - named;
        } else if let Ok(slice) = item.cast::<PySlice>() {
            // A dimension fits an isize: its bytes do.
            let range = slice.indices(view.shape()[axis].cast_signed())?;
            view = view.slice(axis, range.start, range.stop, range.step).map_err(raise)?;
            axis += 1;
        } else {
            view = view.select(axis, position(&item, view.shape()[axis])?).map_err(raise)?;
            ints += 1;
        }
    }
    Ok((view, ellipses == 0 && ints == tensor.ndim()))
}

/// The index `item` of a dimension of `len`; negative ones count from the back.
fn position(item: &Bound<'_, PyAny>, len: usize) -> PyResult<usize> {
    if item.is_none() || item.is_instance_of::<PyBool>() {
        return Err(unsupported(item));
    }
    let given = item.extract::<isize>().map_err(|error| {
        if error.is_instance_of::<PyTypeError>(item.py()) {
            unsupported(item)
        } else {
            PyIndexError::new_err(format!("index {item} is out of range for length {len}"))
        }
    })?;
    let from_front = if given < 0 {
        given.saturating_add_unsigned(len)
    } else {
        given
    };
    usize::try_from(from_front)
        .ok()
        .filter(|&index| index < len)
        .ok_or_else(|| PyIndexError::new_err(format!("index {given} is out of range for length {len}")))
}

fn unsupported(item: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a tensor is indexed by ints, slices and ..., not {}; t.numpy() has the rest",
        item.get_type()
    ))
}
