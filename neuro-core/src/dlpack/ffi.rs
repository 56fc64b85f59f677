//! The structures of DLPack 1.3, as C lays them out, and the pairing of element types.

use std::ffi::c_void;

use crate::dtype::DType;

/// `kDLCPU`.
pub const DL_CPU: i32 = 1;
/// `kDLCUDA`: memory of a CUDA device.
pub const DL_CUDA: i32 = 2;
/// `kDLCUDAHost`: host memory that CUDA devices can reach too.
pub const DL_CUDA_HOST: i32 = 3;

/// `kDLVulkan`. DLPack does not say what the data pointer of such memory points to.
pub const DL_VULKAN: i32 = 7;

/// The version whose rules an export keeps.
pub const DLPACK_MAJOR_VERSION: u32 = 1;
/// The minor part of that version; since 1.2, `strides` is never NULL where there are dimensions.
pub const DLPACK_MINOR_VERSION: u32 = 3;

/// The consumer must not write.
pub const DLPACK_FLAG_BITMASK_READ_ONLY: u64 = 1;
/// The producer made a copy for this export.
pub const DLPACK_FLAG_BITMASK_IS_COPIED: u64 = 2;

/// A kind of device and its number.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DLDevice {
    /// `kDLCPU` = 1, `kDLCUDA` = 2, `kDLCUDAHost` = 3, `kDLVulkan` = 7, …
    pub device_type: i32,
    /// Which one; 0 for the CPU.
    pub device_id: i32,
}

/// An element type: kind, bits, and elements in a vector.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DLDataType {
    /// 0 int, 1 uint, 2 float, 4 bfloat, 5 complex, 6 bool.
    pub code: u8,
    /// Bits of one element.
    pub bits: u8,
    /// 1, except for vector types.
    pub lanes: u16,
}

/// A tensor, borrowed.
#[repr(C)]
#[derive(Debug)]
pub struct DLTensor {
    /// Start of the data; NULL where there are no elements.
    pub data: *mut c_void,
    /// Where the data lies.
    pub device: DLDevice,
    /// Number of dimensions.
    pub ndim: i32,
    /// Element type.
    pub dtype: DLDataType,
    /// `ndim` lengths.
    pub shape: *mut i64,
    /// `ndim` strides in elements; old producers write NULL for row-major order.
    pub strides: *mut i64,
    /// Bytes from `data` to element `[0, 0, …]`.
    pub byte_offset: u64,
}

/// A tensor with its owner, before DLPack 1.0.
#[repr(C)]
#[derive(Debug)]
pub struct DLManagedTensor {
    /// The tensor.
    pub dl_tensor: DLTensor,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Gives the tensor and this structure back; may be NULL.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensor)>,
}

/// A version of DLPack.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DLPackVersion {
    /// Structures of another major version have another layout.
    pub major: u32,
    /// Additions that keep the layout.
    pub minor: u32,
}

/// A tensor with its owner, since DLPack 1.0.
#[repr(C)]
#[derive(Debug)]
pub struct DLManagedTensorVersioned {
    /// The version of this structure. Only this, `manager_ctx` and `deleter` can be read where the major part is unknown.
    pub version: DLPackVersion,
    /// The producer's own.
    pub manager_ctx: *mut c_void,
    /// Gives the tensor and this structure back; may be NULL.
    pub deleter: Option<unsafe extern "C" fn(*mut DLManagedTensorVersioned)>,
    /// `DLPACK_FLAG_BITMASK_…`.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DLTensor,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<DLTensor>() == 48);
    assert!(size_of::<DLManagedTensor>() == 64);
    assert!(size_of::<DLManagedTensorVersioned>() == 80);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, flags) == 24);
    assert!(std::mem::offset_of!(DLManagedTensorVersioned, dl_tensor) == 32);
};

/// DLPack's code of the kind of `dtype`.
const fn code(dtype: DType) -> u8 {
    match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => 0,
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => 1,
        DType::F16 | DType::F32 | DType::F64 => 2,
        DType::BF16 => 4,
        DType::C64 | DType::C128 => 5,
        DType::Bool => 6,
    }
}

impl From<DType> for DLDataType {
    fn from(dtype: DType) -> Self {
        Self {
            code: code(dtype),
            // At most 128.
            bits: (dtype.size() * 8) as u8,
            lanes: 1,
        }
    }
}

impl DLDataType {
    /// The element type this library has for it, if any.
    pub(super) fn to_dtype(self) -> Option<DType> {
        DType::ALL.iter().copied().find(|&dtype| Self::from(dtype) == self)
    }
}
