//! Taking foreign tensors in (D3).

use std::ptr::NonNull;
use std::slice;

use smallvec::SmallVec;

use super::export::{Managed, NOT_AN_ADDRESS};
use super::ffi::{
    DL_CPU, DL_CUDA_HOST, DL_VULKAN, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY,
    DLPACK_MAJOR_VERSION, DLTensor,
};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::rc::Arc;
use crate::shape::{Geometry, MAX_NDIM};
use crate::tensor::DynTensor;

/// No data lies below: systems keep the first page unmapped, so that null pointers fault.
const FIRST_PAGE: usize = 4096;

/// Takes over a tensor in the structure from before DLPack 1.0. The memory is shared, not copied.
///
/// Memory of a Vulkan device is taken where this copy of the library exported it: the tensor shares the storage, and the deleter is
/// called at once.
///
/// # Errors
/// [`Error::Exchange`], with the reason, for what this library cannot or will not take: a device other than CPU, CUDA-pinned host
/// memory, and Vulkan as above; an unknown element type, an impossible shape, strides that leave the address space, data that
/// is NULL or unaligned. Nothing is consumed then: the caller still owns `managed`.
///
/// # Safety
/// `managed` points to a structure as DLPack defines it, alive and owned by the caller, and not used by the caller after
/// success. Its data is readable and writable until the deleter is called. The deleter may be called on any thread. Whoever
/// else holds the data neither writes it while a safe function reads the tensor, nor touches it while one writes.
pub unsafe fn import(managed: NonNull<DLManagedTensor>) -> Result<DynTensor> {
    // SAFETY: the caller's promise: alive.
    if unsafe { managed.as_ref() }.tensor().device.device_type == DL_VULKAN {
        // SAFETY: forwarded contract.
        return unsafe { take_back(managed) };
    }
    // SAFETY: the caller's promise: alive, and as DLPack defines it.
    let described = unsafe { Described::read(&managed.as_ref().dl_tensor)? };
    // SAFETY: the caller's promise; nothing can fail from here on (D3).
    Ok(unsafe { described.take(false, Foreign(managed)) })
}

/// Takes over a tensor in the structure of DLPack 1.x. The memory is shared, not copied; read-only if the flags say so.
///
/// # Errors
/// As [`import`]; also for a major version other than 1.
///
/// # Safety
/// As [`import`]; the data need not be writable if the flags say read-only.
pub unsafe fn import_versioned(managed: NonNull<DLManagedTensorVersioned>) -> Result<DynTensor> {
    // SAFETY: the caller's promise. The version is where every major version has it; nothing else is read before it is known.
    let version = unsafe { (&raw const (*managed.as_ptr()).version).read() };
    if version.major != DLPACK_MAJOR_VERSION {
        return Err(refuse(format!(
            "DLPack {}.{} structures are not known here; export with max_version {DLPACK_MAJOR_VERSION}.x",
            version.major, version.minor
        )));
    }
    // SAFETY: the caller's promise: alive, and its layout is known.
    if unsafe { managed.as_ref() }.tensor().device.device_type == DL_VULKAN {
        // SAFETY: forwarded contract. The storage itself knows whether it is read-only.
        return unsafe { take_back(managed) };
    }
    // SAFETY: the caller's promise: alive, and as DLPack 1 defines it.
    let (described, flags) = unsafe {
        let managed = managed.as_ref();
        (Described::read(&managed.dl_tensor)?, managed.flags)
    };
    // SAFETY: the caller's promise; nothing can fail from here on (D3).
    Ok(unsafe { described.take(flags & DLPACK_FLAG_BITMASK_READ_ONLY != 0, Foreign(managed)) })
}

/// Takes back a tensor on a Vulkan device that this copy of the library exported.
///
/// # Errors
/// [`Error::Exchange`] for one of anybody else's, or one that was changed into what it cannot be.
///
/// # Safety
/// As [`import`].
unsafe fn take_back<M: Managed + Deletable>(managed: NonNull<M>) -> Result<DynTensor> {
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
    // Who handed it on may have cut it; but not where it lies.
    let is_there = tensor.data == NOT_AN_ADDRESS || geometry.is_empty();
    let offset = usize::try_from(tensor.byte_offset)
        .ok()
        .and_then(|more| origin.offset.checked_add(more))
        .filter(|_| is_there && tensor.device == origin.device);
    let Some(offset) = offset else {
        return Err(refuse(format!(
            "an export of this library was changed on its way: it is on {} now, at {:?} + {}; hand it on as it is",
            tensor.device.device_id, tensor.data, tensor.byte_offset
        )));
    };
    // SAFETY: elements of the storage that was exported, as initialised as they were.
    let taken = unsafe { DynTensor::from_memory("from_dlpack", origin.storage.clone(), offset, geometry, dtype) };
    let taken = taken.map_err(|error| refuse(error.to_string()))?;
    // SAFETY: the caller's promise; nothing can fail from here on (D3).
    drop(Foreign(managed));
    Ok(taken)
}

/// # Errors
/// [`Error::Exchange`] for an element type that this library does not have.
fn dtype_of(tensor: &DLTensor) -> Result<DType> {
    tensor.dtype.to_dtype().ok_or_else(|| {
        refuse(format!(
            "element type code {}, {} bits, {} lanes is not known here; known are {}",
            tensor.dtype.code,
            tensor.dtype.bits,
            tensor.dtype.lanes,
            DType::names()
        ))
    })
}

/// A foreign tensor, checked.
struct Described {
    geometry: Geometry,
    dtype: DType,
    /// The lowest byte of any element.
    start: NonNull<u8>,
    /// Bytes from there to the end of the highest.
    bytes: usize,
    /// Bytes from `start` to element `[0, 0, …]`.
    offset: usize,
}

impl Described {
    /// # Safety
    /// `shape`, and `strides` unless NULL, are readable for `ndim` numbers.
    unsafe fn read(tensor: &DLTensor) -> Result<Self> {
        if !matches!(tensor.device.device_type, DL_CPU | DL_CUDA_HOST) {
            return Err(refuse(format!(
                "the data lies on DLPack device type {} (id {}); only the CPU (1) and pinned host memory (3) can be taken: \
                 copy it there first",
                tensor.device.device_type, tensor.device.device_id
            )));
        }
        let dtype = dtype_of(tensor)?;
        // SAFETY: the caller's promise.
        let geometry = unsafe { geometry(tensor, dtype)? };
        Self::place(tensor, geometry, dtype)
    }

    /// Finds the bytes, and checks that they can be where they are said to be.
    fn place(tensor: &DLTensor, geometry: Geometry, dtype: DType) -> Result<Self> {
        if geometry.is_empty() {
            return Ok(Self {
                geometry,
                dtype,
                // Never followed; aligned for every element type.
                start: NonNull::<u128>::dangling().cast(),
                bytes: 0,
                offset: 0,
            });
        }
        if tensor.data.is_null() {
            return Err(refuse(format!(
                "the data pointer is NULL, but shape {:?} has {} elements",
                geometry.shape(),
                geometry.numel()
            )));
        }
        // Bytes on both sides of the first element; the products fit (G3).
        let extent = geometry.extent();
        let below = extent.start.unsigned_abs() * dtype.size();
        let above = extent.end.unsigned_abs() * dtype.size();
        let first = usize::try_from(tensor.byte_offset)
            .ok()
            .and_then(|offset| tensor.data.addr().checked_add(offset));
        let low = first.and_then(|first| first.checked_sub(below));
        let high = first.and_then(|first| first.checked_add(above));
        let (Some(first), Some(FIRST_PAGE..), Some(..=LAST)) = (first, low, high) else {
            return Err(refuse(format!(
                "shape {:?} with strides {:?} from address {:#x} + {} reaches outside the address space",
                geometry.shape(),
                geometry.strides(),
                tensor.data.addr(),
                tensor.byte_offset
            )));
        };
        if !first.is_multiple_of(dtype.align()) {
            return Err(refuse(format!(
                "the data at {first:#x} is not aligned to the {} B that {dtype} needs; copy it first",
                dtype.align()
            )));
        }
        let start = tensor.data.cast::<u8>().with_addr(first - below);
        Ok(Self {
            geometry,
            dtype,
            start: NonNull::new(start).expect("above the first page"),
            bytes: below + above,
            offset: below,
        })
    }

    /// # Safety
    /// The bytes are readable, and writable unless `readonly`, until `keeper` is dropped, which may be on any thread.
    unsafe fn take<M: Deletable + 'static>(self, readonly: bool, keeper: Foreign<M>) -> DynTensor {
        // SAFETY: the caller's promise. Pinned memory is host memory to whoever reads and writes it from the host.
        let memory = unsafe { DeviceMemory::foreign(self.start, self.bytes, Device::Cpu, readonly, Box::new(keeper)) };
        DynTensor::from_parts(Arc::new(memory), self.geometry, self.offset, self.dtype)
    }
}

/// The highest address that data can end at. No 64-bit system gives programs more: 56 bits on x86-64 with five-level
/// paging, 52 on aarch64. Strides that lead beyond it are wrong, wherever the data begins.
const LAST: usize = 1 << 56;

/// # Safety
/// `shape`, and `strides` unless NULL, are readable for `ndim` numbers.
unsafe fn geometry(tensor: &DLTensor, dtype: DType) -> Result<Geometry> {
    let ndim = usize::try_from(tensor.ndim)
        .ok()
        .filter(|&ndim| ndim <= MAX_NDIM)
        .ok_or_else(|| refuse(format!("{} dimensions; 0 to {MAX_NDIM} are possible", tensor.ndim)))?;
    // SAFETY: the caller's promise.
    let shape = unsafe { numbers(tensor.shape, ndim) }
        .ok_or_else(|| refuse(format!("the shape is NULL, but there are {ndim} dimensions")))?;
    // SAFETY: the caller's promise.
    let strides = unsafe { numbers(tensor.strides, ndim) };
    let impossible = || {
        refuse(format!(
            "shape {shape:?} with strides {strides:?} of {dtype} is impossible"
        ))
    };
    let to_usize = |&dim: &i64| usize::try_from(dim).ok();
    let dims: SmallVec<[usize; 4]> = shape
        .iter()
        .map(to_usize)
        .collect::<Option<_>>()
        .ok_or_else(impossible)?;
    let geometry = match strides {
        None => Geometry::contiguous("import", &dims, dtype),
        Some(strides) => {
            let to_isize = |&stride: &i64| isize::try_from(stride).ok();
            let strides: SmallVec<[isize; 4]> = strides
                .iter()
                .map(to_isize)
                .collect::<Option<_>>()
                .ok_or_else(impossible)?;
            Geometry::strided("import", &dims, &strides, dtype)
        }
    };
    geometry.map_err(|_| impossible())
}

/// `None` for NULL, unless there is nothing to read.
///
/// # Safety
/// `start` is NULL or readable for `count` numbers, for as long as the result is used.
unsafe fn numbers<'a>(start: *const i64, count: usize) -> Option<&'a [i64]> {
    if count == 0 {
        return Some(&[]);
    }
    // SAFETY: the caller's promise, and not NULL.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, count) })
}

fn refuse(reason: String) -> Error {
    Error::Exchange { reason }
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
        // SAFETY: `import` took ownership, and this is the only drop.
        unsafe { M::delete(self.0) };
    }
}
