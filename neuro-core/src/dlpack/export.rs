//! Handing tensors out (D1, D2).

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use smallvec::SmallVec;

use super::ffi::{
    DL_CPU, DLDevice, DLManagedTensor, DLManagedTensorVersioned, DLPACK_FLAG_BITMASK_READ_ONLY, DLPACK_MAJOR_VERSION,
    DLPACK_MINOR_VERSION, DLPackVersion, DLTensor,
};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::rc::Arc;
use crate::tensor::DynTensor;

/// An export in one allocation: what the consumer sees, and what it points to.
struct Exported<M> {
    managed: M,
    /// The shape, then the strides.
    numbers: SmallVec<[i64; 8]>,
    #[expect(dead_code, reason = "kept for its drop, which gives the handle back (D1)")]
    storage: Arc<DeviceMemory>,
}

/// The tensor as the structure from before DLPack 1.0, which cannot say "read-only".
///
/// The caller owns the result: call its deleter once, or give it to a consumer that will.
///
/// The storage is exposed from then on: no borrow of its elements can be made afterwards. One made before goes on, so while
/// a slice of them is borrowed, do not hand the result to anyone who may write.
///
/// # Errors
/// [`Error::Exchange`] for a read-only tensor, or one on a device whose exchange is not built.
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
    if tensor.is_readonly() {
        return Err(Error::Exchange {
            reason: "the tensor is read-only, which an unversioned DLPack structure cannot say; \
                     ask for a versioned one (max_version of at least 1.0), or copy the tensor first"
                .to_owned(),
        });
    }
    hand_out(tensor, |dl_tensor| DLManagedTensor {
        dl_tensor,
        manager_ctx: ptr::null_mut(),
        deleter: Some(delete),
    })
}

/// The tensor as the structure of DLPack 1.x; a read-only tensor says so in its flags.
///
/// The caller owns the result: call its deleter once, or give it to a consumer that will.
///
/// The storage is exposed from then on: no borrow of its elements can be made afterwards. One made before goes on, so while
/// a slice of them is borrowed, do not hand the result to anyone who may write.
///
/// # Errors
/// [`Error::Exchange`] for a tensor on a device whose exchange is not built.
pub fn export_versioned(tensor: &DynTensor) -> Result<NonNull<DLManagedTensorVersioned>> {
    let flags = if tensor.is_readonly() {
        DLPACK_FLAG_BITMASK_READ_ONLY
    } else {
        0
    };
    hand_out(tensor, |dl_tensor| DLManagedTensorVersioned {
        version: DLPackVersion {
            major: DLPACK_MAJOR_VERSION,
            minor: DLPACK_MINOR_VERSION,
        },
        manager_ctx: ptr::null_mut(),
        deleter: Some(delete_versioned),
        flags,
        dl_tensor,
    })
}

/// Builds the allocation and points its parts at one another.
fn hand_out<M: Managed>(tensor: &DynTensor, manage: impl FnOnce(DLTensor) -> M) -> Result<NonNull<M>> {
    let device = match tensor.device() {
        Device::Cpu => DLDevice {
            device_type: DL_CPU,
            device_id: 0,
        },
        device => {
            return Err(Error::Exchange {
                reason: format!("memory on {device} cannot be exported; copy the tensor to the cpu first"),
            });
        }
    };
    let mut numbers = SmallVec::with_capacity(2 * tensor.ndim());
    numbers.extend(tensor.shape().iter().map(|&dim| dim as i64));
    numbers.extend(tensor.strides().iter().map(|&stride| stride as i64));
    let empty = tensor.numel() == 0;
    let exported = Box::leak(Box::new(Exported {
        managed: manage(DLTensor {
            data: if empty {
                ptr::null_mut()
            } else {
                tensor.data_ptr().cast()
            },
            device,
            // At most 64.
            ndim: tensor.ndim() as i32,
            dtype: tensor.dtype().into(),
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        }),
        numbers,
        storage: tensor.storage().clone(),
    }));
    tensor.storage().mark_exposed();
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

/// What the two structures have in common.
trait Managed {
    fn point(&mut self, context: *mut c_void, shape: *mut i64, strides: *mut i64);
}

macro_rules! managed {
    ($type:ty, $delete:ident) => {
        impl Managed for $type {
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
    };
}

managed!(DLManagedTensor, delete);
managed!(DLManagedTensorVersioned, delete_versioned);
