//! Memory of devices that goes to another process, or another interface of the same card, by file descriptor.

use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};

use neuro_core::{DType, DynTensor, Exported};

use crate::device::neuro_device_t;
use crate::guard;
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};
use crate::tensor::neuro_tensor_t;

/// The descriptor is opaque: `VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT`, of one dedicated allocation with one buffer on all of it.
pub const NEURO_HANDLE_OPAQUE_FD: u32 = 1;

/// The memory that a tensor of a device lies in, and where. All of it but `fd` can be sent as it is; that goes as `SCM_RIGHTS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_exported_memory_t {
    /// `sizeof(neuro_exported_memory_t)`.
    pub struct_size: usize,
    /// The memory, which stays as long as somebody has it, by a descriptor or imported. To be closed by whoever has it; -1: none.
    pub fd: i32,
    /// `NEURO_HANDLE_OPAQUE_FD`.
    pub handle_type: u32,
    /// Bytes of all of it.
    pub allocation_bytes: u64,
    /// Bytes from its start to the first element.
    pub offset: u64,
    /// Bytes of all elements, which lie side by side.
    pub bytes: u64,
    /// The device that it is of (`deviceUUID`): only the same can import it.
    pub device_uuid: [u8; 16],
    /// Its driver (`driverUUID`), which has to be the same, too.
    pub driver_uuid: [u8; 16],
}

// SAFETY: repr(C), integers and bytes without padding, `struct_size` first.
unsafe impl SizedStruct for neuro_exported_memory_t {}

/// The memory that `tensor` lies in, for another process to import: a contiguous tensor of a pool that was made with
/// `NEURO_POOL_EXPORT`. `out->fd` is the caller's, to be closed once. After a failure it is -1, and all else but `struct_size` zeros.
///
/// Waits until what was submitted on the tensor is done. From then on both sides use the same bytes, and nothing orders them but they:
/// who has written them waits until that is done, and tells the other. Keep the tensor as long as the other side uses it: its block is
/// used again when it is released. Whoever imports one tensor reaches all that lies in the same piece of memory.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_export_fd(
    tensor: *const neuro_tensor_t,
    out: *mut neuro_exported_memory_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_export_fd";
    guard::status(|| {
        if out.is_null() {
            return Err(Failure::argument(OP, "out is NULL"));
        }
        let mut memory = neuro_exported_memory_t {
            fd: -1,
            ..structs::zeroed()
        };
        // SAFETY: not NULL; writable, and so readable, for its `struct_size`, says this function's condition.
        let given = unsafe {
            structs::write(OP, out, &memory)?;
            (&raw const (*out).struct_size).read_unaligned()
        };
        check_size(OP, given)?;
        // SAFETY: forwarded condition.
        let exported = unsafe { guard::live::<DynTensor>(OP, tensor) }?.export_fd()?;
        memory.handle_type = NEURO_HANDLE_OPAQUE_FD;
        memory.allocation_bytes = exported.allocation_bytes;
        memory.offset = exported.offset;
        memory.bytes = exported.bytes;
        memory.device_uuid = exported.device_uuid;
        memory.driver_uuid = exported.driver_uuid;
        memory.fd = exported.fd.into_raw_fd();
        // SAFETY: as above; it cannot fail any more, so the descriptor is not lost.
        unsafe { structs::write(OP, out, &memory) }
    })
}

/// New tensor on `device` in memory that was exported, by this process or another. `memory->fd` stays the caller's, and can be closed.
/// Release `*out` once; the memory goes back with the last tensor on it, if nobody else has it.
///
/// Memory of another device or driver, and a tensor that does not lie within it, is `NEURO_INVALID_ARGUMENT`; a descriptor of something
/// else `NEURO_DRIVER`, as far as the driver can tell; a device that cannot import `NEURO_UNAVAILABLE`.
///
/// # Safety
/// `memory` is NULL or readable for its `struct_size`; its `fd`, if it is memory of the device, was exported by this library, and has
/// `allocation_bytes` bytes; the elements are values of `dtype` before anybody reads them; while work that uses them is under way on
/// one side, the other does not write them; `shape` is readable for `ndim`; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_tensor_import_fd(
    device: neuro_device_t,
    memory: *const neuro_exported_memory_t,
    dtype: u32,
    ndim: usize,
    shape: *const i64,
    out: *mut *mut neuro_tensor_t,
) -> neuro_status_t {
    const OP: &str = "neuro_tensor_import_fd";
    let import = || {
        let device = device.to_core(OP)?;
        if memory.is_null() {
            return Err(Failure::argument(OP, "memory is NULL"));
        }
        // SAFETY: as this function's condition says.
        let memory = unsafe { structs::read(OP, memory) }?;
        check_size(OP, memory.struct_size)?;
        if memory.handle_type != NEURO_HANDLE_OPAQUE_FD {
            return Err(Failure::argument(
                OP,
                format_args!(
                    "handle_type {} is unknown; known is NEURO_HANDLE_OPAQUE_FD (1)",
                    memory.handle_type
                ),
            ));
        }
        let exported = Exported {
            fd: copy_of(OP, memory.fd)?,
            allocation_bytes: memory.allocation_bytes,
            offset: memory.offset,
            bytes: memory.bytes,
            device_uuid: memory.device_uuid,
            driver_uuid: memory.driver_uuid,
            dtype: DType::from_code(dtype)?,
            // SAFETY: as this function's condition says.
            shape: unsafe { guard::shape(OP, ndim, shape) }?.to_vec(),
        };
        // SAFETY: as this function's condition says.
        Ok(unsafe { DynTensor::import_fd(device, &exported) }?)
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, import) }
}

/// A caller with a shorter struct would not see the descriptor, and lose it.
fn check_size(op: &'static str, given: usize) -> Result<()> {
    let least = size_of::<neuro_exported_memory_t>();
    if given >= least {
        return Ok(());
    }
    Err(Failure::argument(
        op,
        format_args!("struct_size is {given}; a neuro_exported_memory_t has {least} bytes"),
    ))
}

/// A descriptor of our own for what `fd` is.
fn copy_of(op: &'static str, fd: i32) -> Result<OwnedFd> {
    if fd < 0 {
        return Err(Failure::argument(
            op,
            format_args!("fd {fd} is no descriptor; they count from 0"),
        ));
    }
    // SAFETY: not -1. It is only asked to be copied, which says whether it is open.
    let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
    copy.map_err(|error| Failure::argument(op, format_args!("fd {fd} cannot be used: {error}")))
}
