//! `Geometry`: the run-time shape and strides of a tensor, and the views that can be had without touching its bytes.
//!
//! Invariants of every `Geometry`:
//! - G1: as many strides as dimensions, at most [`MAX_NDIM`].
//! - G2: the product of the non-zero dimensions, times the element size it was checked for, is at most `isize::MAX`; so no
//!   product of dimensions below can overflow, empty tensors included.
//! - G3: the offsets of all elements lie in `extent()`, whose ends, times that element size, fit an `isize`.
//!
//! A view of a checked geometry keeps G1–G3: its elements are among those of the original.
//!
//! Absent on purpose: addresses, memory, devices (`tensor/`), and unsafe code.

use std::ops::Range;

use smallvec::{SmallVec, smallvec};

use crate::dtype::DType;
use crate::error::{Error, Result};

#[cfg(test)]
mod tests;
mod view;

/// Most dimensions a tensor can have; NumPy's and DLPack consumers' limit too.
pub const MAX_NDIM: usize = 64;

/// Lengths of the dimensions, outermost first.
pub type Dims = SmallVec<[usize; 4]>;

/// Distances between neighbours along each dimension, in elements.
pub type Strides = SmallVec<[isize; 4]>;

/// Shape and strides known at run time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    shape: Dims,
    strides: Strides,
}

impl Geometry {
    /// Row-major (C) order: the last dimension is dense.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above [`MAX_NDIM`] dimensions; [`Error::SizeOverflow`] where the non-zero dimensions
    /// multiply to more than `isize::MAX` bytes.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::{DType, Geometry};
    /// let geometry = Geometry::contiguous("example", &[3, 4], DType::F32)?;
    /// assert_eq!(geometry.strides(), [4, 1]);
    /// assert_eq!(geometry.nbytes(DType::F32), 48);
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    #[inline(always)] // else it is copied from place to place
    pub fn contiguous(op: &'static str, shape: &[usize], dtype: DType) -> Result<Self> {
        check_size(op, shape, dtype)?;
        Ok(Self {
            shape: Dims::from_slice(shape),
            strides: dense_strides(shape),
        })
    }

    /// Any strides, in elements: negative, zero (one element seen many times), overlapping.
    ///
    /// # Errors
    /// As [`Geometry::contiguous`]; also [`Error::InvalidArgument`] where the numbers of dimensions and strides differ, or
    /// where an element would lie further from another than an address can tell.
    pub fn strided(op: &'static str, shape: &[usize], strides: &[isize], dtype: DType) -> Result<Self> {
        if shape.len() != strides.len() {
            return Err(Error::InvalidArgument {
                op,
                what: format!(
                    "{} strides for {} dimensions; give one for each",
                    strides.len(),
                    shape.len()
                ),
            });
        }
        check_size(op, shape, dtype)?;
        if checked_extent(shape, strides, dtype.size()).is_none() {
            return Err(Error::InvalidArgument {
                op,
                what: format!("strides {strides:?} of shape {shape:?} reach outside any address space"),
            });
        }
        // No element, no meaning: dense strides keep all later arithmetic within G2.
        let strides = if shape.contains(&0) {
            dense_strides(shape)
        } else {
            Strides::from_slice(strides)
        };
        Ok(Self {
            shape: Dims::from_slice(shape),
            strides,
        })
    }

    /// Lengths of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Distances between neighbours along each dimension, in elements.
    pub fn strides(&self) -> &[isize] {
        &self.strides
    }

    /// Number of dimensions; 0 for a single element.
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        // No overflow: G2, or a factor is 0; zero first, since the others may be multiplied before it is met.
        if self.is_empty() {
            0
        } else {
            self.shape.iter().product()
        }
    }

    /// Whether a dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Bytes of all elements, laid side by side.
    pub fn nbytes(&self, dtype: DType) -> usize {
        self.numel() * dtype.size()
    }

    /// Whether the elements lie side by side in row-major order. Strides of dimensions of length 1 do not matter.
    pub fn is_contiguous(&self) -> bool {
        if self.is_empty() {
            return true;
        }
        let mut dense = 1;
        for (&dim, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if dim != 1 && stride != dense {
                return false;
            }
            dense *= dim.cast_signed();
        }
        true
    }

    /// From the lowest element offset to one past the highest, relative to element `[0, 0, …]`; `0..0` if empty.
    pub fn extent(&self) -> Range<isize> {
        if self.is_empty() {
            return 0..0;
        }
        let (mut low, mut high) = (0, 0);
        for (&dim, &stride) in self.shape.iter().zip(&self.strides) {
            // No overflow: G3. A dimension of 1 never uses its stride, which may be anything.
            if dim > 1 {
                let reach = (dim - 1).cast_signed() * stride;
                low += reach.min(0);
                high += reach.max(0);
            }
        }
        low..high + 1
    }

    /// Offset in elements of the element at `index`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where `index` has another length than the shape; [`Error::OutOfRange`] where it lies
    /// outside.
    pub fn offset_of(&self, op: &'static str, index: &[usize]) -> Result<isize> {
        if index.len() != self.ndim() {
            return Err(Error::InvalidArgument {
                op,
                what: format!(
                    "{} indices for {} dimensions; give one for each",
                    index.len(),
                    self.ndim()
                ),
            });
        }
        let mut offset = 0;
        for ((&at, &dim), &stride) in index.iter().zip(&self.shape).zip(&self.strides) {
            if at >= dim {
                return Err(out_of_range(op, "index", at, dim));
            }
            // No overflow: G3 bounds every partial sum. `at` is 0 where `dim` is 1.
            offset += at.cast_signed() * stride;
        }
        Ok(offset)
    }
}

/// Row-major strides; a dimension of 0 counts as 1, as in NumPy. The caller has checked G2.
fn dense_strides(shape: &[usize]) -> Strides {
    let mut strides: Strides = smallvec![0; shape.len()];
    let mut dense = 1;
    for (stride, &dim) in strides.iter_mut().zip(shape).rev() {
        *stride = dense;
        dense *= dim.max(1).cast_signed();
    }
    strides
}

/// G1 and G2.
fn check_size(op: &'static str, shape: &[usize], dtype: DType) -> Result<()> {
    check_ndim(op, shape.len())?;
    shape
        .iter()
        .filter(|&&dim| dim != 0)
        .try_fold(dtype.size(), |bytes, &dim| bytes.checked_mul(dim))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .map(|_| ())
        .ok_or_else(|| Error::SizeOverflow {
            op,
            shape: shape.to_vec(),
            dtype,
        })
}

fn check_ndim(op: &'static str, ndim: usize) -> Result<()> {
    if ndim > MAX_NDIM {
        return Err(Error::InvalidArgument {
            op,
            what: format!("{ndim} dimensions; at most {MAX_NDIM} are possible"),
        });
    }
    Ok(())
}

/// G3: the span of bytes from the lowest to the highest element, if both ends and the span itself fit an `isize`.
fn checked_extent(shape: &[usize], strides: &[isize], item: usize) -> Option<()> {
    if shape.contains(&0) {
        return Some(());
    }
    let item = isize::try_from(item).ok()?;
    let (mut low, mut high) = (0isize, item);
    for (&dim, &stride) in shape.iter().zip(strides).filter(|(dim, _)| **dim > 1) {
        let reach = isize::try_from(dim - 1).ok()?.checked_mul(stride)?.checked_mul(item)?;
        low = low.checked_add(reach.min(0))?;
        high = high.checked_add(reach.max(0))?;
    }
    high.checked_sub(low).map(|_| ())
}

fn out_of_range(op: &'static str, what: &'static str, index: usize, len: usize) -> Error {
    Error::OutOfRange {
        op,
        what,
        // An index beyond isize::MAX can only be wrong; saturating keeps the message true enough to act on.
        index: isize::try_from(index).unwrap_or(isize::MAX),
        len,
    }
}
