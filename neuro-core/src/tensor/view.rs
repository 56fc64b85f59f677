//! Views that share the storage, and the copies that stand in where a view cannot be had.

use super::DynTensor;
use crate::error::Result;
use crate::pool::MemoryPool;
use crate::shape::Geometry;

impl DynTensor {
    /// The indices `start`, `start + step`, … of `axis` that lie before `end` (above it, for a negative `step`), sharing
    /// storage. Ends lie in `0..=len`, for a negative step in `-1..=len - 1`: see [`Geometry::slice`].
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for an axis or an end outside;
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a step of 0.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::DynTensor;
    /// let row = DynTensor::from_slice(&[5], &[0u8, 1, 2, 3, 4])?;
    /// assert_eq!(row.slice(0, 1, 5, 2)?.to_vec::<u8>()?, [1, 3]);
    /// assert_eq!(row.slice(0, 4, -1, -1)?.to_vec::<u8>()?, [4, 3, 2, 1, 0]);
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn slice(&self, axis: usize, start: isize, end: isize, step: isize) -> Result<Self> {
        let (geometry, offset) = self.geometry.slice("slice", axis, start, end, step)?;
        Ok(self.view(geometry, offset))
    }

    /// Index `index` of `axis`, without that axis, sharing storage.
    ///
    /// # Errors
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) for an axis or an index outside.
    pub fn select(&self, axis: usize, index: usize) -> Result<Self> {
        let (geometry, offset) = self.geometry.select("select", axis, index)?;
        Ok(self.view(geometry, offset))
    }

    /// Dimension `i` of the view is dimension `axes[i]` of this; shares storage.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) unless `axes` names each axis once.
    pub fn permute(&self, axes: &[usize]) -> Result<Self> {
        Ok(self.view(self.geometry.permute("permute", axes)?, 0))
    }

    /// The axes in reverse order, sharing storage.
    pub fn transpose(&self) -> Self {
        self.view(self.geometry.reversed(), 0)
    }

    /// The same elements in the same row-major order under another shape: a view where strides can say it, else a copy in
    /// the default pool.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) where `shape` has another number of elements;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where a copy does not fit.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if let Some(geometry) = self.geometry.reshape("reshape", shape)? {
            // An empty shape may be longer than this tensor's bytes allow; a non-empty one has as many elements.
            Geometry::contiguous("reshape", shape, self.dtype)?;
            return Ok(self.view(geometry, 0));
        }
        let copy = self.copy()?;
        Ok(match copy.geometry.reshape("reshape", shape)? {
            Some(geometry) => copy.view(geometry, 0),
            None => unreachable!("a contiguous tensor has a view of every shape of as many elements"),
        })
    }

    /// This tensor if its elements lie side by side in row-major order, else such a copy in the default pool.
    ///
    /// # Errors
    /// As [`DynTensor::copy`].
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() {
            Ok(self.clone())
        } else {
            self.copy()
        }
    }

    /// A contiguous, writable copy in the default pool.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::Unavailable`](crate::Error::Unavailable) for memory the
    /// processor cannot reach.
    pub fn copy(&self) -> Result<Self> {
        self.copy_in(MemoryPool::global(), None)
    }

    /// `offset` elements from the first, under `geometry`, whose elements are among this tensor's (so T1–T3 hold on).
    fn view(&self, geometry: Geometry, offset: isize) -> Self {
        let bytes = offset * self.dtype.size().cast_signed();
        let offset = self
            .offset
            .checked_add_signed(bytes)
            .expect("an element of the tensor lies inside its storage");
        Self::from_parts(self.storage.clone(), geometry, offset, self.dtype)
    }
}
