//! Vulkan's own names for what tensors lie in: for shaders of yours on tensors of a pool, and for a device of yours.
//!
//! Handles are numbers here, as C would cast them: any bindings will do. With the crate `ash` that is `ash::vk::Handle::from_raw`.
//!
//! - [`handles`]: instance, device and queue of a device that this library opened.
//! - [`buffer`]: the buffer that a tensor lies in, and where.
//! - [`with_queue`]: hands work to the device, in order with everything else that is done with the tensors.
//! - [`adopt`]: the other way round: pools and tensors on a device that you opened.
//!
//! # Examples
//! A shader on a tensor. `record` stands for what is Vulkan's: a pipeline, a descriptor set, a command buffer.
//! ```
//! use neuro_core::vulkan::{self, Access, BufferView, Handles, QueueTurn};
//! use neuro_core::{DType, Device, DynTensor};
//!
//! # type Commands = ();
//! # fn record(_: &Handles, _: &BufferView) -> Commands {}
//! # fn submit(_: &Handles, _: &QueueTurn<'_>, _: &Commands) -> Result<(), Box<dyn std::error::Error>> { Err("not run".into()) }
//! fn double(tensor: &DynTensor) -> Result<(), Box<dyn std::error::Error>> {
//!     let handles = vulkan::handles(tensor.device())?;
//!     let view = vulkan::buffer(tensor)?;
//!     let commands = record(&handles, &view); // ends with a barrier to the host
//!     // SAFETY: `submit` waits for `turn.waits`, signals `turn.signal`, and the shader writes this tensor only.
//!     unsafe {
//!         vulkan::with_queue(&[(tensor, Access::Write)], |turn| submit(&handles, turn, &commands))
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if let Ok(tensor) = DynTensor::zeros_on(Device::Vulkan(0), &[1000], DType::F32) {
//!     # let _ = || -> Result<(), Box<dyn std::error::Error>> {
//!     double(&tensor)?;
//!     let host = tensor.to_device(Device::Cpu)?; // behind the shader
//!     # Ok(()) };
//! }
//! # Ok(())
//! # }
//! ```

use crate::backend;
use crate::backend::raw::NotAdopted;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::kernel::blocks::{block_of, blocks_of};
use crate::pool::device::{engine_of, turn};
use crate::tensor::DynTensor;

pub use crate::backend::raw::{Adopt, GetInstanceProcAddr, Handles, QueueLock, QueueTurn, SemaphoreValue};
pub use crate::pool::device::Access;

/// For words.
const KIND: &str = "a Vulkan device";

/// Where a tensor lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BufferView {
    /// `VkBuffer`, which others share. It can be a storage buffer, and the source and target of copies.
    pub buffer: u64,
    /// Bytes from its start to element `[0, 0, …]`. For a whole tensor, not a view of a part, a multiple of what offsets of bindings have
    /// to be multiples of on this device (`minStorageBufferOffsetAlignment`).
    pub offset: u64,
    /// Bytes from there to the end of the last element.
    pub bytes: u64,
    /// How many bytes a shader sees through one binding. Where `bytes` is more, bind one range after the other, each from a multiple
    /// of 256 on. Never bind the whole buffer: it is longer than the tensor, and others are in it.
    pub max_range: u64,
}

/// What Vulkan calls `device`, which is opened if it was not. The handles stay valid until the process ends.
///
/// The device has timeline semaphores, and no other feature or extension that has to be asked for: who needs one opens a device of his
/// own, and hands it over to [`adopt`].
///
/// # Errors
/// [`Error::Unavailable`] where there is no such device, or it is none of Vulkan's.
pub fn handles(device: Device) -> Result<Handles> {
    let Device::Vulkan(_) = device else {
        return Err(Error::InvalidArgument {
            op: "vulkan::handles",
            what: format!("{device} is no Vulkan device; name one, as vulkan:0"),
        });
    };
    let engine = engine_of(device)?;
    engine.check()?;
    let vulkan = engine.backend().vulkan();
    Ok(vulkan.ok_or_else(|| engine.not_vulkan("vulkan::handles"))?.handles())
}

/// The buffer that `tensor` lies in. It is valid as long as a handle of the storage lives, and work is under way that was handed over
/// by [`with_queue`] with it.
///
/// # Errors
/// [`Error::InvalidArgument`] for a tensor that is not on a Vulkan device, [`Error::NotContiguous`] where a stride is negative.
pub fn buffer(tensor: &DynTensor) -> Result<BufferView> {
    const OP: &str = "vulkan::buffer";
    let block = block_of(OP, KIND, tensor)?;
    let engine = block.engine();
    engine.check()?;
    let extent = tensor.geometry().extent();
    if extent.start < 0 {
        return Err(Error::NotContiguous {
            op: OP,
            shape: tensor.shape().to_vec(),
            strides: tensor.strides().to_vec(),
        });
    }
    let bytes = extent.end.unsigned_abs() * tensor.dtype().size();
    let part = block.part(tensor.offset_bytes(), bytes);
    let vulkan = engine.backend().vulkan().ok_or_else(|| engine.not_vulkan(OP))?;
    Ok(BufferView {
        buffer: vulkan.buffer(part.slab).map_err(|refusal| engine.error(refusal))?,
        offset: part.offset,
        bytes: part.bytes,
        max_range: vulkan.handles().max_range,
    })
}

/// Has `work` submit commands that use `tensors`, in order with all else that is done with them, before and after. Nobody waits: what
/// `work` submits is under way when this returns.
///
/// While `work` runs it alone has the queue, and the tensors are held: it only submits, and calls nothing of this library. Record first.
/// When the work is done, which the semaphore of `turn.signal` tells, command buffers and descriptor sets of it can be used again.
/// A tensor that is named more than once is written if it is once.
///
/// # Errors
/// [`Error::InvalidArgument`] where no tensor is named, or they are not all on one Vulkan device; [`Error::ReadOnly`];
/// [`Error::DeviceLost`]: `work` was not called then. Else what `work` says.
///
/// # Panics
/// Where `work` does. Nothing else is changed then.
///
/// # Safety
/// Where `work` returns `Ok`, it has made one submission to `turn.queue` that
/// - waits for all of `turn.waits` before anything in it touches the tensors, and signals `turn.signal` when it is done;
/// - touches only bytes of elements of `tensors`, and writes only those of tensors that are named with [`Access::Write`];
/// - ends with a barrier that makes its writes to tensors visible to the host: from its stages and writes to
///   `VK_PIPELINE_STAGE_HOST_BIT` and `VK_ACCESS_HOST_READ_BIT`. Tensors may lie in memory that the host reads where it is.
///
/// Where `work` returns `Err` or panics, it has submitted nothing. It uses the queue for nothing else.
///
/// No other thread copies a tensor to the host while this hands over work that writes it: who shares a tensor with a thread that
/// writes keeps order with it, as for all unsafe functions of [`DynTensor`].
pub unsafe fn with_queue<T, E: From<Error>>(
    tensors: &[(&DynTensor, Access)],
    work: impl FnOnce(&QueueTurn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    const OP: &str = "vulkan::with_queue";
    let blocks = blocks_of(OP, KIND, tensors)?;
    // SAFETY: forwarded contract.
    unsafe { turn(&blocks, work) }
}

/// Takes up a device that you opened: pools and tensors on what this returns are made of its memory, and their work goes to its queue.
/// It is called `vulkan:1000`, the next one `vulkan:1001`, and so on; a device that is handed over again has the name that it has, and
/// keeps its first lock.
///
/// All work goes to the one queue: uploads and downloads do not pass kernels. It is not among [`devices`](crate::devices), which are those of
/// the drivers.
///
/// # Errors
/// [`Error::InvalidArgument`] for a handle that is 0, a physical device that is none of the instance's, a family that the device does not
/// have or that cannot do kernels, and another queue than before; [`Error::Unavailable`] where a function or timeline semaphores are
/// missing.
///
/// # Safety
/// - The handles are what their fields say. `instance` was created for version `api_version`; `device` with the feature
///   `timelineSemaphore`, of Vulkan 1.2 or of the extension `VK_KHR_timeline_semaphore`; and `queue` is of family `queue_family`.
/// - Instance, device and queue stay until the process ends.
/// - Whoever else uses the queue holds `lock` meanwhile, and calls nothing of this library then. Without `lock` nobody else uses it,
///   but in a turn of [`with_queue`]. That goes for calls that use all queues of the device, too, as `vkDeviceWaitIdle`.
pub unsafe fn adopt(device: Adopt) -> Result<Device> {
    const OP: &str = "vulkan::adopt";
    for (name, handle) in [
        ("instance", device.instance),
        ("physical_device", device.physical_device),
        ("device", device.device),
        ("queue", device.queue),
    ] {
        if handle == 0 {
            let what = format!("{name} is 0 (VK_NULL_HANDLE); all four handles are needed");
            return Err(Error::InvalidArgument { op: OP, what });
        }
    }
    // SAFETY: forwarded contract.
    let ordinal = unsafe { backend::adopt(device) }.map_err(|why| match why {
        NotAdopted::Argument(what) => Error::InvalidArgument { op: OP, what },
        NotAdopted::Lacks(reason) => Error::Unavailable {
            what: "the Vulkan device that was handed over".to_owned(),
            reason,
        },
    })?;
    Ok(Device::Vulkan(ordinal))
}
