//! Tensors in memory of a device that several processes, or several interfaces of one card, use at once: a file descriptor goes from one
//! to the other, and with it a few numbers.

use std::os::fd::{AsFd, OwnedFd};

use super::DynTensor;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::pool::device::{SharedBlock, engine_of};
use crate::rc::Arc;
use crate::shape::Geometry;

/// A tensor on its way to another process, or to another interface of the same card: the memory that it lies in, and where.
///
/// The memory is one dedicated allocation (`VkMemoryDedicatedAllocateInfo`) behind an opaque file descriptor
/// (`VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT`), with one buffer on all of it that can be a storage buffer, and source and target of
/// copies. It stays as long as somebody has it, by the descriptor or imported.
#[derive(Debug)]
pub struct Exported {
    /// The memory. Dropping it closes the descriptor, and no more.
    pub fd: OwnedFd,
    /// Bytes of all of it, which whoever imports it has to know.
    pub allocation_bytes: u64,
    /// Bytes from its start to element `[0, 0, …]`.
    pub offset: u64,
    /// Bytes of all elements.
    pub bytes: u64,
    /// The device that it is of (`deviceUUID`): only the same can import it. The other interfaces of a card know it, too.
    pub device_uuid: [u8; 16],
    /// Its driver (`driverUUID`), which has to be the same for Vulkan.
    pub driver_uuid: [u8; 16],
    /// What the elements are.
    pub dtype: DType,
    /// How many there are of them along each dimension; they lie side by side, in row-major order.
    pub shape: Vec<usize>,
}

impl DynTensor {
    /// The memory that the tensor lies in, for another process or another interface to import. The pool it is of was made
    /// [`with_export`](crate::MemoryPool::with_export).
    ///
    /// Waits until what was submitted on the tensor is done. From then on both sides use the same bytes, and nothing orders them but
    /// they: who has written says so when [`synchronize`](Self::synchronize) has returned, and the other begins then. A block of a pool is
    /// used again when its last tensor is dropped: keep this one as long as the other side uses it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a tensor of host memory, and one of another pool; [`Error::NotContiguous`];
    /// [`Error::Unavailable`] where the device cannot; [`Error::DeviceLost`], [`Error::Driver`].
    pub fn export_fd(&self) -> Result<Exported> {
        const OP: &str = "export_fd";
        let block = self.storage().device_block().ok_or_else(|| Error::InvalidArgument {
            op: OP,
            what: format!(
                "the tensor lies on {}, and only memory of a device is exported; copy it to a pool of one made with_export(true) (to_pool)",
                self.device()
            ),
        })?;
        self.check_contiguous(OP)?;
        self.synchronize()?;
        let export = block.export(OP)?;
        self.storage().mark_exposed();
        Ok(Exported {
            fd: export.fd,
            allocation_bytes: export.allocation_bytes,
            offset: export.offset + self.offset_bytes() as u64,
            bytes: self.nbytes() as u64,
            device_uuid: export.identity.device,
            driver_uuid: export.identity.driver,
            dtype: self.dtype(),
            shape: self.shape().to_vec(),
        })
    }

    /// A tensor on `device` in memory that was exported, by this process or another. The descriptor stays the caller's, and can be closed.
    ///
    /// The memory goes back when the last tensor on it is dropped and the work that uses it is done, if nobody else has it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for memory of another device or driver, and a tensor that does not lie within it, is not as long as
    /// `bytes` says, or begins where its elements cannot; [`Error::SizeOverflow`]; [`Error::Unavailable`] where there is no such device, or
    /// it cannot import; [`Error::Driver`] for a descriptor that is none of the driver's.
    ///
    /// # Safety
    /// - If `fd` is memory of the device at all, it was exported by this library, and has `allocation_bytes` bytes.
    /// - The bytes of the elements are values of `dtype`, or will be before anything reads them.
    /// - Nobody on the other side writes them while work that uses them is under way here, or reads them while work that writes them is.
    pub unsafe fn import_fd(device: Device, exported: &Exported) -> Result<Self> {
        const OP: &str = "import_fd";
        let wrong = |what: String| Error::InvalidArgument { op: OP, what };
        if device == Device::Cpu {
            return Err(wrong(
                "the memory is that of a device, which the cpu does not reach; name the Vulkan device it is of"
                    .to_owned(),
            ));
        }
        let engine = engine_of(device)?;
        let identity = engine.identity(OP)?;
        for (what, theirs, ours) in [
            ("device", exported.device_uuid, identity.device),
            ("driver", exported.driver_uuid, identity.driver),
        ] {
            if theirs != ours {
                return Err(wrong(format!(
                    "the memory is of the {what} with uuid {}, and that of {device} is {}; import it on the device that it is of",
                    hex(theirs),
                    hex(ours)
                )));
            }
        }
        let geometry = Geometry::contiguous(OP, &exported.shape, exported.dtype)?;
        let bytes = geometry.nbytes(exported.dtype);
        let &Exported {
            allocation_bytes,
            offset,
            ..
        } = exported;
        if exported.bytes != bytes as u64 {
            return Err(wrong(format!(
                "shape {:?} of {} has {bytes} B, and {} B are said to be there",
                exported.shape, exported.dtype, exported.bytes
            )));
        }
        if offset
            .checked_add(exported.bytes)
            .is_none_or(|end| end > allocation_bytes)
        {
            return Err(wrong(format!(
                "{bytes} B from byte {offset} on do not lie within the {allocation_bytes} B of the memory"
            )));
        }
        if !offset.is_multiple_of(exported.dtype.align() as u64) {
            return Err(wrong(format!(
                "byte {offset} is not aligned to the {} B that {} needs",
                exported.dtype.align(),
                exported.dtype
            )));
        }
        // SAFETY: of the same device and driver; the rest is forwarded.
        let block = unsafe { SharedBlock::import(&engine, exported.fd.as_fd(), allocation_bytes, offset, bytes) }?;
        let storage = Arc::new(DeviceMemory::of_shared(block));
        Ok(Self::from_parts(storage, geometry, 0, exported.dtype))
    }
}

/// As [`devices`](crate::devices) are listed by the tools.
fn hex(uuid: [u8; 16]) -> String {
    uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}
