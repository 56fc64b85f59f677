//! Shapes given from Python: an int, or a sequence of ints.
//!
//! What no shape can be (a negative number, one beyond an address space) is a `ValueError` here, as NumPy says it; whether
//! the product fits is the core's check.

use neuro_core::shape::{Dims, MAX_NDIM};
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use smallvec::SmallVec;

use crate::element;

/// The shape `object` means.
pub(crate) fn parse(object: &Bound<'_, PyAny>) -> PyResult<Dims> {
    let mut dims = Dims::new();
    if let Ok(tuple) = object.cast::<PyTuple>() {
        for item in tuple.iter_borrowed() {
            dims.push(dimension(&item)?);
        }
    } else if let Some(length) = element::index(object)? {
        dims.push(dimension(&length)?);
    } else {
        let items = object.try_iter().map_err(|_| {
            PyTypeError::new_err(format!(
                "a shape is an int or a sequence of ints, not {}",
                object.get_type()
            ))
        })?;
        for item in items {
            room_for_one_more(dims.len())?;
            dims.push(dimension(&item?)?);
        }
    }
    Ok(dims)
}

/// Refuses the dimension that would be one too many: an iterator may never end.
fn room_for_one_more(dims: usize) -> PyResult<()> {
    if dims < MAX_NDIM {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "more than {MAX_NDIM} dimensions; at most {MAX_NDIM} are possible"
    )))
}

fn dimension(item: &Bound<'_, PyAny>) -> PyResult<usize> {
    let value = item.extract::<isize>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(item.py()) {
            PyValueError::new_err(format!("dimension {item} is larger than an address space"))
        } else {
            PyTypeError::new_err(format!("a dimension must be an int, not {}", item.get_type()))
        }
    })?;
    usize::try_from(value).map_err(|_| PyValueError::new_err(format!("dimension {value} is negative")))
}

/// A byte count given from Python: `None`, or an int that is not negative.
pub(crate) fn bytes(what: &str, object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(object) = object else { return Ok(None) };
    match object.extract::<usize>() {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => Err(PyValueError::new_err(format!(
            "{what} {object} is out of range: give bytes, 0 to {}",
            usize::MAX
        ))),
        Err(error) => Err(error),
    }
}

/// The arguments of a method that takes `f(2, 3)` and `f((2, 3))` alike.
pub(crate) fn one_or_many(arguments: &Bound<'_, PyTuple>) -> PyResult<SmallVec<[isize; 4]>> {
    if arguments.len() == 1
        && let Ok(items) = arguments.get_item(0)?.try_iter()
    {
        let mut numbers = SmallVec::new();
        for item in items {
            room_for_one_more(numbers.len())?;
            numbers.push(item?.extract()?);
        }
        return Ok(numbers);
    }
    arguments.iter_borrowed().map(|item| item.extract()).collect()
}

/// A shape in which one -1 stands for whatever makes it `numel` elements.
pub(crate) fn with_wildcard(given: &[isize], numel: usize) -> PyResult<Dims> {
    let refuse = || PyValueError::new_err(format!("cannot reshape {numel} elements into shape {given:?}"));
    let mut known = 1usize;
    let mut wildcard = None;
    let mut dims = Dims::new();
    for (axis, &dim) in given.iter().enumerate() {
        match usize::try_from(dim) {
            Ok(dim) => {
                known = known.checked_mul(dim).ok_or_else(refuse)?;
                dims.push(dim);
            }
            Err(_) if dim == -1 && wildcard.is_none() => {
                wildcard = Some(axis);
                dims.push(1);
            }
            Err(_) => return Err(refuse()),
        }
    }
    if let Some(axis) = wildcard {
        if known == 0 || !numel.is_multiple_of(known) {
            return Err(refuse());
        }
        dims[axis] = numel / known;
    }
    Ok(dims)
}

/// Axes of a tensor of `ndim` dimensions; negative ones count from the back.
pub(crate) fn axes(given: &[isize], ndim: usize) -> PyResult<SmallVec<[usize; 4]>> {
    given
        .iter()
        .map(|&axis| {
            let from_front = if axis < 0 { axis + ndim.cast_signed() } else { axis };
            usize::try_from(from_front)
                .ok()
                .filter(|&axis| axis < ndim)
                .ok_or_else(|| PyIndexError::new_err(format!("axis {axis} is out of range for {ndim} dimensions")))
        })
        .collect()
}
