//! DLPack through capsules: `__dlpack__` and `__dlpack_device__`, old form and versioned. `from_dlpack` is in `dlpack_import`.
//!
//! Invariants:
//! - C1: a capsule named `dltensor` or `dltensor_versioned` owns the struct it points to; whoever takes the struct renames
//!   the capsule `used_...` first thing after, and a capsule of that name owns nothing.
//! - C2: a refusal is a `BufferError` and consumes nothing. Never a `TypeError`: consumers take that for a producer without
//!   the keyword, and ask again with less.
//!
//! Absent on purpose: the structs and their checks (`neuro_core::dlpack`), which C uses as well; how the interpreter calls
//! `__dlpack__` (`dlpack_call`).

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

use neuro_core::dlpack::{self, Consumer, DLManagedTensor, DLManagedTensorVersioned};
use neuro_core::{Device, DynTensor, MemoryPool};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{Borrowed, ffi};

use crate::error::raise;
use crate::tensor::{PyTensor, detached};

pub(crate) const OLD: &CStr = c"dltensor";
pub(crate) const OLD_USED: &CStr = c"used_dltensor";
pub(crate) const VERSIONED: &CStr = c"dltensor_versioned";
pub(crate) const VERSIONED_USED: &CStr = c"used_dltensor_versioned";

/// The device type and number of host memory.
pub(crate) const CPU: (i32, i32) = (dlpack::DL_CPU, 0);
/// Those of host memory that CUDA devices have locked in place.
const PINNED: (i32, i32) = (dlpack::DL_CUDA_HOST, 0);

#[pymethods]
impl PyTensor {
    /// The device type and number DLPack knows the memory by: (1, 0), the host; (2, n), CUDA device n; (7, n), Vulkan device n.
    ///
    /// Of memory that is pinned it is (1, 0), too, which every consumer takes; who asks for (3, 0) by dl_device is given that.
    fn __dlpack_device__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        if self.inner.device() != Device::Cpu {
            return number_of(self.inner.device())?.into_pyobject(py);
        }
        static DEVICE: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
        let device = DEVICE.get_or_try_init(py, || CPU.into_pyobject(py).map(Bound::unbind))?;
        Ok(device.bind(py).clone())
    }
}

/// The device type and number of a device.
pub(crate) fn number_of(device: Device) -> PyResult<(i32, i32)> {
    match device {
        Device::Cpu => Ok(CPU),
        Device::Cuda(ordinal) if i32::try_from(ordinal).is_ok() => Ok((dlpack::DL_CUDA, ordinal.cast_signed())),
        Device::Vulkan(ordinal) if i32::try_from(ordinal).is_ok() => Ok((dlpack::DL_VULKAN, ordinal.cast_signed())),
        device => refuse(format!(
            "DLPack has no number for {device} here; call .to(\"cpu\") first"
        )),
    }
}

/// The arguments of `__dlpack__`: stream, max_version, dl_device, copy.
pub(crate) type Request<'a, 'py> = [Option<Borrowed<'a, 'py, PyAny>>; 4];

/// `__dlpack__`: a capsule that shares `tensor`, versioned where the consumer takes that.
pub(crate) fn export<'py>(
    py: Python<'py>,
    tensor: &DynTensor,
    [stream, max_version, dl_device, copy]: &Request<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let consumer = consumer(*stream, tensor.device())?;
    let wanted = wanted(*dl_device, tensor)?;
    let to_host = wanted == Wanted::OnHost;
    let versioned = match max_version {
        None => false,
        Some(version) => match major(version) {
            Some(major) => major >= 1,
            None => return refuse(format!("max_version must be (major, minor), not {}", version.repr()?)),
        },
    };
    let copy = match copy.map(|copy| copy.is_truthy()) {
        None => None,
        Some(Ok(copy)) => Some(copy),
        Some(Err(_)) => return refuse("copy must be True, False or None".to_owned()),
    };
    let (other, is_copy) = match (to_host, copy) {
        (true, Some(false)) => (Some(mapped(py, tensor)?), false),
        (true, _) => (Some(moved(py, tensor, Device::Cpu)?), true),
        (false, Some(true)) => (Some(copied(py, tensor)?), true),
        (false, _) => (None, false),
    };
    let tensor = other.as_ref().unwrap_or(tensor);
    if !versioned {
        // SAFETY: a stream of the tensor's device, which stays until the deleter was called, says who names one by this protocol.
        let managed = unsafe { dlpack::export_to(tensor, consumer) }.map_err(refusal)?;
        if wanted == Wanted::Pinned {
            // SAFETY: made above, and not yet shared with anyone.
            unsafe { (*managed.as_ptr()).dl_tensor.device.device_type = dlpack::DL_CUDA_HOST };
        }
        return capsule(py, managed.cast(), OLD, drop_old);
    }
    // SAFETY: as above.
    let managed = unsafe { dlpack::export_versioned_to(tensor, consumer) }.map_err(refusal)?;
    if wanted == Wanted::Pinned {
        // SAFETY: as above.
        unsafe { (*managed.as_ptr()).dl_tensor.device.device_type = dlpack::DL_CUDA_HOST };
    }
    if is_copy {
        // SAFETY: made above, and not yet shared with anyone.
        unsafe { (*managed.as_ptr()).flags |= dlpack::DLPACK_FLAG_BITMASK_IS_COPIED };
    }
    capsule(py, managed.cast(), VERSIONED, drop_versioned)
}

/// What the driver refuses to do for a consumer is refused to him.
pub(crate) fn refusal(error: neuro_core::Error) -> PyErr {
    match error {
        neuro_core::Error::Driver { .. } => PyBufferError::new_err(error.to_string()),
        error => raise(error),
    }
}

/// Who will use memory of `device`, by the stream that he names.
fn consumer(stream: Option<Borrowed<'_, '_, PyAny>>, device: Device) -> PyResult<Consumer> {
    let Some(stream) = stream else {
        return Ok(Consumer::DefaultStream);
    };
    let number = stream.extract::<i64>().ok();
    let why = match (device, number) {
        // -1 asks for no synchronisation, which host memory never needs; mpi4py sends it.
        (Device::Cpu, Some(-1)) => return Ok(Consumer::Unordered),
        (Device::Cpu, _) => "means nothing for host memory; pass None",
        (Device::Cuda(_), Some(-1)) => return Ok(Consumer::Unordered),
        (Device::Cuda(_), Some(1..)) => return Ok(Consumer::Stream(number.unwrap_or_default() as usize)),
        (Device::Cuda(_), Some(0)) => {
            "may be one of two default streams; pass 1 for the legacy one, 2 for that of the thread"
        }
        (Device::Cuda(_), _) => {
            "is no stream; pass its address as an int, 1 or 2 for the default streams, None, or -1 for no order"
        }
        (Device::Vulkan(_), _) => {
            "means nothing for memory of a Vulkan device, which has no streams: what is done there is in order as it is; pass None"
        }
    };
    refuse(format!("stream {} {why}", stream.repr()?))
}

/// Where a tensor is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Here,
    /// Here, and said to be pinned.
    Pinned,
    /// From another device.
    OnHost,
}

/// What `dl_device` asks for.
fn wanted(wanted: Option<Borrowed<'_, '_, PyAny>>, tensor: &DynTensor) -> PyResult<Wanted> {
    let Some(wanted) = wanted else { return Ok(Wanted::Here) };
    let device = tensor.device();
    let number = number_of(device)?;
    let why = match wanted.extract::<(i32, i32)>().ok() {
        Some(wanted) if wanted == number => return Ok(Wanted::Here),
        Some(CPU) => return Ok(Wanted::OnHost),
        Some(PINNED) if device == Device::Cpu && tensor.is_pinned() => return Ok(Wanted::Pinned),
        Some(PINNED) if device == Device::Cpu => {
            "the host, and is not pinned; make it in a pool with gpu_support=True".to_owned()
        }
        _ => match device {
            Device::Cpu => "the host".to_owned(),
            device => format!("{device}; it can be had there, and on {CPU:?}, the host"),
        },
    };
    refuse(format!(
        "device {} was asked for, but the tensor lies on {number:?}, {why}",
        wanted.repr()?
    ))
}

/// A copy on the device where it is.
pub(crate) fn copied(py: Python<'_>, tensor: &DynTensor) -> PyResult<DynTensor> {
    match tensor.device() {
        Device::Cpu => detached(py, tensor.nbytes(), || tensor.copy()),
        device => moved(py, tensor, device),
    }
}

/// A copy on `device`, in its default pool. Never attached: it may wait for a device.
pub(crate) fn moved(py: Python<'_>, tensor: &DynTensor, device: Device) -> PyResult<DynTensor> {
    py.detach(|| tensor.to_pool(&MemoryPool::of_device(device)?))
        .map_err(raise)
}

/// Memory of a device for the host where it lies, which is all that may be done without a copy.
fn mapped(py: Python<'_>, tensor: &DynTensor) -> PyResult<DynTensor> {
    match py.detach(|| tensor.map()) {
        Err(error @ neuro_core::Error::Unavailable { .. }) => refuse(format!(
            "copy=False was asked for on the host, which takes a copy from {}: {error}",
            tensor.device()
        )),
        other => other.map_err(raise),
    }
}

/// The major number of a `(major, minor)`.
fn major(version: &Bound<'_, PyAny>) -> Option<i64> {
    let pair = version.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2)?;
    pair.get_borrowed_item(0).ok()?.extract().ok()
}

pub(crate) fn refuse<T>(why: String) -> PyResult<T> {
    Err(PyBufferError::new_err(why))
}

/// A capsule that owns `managed` (C1).
fn capsule<'py>(
    py: Python<'py>,
    managed: NonNull<c_void>,
    name: &'static CStr,
    destructor: unsafe extern "C" fn(*mut ffi::PyObject),
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; the pointer is not NULL, the name static, and the destructor expects what `managed` is.
    unsafe {
        let capsule = ffi::PyCapsule_New(managed.as_ptr(), name.as_ptr(), Some(destructor));
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

/// Frees the struct of a capsule that nobody took.
///
/// # Safety
/// Called by the interpreter with a capsule that [`capsule`] made.
unsafe extern "C" fn drop_old(capsule: *mut ffi::PyObject) {
    // SAFETY: our capsule; the struct behind this name is still its own (C1).
    unsafe {
        free_unused(capsule, OLD, |managed| {
            let managed = managed.cast::<DLManagedTensor>();
            if let Some(deleter) = (*managed).deleter {
                deleter(managed);
            }
        });
    }
}

/// Frees the struct of a versioned capsule that nobody took.
///
/// # Safety
/// As [`drop_old`].
unsafe extern "C" fn drop_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: as in `drop_old`.
    unsafe {
        free_unused(capsule, VERSIONED, |managed| {
            let managed = managed.cast::<DLManagedTensorVersioned>();
            if let Some(deleter) = (*managed).deleter {
                deleter(managed);
            }
        });
    }
}

/// Runs `free` on the struct of `capsule`, if the capsule still has the name `name`.
///
/// # Safety
/// Attached; `capsule` is a live capsule, and `free` frees what a capsule of this name points to.
unsafe fn free_unused(capsule: *mut ffi::PyObject, name: &'static CStr, free: impl FnOnce(*mut c_void)) {
    // SAFETY: attached, by the contract. An exception may be pending, and freeing foreign memory may run Python code,
    // so it is put aside meanwhile.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, name.as_ptr()) == 0 {
            return;
        }
        let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
        free(ffi::PyCapsule_GetPointer(capsule, name.as_ptr()));
        ffi::PyErr_Restore(class, value, traceback);
    }
}
