//! `__dlpack_c_exchange_api__`: the exchange of DLPack as a table of C functions on the type, for consumers that skip the calls of Python.
//!
//! "No sync" there means that the consumer works on the stream that the table names: on a CUDA device that is the stream of kernels here,
//! which what goes out is lent to.
//!
//! Invariant X1: the functions are called attached, as the table demands, except for the allocator, which touches no Python.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use neuro_core::dlpack::{
    self, Consumer, DLDataType, DLManagedTensorVersioned, DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION, DLPackVersion,
    DLTensor, Ready,
};
use neuro_core::{DType, Device, DynTensor, Error, MemoryPool, cuda};
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi, intern};

use crate::dlpack::{number_of, refusal, refuse};
use crate::error::raise;
use crate::tensor::PyTensor;

const NAME: &CStr = c"dlpack_exchange_api";

type SetError = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char);

/// `DLPackExchangeAPI` of DLPack 1.3.
#[repr(C)]
struct Table {
    version: DLPackVersion,
    previous: *mut c_void,
    allocate:
        unsafe extern "C" fn(*mut DLTensor, *mut *mut DLManagedTensorVersioned, *mut c_void, Option<SetError>) -> c_int,
    from_object: unsafe extern "C" fn(*mut c_void, *mut *mut DLManagedTensorVersioned) -> c_int,
    to_object: unsafe extern "C" fn(*mut DLManagedTensorVersioned, *mut *mut c_void) -> c_int,
    look_at_object: unsafe extern "C" fn(*mut c_void, *mut DLTensor) -> c_int,
    current_stream: unsafe extern "C" fn(i32, i32, *mut *mut c_void) -> c_int,
}

// SAFETY: never written; the one pointer in it is NULL.
unsafe impl Sync for Table {}

static TABLE: Table = Table {
    version: DLPackVersion {
        major: DLPACK_MAJOR_VERSION,
        minor: DLPACK_MINOR_VERSION,
    },
    previous: ptr::null_mut(),
    allocate,
    from_object,
    to_object,
    look_at_object,
    current_stream,
};

/// 0, or -1 with the exception set.
fn answer(result: PyResult<()>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: attached (X1).
            error.restore(unsafe { Python::assume_attached() });
            -1
        }
    }
}

/// # Safety
/// Attached; `object` is an object, for the length of the call.
unsafe fn tensor<'a>(object: *mut c_void) -> PyResult<&'a DynTensor> {
    // SAFETY: by contract.
    let object: Borrowed<'a, '_, PyAny> =
        unsafe { Borrowed::from_ptr(Python::assume_attached(), object.cast::<ffi::PyObject>()) };
    match object.cast::<PyTensor>() {
        // SAFETY: the class is frozen, and the object lives as long as the call.
        Ok(tensor) => Ok(unsafe { &*ptr::from_ref(&tensor.get().inner) }),
        Err(_) => refuse(format!("{} is no Tensor of neuro_memory", object.get_type())),
    }
}

/// The consumer of what goes out by the table.
fn consumer(device: Device) -> neuro_core::Result<Consumer> {
    match device {
        Device::Cuda(_) => Ok(Consumer::Stream(cuda::handles(device)?.compute)),
        _ => Ok(Consumer::DefaultStream),
    }
}

/// # Safety
/// As the table says of `managed_tensor_from_py_object_no_sync`.
unsafe extern "C" fn from_object(object: *mut c_void, out: *mut *mut DLManagedTensorVersioned) -> c_int {
    let export = || {
        // SAFETY: by contract.
        let tensor = unsafe { tensor(object)? };
        let consumer = consumer(tensor.device()).map_err(raise)?;
        // SAFETY: the stream of kernels stays as long as the device.
        let managed = unsafe { dlpack::export_versioned_to(tensor, consumer) }.map_err(refusal)?;
        // SAFETY: by contract there is room.
        unsafe { *out = managed.as_ptr() };
        Ok(())
    };
    answer(export())
}

/// # Safety
/// As the table says of `managed_tensor_to_py_object_no_sync`: the struct is given up on success.
unsafe extern "C" fn to_object(managed: *mut DLManagedTensorVersioned, out: *mut *mut c_void) -> c_int {
    let import = || {
        let Some(managed) = NonNull::new(managed) else {
            return refuse("there is no tensor".to_owned());
        };
        // SAFETY: attached (X1).
        let py = unsafe { Python::assume_attached() };
        // SAFETY: by contract; its user works on the stream that `current_stream` names.
        let tensor = unsafe { dlpack::import_versioned_ready(managed, Ready::OnComputeStream) }.map_err(raise)?;
        let object = Bound::new(py, PyTensor::from(tensor))?;
        // SAFETY: by contract there is room.
        unsafe { *out = object.into_ptr().cast() };
        Ok(())
    };
    answer(import())
}

/// A tensor as it lies there, as long as the object does.
///
/// # Safety
/// As the table says of `dltensor_from_py_object_no_sync`.
unsafe extern "C" fn look_at_object(object: *mut c_void, out: *mut DLTensor) -> c_int {
    let look = || {
        // SAFETY: by contract.
        let tensor = unsafe { tensor(object)? };
        let (device_type, device_id) = number_of(tensor.device())?;
        let data = match tensor.device() {
            _ if tensor.numel() == 0 => ptr::null_mut(),
            Device::Cpu => {
                tensor.storage().mark_exposed();
                tensor.data_ptr().cast()
            }
            Device::Cuda(_) => {
                let address = cuda::share_on_compute(tensor).map_err(refusal)?;
                ptr::without_provenance_mut(address as usize)
            }
            device => return refuse(format!("memory of {device} has no address; call .to(\"cpu\") first")),
        };
        // Lengths and strides are numbers of the same size and sign there; nobody writes them.
        let filled = DLTensor {
            data,
            device: dlpack::DLDevice { device_type, device_id },
            ndim: tensor.ndim() as i32,
            dtype: tensor.dtype().into(),
            shape: tensor.shape().as_ptr().cast::<i64>().cast_mut(),
            strides: tensor.strides().as_ptr().cast::<i64>().cast_mut(),
            byte_offset: 0,
        };
        // SAFETY: by contract there is room.
        unsafe { out.write(filled) };
        Ok(())
    };
    answer(look())
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<usize>() == size_of::<i64>());

/// # Safety
/// As the table says of `current_work_stream`.
unsafe extern "C" fn current_stream(kind: i32, ordinal: i32, out: *mut *mut c_void) -> c_int {
    let stream = match (kind, u32::try_from(ordinal)) {
        (dlpack::DL_CPU | dlpack::DL_CUDA_HOST, _) => Ok(0),
        (dlpack::DL_CUDA, Ok(ordinal)) => cuda::handles(Device::Cuda(ordinal))
            .map(|handles| handles.compute)
            .map_err(raise),
        _ => refuse(format!("no streams are known of device ({kind}, {ordinal})")),
    };
    answer(stream.map(|stream| {
        // SAFETY: by contract there is room.
        unsafe { *out = ptr::without_provenance_mut(stream) };
    }))
}

/// A new tensor like the prototype, in the default pool of its device.
///
/// # Safety
/// As the table says of `managed_tensor_allocator`. Not attached, perhaps.
unsafe extern "C" fn allocate(
    prototype: *mut DLTensor,
    out: *mut *mut DLManagedTensorVersioned,
    context: *mut c_void,
    set_error: Option<SetError>,
) -> c_int {
    // SAFETY: by contract; and there is room for the answer.
    match unsafe { prototype.as_ref().map(|prototype| make_like(prototype)) } {
        Some(Ok(managed)) => {
            // SAFETY: as above.
            unsafe { *out = managed.as_ptr() };
            0
        }
        refused => {
            let (kind, text) = match refused {
                Some(Err(error @ Error::OutOfMemory { .. })) => (c"MemoryError", error.to_string()),
                Some(Err(error)) => (c"BufferError", error.to_string()),
                _ => (c"BufferError", "there is no prototype".to_owned()),
            };
            let text = CString::new(text).unwrap_or_default();
            if let Some(set_error) = set_error {
                // SAFETY: the caller's own, with his context.
                unsafe { set_error(context, kind.as_ptr(), text.as_ptr()) };
            }
            -1
        }
    }
}

/// # Safety
/// The shape is readable for `ndim` numbers.
unsafe fn make_like(prototype: &DLTensor) -> neuro_core::Result<NonNull<DLManagedTensorVersioned>> {
    let refuse = |reason: String| Err(Error::Exchange { reason });
    let (kind, ordinal) = (prototype.device.device_type, prototype.device.device_id);
    let device = match (kind, u32::try_from(ordinal)) {
        (dlpack::DL_CPU, _) => Device::Cpu,
        (dlpack::DL_CUDA, Ok(ordinal)) => Device::Cuda(ordinal),
        _ => return refuse(format!("no memory is to be had on device ({kind}, {ordinal})")),
    };
    let known = |dtype: &&DType| DLDataType::from(**dtype) == prototype.dtype;
    let Some(&dtype) = DType::ALL.iter().find(known) else {
        return refuse(format!("element type {:?} is not known here", prototype.dtype));
    };
    let Some(ndim) = usize::try_from(prototype.ndim)
        .ok()
        .filter(|&ndim| ndim == 0 || !prototype.shape.is_null())
    else {
        return refuse(format!("{} dimensions, or no shape", prototype.ndim));
    };
    let mut shape = Vec::with_capacity(ndim);
    for at in 0..ndim {
        // SAFETY: by contract.
        let length = unsafe { prototype.shape.add(at).read() };
        match usize::try_from(length) {
            Ok(length) => shape.push(length),
            Err(_) => return refuse(format!("a dimension of {length} elements")),
        }
    }
    let tensor = DynTensor::empty_in(&MemoryPool::of_device(device)?, None, &shape, dtype)?;
    // SAFETY: the stream of kernels stays as long as the device.
    unsafe { dlpack::export_versioned_to(&tensor, consumer(device)?) }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    // SAFETY: attached; the table and the name are static, and nothing is to be done when the capsule goes.
    let capsule = unsafe {
        let capsule = ffi::PyCapsule_New((&raw const TABLE).cast_mut().cast(), NAME.as_ptr(), None);
        Bound::from_owned_ptr_or_err(py, capsule)?
    };
    py.get_type::<PyTensor>()
        .setattr(intern!(py, "__dlpack_c_exchange_api__"), capsule)
}
