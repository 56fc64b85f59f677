//! `from_dlpack`: others' tensors, by the capsules of DLPack. The invariants are those of `dlpack.rs`.

use std::ffi::CStr;
use std::ptr::NonNull;

use neuro_core::dlpack::{self, Ready};
use neuro_core::{Device, DynTensor, cuda};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use pyo3::{ffi, intern};

use crate::create::parse_device;
use crate::dlpack::{CPU, OLD, OLD_USED, VERSIONED, VERSIONED_USED, copied, moved, refuse};
use crate::error::raise;
use crate::tensor::PyTensor;
use crate::{attach, cuda_array};

/// The newest DLPack this side reads.
const NEWEST: (u32, u32) = (dlpack::DLPACK_MAJOR_VERSION, dlpack::DLPACK_MINOR_VERSION);

/// Tensor over the memory of `x`: an object with `__dlpack__`, or with `__cuda_array_interface__` and no `__dlpack__`, or a capsule of
/// DLPack. Shares unless `copy` is true, or the device another.
///
/// Read-only where the producer says so, and where it cannot say (no max_version, as with JAX). Memory of a Vulkan device is
/// taken from this library's own tensors.
///
/// Memory of a CUDA device is ordered with the producer's work on the device, and not on the host: the producer is named a stream of this
/// library's, which waits. While the tensor lives, what is done with it here is behind what the default stream has by then, and what that gets
/// later is behind it; for other streams there is neuro_memory.cuda.Stream. The producer gets its memory back when the work on it is done.
/// Of a capsule, and of a producer that takes no stream, what the default stream has by now is waited for.
///
/// device: where the tensor is to be, "cpu", "cuda:0", "vulkan:0" and the like; None: where `x` is.
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
        Ok(capsule) => (take(capsule, Ready::OnDefaultStream)?, false),
        Err(_) => taken(x, device, copy)?,
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

/// What the producer `x` has; and whether it is a copy on the host that it was asked for.
fn taken(x: &Bound<'_, PyAny>, device: Option<Device>, copy: Option<bool>) -> PyResult<(DynTensor, bool)> {
    let py = x.py();
    let Some(method) = x.getattr_opt(intern!(py, "__dlpack__"))? else {
        if let Some(interface) = cuda_array::interface_of(x)? {
            return Ok((cuda_array::tensor_of(x, &interface)?, false));
        }
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
    let place = match x.getattr_opt(intern!(py, "__dlpack_device__"))? {
        Some(place) => Some(place.call0()?.extract::<(i32, i32)>()?),
        None => None,
    };
    let mut asked = Asked {
        method,
        stream: None,
        to_host: false,
        copy,
    };
    match place {
        // A producer that copies across would have to be one that can; here it is done anyway.
        Some((dlpack::DL_CUDA, ordinal)) => asked.stream = Some(compute_stream(ordinal)?),
        Some((dlpack::DL_CPU | dlpack::DL_CUDA_HOST, _)) | None => {}
        Some(_) if device == Some(Device::Cpu) => asked.to_host = true,
        // Whether it is our own shows when it is looked at.
        Some((dlpack::DL_VULKAN, _)) => {}
        Some(place) => {
            return refuse(format!(
                "{} lies on device {place:?}, and only host memory (1, or 3 for pinned), memory of CUDA devices (2) and this library's own on \
                 Vulkan devices (7) are taken; move it to the CPU first, or ask for it there with device=\"cpu\"",
                x.get_type()
            ));
        }
    }
    let (capsule, ready) = asked.capsule(py)?;
    Ok((take(&capsule, ready)?, asked.to_host && copy == Some(true)))
}

/// The stream that a producer on a CUDA device is to have wait.
fn compute_stream(ordinal: i32) -> PyResult<usize> {
    let device = u32::try_from(ordinal).map(Device::Cuda);
    let handles = match device {
        Ok(device) => cuda::handles(device),
        Err(_) => return refuse(format!("there is no CUDA device {ordinal}")),
    };
    match handles {
        Ok(handles) => Ok(handles.compute),
        Err(error @ neuro_core::Error::Unavailable { .. }) => refuse(format!(
            "the data lies on CUDA device {ordinal}, which cannot be used here: {error}"
        )),
        Err(error) => Err(raise(error)),
    }
}

/// What a producer is asked for.
struct Asked<'py> {
    method: Bound<'py, PyAny>,
    stream: Option<usize>,
    to_host: bool,
    copy: Option<bool>,
}

impl<'py> Asked<'py> {
    /// A capsule, versioned where the producer knows how; and where what it holds is ready.
    fn capsule(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyCapsule>, Ready)> {
        let options = PyDict::new(py);
        options.set_item(intern!(py, "max_version"), NEWEST)?;
        if let Some(stream) = self.stream {
            options.set_item(intern!(py, "stream"), stream)?;
        }
        if self.to_host {
            options.set_item(intern!(py, "dl_device"), CPU)?;
        }
        if self.copy == Some(false) || (self.to_host && self.copy.is_some()) {
            options.set_item(intern!(py, "copy"), self.copy)?;
        }
        let (capsule, ready) = match self.method.call((), Some(&options)) {
            // A producer from before these keywords.
            Err(error) if error.is_instance_of::<PyTypeError>(py) => self.old_capsule(py)?,
            other => (other?, self.ready()),
        };
        Ok((capsule.cast_into::<PyCapsule>()?, ready))
    }

    /// By the one keyword that there was first, or by none.
    fn old_capsule(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Ready)> {
        if let Some(stream) = self.stream {
            let options = PyDict::new(py);
            options.set_item(intern!(py, "stream"), stream)?;
            match self.method.call((), Some(&options)) {
                Err(error) if error.is_instance_of::<PyTypeError>(py) => {}
                other => return Ok((other?, self.ready())),
            }
        }
        Ok((self.method.call0()?, Ready::OnDefaultStream))
    }

    /// Where it is ready if the producer has heeded the stream.
    fn ready(&self) -> Ready {
        self.stream.map_or(Ready::OnDefaultStream, |_| Ready::OnComputeStream)
    }
}

/// Moves the struct out of a capsule (C1); on failure the capsule keeps it (C2).
///
/// Nobody writes what came in the old form, which cannot say whether its producer allows writing; JAX's arrays, its most common ones, are
/// immutable. So it is in NumPy. `copy=True` gives a tensor to write to. Our own knows it by itself.
fn take(capsule: &Bound<'_, PyCapsule>, ready: Ready) -> PyResult<DynTensor> {
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
        (
            unsafe { dlpack::import_versioned_ready(managed.cast(), ready) },
            VERSIONED_USED,
        )
    } else if let Some(managed) = pointer(OLD) {
        // SAFETY: as above.
        (unsafe { dlpack::import_ready(managed.cast(), ready, true) }, OLD_USED)
    } else if pointer(VERSIONED_USED).is_some() || pointer(OLD_USED).is_some() {
        return refuse("the capsule was used already; ask its producer for a new one".to_owned());
    } else {
        return refuse("not a DLPack capsule; its name must be dltensor or dltensor_versioned".to_owned());
    };
    let tensor = tensor.map_err(raise)?;
    // SAFETY: attached, a live capsule, a static name. It cannot fail on a valid capsule.
    unsafe { ffi::PyCapsule_SetName(raw, used.as_ptr()) };
    Ok(tensor)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Deleters may reach into the interpreter, whoever's they are.
    dlpack::run_deleters_by(attach::while_it_lives);
    module.add_function(wrap_pyfunction!(from_dlpack, module)?)
}
