//! `__cuda_array_interface__`, version 3, both ways: for libraries that have no DLPack for memory of CUDA devices.
//!
//! The protocol has no end: whoever reads the attribute keeps the object, and says nothing when he is done. So from the first look on
//! the tensor is in order with the default stream, which the interface names, until its memory goes.
//!
//! What comes in goes the way of DLPack, as a struct of this file, so that it meets the same checks.

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use neuro_core::dlpack::{
    self, DL_CUDA, DLDevice, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION,
    DLPACK_MINOR_VERSION, DLPackVersion, DLTensor, Ready,
};
use neuro_core::{DType, Device, DynTensor, cuda};
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::dlpack::refuse;
use crate::error::raise;
use crate::tensor::PyTensor;
use crate::{attach, dtype};

/// The legacy default stream, as the interface names it.
const LEGACY: i64 = 1;

#[pymethods]
impl PyTensor {
    /// CUDA's description of the memory, version 3: for Numba and others. Only of a tensor on a CUDA device. It is in order with the default
    /// stream from then on, which is the stream that it names.
    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let missing = |why: String| Err(PyAttributeError::new_err(format!("__cuda_array_interface__: {why}")));
        if !matches!(self.inner.device(), Device::Cuda(_)) {
            return missing(format!("the tensor is on {}, no CUDA device", self.inner.device()));
        }
        let Some(typestr) = dtype::typestr(self.inner.dtype()) else {
            return missing("it has no bfloat16; use DLPack".to_owned());
        };
        let address = py.detach(|| cuda::share(&self.inner)).map_err(raise)?;
        let address = if self.inner.numel() == 0 { 0 } else { address };
        let dict = PyDict::new(py);
        dict.set_item("version", 3)?;
        dict.set_item("typestr", typestr)?;
        dict.set_item("shape", self.shape(py)?)?;
        dict.set_item("data", (address, self.inner.is_readonly()))?;
        if self.inner.is_contiguous() {
            dict.set_item("strides", py.None())?;
        } else {
            dict.set_item("strides", self.strides(py)?)?;
        }
        dict.set_item("stream", LEGACY)?;
        Ok(dict)
    }
}

/// What `x` says of itself by the interface, if it has it.
pub(crate) fn interface_of<'py>(x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    match x.getattr_opt(intern!(x.py(), "__cuda_array_interface__"))? {
        None => Ok(None),
        Some(interface) => match interface.cast_into::<PyDict>() {
            Ok(interface) => Ok(Some(interface)),
            Err(_) => refuse("__cuda_array_interface__ must be a dict".to_owned()),
        },
    }
}

/// A tensor over the memory of `x`, which is kept as long as that is used.
pub(crate) fn tensor_of(x: &Bound<'_, PyAny>, interface: &Bound<'_, PyDict>) -> PyResult<DynTensor> {
    let said = Said::read(interface)?;
    let address = said.address as u64;
    // The interface does not say which device it is.
    let device = match x.py().detach(|| cuda::device_at(address)) {
        Ok(Some(Device::Cuda(ordinal))) => ordinal.cast_signed(),
        Ok(_) if said.shape.contains(&0) => 0,
        Ok(_) => {
            return refuse(format!(
                "the data of __cuda_array_interface__, at {address:#x}, is in no memory that CUDA knows"
            ));
        }
        Err(error @ neuro_core::Error::Unavailable { .. }) => {
            return refuse(format!("memory of a CUDA device cannot be used here: {error}"));
        }
        Err(error) => return Err(raise(error)),
    };
    let ready = said.ready;
    let managed = said.managed(x, device);
    // SAFETY: made for this, by what the producer says of memory that it keeps as long as `x`; ready where it says.
    let taken = unsafe { dlpack::import_versioned_ready(managed, ready) };
    taken.map_err(|error| {
        // SAFETY: it was not taken.
        unsafe { delete(managed.as_ptr()) };
        raise(error)
    })
}

/// The interface, read.
struct Said {
    address: usize,
    readonly: bool,
    shape: Vec<i64>,
    /// In elements; `None`: row-major order.
    strides: Option<Vec<i64>>,
    dtype: DType,
    ready: Ready,
}

impl Said {
    /// # Errors
    /// `BufferError` for what is missing, or means nothing.
    fn read(interface: &Bound<'_, PyDict>) -> PyResult<Self> {
        let given = |name: &str| Ok::<_, PyErr>(interface.get_item(name)?.filter(|value| !value.is_none()));
        let wrong = |name: &str| {
            refuse(format!(
                "__cuda_array_interface__: {name} is missing, or is not what the protocol says"
            ))
        };
        if given("mask")?.is_some() {
            return refuse("__cuda_array_interface__ with a mask: fill what it hides in first".to_owned());
        }
        let dtype = match given("typestr")? {
            Some(typestr) => match dtype::parse(&typestr) {
                Ok(dtype) => dtype,
                Err(_) => {
                    return refuse(format!(
                        "__cuda_array_interface__: elements of {} are not known here; convert it first",
                        typestr.repr()?
                    ));
                }
            },
            None => return wrong("typestr"),
        };
        let Some(Ok(shape)) = given("shape")?.map(|shape| shape.extract::<Vec<i64>>()) else {
            return wrong("shape");
        };
        let Some(Ok((address, readonly))) = given("data")?.map(|data| data.extract::<(usize, bool)>()) else {
            return wrong("data");
        };
        let strides = match given("strides")?.map(|strides| strides.extract::<Vec<i64>>()) {
            None => None,
            Some(Ok(strides)) if strides.len() == shape.len() => Some(in_elements(strides, dtype)?),
            Some(_) => return wrong("strides"),
        };
        let ready = match given("stream")? {
            None => Ready::OnDefaultStream,
            Some(stream) => match stream.extract::<usize>() {
                Ok(stream) if stream > 0 => Ready::OnStream(stream),
                _ => return wrong("stream"),
            },
        };
        Ok(Self {
            address,
            readonly,
            shape,
            strides,
            dtype,
            ready,
        })
    }

    /// As a struct of DLPack that keeps `x`.
    fn managed(self, x: &Bound<'_, PyAny>, device: i32) -> NonNull<DLManagedTensorVersioned> {
        let whole = Box::leak(Box::new(Kept {
            managed: DLManagedTensorVersioned {
                version: DLPackVersion {
                    major: DLPACK_MAJOR_VERSION,
                    minor: DLPACK_MINOR_VERSION,
                },
                manager_ctx: ptr::null_mut(),
                deleter: Some(delete),
                flags: if self.readonly {
                    DLPACK_FLAG_BITMASK_READ_ONLY
                } else {
                    0
                },
                dl_tensor: DLTensor {
                    data: ptr::without_provenance_mut(self.address),
                    device: DLDevice {
                        device_type: DL_CUDA,
                        device_id: device,
                    },
                    ndim: self.shape.len() as i32,
                    dtype: self.dtype.into(),
                    shape: ptr::null_mut(),
                    strides: ptr::null_mut(),
                    byte_offset: 0,
                },
            },
            shape: self.shape,
            strides: self.strides,
            owner: x.clone().unbind(),
        }));
        whole.managed.dl_tensor.shape = whole.shape.as_mut_ptr();
        if let Some(strides) = &mut whole.strides {
            whole.managed.dl_tensor.strides = strides.as_mut_ptr();
        }
        let whole: *mut Kept = whole;
        // SAFETY: leaked above, so alive, and nobody else's yet.
        unsafe {
            (*whole).managed.manager_ctx = whole.cast::<c_void>();
            NonNull::new_unchecked(&raw mut (*whole).managed)
        }
    }
}

/// Bytes from element to element, as elements.
fn in_elements(strides: Vec<i64>, dtype: DType) -> PyResult<Vec<i64>> {
    let size = dtype.size() as i64;
    if strides.iter().any(|stride| stride % size != 0) {
        return refuse(format!(
            "__cuda_array_interface__: strides {strides:?} B are not whole elements of {dtype}; copy it first"
        ));
    }
    Ok(strides.into_iter().map(|stride| stride / size).collect())
}

/// The struct, what it points to, and whose the memory is.
struct Kept {
    managed: DLManagedTensorVersioned,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    #[expect(dead_code, reason = "kept, never read")]
    owner: Py<PyAny>,
}

/// # Safety
/// `managed` is from [`Said::managed`], and was not deleted before.
unsafe extern "C" fn delete(managed: *mut DLManagedTensorVersioned) {
    // SAFETY: by contract; the context is the box that was leaked there.
    let mut whole = Some(unsafe { Box::from_raw((*managed).manager_ctx.cast::<Kept>()) });
    attach::attached(|_| drop(whole.take()));
    // The interpreter is ending: what it has goes with it.
    std::mem::forget(whole);
}
