//! The buffer protocol, both ways, and the other writes and reinterpretations that are unsafe in Rust.
//!
//! Invariants:
//! - B1: a view that was handed out points into the tensor that `view.obj` keeps alive: shape in the tensor itself (the
//!   class is frozen), strides in the box that `view.internal` owns until the release.
//! - B2: storage is marked exposed before a pointer leaves.
//! - B3: elements are written by Python code that holds a tensor; two threads that write, or read and write, the same
//!   elements at once are that code's race, as with NumPy.

use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};

use neuro_core::shape::{Geometry, Strides};
use neuro_core::{Arc, DType, Device, DeviceMemory, DynTensor, Error, Scalar};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;

use crate::error::raise;
use crate::tensor::{PyTensor, on_host};
use crate::{dtype, shape};

#[pymethods]
impl PyTensor {
    /// Fills `view` as `flags` ask, or raises BufferError.
    ///
    /// # Safety
    /// Called by the interpreter: `view` is NULL or writable.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("the view to fill is NULL"));
        }
        // SAFETY: writable, by the contract above. A view that is refused has no owner.
        unsafe { (*view).obj = ptr::null_mut() };
        let tensor = &slf.get().inner;
        on_host(tensor, "buffer")?;
        check_flags(tensor, flags)?;
        let asked = |flag: c_int| flags & flag == flag;
        let dtype = tensor.dtype();
        let size = dtype.size().cast_signed();
        let has_dims = asked(ffi::PyBUF_ND) && tensor.ndim() > 0;
        let strides = (has_dims && asked(ffi::PyBUF_STRIDES))
            .then(|| Box::new(tensor.strides().iter().map(|stride| stride * size).collect::<Strides>()));
        let format = if asked(ffi::PyBUF_FORMAT) {
            format_of(dtype)?.as_ptr()
        } else {
            ptr::null()
        };
        tensor.storage().mark_exposed();
        // SAFETY: writable, as above. B1 holds: dimensions are at most `isize::MAX`, so a `usize` reads as a `Py_ssize_t`;
        // consumers must not write through `shape`, `strides` and `format`.
        unsafe {
            (*view).buf = tensor.data_ptr().cast();
            (*view).len = tensor.nbytes().cast_signed();
            (*view).itemsize = size;
            (*view).readonly = c_int::from(tensor.is_readonly());
            // Without ND the consumer sees one dimension of bytes.
            (*view).ndim = if asked(ffi::PyBUF_ND) {
                tensor.ndim() as c_int
            } else {
                1
            };
            (*view).format = format.cast_mut();
            (*view).shape = if has_dims {
                tensor.shape().as_ptr().cast_mut().cast()
            } else {
                ptr::null_mut()
            };
            (*view).suboffsets = ptr::null_mut();
            (*view).internal = ptr::null_mut();
            (*view).strides = ptr::null_mut();
            if let Some(strides) = strides {
                let strides = Box::into_raw(strides);
                (*view).strides = (*strides).as_mut_ptr();
                (*view).internal = strides.cast();
            }
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }

    /// Takes back what `__getbuffer__` filled in.
    ///
    /// # Safety
    /// Called by the interpreter, once, with a view that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is NULL or the box that `__getbuffer__` made for this view (B1), and this is its one release.
        unsafe {
            let strides = ptr::replace(&raw mut (*view).internal, ptr::null_mut::<c_void>());
            if !strides.is_null() {
                drop(Box::from_raw(strides.cast::<Strides>()));
            }
        }
    }

    /// The same bytes read as another dtype: of the same size, or of another size where the tensor is contiguous (the last
    /// dimension then grows or shrinks). No copy.
    fn view(&self, dtype: &Bound<'_, PyAny>) -> PyResult<Self> {
        reinterpret(&self.inner, dtype::parse(dtype)?).map(Self::from)
    }
}

/// Refuses what this tensor cannot give: writing, or a layout it does not have.
fn check_flags(tensor: &DynTensor, flags: c_int) -> PyResult<()> {
    let asked = |flag: c_int| flags & flag == flag;
    let refuse = |why: &'static str| Err(PyBufferError::new_err(why));
    if asked(ffi::PyBUF_WRITABLE) && tensor.is_readonly() {
        return refuse("a writable buffer was asked for, but the tensor is read-only; copy it first");
    }
    if asked(ffi::PyBUF_FORMAT) && !asked(ffi::PyBUF_ND) && tensor.dtype() != DType::U8 {
        return refuse("a format without dimensions was asked for, but the elements are not bytes; ask for ND too");
    }
    if tensor.is_contiguous() && !asked(ffi::PyBUF_F_CONTIGUOUS) {
        return Ok(());
    }
    let column_major = tensor.transpose().is_contiguous();
    if asked(ffi::PyBUF_C_CONTIGUOUS) && !tensor.is_contiguous() {
        return refuse("a C-contiguous buffer was asked for, but the tensor is strided; call contiguous() first");
    }
    if asked(ffi::PyBUF_F_CONTIGUOUS) && !column_major {
        return refuse("a Fortran-contiguous buffer was asked for, but the tensor is not; pass t.T.contiguous().T");
    }
    if asked(ffi::PyBUF_ANY_CONTIGUOUS) && !column_major && !tensor.is_contiguous() {
        return refuse("a contiguous buffer was asked for, but the tensor is strided; call contiguous() first");
    }
    if !asked(ffi::PyBUF_STRIDES) && !tensor.is_contiguous() {
        return refuse("a buffer without strides was asked for, but the tensor is strided; call contiguous() first");
    }
    Ok(())
}

/// The format code NumPy and `struct` know the type by.
fn format_of(dtype: DType) -> PyResult<&'static CStr> {
    Ok(match dtype {
        DType::Bool => c"?",
        DType::U8 => c"B",
        DType::U16 => c"H",
        DType::U32 => c"I",
        DType::U64 => c"L",
        DType::I8 => c"b",
        DType::I16 => c"h",
        DType::I32 => c"i",
        DType::I64 => c"l",
        DType::F16 => c"e",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::C64 => c"Zf",
        DType::C128 => c"Zd",
        DType::BF16 => {
            return Err(PyBufferError::new_err(
                "the buffer protocol has no bfloat16; use DLPack, t.numpy() (with ml_dtypes), or t.view('uint16')",
            ));
        }
    })
}

/// The type a format code stands for, in this machine's byte order.
fn from_format(format: &CStr, itemsize: usize) -> PyResult<DType> {
    let text = format.to_string_lossy();
    let refuse = || {
        PyTypeError::new_err(format!(
            "elements of format {text:?}, {itemsize} B each, have no dtype here; pass dtype= to read the bytes as one"
        ))
    };
    let (order, code) = match text.split_at_checked(1) {
        Some((order @ ("@" | "=" | "<" | ">" | "!" | "^"), code)) => (order, code),
        _ => ("@", &*text),
    };
    if matches!(order, ">" | "!") && itemsize > 1 {
        return Err(PyTypeError::new_err(format!(
            "elements of format {text:?} are not in this machine's byte order; convert them first"
        )));
    }
    Ok(match (code, itemsize) {
        ("?", 1) => DType::Bool,
        ("B" | "H" | "I" | "L" | "Q" | "N", 1) => DType::U8,
        ("B" | "H" | "I" | "L" | "Q" | "N", 2) => DType::U16,
        ("B" | "H" | "I" | "L" | "Q" | "N", 4) => DType::U32,
        ("B" | "H" | "I" | "L" | "Q" | "N", 8) => DType::U64,
        ("b" | "h" | "i" | "l" | "q" | "n", 1) => DType::I8,
        ("b" | "h" | "i" | "l" | "q" | "n", 2) => DType::I16,
        ("b" | "h" | "i" | "l" | "q" | "n", 4) => DType::I32,
        ("b" | "h" | "i" | "l" | "q" | "n", 8) => DType::I64,
        ("e", 2) => DType::F16,
        ("f", 4) => DType::F32,
        ("d", 8) => DType::F64,
        ("Zf", 8) => DType::C64,
        ("Zd", 16) => DType::C128,
        _ => return Err(refuse()),
    })
}

/// Tensor over the memory of `object`, which exports the buffer protocol. Nothing is copied, and read-only stays read-only.
///
/// dtype: read the bytes as this type (the buffer must be contiguous if the sizes differ).
/// shape: give the elements this shape (the buffer must be contiguous).
#[pyfunction]
#[pyo3(signature = (object, dtype=None, shape=None))]
pub(crate) fn from_buffer(
    object: &Bound<'_, PyAny>,
    dtype: Option<&Bound<'_, PyAny>>,
    shape: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTensor> {
    let dtype = dtype.map(dtype::parse).transpose()?;
    let tensor = borrow(object, dtype)?;
    match shape {
        None => Ok(tensor.into()),
        Some(_) if !tensor.is_contiguous() => Err(PyValueError::new_err(
            "from_buffer: a strided buffer keeps its own shape; leave out shape=, or copy it first",
        )),
        Some(shape) => tensor.reshape(&shape::parse(shape)?).map(PyTensor::from).map_err(raise),
    }
}

/// Whether elements of `format` have references to Python objects in them. Names of fields stand between colons.
fn holds_objects(format: &CStr) -> bool {
    let codes = format.to_bytes().split(|&byte| byte == b':').step_by(2);
    codes.flatten().any(|&code| code == b'O')
}

/// A buffer that was lent, and what to read it as.
struct Lent {
    /// Its drop releases the buffer on whatever thread, and does nothing once the interpreter is gone.
    buffer: PyUntypedBuffer,
    format: CString,
    itemsize: usize,
    /// It has no dimensions: `buffer` holds the bytes of the one element.
    is_scalar: bool,
}

impl Lent {
    fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let whole = |buffer: PyUntypedBuffer| Self {
            format: buffer.format().to_owned(),
            itemsize: buffer.item_size(),
            is_scalar: false,
            buffer,
        };
        if let Ok(buffer) = PyUntypedBuffer::get(object) {
            return Ok(whole(buffer));
        }
        let view = PyMemoryView::from(object)?;
        if view.getattr("ndim")?.extract::<usize>()? > 0 {
            // ctypes leaves out the strides that were asked for; a memoryview works them out.
            return PyUntypedBuffer::get(view.as_any()).map(whole);
        }
        // Without dimensions there is no shape to point to, which PyO3 refuses: its bytes have one.
        let format: String = view.getattr("format")?.extract()?;
        let itemsize = view.getattr("itemsize")?.extract()?;
        let bytes = view.call_method1("cast", ("B",))?;
        Ok(Self {
            buffer: PyUntypedBuffer::get(&bytes)?,
            format: CString::new(format)?,
            itemsize,
            is_scalar: true,
        })
    }
}

/// The buffer of `object` as a tensor of its own shape, or of `dtype` where that is given.
fn borrow(object: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<DynTensor> {
    const OP: &str = "from_buffer";
    let Lent {
        buffer,
        format,
        itemsize,
        is_scalar,
    } = Lent::get(object)?;
    if holds_objects(&format) {
        // Written to as numbers, or freed early, these would take the interpreter down.
        return Err(PyBufferError::new_err(format!(
            "a buffer of Python objects (format {format:?}) cannot be shared; make numbers of them first"
        )));
    }
    if buffer.suboffsets().is_some() {
        return Err(PyBufferError::new_err(
            "a buffer of pointers to rows cannot be shared; copy it first",
        ));
    }
    let (dtype, as_bytes) = match dtype {
        Some(dtype) if dtype.size() != itemsize => (dtype, true),
        Some(dtype) => (dtype, false),
        None => (from_format(&format, itemsize)?, false),
    };
    let geometry = if as_bytes {
        let bytes = buffer.len_bytes();
        if !buffer.is_c_contiguous() || !bytes.is_multiple_of(dtype.size()) {
            return Err(PyValueError::new_err(format!(
                "{OP}: {bytes} B in elements of {itemsize} B cannot be read as {dtype}: the bytes must be contiguous and a \
                 multiple of {} B",
                dtype.size()
            )));
        }
        Geometry::contiguous(OP, &[bytes / dtype.size()], dtype).map_err(raise)?
    } else if is_scalar {
        Geometry::contiguous(OP, &[], dtype).map_err(raise)?
    } else {
        let size = itemsize.cast_signed();
        if buffer.strides().iter().any(|stride| stride % size != 0) {
            return Err(PyBufferError::new_err(format!(
                "strides {:?} B are not whole elements of {itemsize} B; copy the buffer first",
                buffer.strides()
            )));
        }
        let strides: Strides = buffer.strides().iter().map(|stride| stride / size).collect();
        Geometry::strided(OP, buffer.shape(), &strides, dtype).map_err(raise)?
    };
    let extent = geometry.extent();
    let before = extent.start.unsigned_abs() * dtype.size();
    let bytes = before + extent.end.unsigned_abs() * dtype.size();
    // An exporter may give any address, NULL too, where there is no element; ours must be aligned.
    let first = if bytes == 0 {
        ptr::null_mut()
    } else {
        buffer.buf_ptr().cast::<u8>().wrapping_sub(before)
    };
    let start = NonNull::new(first).unwrap_or(NonNull::<u128>::dangling().cast());
    let readonly = buffer.readonly();
    // SAFETY: a buffer's exporter keeps `buf` and all elements that shape and strides reach readable (writable, unless
    // read-only) until the release; `start..start + bytes` spans exactly those. Dropping `buffer` is the release, and works
    // on any thread.
    let memory = unsafe { DeviceMemory::foreign(start, bytes, Device::Cpu, readonly, Box::new(buffer)) };
    // SAFETY: the bytes are initialised as whatever the exporter has there; every dtype takes any bytes (bool is checked by
    // its readers).
    unsafe { DynTensor::from_memory(OP, Arc::new(memory), before, geometry, dtype) }.map_err(raise)
}

/// The same bytes as another dtype. See `PyTensor::view`.
pub(crate) fn reinterpret(tensor: &DynTensor, dtype: DType) -> PyResult<DynTensor> {
    const OP: &str = "view";
    let (old, new) = (tensor.dtype().size(), dtype.size());
    let geometry = if old == new {
        Geometry::strided(OP, tensor.shape(), tensor.strides(), dtype)
    } else {
        let mut shape = neuro_core::shape::Dims::from_slice(tensor.shape());
        let last = match shape.last_mut() {
            Some(last) if tensor.is_contiguous() && (*last * old).is_multiple_of(new) => last,
            _ => {
                return Err(raise(Error::InvalidArgument {
                    op: OP,
                    what: format!(
                        "{} of shape {:?} cannot be read as {dtype}: the tensor must be contiguous and its last dimension a \
                         multiple of {new} B",
                        tensor.dtype(),
                        tensor.shape()
                    ),
                }));
            }
        };
        *last = *last * old / new;
        Geometry::contiguous(OP, &shape, dtype)
    }
    .map_err(raise)?;
    let offset = tensor.data_ptr().addr() - tensor.storage().ptr().as_ptr().addr();
    // SAFETY: the same storage, live through the shared owner. Its bytes are as initialised as those of `tensor`, and every
    // dtype takes any bytes (bool is checked by its readers).
    unsafe { DynTensor::from_memory(OP, tensor.storage().clone(), offset, geometry, dtype) }.map_err(raise)
}

/// Sets every element of a tensor that others may hold too.
pub(crate) fn fill(tensor: &DynTensor, value: Scalar) -> neuro_core::Result<()> {
    // SAFETY: no Rust borrow of the elements lives across Python code, and races are the caller's (B3).
    unsafe { tensor.fill_shared(value) }
}

/// Copies elements between tensors that others may hold too.
pub(crate) fn copy(target: &DynTensor, source: &DynTensor) -> neuro_core::Result<()> {
    // SAFETY: as in `fill`.
    unsafe { target.copy_from_shared(source) }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(from_buffer, module)?)
}
