//! DLPack through capsules: `__dlpack__`, `__dlpack_device__` and `from_dlpack`, old form and versioned.
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

use neuro_core::dlpack::{self, DLManagedTensor, DLManagedTensorVersioned};
use neuro_core::{Arc, Device, DeviceMemory, DynTensor, MemoryPool};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyDict, PyTuple};
use pyo3::{Borrowed, ffi, intern};

use crate::create::parse_device;
use crate::error::raise;
use crate::tensor::{PyTensor, detached};

const OLD: &CStr = c"dltensor";
const OLD_USED: &CStr = c"used_dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const VERSIONED_USED: &CStr = c"used_dltensor_versioned";

/// The newest DLPack this side reads.
const NEWEST: (u32, u32) = (dlpack::DLPACK_MAJOR_VERSION, dlpack::DLPACK_MINOR_VERSION);

/// The device type and number of host memory.
const CPU: (i32, i32) = (dlpack::DL_CPU, 0);

#[pymethods]
impl PyTensor {
    /// The device type and number DLPack knows the memory by: (1, 0), the host; (7, n), Vulkan device n.
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
fn number_of(device: Device) -> PyResult<(i32, i32)> {
    match device {
        Device::Cpu => Ok(CPU),
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
    check_stream(*stream, tensor.device())?;
    let to_host = is_for_host(*dl_device, tensor.device())?;
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
        return capsule(py, dlpack::export(tensor).map_err(raise)?.cast(), OLD, drop_old);
    }
    let managed = dlpack::export_versioned(tensor).map_err(raise)?;
    if is_copy {
        // SAFETY: made above, and not yet shared with anyone.
        unsafe { (*managed.as_ptr()).flags |= dlpack::DLPACK_FLAG_BITMASK_IS_COPIED };
    }
    capsule(py, managed.cast(), VERSIONED, drop_versioned)
}

/// Refuses a stream that means nothing for memory of `device`.
fn check_stream(stream: Option<Borrowed<'_, '_, PyAny>>, device: Device) -> PyResult<()> {
    let Some(stream) = stream else { return Ok(()) };
    let why = match device {
        // -1 asks for no synchronisation, which host memory never needs; mpi4py sends it.
        Device::Cpu if stream.extract::<i64>().ok() == Some(-1) => return Ok(()),
        Device::Cpu => "means nothing for host memory",
        _ => {
            "means nothing for memory of a Vulkan device, which has no streams: what is done there is in order as it is"
        }
    };
    refuse(format!("stream {} {why}; pass None", stream.repr()?))
}

/// Whether a tensor on another device is asked for on the host.
fn is_for_host(wanted: Option<Borrowed<'_, '_, PyAny>>, device: Device) -> PyResult<bool> {
    let Some(wanted) = wanted else { return Ok(false) };
    let number = number_of(device)?;
    match wanted.extract::<(i32, i32)>().ok() {
        Some(wanted) if wanted == number => Ok(false),
        Some(CPU) => Ok(true),
        _ => refuse(format!(
            "device {} was asked for, but the tensor lies on {number:?}, {}",
            wanted.repr()?,
            match device {
                Device::Cpu => "the host".to_owned(),
                device => format!("{device}; it can be had there, and on {CPU:?}, the host"),
            }
        )),
    }
}

/// A copy on the device where it is.
fn copied(py: Python<'_>, tensor: &DynTensor) -> PyResult<DynTensor> {
    match tensor.device() {
        Device::Cpu => detached(py, tensor.nbytes(), || tensor.copy()),
        device => moved(py, tensor, device),
    }
}

/// A copy on `device`, in its default pool. Never attached: it may wait for a device.
fn moved(py: Python<'_>, tensor: &DynTensor, device: Device) -> PyResult<DynTensor> {
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

fn refuse<T>(why: String) -> PyResult<T> {
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

/// Tensor over the memory of `x`, an object with `__dlpack__` or a capsule. Shares unless `copy` is true, or the device another.
///
/// Read-only where the producer says so, and where it cannot say (no max_version, as with JAX). Memory of a Vulkan device is
/// taken from this library's own tensors.
///
/// device: where the tensor is to be, "cpu" or "vulkan:0" and the like; None: where `x` is.
/// copy: True copies into the device's default pool, False refuses to copy, None shares where it can.
#[pyfunction]
#[pyo3(signature = (x, *, device=None, copy=None))]
pub(crate) fn from_dlpack(
    x: &Bound<'_, PyAny>,
    device: Option<&Bound<'_, PyAny>>,
    copy: Option<bool>,
) -> PyResult<PyTensor> {
    let py = x.py();
    let device = device.map(parse_device).transpose()?;
    let (shared, is_copy) = match x.cast::<PyCapsule>() {
        Ok(capsule) => (take(capsule)?, false),
        Err(_) => {
            let (capsule, is_copy) = ask(x, device, copy)?;
            (take(&capsule)?, is_copy)
        }
    };
    match device.filter(|&device| device != shared.device()) {
        Some(device) if copy == Some(false) => refuse(format!(
            "copy=False was asked for on {device}, which takes a copy from {}",
            shared.device()
        )),
        Some(device) => moved(py, &shared, device).map(PyTensor::from),
        None if copy == Some(true) && !is_copy => copied(py, &shared).map(PyTensor::from),
        None => Ok(shared.into()),
    }
}

/// A capsule from the producer `x`: versioned where it knows how. Whether it holds a copy on the host that the producer was asked for.
fn ask<'py>(
    x: &Bound<'py, PyAny>,
    device: Option<Device>,
    copy: Option<bool>,
) -> PyResult<(Bound<'py, PyCapsule>, bool)> {
    let py = x.py();
    let Some(dlpack) = x.getattr_opt(intern!(py, "__dlpack__"))? else {
        return Err(PyTypeError::new_err(format!(
            "{} has no __dlpack__ method",
            x.get_type()
        )));
    };
    // PyTorch hands out the memory of a tensor that is negated in name only as if its values lay there.
    let negated = x.getattr_opt(intern!(py, "is_neg"))?;
    if negated.is_some_and(|negated| negated.call0().is_ok_and(|answer| answer.is_truthy().unwrap_or(false))) {
        return refuse(format!(
            "the {} has its negative bit set: what lies in memory is not its values; call .resolve_neg() first",
            x.get_type()
        ));
    }
    let mut to_host = false;
    if let Some(at) = x.getattr_opt(intern!(py, "__dlpack_device__"))? {
        let at = at.call0()?;
        let (kind, _): (i32, i32) = at.extract()?;
        let on_host = matches!(kind, dlpack::DL_CPU | dlpack::DL_CUDA_HOST);
        to_host = !on_host && device == Some(Device::Cpu);
        // Whether Vulkan's can be taken shows when it is looked at.
        if !on_host && !to_host && kind != dlpack::DL_VULKAN {
            return refuse(format!(
                "{} lies on device {at}, and only host memory (1, or 3 for pinned) and this library's own on Vulkan devices (7) are \
                 taken; move it to the CPU first, or ask for it there with device=\"cpu\"",
                x.get_type()
            ));
        }
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "max_version"), NEWEST)?;
    if to_host {
        options.set_item(intern!(py, "dl_device"), CPU)?;
    }
    if copy == Some(false) || (to_host && copy.is_some()) {
        options.set_item(intern!(py, "copy"), copy)?;
    }
    let capsule = match dlpack.call((), Some(&options)) {
        // A producer from before these keywords.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => dlpack.call0()?,
        other => other?,
    };
    Ok((capsule.cast_into::<PyCapsule>()?, to_host && copy == Some(true)))
}

/// Moves the struct out of a capsule (C1); on failure the capsule keeps it (C2).
fn take(capsule: &Bound<'_, PyCapsule>) -> PyResult<DynTensor> {
    let raw = capsule.as_ptr();
    let pointer = |name: &CStr| {
        // SAFETY: attached, and a live capsule; GetPointer is called only where the name is right.
        unsafe {
            (ffi::PyCapsule_IsValid(raw, name.as_ptr()) != 0)
                .then(|| NonNull::new(ffi::PyCapsule_GetPointer(raw, name.as_ptr())))
                .flatten()
        }
    };
    let (tensor, used) = if let Some(managed) = pointer(VERSIONED) {
        // SAFETY: a capsule of this name owns such a struct (C1), and gives it up below.
        (unsafe { dlpack::import_versioned(managed.cast()) }, VERSIONED_USED)
    } else if let Some(managed) = pointer(OLD) {
        // SAFETY: as above.
        (unsafe { dlpack::import(managed.cast()) }, OLD_USED)
    } else if pointer(VERSIONED_USED).is_some() || pointer(OLD_USED).is_some() {
        return refuse("the capsule was used already; ask its producer for a new one".to_owned());
    } else {
        return refuse("not a DLPack capsule; its name must be dltensor or dltensor_versioned".to_owned());
    };
    let tensor = tensor.map_err(raise)?;
    // SAFETY: attached, a live capsule, a static name. It cannot fail on a valid capsule.
    unsafe { ffi::PyCapsule_SetName(raw, used.as_ptr()) };
    // Memory of a device is our own, and was not exported in the old form if it is read-only.
    if used == OLD_USED && tensor.device() == Device::Cpu {
        return frozen(tensor);
    }
    Ok(tensor)
}

/// The same elements, read-only. The old form cannot say whether its producer allows writing, and JAX's arrays, its most
/// common ones, are immutable: so nobody writes, as in NumPy. `copy=True` gives a tensor to write to.
fn frozen(tensor: DynTensor) -> PyResult<DynTensor> {
    let storage = tensor.storage();
    let (start, bytes, device) = (storage.ptr(), storage.bytes(), storage.device());
    let offset = tensor.data_ptr().addr() - start.as_ptr().addr();
    let (geometry, dtype) = (tensor.geometry().clone(), tensor.dtype());
    // SAFETY: `tensor` keeps the range readable, and may be dropped on any thread.
    let memory = unsafe { DeviceMemory::foreign(start, bytes, device, true, Box::new(tensor)) };
    // SAFETY: the same bytes as those of `tensor`, so as initialised.
    unsafe { DynTensor::from_memory("from_dlpack", Arc::new(memory), offset, geometry, dtype) }.map_err(raise)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(from_dlpack, module)?)
}
