//! Taking foreign tensors in (D3).

use std::ptr::NonNull;
use std::sync::OnceLock;

use super::described::{Described, dtype_of, geometry};
use super::export::{Managed, NOT_AN_ADDRESS, cuda_start};
use super::ffi::{
    DL_CPU, DL_CUDA, DL_CUDA_HOST, DL_VULKAN, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY,
    DLPACK_MAJOR_VERSION, DLTensor,
};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::pool::device::{Engine, Ready, engine_of};
use crate::rc::Arc;
use crate::tensor::DynTensor;

/// Takes over a tensor in the structure from before DLPack 1.0. The memory is shared, not copied.
///
/// Memory of a CUDA device holds what it should on the default stream; for other streams there is [`import_ready`]. What is done with it
/// here is behind what the default stream has by then, whose later work is behind that; and the deleter is called when all of it is done.
///
/// Memory of a Vulkan device is taken where this copy of the library exported it: the tensor shares the storage, and the deleter is
/// called at once. So is memory of a CUDA device that this copy exported.
///
/// # Errors
/// [`Error::Exchange`], with the reason, for what this library cannot or will not take: a device other than CPU, CUDA-pinned host
/// memory, CUDA, and Vulkan as above; an unknown element type, an impossible shape, strides that leave the address space, data that
/// is NULL or unaligned. Nothing is consumed then: the caller still owns `managed`.
///
/// # Safety
/// `managed` points to a structure as DLPack defines it, alive and owned by the caller, and not used by the caller after
/// success. Its data is readable and writable until the deleter is called. The deleter may be called on any thread. Whoever
/// else holds the data neither writes it while a safe function reads the tensor, nor touches it while one writes.
pub unsafe fn import(managed: NonNull<DLManagedTensor>) -> Result<DynTensor> {
    // SAFETY: forwarded contract.
    unsafe { import_ready(managed, Ready::OnDefaultStream, false) }
}

/// [`import`] of what is ready on some stream of a CUDA device, which is without a meaning for memory of other devices; and that may be said
/// not to be written here, since this structure cannot say so itself.
///
/// # Errors
/// As [`import`].
///
/// # Safety
/// As [`import`]; it is ready there, and need not be writable if it is `readonly`.
pub unsafe fn import_ready(managed: NonNull<DLManagedTensor>, ready: Ready, readonly: bool) -> Result<DynTensor> {
    // SAFETY: forwarded contract.
    unsafe { take(managed, readonly, ready) }
}

/// Takes over a tensor in the structure of DLPack 1.x. The memory is shared, not copied; read-only if the flags say so.
///
/// # Errors
/// As [`import`]; also for a major version other than 1.
///
/// # Safety
/// As [`import`]; the data need not be writable if the flags say read-only.
pub unsafe fn import_versioned(managed: NonNull<DLManagedTensorVersioned>) -> Result<DynTensor> {
    // SAFETY: forwarded contract.
    unsafe { import_versioned_ready(managed, Ready::OnDefaultStream) }
}

/// [`import_versioned`] of what is ready on some stream of a CUDA device. Without a meaning for memory of other devices.
///
/// # Errors
/// As [`import_versioned`].
///
/// # Safety
/// As [`import_versioned`]; it is ready there.
pub unsafe fn import_versioned_ready(managed: NonNull<DLManagedTensorVersioned>, ready: Ready) -> Result<DynTensor> {
    // SAFETY: the caller's promise. The version is where every major version has it; nothing else is read before it is known.
    let version = unsafe { (&raw const (*managed.as_ptr()).version).read() };
    if version.major != DLPACK_MAJOR_VERSION {
        return Err(refuse(format!(
            "DLPack {}.{} structures are not known here; export with max_version {DLPACK_MAJOR_VERSION}.x",
            version.major, version.minor
        )));
    }
    // SAFETY: the caller's promise: alive, and its layout is known.
    let readonly = unsafe { managed.as_ref() }.flags & DLPACK_FLAG_BITMASK_READ_ONLY != 0;
    // SAFETY: forwarded contract.
    unsafe { take(managed, readonly, ready) }
}

/// # Errors
/// As [`import`].
///
/// # Safety
/// As [`import_ready`]; the data need not be writable if it is `readonly`.
unsafe fn take<M: Managed + Deletable + 'static>(
    managed: NonNull<M>,
    readonly: bool,
    ready: Ready,
) -> Result<DynTensor> {
    // SAFETY: the caller's promise: alive, and as DLPack defines it.
    let whole = unsafe { managed.as_ref() };
    let tensor = whole.tensor();
    let kind = tensor.device.device_type;
    // The storage itself knows whether it is read-only.
    if kind == DL_VULKAN || (kind == DL_CUDA && whole.origin().is_some()) {
        // SAFETY: forwarded contract.
        return unsafe { take_back(managed, ready) };
    }
    if !matches!(kind, DL_CPU | DL_CUDA | DL_CUDA_HOST) {
        return Err(refuse(format!(
            "the data lies on DLPack device type {kind} (id {}); the CPU (1), CUDA devices (2) and pinned host memory (3) can be taken: \
             copy it there first",
            tensor.device.device_id
        )));
    }
    // SAFETY: the caller's promise.
    let described = unsafe { Described::read(tensor)? };
    if kind == DL_CUDA {
        let engine = cuda_engine(tensor)?;
        described.check_device(&engine)?;
        // SAFETY: the caller's promise.
        return unsafe { described.take_guest(&engine, readonly, ready, Foreign(managed)) };
    }
    // SAFETY: the caller's promise; nothing can fail from here on (D3).
    Ok(unsafe { described.take(readonly, Foreign(managed)) })
}

/// The CUDA device of a tensor.
///
/// # Errors
/// [`Error::Exchange`] where there is no such device.
fn cuda_engine(tensor: &DLTensor) -> Result<std::sync::Arc<Engine>> {
    let id = tensor.device.device_id;
    let ordinal = u32::try_from(id).map_err(|_| refuse(format!("there is no CUDA device {id}")))?;
    let unavailable = |error: Error| {
        refuse(format!(
            "the data lies on CUDA device {id}, which cannot be used: {error}"
        ))
    };
    engine_of(Device::Cuda(ordinal)).map_err(unavailable)
}

/// Takes back a tensor on a device that this copy of the library exported.
///
/// # Errors
/// [`Error::Exchange`] for one of anybody else's, or one that was changed into what it cannot be.
///
/// # Safety
/// As [`import`].
unsafe fn take_back<M: Managed + Deletable>(managed: NonNull<M>, ready: Ready) -> Result<DynTensor> {
    // SAFETY: the caller's promise: alive.
    let whole = unsafe { managed.as_ref() };
    let tensor = whole.tensor();
    let Some(origin) = whole.origin() else {
        return Err(refuse(format!(
            "the data lies on DLPack device type {DL_VULKAN} (Vulkan, id {}), and another library exported it, or another copy of this \
             one: what its data pointer means only that one knows; have it copy the data to the CPU (dl_device 1, 0) first",
            tensor.device.device_id
        )));
    };
    let dtype = dtype_of(tensor)?;
    // SAFETY: forwarded contract.
    let geometry = unsafe { geometry(tensor, dtype)? };
    // Who handed it on may have cut it; but not where it lies, if that is no address.
    let data = tensor.data.addr();
    let moved = if geometry.is_empty() {
        Some(0)
    } else if tensor.device.device_type == DL_CUDA {
        let start = origin.storage.device_block().and_then(cuda_start);
        start.and_then(|start| data.checked_sub(start + origin.offset))
    } else {
        (tensor.data == NOT_AN_ADDRESS).then_some(0)
    };
    let more = usize::try_from(tensor.byte_offset).ok();
    let offset = moved
        .zip(more)
        .and_then(|(moved, more)| origin.offset.checked_add(moved)?.checked_add(more))
        .filter(|_| tensor.device == origin.device);
    let Some(offset) = offset else {
        return Err(refuse(format!(
            "an export of this library was changed on its way: it is on {} now, at {:?} + {}; hand it on as it is",
            tensor.device.device_id, tensor.data, tensor.byte_offset
        )));
    };
    // SAFETY: elements of the storage that was exported, as initialised as they were.
    let taken = unsafe { DynTensor::from_memory("from_dlpack", origin.storage.clone(), offset, geometry, dtype) };
    let taken = taken.map_err(|error| refuse(error.to_string()))?;
    if tensor.device.device_type == DL_CUDA
        && let Some(block) = origin.storage.device_block()
    {
        block.note_ready(ready)?;
    }
    // SAFETY: the caller's promise; nothing can fail from here on (D3).
    drop(Foreign(managed));
    Ok(taken)
}

impl Described {
    /// # Safety
    /// The bytes are readable, and writable unless `readonly`, until `keeper` is dropped, which may be on any thread.
    unsafe fn take<M: Deletable + 'static>(self, readonly: bool, keeper: Foreign<M>) -> DynTensor {
        // SAFETY: the caller's promise. Pinned memory is host memory to whoever reads and writes it from the host.
        let memory = unsafe { DeviceMemory::foreign(self.start, self.bytes, Device::Cpu, readonly, Box::new(keeper)) };
        DynTensor::from_parts(Arc::new(memory), self.geometry, self.offset, self.dtype)
    }

    /// # Errors
    /// [`Error::Exchange`] where the bytes are not the device's.
    fn check_device(&self, engine: &Engine) -> Result<()> {
        let Some(cuda) = engine.backend().cuda().filter(|_| self.bytes > 0) else {
            return Ok(());
        };
        let start = self.start.addr().get() as u64;
        let found = cuda.device_at(start).map_err(|refusal| engine.error(refusal))?;
        if found.is_none_or(|found| found == cuda.handles().device.cast_unsigned()) {
            return Ok(());
        }
        Err(refuse(format!(
            "the data at {start:#x} is said to be on {}, and is on CUDA device {}",
            engine.device(),
            found.unwrap_or_default()
        )))
    }

    /// # Errors
    /// [`Error::Exchange`]; `keeper` was not dropped then.
    ///
    /// # Safety
    /// As [`take`](Self::take), for work of the device; the bytes hold what they should where `ready` says.
    unsafe fn take_guest<M: Deletable + 'static>(
        self,
        engine: &std::sync::Arc<Engine>,
        readonly: bool,
        ready: Ready,
        keeper: Foreign<M>,
    ) -> Result<DynTensor> {
        let place = (self.start.addr().get() as u64, self.bytes);
        // SAFETY: the caller's promise.
        let memory = unsafe { DeviceMemory::of_guest(engine, place, readonly, ready, keeper) };
        match memory {
            Ok(memory) => Ok(DynTensor::from_parts(
                Arc::new(memory),
                self.geometry,
                self.offset,
                self.dtype,
            )),
            Err((error, keeper)) => {
                std::mem::forget(keeper); // the caller's (D3)
                Err(refuse(error.to_string()))
            }
        }
    }
}

pub(super) fn refuse(reason: String) -> Error {
    Error::Exchange { reason }
}

/// What runs every deleter of others, once it was said: it is handed the call, and makes it or not.
static AROUND: OnceLock<fn(&mut dyn FnMut())> = OnceLock::new();

/// From now on `around` decides whether the deleter of a tensor that was taken in is called, and calls it: for an interpreter that ends,
/// into which a deleter may reach. What is not called is lost. The first that is said counts.
pub fn run_deleters_by(around: fn(&mut dyn FnMut())) {
    let _ = AROUND.set(around);
}

/// Keeps a foreign tensor until it is dropped (D3).
struct Foreign<M: Deletable>(NonNull<M>);

// SAFETY: DLPack deleters may be called on any thread, and nothing else is ever done with the pointer.
unsafe impl<M: Deletable> Send for Foreign<M> {}
// SAFETY: as for Send; a shared reference to it can do nothing at all.
unsafe impl<M: Deletable> Sync for Foreign<M> {}

/// A structure with a deleter.
trait Deletable {
    /// # Safety
    /// `managed` is alive and owned by the caller, and not used afterwards.
    unsafe fn delete(managed: NonNull<Self>);
}

macro_rules! deletable {
    ($type:ty) => {
        impl Deletable for $type {
            unsafe fn delete(managed: NonNull<Self>) {
                // SAFETY: the caller's promise: alive; the deleter is called this once.
                unsafe {
                    if let Some(deleter) = managed.as_ref().deleter {
                        deleter(managed.as_ptr());
                    }
                }
            }
        }
    };
}

deletable!(DLManagedTensor);
deletable!(DLManagedTensorVersioned);

impl<M: Deletable> Drop for Foreign<M> {
    fn drop(&mut self) {
        // SAFETY: `import` took ownership, and this is the only drop; it is called once.
        let mut delete = || unsafe { M::delete(self.0) };
        match AROUND.get() {
            Some(around) => around(&mut delete),
            None => delete(),
        }
    }
}
