//! New tensors: in the default pool, or in a given one.

use super::{DynTensor, Scalar};
use crate::backend::Queue;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::pool::device::DevicePool;
use crate::pool::{Init, MemoryPool};
use crate::rc::Arc;
use crate::shape::Geometry;

impl DynTensor {
    /// Elements of any value, in the default pool. Nothing is written: fill it, or copy into it.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`], [`Error::InvalidArgument`] for a shape that cannot be; [`Error::OutOfMemory`].
    pub fn empty(shape: &[usize], dtype: DType) -> Result<Self> {
        Self::empty_in(MemoryPool::global(), None, shape, dtype)
    }

    /// As [`DynTensor::empty`], in `pool`, aligned to `alignment` bytes (the pool's own where `None`).
    ///
    /// # Errors
    /// As [`DynTensor::empty`]; [`Error::InvalidArgument`] for an alignment that the pool cannot give.
    pub fn empty_in(pool: &MemoryPool, alignment: Option<usize>, shape: &[usize], dtype: DType) -> Result<Self> {
        let geometry = Geometry::contiguous("empty", shape, dtype)?;
        let tensor = Self::allocate(pool, alignment, geometry, dtype, Init::Uninit)?;
        if tensor.storage.device_block().is_none() {
            tensor.settle();
        }
        Ok(tensor)
    }

    /// Elements that hold anything, in device memory that work of `queue` probably uses first.
    pub(crate) fn on_queue(pool: &DevicePool, queue: Queue, shape: &[usize], dtype: DType) -> Result<Self> {
        let geometry = Geometry::contiguous("empty", shape, dtype)?;
        let block = pool.allocate(geometry.numel() * dtype.size(), 1, queue)?;
        Ok(Self::of_block(block, geometry, dtype))
    }

    /// Elements of value 0 (false), in the default pool. Fresh memory of the system is zero already and is not touched.
    ///
    /// # Errors
    /// As [`DynTensor::empty`].
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Self> {
        Self::zeros_in(MemoryPool::global(), None, shape, dtype)
    }

    /// As [`DynTensor::zeros`], in `pool`, aligned to `alignment` bytes (the pool's own where `None`).
    ///
    /// # Errors
    /// As [`DynTensor::empty_in`].
    pub fn zeros_in(pool: &MemoryPool, alignment: Option<usize>, shape: &[usize], dtype: DType) -> Result<Self> {
        let geometry = Geometry::contiguous("zeros", shape, dtype)?;
        Self::allocate(pool, alignment, geometry, dtype, Init::Zeroed)
    }

    /// Elements of value `value`, in the default pool.
    ///
    /// # Errors
    /// As [`DynTensor::empty`]; [`Error::InvalidArgument`] for a value that `dtype` cannot hold.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::{DType, DynTensor, Scalar};
    /// let ones = DynTensor::full(&[4], DType::U8, Scalar::Int(1))?;
    /// assert_eq!(ones.to_vec::<u8>()?, [1; 4]);
    /// let error = DynTensor::full(&[4], DType::U8, Scalar::Int(300)).unwrap_err();
    /// assert_eq!(error.to_string(), "full: 300 does not fit uint8 (0 to 255)");
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn full(shape: &[usize], dtype: DType, value: Scalar) -> Result<Self> {
        Self::full_in(MemoryPool::global(), None, shape, dtype, value)
    }

    /// As [`DynTensor::full`], in `pool`, aligned to `alignment` bytes (the pool's own where `None`).
    ///
    /// # Errors
    /// As [`DynTensor::empty_in`] and [`DynTensor::full`].
    pub fn full_in(
        pool: &MemoryPool,
        alignment: Option<usize>,
        shape: &[usize],
        dtype: DType,
        value: Scalar,
    ) -> Result<Self> {
        let pattern = value.to_pattern("full", dtype)?;
        let geometry = Geometry::contiguous("full", shape, dtype)?;
        if pool.device_pool().is_some() && !pattern.is_zero() {
            return Self::full(shape, dtype, value)?.to_pool(pool);
        }
        if pattern.is_zero() {
            return Self::allocate(pool, alignment, geometry, dtype, Init::Zeroed);
        }
        let mut tensor = Self::allocate(pool, alignment, geometry, dtype, Init::Uninit)?;
        tensor.write_pattern_alone(&pattern);
        Ok(tensor)
    }

    /// A copy of `values`, in row-major order, in the default pool.
    ///
    /// # Errors
    /// As [`DynTensor::empty`]; [`Error::ShapeMismatch`] where `shape` has another number of elements than `values`.
    ///
    /// # Examples
    /// ```
    /// # use neuro_core::DynTensor;
    /// let matrix = DynTensor::from_slice(&[2, 2], &[1i32, 2, 3, 4])?;
    /// assert_eq!(matrix.transpose().to_vec::<i32>()?, [1, 3, 2, 4]);
    /// # Ok::<(), neuro_core::Error>(())
    /// ```
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Result<Self> {
        Self::from_slice_in(MemoryPool::global(), shape, values)
    }

    /// As [`DynTensor::from_slice`], in `pool`.
    ///
    /// # Errors
    /// As [`DynTensor::from_slice`].
    pub fn from_slice_in<T: Element>(pool: &MemoryPool, shape: &[usize], values: &[T]) -> Result<Self> {
        let geometry = Geometry::contiguous("from_slice", shape, T::DTYPE)?;
        if geometry.numel() != values.len() {
            return Err(Error::ShapeMismatch {
                op: "from_slice",
                expected: format!("a shape of {} elements, as many as there are values", values.len()),
                got: shape.to_vec(),
            });
        }
        if pool.device_pool().is_some() {
            return Self::from_slice(shape, values)?.to_pool(pool);
        }
        let mut tensor = Self::allocate(pool, None, geometry, T::DTYPE, Init::Uninit)?;
        tensor.write_values_alone(values);
        Ok(tensor)
    }

    /// Room for `geometry`, which is contiguous. The caller sees to T3 before the tensor leaves this folder.
    #[inline(always)] // else the geometry is copied from place to place
    pub(super) fn allocate(
        pool: &MemoryPool,
        alignment: Option<usize>,
        geometry: Geometry,
        dtype: DType,
        init: Init,
    ) -> Result<Self> {
        let bytes = geometry.nbytes(dtype);
        let memory = DeviceMemory::from_pool(pool, bytes, alignment, init)?;
        Ok(Self::from_parts(Arc::new(memory), geometry, 0, dtype))
    }
}
