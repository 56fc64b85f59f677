//! What a foreign tensor says of itself, checked: what it is made of, and the bytes that its elements lie in.

use std::ptr::NonNull;
use std::slice;

use smallvec::SmallVec;

use super::ffi::DLTensor;
use super::import::refuse;
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::{Geometry, MAX_NDIM};

/// No data lies below: systems keep the first page unmapped, so that null pointers fault.
const FIRST_PAGE: usize = 4096;

/// # Errors
/// [`Error::Exchange`](crate::Error::Exchange) for an element type that this library does not have.
pub(super) fn dtype_of(tensor: &DLTensor) -> Result<DType> {
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
pub(super) struct Described {
    pub(super) geometry: Geometry,
    pub(super) dtype: DType,
    /// The lowest byte of any element.
    pub(super) start: NonNull<u8>,
    /// Bytes from there to the end of the highest.
    pub(super) bytes: usize,
    /// Bytes from `start` to element `[0, 0, …]`.
    pub(super) offset: usize,
}

impl Described {
    /// # Safety
    /// `shape`, and `strides` unless NULL, are readable for `ndim` numbers.
    pub(super) unsafe fn read(tensor: &DLTensor) -> Result<Self> {
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
}

/// The highest address that data can end at. No 64-bit system gives programs more: 56 bits on x86-64 with five-level
/// paging, 52 on aarch64. Strides that lead beyond it are wrong, wherever the data begins.
const LAST: usize = 1 << 56;

/// # Safety
/// `shape`, and `strides` unless NULL, are readable for `ndim` numbers.
pub(super) unsafe fn geometry(tensor: &DLTensor, dtype: DType) -> Result<Geometry> {
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
