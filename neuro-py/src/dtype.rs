//! Which `DType` a Python object means, without importing the library that the object comes from.
//!
//! Accepted: our names (`"float32"`), NumPy's short forms (`"f4"`, `"<f4"`), NumPy dtypes and scalar types, `ml_dtypes`
//! and JAX types, and the builtins `bool`, `int`, `float`, `complex` (as NumPy reads them).
//!
//! Absent on purpose: a dtype class of our own; `Tensor.dtype` is the name, which `np.dtype()` takes (`"bfloat16"` once
//! `ml_dtypes` is imported).

use neuro_core::{DType, Error};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use crate::error::raise;

/// The element type `object` names; `None` means float32.
pub(crate) fn parse_or_default(object: Option<&Bound<'_, PyAny>>) -> PyResult<DType> {
    object.map_or(Ok(DType::F32), parse)
}

/// The element type `object` names.
pub(crate) fn parse(object: &Bound<'_, PyAny>) -> PyResult<DType> {
    let has_a_name = object.is_instance_of::<PyString>() || object.is_instance_of::<PyType>();
    // jnp.float32 is neither a class nor a dtype, but has one. One step only: a mock's dtype has a dtype, without end.
    if !has_a_name && let Some(dtype) = object.getattr_opt(intern!(object.py(), "dtype"))? {
        return parse_plain(&dtype);
    }
    parse_plain(object)
}

/// The element type of a name, a class or a dtype.
fn parse_plain(object: &Bound<'_, PyAny>) -> PyResult<DType> {
    let py = object.py();
    if let Ok(text) = object.cast::<PyString>() {
        return from_name(text.to_str()?);
    }
    if let Ok(class) = object.cast::<PyType>() {
        // float, np.float32 and ml_dtypes.bfloat16 are classes; NumPy's differ from the builtins in name only.
        let name = class.name()?;
        return match name.to_str()? {
            "int" => Ok(DType::I64),
            "float" => Ok(DType::F64),
            "complex" => Ok(DType::C128),
            "bool_" => Ok(DType::Bool),
            other => from_name(other),
        };
    }
    if let Some(native) = object.getattr_opt(intern!(py, "isnative"))?
        && !native.is_truthy()?
    {
        // Its `name` does not tell the byte order.
        return Err(PyTypeError::new_err(format!(
            "dtype {} is not in this machine's byte order; convert it first, e.g. with astype",
            object.repr()?
        )));
    }
    match object.getattr_opt(intern!(py, "name"))? {
        Some(name) => match name.cast::<PyString>() {
            Ok(name) => from_name(name.to_str()?),
            Err(_) => Err(unknown(object)),
        },
        None => Err(unknown(object)),
    }
}

fn unknown(object: &Bound<'_, PyAny>) -> PyErr {
    raise(Error::UnknownDType {
        name: object.to_string(),
    })
}

fn from_name(text: &str) -> PyResult<DType> {
    text.parse::<DType>()
        .or_else(|error| from_typestr(text).ok_or_else(|| raise(error)))
}

/// NumPy's short form: an optional byte order, a kind, a size in bytes.
fn from_typestr(text: &str) -> Option<DType> {
    Some(match text.strip_prefix(['<', '=', '|']).unwrap_or(text) {
        "b1" | "?" => DType::Bool,
        "u1" => DType::U8,
        "u2" => DType::U16,
        "u4" => DType::U32,
        "u8" => DType::U64,
        "i1" => DType::I8,
        "i2" => DType::I16,
        "i4" => DType::I32,
        "i8" => DType::I64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "c8" => DType::C64,
        "c16" => DType::C128,
        _ => return None,
    })
}

/// What `__array_interface__` calls the type; none for bfloat16, which NumPy does not have.
pub(crate) fn typestr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1",
        DType::U8 => "|u1",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::C64 => "<c8",
        DType::C128 => "<c16",
        DType::BF16 => return None,
    })
}

/// The dtype's name as an interned Python string.
pub(crate) fn name(py: Python<'_>, dtype: DType) -> Bound<'_, PyString> {
    PyString::intern(py, dtype.name())
}
