//! Filling tensors with one value.

use super::scalar::Pattern;
use super::strided::copy_strided;
use super::{DynTensor, Scalar};
use crate::error::Result;
use crate::shape::Strides;

impl DynTensor {
    /// Sets every element to `value`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a value that the dtype cannot hold;
    /// [`Error::Shared`](crate::Error::Shared) unless this is the only handle to its storage and its address never left
    /// Rust; [`Error::ReadOnly`](crate::Error::ReadOnly); [`Error::Unavailable`](crate::Error::Unavailable) for memory the
    /// processor cannot reach.
    pub fn fill(&mut self, value: Scalar) -> Result<()> {
        self.check_sole("fill")?;
        let pattern = value.to_pattern("fill", self.dtype)?;
        self.write_pattern_alone(&pattern);
        Ok(())
    }

    /// As [`DynTensor::fill`], in storage that others may hold too.
    ///
    /// # Errors
    /// As [`DynTensor::fill`], but for [`Error::Shared`](crate::Error::Shared).
    ///
    /// # Safety
    /// Meanwhile nobody else reads or writes the elements of this tensor; no slice of its storage is borrowed.
    pub unsafe fn fill_shared(&self, value: Scalar) -> Result<()> {
        self.check_host("fill")?;
        self.check_writable("fill")?;
        let pattern = value.to_pattern("fill", self.dtype)?;
        // SAFETY: the caller's promise; host and writable were checked.
        unsafe { self.write_pattern(&pattern) };
        Ok(())
    }

    /// Writes `pattern` to every element of a tensor that is this handle's alone, on the host, writable and unexposed: one
    /// fresh from [`allocate`](Self::allocate), or one that passed `check_sole`.
    pub(super) fn write_pattern_alone(&mut self, pattern: &Pattern) {
        assert!(self.check_sole("write_pattern").is_ok());
        // SAFETY: nobody else can reach the bytes (T4), as both kinds of caller have made sure.
        unsafe { self.write_pattern(pattern) };
    }

    /// # Safety
    /// On the host and writable; nobody else reads or writes the elements meanwhile.
    unsafe fn write_pattern(&self, pattern: &Pattern) {
        let item = self.dtype.size();
        if self.is_contiguous() && pattern.is_zero() {
            // SAFETY: contiguous: the elements are these bytes (T1), which are the caller's to write.
            unsafe { self.data_ptr().write_bytes(0, self.nbytes()) };
            return;
        }
        let repeat = Strides::from_elem(0, self.ndim());
        // SAFETY: every element lies inside the storage (T1) and is the caller's to write; the source is one element of
        // `item` bytes on this stack, repeated by strides of 0.
        unsafe {
            copy_strided(
                self.shape(),
                self.data_ptr(),
                self.strides(),
                pattern.bytes().as_ptr(),
                &repeat,
                item,
            );
        }
    }
}
