//! Copies between tensors.

use super::DynTensor;
use super::strided::copy_strided;
use crate::error::{Error, Result};
use crate::pool::{Init, MemoryPool};
use crate::shape::Geometry;

impl DynTensor {
    /// A contiguous, writable copy in `pool`, aligned to `alignment` bytes (the pool's own where `None`).
    ///
    /// # Errors
    /// As [`DynTensor::copy`]; [`Error::InvalidArgument`] for an alignment that the pool cannot give.
    pub fn copy_in(&self, pool: &MemoryPool, alignment: Option<usize>) -> Result<Self> {
        if pool.device_pool().is_some() {
            return self.to_pool(pool);
        }
        self.check_host("copy")?;
        let geometry = Geometry::contiguous("copy", self.shape(), self.dtype)?;
        let copy = Self::allocate(pool, alignment, geometry, self.dtype, Init::Uninit)?;
        // SAFETY: the new block is nobody else's; this tensor is readable while the call lasts (T1, T3, T4). All of the new
        // one is written, which is its T3.
        unsafe { copy.copy_elements_from(self) };
        Ok(copy)
    }

    /// Copies the elements of `source`, which has the same shape and dtype.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::DTypeMismatch`]; [`Error::Shared`] unless this is the only handle to its storage
    /// and its address never left Rust; [`Error::ReadOnly`]; [`Error::Unavailable`] for memory the processor cannot reach.
    pub fn copy_from(&mut self, source: &DynTensor) -> Result<()> {
        self.check_sole("copy_from")?;
        self.check_like("copy_from", source)?;
        // SAFETY: the only, unexposed handle: nobody else can reach these bytes (T4), `source` least of all.
        unsafe { self.copy_elements_from(source) };
        Ok(())
    }

    /// As [`DynTensor::copy_from`], into storage that others may hold too. Overlapping tensors are copied as if `source`
    /// were copied elsewhere first.
    ///
    /// # Errors
    /// As [`DynTensor::copy_from`], but for [`Error::Shared`]; [`Error::OutOfMemory`] where an overlap needs a copy.
    ///
    /// # Safety
    /// Meanwhile nobody else reads or writes the elements of this tensor, or writes those of `source`; no slice of this
    /// storage is borrowed.
    pub unsafe fn copy_from_shared(&self, source: &DynTensor) -> Result<()> {
        self.check_host("copy_from")?;
        self.check_writable("copy_from")?;
        self.check_like("copy_from", source)?;
        let (to, from) = (self.address_range(), source.address_range());
        if to.start < from.end && from.start < to.end {
            if self.data_ptr() == source.data_ptr() && self.strides() == source.strides() {
                return Ok(());
            }
            let elsewhere = source.copy()?;
            // SAFETY: the caller's promise; the copy is ours alone.
            unsafe { self.copy_elements_from(&elsewhere) };
        } else {
            // SAFETY: the caller's promise; the two do not overlap.
            unsafe { self.copy_elements_from(source) };
        }
        Ok(())
    }

    /// # Safety
    /// Same shape, same dtype, both on the host, no overlap, this one writable, and nobody else reads or writes these
    /// bytes, or writes those of `source`, meanwhile.
    unsafe fn copy_elements_from(&self, source: &DynTensor) {
        // SAFETY: every element lies inside its storage (T1), strides in bytes fit (G3); the rest is the caller's promise.
        unsafe {
            copy_strided(
                self.shape(),
                self.data_ptr(),
                self.strides(),
                source.data_ptr(),
                source.strides(),
                self.dtype.size(),
            );
        }
    }

    fn check_like(&self, op: &'static str, source: &DynTensor) -> Result<()> {
        source.check_host(op)?;
        self.check_dtype(op, source.dtype)?;
        if self.shape() != source.shape() {
            return Err(Error::ShapeMismatch {
                op,
                expected: format!("a source of shape {:?}", self.shape()),
                got: source.shape().to_vec(),
            });
        }
        Ok(())
    }

    /// Addresses of the bytes between the lowest and the highest element.
    fn address_range(&self) -> std::ops::Range<usize> {
        let (extent, item) = (self.geometry.extent(), self.dtype.size().cast_signed());
        let first = self.data_ptr().addr();
        // T1: the sums are addresses inside the storage.
        first.wrapping_add_signed(extent.start * item)..first.wrapping_add_signed(extent.end * item)
    }
}
