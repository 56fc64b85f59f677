//! Handing tensors out (D1, D2).

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use smallvec::SmallVec;

use super::ffi::{
    DL_CPU, DL_CUDA, DL_VULKAN, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY,
    DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION, DLPackVersion, DLTensor,
};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory::{DeviceMemory, Lent};
use crate::pool::device::{DeviceBlock, PER_THREAD, Theirs};
use crate::rc::Arc;
use crate::tensor::DynTensor;

/// What stands where the address would of memory that has none: in the first page, which no system maps, so that whoever follows it all
/// the same faults at once, and neither reads nor writes what is not his. Not NULL, which consumers take for "no elements"; and a
/// multiple of 256, as DLPack wants addresses to be.
pub(super) const NOT_AN_ADDRESS: *mut c_void = ptr::without_provenance_mut(256);

/// The stream on which a consumer uses memory of a CUDA device until the export's deleter is called. What this library does with the memory
/// meanwhile is behind the stream's work so far, and the stream's later work is behind that; when the deleter was called, the memory is
/// reused behind the stream's work. Without a meaning for memory of other devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Consumer {
    /// The default stream, which is behind what was done with the tensor so far.
    #[default]
    DefaultStream,
    /// A `CUstream`, as a number: it is behind what was done with the tensor so far. 0 and 1 are the legacy default stream, 2 is that of
    /// a thread.
    Stream(usize),
    /// It sees to it himself that nothing is under way on the tensor; of what it does then nothing is known, so that the
    /// default stream is taken for its own.
    Unordered,
}

/// An export in one allocation: what the consumer sees, and what it points to.
struct Exported<M> {
    managed: M,
    /// The shape, then the strides.
    numbers: SmallVec<[i64; 8]>,
    /// Kept for its drop, which gives the handle back (D1), and for who takes the export back in.
    storage: Storage,
    /// Bytes from the start of the storage to element `[0, 0, …]`.
    offset: usize,
}

/// The tensor as the structure from before DLPack 1.0, which cannot say "read-only".
///
/// The caller owns the result: call its deleter once, or give it to a consumer that will.
///
/// The storage is exposed from then on: no borrow of its elements can be made afterwards. One made before goes on, so while
/// a slice of them is borrowed, do not hand the result to anyone who may write.
///
/// Memory of a Vulkan device can be taken in by this copy of the library alone ([`import`](super::import)), and is not exposed by that.
/// Memory of a CUDA device is for a consumer on the default stream; for others there is [`export_to`].
///
/// # Errors
/// [`Error::Exchange`] for a read-only tensor. On a CUDA device [`Error::Driver`], [`Error::DeviceLost`].
///
/// # Examples
/// ```
/// # use neuro_core::{DynTensor, dlpack};
/// let tensor = DynTensor::from_slice(&[3], &[1u8, 2, 3])?;
/// let exported = dlpack::export(&tensor)?;
/// // SAFETY: just exported, and given to nobody else.
/// let same = unsafe { dlpack::import(exported)? };
/// assert_eq!(same.data_ptr(), tensor.data_ptr());
/// # Ok::<(), neuro_core::Error>(())
/// ```
pub fn export(tensor: &DynTensor) -> Result<NonNull<DLManagedTensor>> {
    // SAFETY: the default stream is the device's own.
    unsafe { export_to(tensor, Consumer::DefaultStream) }
}

/// [`export`] for a consumer on some stream of a CUDA device.
///
/// # Errors
/// As [`export`]; [`Error::Driver`] also for a stream of another device, or one that is being captured into a graph.
///
/// # Safety
/// A [`Consumer::Stream`] is a stream of the primary context of the tensor's device, and stays until the deleter was called.
pub unsafe fn export_to(tensor: &DynTensor, consumer: Consumer) -> Result<NonNull<DLManagedTensor>> {
    if tensor.is_readonly() {
        return Err(Error::Exchange {
            reason: "the tensor is read-only, which an unversioned DLPack structure cannot say; \
                     ask for a versioned one (max_version of at least 1.0), or copy the tensor first"
                .to_owned(),
        });
    }
    // SAFETY: forwarded contract.
    let lent = unsafe { lend(tensor, consumer)? };
    hand_out(tensor, lent, |dl_tensor| DLManagedTensor {
        dl_tensor,
        manager_ctx: ptr::null_mut(),
        deleter: Some(DELETE),
    })
}

/// The tensor as the structure of DLPack 1.x; a read-only tensor says so in its flags.
///
/// The caller owns the result: call its deleter once, or give it to a consumer that will.
///
/// The storage is exposed from then on: no borrow of its elements can be made afterwards. One made before goes on, so while
/// a slice of them is borrowed, do not hand the result to anyone who may write.
///
/// Memory of a Vulkan device can be taken in by this copy of the library alone ([`import`](super::import)), and is not exposed by that.
/// Memory of a CUDA device is for a consumer on the default stream; for others there is [`export_versioned_to`].
///
/// # Errors
/// On a CUDA device [`Error::Driver`], [`Error::DeviceLost`].
pub fn export_versioned(tensor: &DynTensor) -> Result<NonNull<DLManagedTensorVersioned>> {
    // SAFETY: the default stream is the device's own.
    unsafe { export_versioned_to(tensor, Consumer::DefaultStream) }
}

/// [`export_versioned`] for a consumer on some stream of a CUDA device.
///
/// # Errors
/// As [`export_to`], but for read-only tensors.
///
/// # Safety
/// As [`export_to`].
pub unsafe fn export_versioned_to(tensor: &DynTensor, consumer: Consumer) -> Result<NonNull<DLManagedTensorVersioned>> {
    // SAFETY: forwarded contract.
    let lent = unsafe { lend(tensor, consumer)? };
    let flags = if tensor.is_readonly() {
        DLPACK_FLAG_BITMASK_READ_ONLY
    } else {
        0
    };
    hand_out(tensor, lent, |dl_tensor| DLManagedTensorVersioned {
        version: DLPackVersion {
            major: DLPACK_MAJOR_VERSION,
            minor: DLPACK_MINOR_VERSION,
        },
        manager_ctx: ptr::null_mut(),
        deleter: Some(DELETE_VERSIONED),
        flags,
        dl_tensor,
    })
}

/// Lends memory of a CUDA device to its consumer.
///
/// # Errors
/// As [`Lent::new`].
///
/// # Safety
/// As [`export_to`].
unsafe fn lend(tensor: &DynTensor, consumer: Consumer) -> Result<Option<Lent>> {
    if !matches!(tensor.device(), Device::Cuda(_)) {
        return Ok(None);
    }
    let Some(block) = tensor.storage().device_block() else {
        return Ok(None);
    };
    let engine = block.engine();
    let stream = match consumer {
        Consumer::DefaultStream | Consumer::Unordered => Theirs::legacy(engine)?,
        // SAFETY: forwarded contract.
        Consumer::Stream(stream) => unsafe { Theirs::open_to_exchange(engine, stream)? },
    };
    let lent = Lent::new(tensor.storage(), stream, consumer != Consumer::Unordered)?;
    if consumer == Consumer::Stream(PER_THREAD) {
        // Two of these are in order by what stands between them in the legacy stream.
        Theirs::legacy(engine)?.stand_between()?;
    }
    Ok(lent)
}

/// Where CUDA has the first byte of a block; `None`: it is of another kind of device.
pub(super) fn cuda_start(block: &DeviceBlock) -> Option<usize> {
    let cuda = block.engine().backend().cuda()?;
    usize::try_from(cuda.address(block.part(0, 0))).ok()
}

/// Where CUDA has element `[0, 0, …]`.
///
/// # Errors
/// [`Error::Exchange`] for memory that is no block of a CUDA device.
fn cuda_address(tensor: &DynTensor) -> Result<*mut c_void> {
    let start = tensor.storage().device_block().and_then(cuda_start);
    let start = start.ok_or_else(|| Error::Exchange {
        reason: format!("the memory on {} has no address of CUDA's", tensor.device()),
    })?;
    Ok(ptr::without_provenance_mut(start + tensor.offset_bytes()))
}

/// Builds the allocation and points its parts at one another.
fn hand_out<M: Managed>(
    tensor: &DynTensor,
    lent: Option<Lent>,
    manage: impl FnOnce(DLTensor) -> M,
) -> Result<NonNull<M>> {
    let device = device_of(tensor.device())?;
    let address = match tensor.device() {
        Device::Cpu => tensor.data_ptr().cast(),
        Device::Cuda(_) => cuda_address(tensor)?,
        Device::Vulkan(_) => NOT_AN_ADDRESS,
    };
    let mut numbers = SmallVec::with_capacity(2 * tensor.ndim());
    numbers.extend(tensor.shape().iter().map(|&dim| dim as i64));
    numbers.extend(tensor.strides().iter().map(|&stride| stride as i64));
    let empty = tensor.numel() == 0;
    let exported = Box::leak(Box::new(Exported {
        managed: manage(DLTensor {
            data: if empty { ptr::null_mut() } else { address },
            device,
            // At most 64.
            ndim: tensor.ndim() as i32,
            dtype: tensor.dtype().into(),
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        }),
        numbers,
        storage: lent.map_or_else(|| Storage::Plain(tensor.storage().clone()), Storage::Lent),
        offset: tensor.data_ptr().addr() - tensor.storage().ptr().addr().get(),
    }));
    if address != NOT_AN_ADDRESS {
        tensor.storage().mark_exposed();
    }
    let whole: *mut Exported<M> = exported;
    // SAFETY: `whole` is the leaked box, which nobody else knows yet and which stays where it is. The numbers, inline or
    // not, stay with it, and there are `ndim` lengths before the strides.
    unsafe {
        let shape = (*whole).numbers.as_mut_ptr();
        let strides = shape.add(tensor.ndim());
        let managed = &raw mut (*whole).managed;
        (*managed).point(whole.cast(), shape, strides);
        Ok(NonNull::new_unchecked(managed))
    }
}

/// The handle of an export.
enum Storage {
    Plain(Arc<DeviceMemory>),
    Lent(Lent),
}

impl Storage {
    fn memory(&self) -> &Arc<DeviceMemory> {
        match self {
            Storage::Plain(memory) => memory,
            Storage::Lent(lent) => lent.memory(),
        }
    }
}

/// DLPack's name of a device.
fn device_of(device: Device) -> Result<DLDevice> {
    let refuse = |reason| Err(Error::Exchange { reason });
    let (device_type, ordinal) = match device {
        Device::Cpu => (DL_CPU, 0),
        Device::Vulkan(ordinal) => (DL_VULKAN, ordinal),
        Device::Cuda(ordinal) => (DL_CUDA, ordinal),
    };
    match i32::try_from(ordinal) {
        Ok(device_id) => Ok(DLDevice { device_type, device_id }),
        Err(_) => refuse(format!(
            "DLPack has no number for {device}; copy the tensor to the cpu first"
        )),
    }
}

/// An export of this library that has come back.
pub(super) struct Origin<'a> {
    pub(super) storage: &'a Arc<DeviceMemory>,
    /// Bytes from the start of the storage to the element that was the first.
    pub(super) offset: usize,
    pub(super) device: DLDevice,
}

/// What the two structures have in common.
pub(super) trait Managed: Sized {
    fn tensor(&self) -> &DLTensor;

    /// What it was made of, if this copy of the library made it.
    fn origin(&self) -> Option<Origin<'_>>;

    fn point(&mut self, context: *mut c_void, shape: *mut i64, strides: *mut i64);
}

macro_rules! managed {
    ($type:ty, $delete:ident, $the_deleter:ident) => {
        impl Managed for $type {
            fn tensor(&self) -> &DLTensor {
                &self.dl_tensor
            }

            fn origin(&self) -> Option<Origin<'_>> {
                self.deleter
                    .filter(|&deleter| ptr::fn_addr_eq(deleter, $the_deleter))?;
                // SAFETY: with that deleter, the context is the box that `hand_out` leaked (D4); it lives as long as the structure,
                // and nobody writes to these parts of it.
                unsafe {
                    let exported = self.manager_ctx.cast::<Exported<$type>>();
                    let storage = (*(&raw const (*exported).storage)).memory();
                    let offset = (*exported).offset;
                    let device = device_of(storage.device()).ok()?;
                    Some(Origin {
                        storage,
                        offset,
                        device,
                    })
                }
            }

            fn point(&mut self, context: *mut c_void, shape: *mut i64, strides: *mut i64) {
                self.manager_ctx = context;
                self.dl_tensor.shape = shape;
                self.dl_tensor.strides = strides;
            }
        }

        /// The deleter of our exports (D1).
        ///
        /// # Safety
        /// `managed` came from this file, with this deleter, and was not deleted before.
        unsafe extern "C" fn $delete(managed: *mut $type) {
            // SAFETY: the caller's promise: the structure is alive, and its context is the box that `hand_out` leaked.
            drop(unsafe { Box::from_raw((*managed).manager_ctx.cast::<Exported<$type>>()) });
        }

        /// Its address, taken in one place, so that it can be compared: of a function there may be several.
        static $the_deleter: unsafe extern "C" fn(*mut $type) = $delete;
    };
}

managed!(DLManagedTensor, delete, DELETE);
managed!(DLManagedTensorVersioned, delete_versioned, DELETE_VERSIONED);
