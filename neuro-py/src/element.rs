//! Elements as Python numbers, and Python numbers as elements.

use half::{bf16, f16};
use neuro_core::{DType, DynTensor, Element, Scalar};
use num_complex::Complex;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyMemoryError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyComplex, PyFloat, PyInt, PyList};

use crate::buffer;
use crate::error::raise;
use crate::tensor::{PyTensor, detached};

#[pymethods]
impl PyTensor {
    /// The only element as a Python number.
    fn item<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.inner.numel() != 1 {
            return Err(PyValueError::new_err(format!(
                "a number is what a tensor of one element has, this has {}; index it first",
                self.inner.numel()
            )));
        }
        let origin = vec![0; self.inner.ndim()];
        at(py, &self.inner, &origin)
    }

    /// The elements as nested lists of Python numbers; a tensor without dimensions gives its number.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        nested(py, &self.inner)
    }

    /// Sets every element to `value`.
    fn fill(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = scalar(value)?;
        detached(py, self.inner.nbytes(), || buffer::fill(&self.inner, value))
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        self.item(py)?.is_truthy()
    }

    // Without these, float() and int() would take the bytes of the buffer for text.
    fn __float__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyFloat>().call1((self.item(py)?,))
    }

    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyInt>().call1((self.item(py)?,))
    }

    fn __complex__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.get_type::<PyComplex>().call1((self.item(py)?,))
    }

    fn __index__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let dtype = self.inner.dtype();
        if self.inner.ndim() != 0 || !is_integer(dtype) {
            return Err(PyTypeError::new_err(format!(
                "an index is a tensor of integers without dimensions, not {dtype} of shape {:?}",
                self.inner.shape()
            )));
        }
        self.item(py)
    }
}

fn is_integer(dtype: DType) -> bool {
    use DType::{I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64)
}

/// An element type as Python sees it.
trait ToPython: Element {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;
}

macro_rules! to_python {
    ($($type:ty => $convert:expr;)*) => {$(
        impl ToPython for $type {
            fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
                $convert(self).into_bound_py_any(py)
            }
        }
    )*};
}

to_python! {
    bool => std::convert::identity;
    u8 => std::convert::identity;
    u16 => std::convert::identity;
    u32 => std::convert::identity;
    u64 => std::convert::identity;
    i8 => std::convert::identity;
    i16 => std::convert::identity;
    i32 => std::convert::identity;
    i64 => std::convert::identity;
    f16 => f16::to_f64;
    bf16 => bf16::to_f64;
    f32 => std::convert::identity;
    f64 => std::convert::identity;
    Complex<f32> => std::convert::identity;
    Complex<f64> => std::convert::identity;
}

/// Runs `$body` with `$type` being the Rust type of `$dtype`.
macro_rules! with_type {
    ($dtype:expr, $type:ident => $body:expr) => {
        with_type!(@match $dtype, $type, $body;
            Bool bool, U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64,
            F16 f16, BF16 bf16, F32 f32, F64 f64, C64 Complex<f32>, C128 Complex<f64>)
    };
    (@match $dtype:expr, $alias:ident, $body:expr; $($name:ident $type:ty),*) => {
        match $dtype {
            $(DType::$name => { type $alias = $type; $body })*
        }
    };
}

/// The element at `index` as a Python number.
pub(crate) fn at<'py>(py: Python<'py>, tensor: &DynTensor, index: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    with_type!(tensor.dtype(), T => tensor.item::<T>(index).map_err(raise)?.to_python(py))
}

/// All elements as nested lists.
pub(crate) fn nested<'py>(py: Python<'py>, tensor: &DynTensor) -> PyResult<Bound<'py, PyAny>> {
    check_room(tensor.shape(), tensor.dtype().size())?;
    with_type!(tensor.dtype(), T => {
        let values = detached(py, tensor.nbytes(), || tensor.to_vec::<T>())?;
        nest(py, &values, tensor.shape())
    })
}

/// Refuses lists that memory cannot hold before the first is made: few bytes, or none, can have a shape of any size.
fn check_room(shape: &[usize], itemsize: usize) -> PyResult<()> {
    let mut entries = 1usize;
    let mut in_lists = 0usize;
    for &dim in shape {
        entries = entries.saturating_mul(dim);
        in_lists = in_lists.saturating_add(entries);
    }
    let pointers = in_lists.saturating_mul(size_of::<*const ()>());
    let bytes = pointers.saturating_add(entries.saturating_mul(itemsize));
    let mut room: Vec<u8> = Vec::new();
    let answer = room.try_reserve_exact(bytes);
    // Seen from here the room is of no use, and need not be asked for at all.
    std::hint::black_box(&room);
    answer.map_err(|_| no_room(shape))
}

fn no_room(shape: &[usize]) -> PyErr {
    PyMemoryError::new_err(format!(
        "no memory for the nested lists of a tensor of shape {shape:?}; index it first"
    ))
}

fn nest<'py, T: ToPython>(py: Python<'py>, values: &[T], shape: &[usize]) -> PyResult<Bound<'py, PyAny>> {
    let Some((&len, rest)) = shape.split_first() else {
        return values[0].to_python(py);
    };
    let stride: usize = rest.iter().product();
    let mut items = Vec::new();
    items.try_reserve_exact(len).map_err(|_| no_room(shape))?;
    for i in 0..len {
        items.push(nest(py, &values[i * stride..(i + 1) * stride], rest)?);
    }
    Ok(PyList::new(py, items)?.into_any())
}

/// What `operator.index` makes of `object`; none where that says it is no integer, as a NumPy array of floats does.
pub(crate) fn index<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyInt>>> {
    if let Ok(integer) = object.cast::<PyInt>() {
        return Ok(Some(integer.clone()));
    }
    // On the class, where the interpreter looks: an attribute of the object itself is no protocol.
    let Some(method) = object.get_type().getattr_opt(intern!(object.py(), "__index__"))? else {
        return Ok(None);
    };
    match method.call1((object,)) {
        Ok(integer) => Ok(integer.cast_into().ok()),
        Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number that `object` is: a Python or NumPy number, or anything that can be read as one.
pub(crate) fn scalar(object: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    let py = object.py();
    if let Ok(value) = object.cast::<PyBool>() {
        return Ok(Scalar::Bool(value.is_true()));
    }
    if let Ok(value) = object.cast::<PyFloat>() {
        return Ok(Scalar::Float(value.extract()?));
    }
    if let Some(integer) = index(object)? {
        return integer
            .extract()
            .map(Scalar::Int)
            .map_err(|_| PyValueError::new_err(format!("{object} is outside what any dtype holds (at most 64 bits)")));
    }
    if object.is_instance_of::<PyComplex>() || object.hasattr(intern!(py, "__complex__"))? {
        let value: Complex<f64> = object.extract()?;
        return Ok(Scalar::Complex(value.re, value.im));
    }
    object
        .extract()
        .map(Scalar::Float)
        .map_err(|_| PyTypeError::new_err(format!("expected a number, got {}", object.get_type())))
}
