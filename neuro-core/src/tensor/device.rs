//! Tensors on devices: moving between them, and to the host and back.

use super::DynTensor;
use crate::backend::Queue;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::memory::DeviceMemory;
use crate::pool::device::{DeviceBlock, Waits};
use crate::pool::{Init, MemoryPool};
use crate::rc::Arc;
use crate::shape::Geometry;
use crate::transfer;

impl DynTensor {
    /// Elements of value 0 on `device`, in its default pool.
    ///
    /// # Errors
    /// As [`DynTensor::zeros`]; [`Error::Unavailable`](crate::Error::Unavailable) where there is no such device.
    pub fn zeros_on(device: Device, shape: &[usize], dtype: DType) -> Result<Self> {
        Self::zeros_in(&MemoryPool::of_device(device)?, None, shape, dtype)
    }

    /// The tensor on `device`: itself, sharing storage, if it is there; else a contiguous copy in the device's default pool.
    ///
    /// To a device the copy may still be under way when this returns; all that is done with it there is ordered behind. To the host
    /// it has arrived.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) where there is no such device; [`Error::OutOfMemory`](crate::Error::OutOfMemory);
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device() == device {
            return Ok(self.clone());
        }
        self.to_pool(&MemoryPool::of_device(device)?)
    }

    /// A contiguous copy in `pool`, on whatever device its memory is.
    ///
    /// Between memory of one device the device copies; else the bytes go through the host. A view that is not contiguous is put in
    /// order on the host.
    ///
    /// # Errors
    /// As [`DynTensor::to_device`].
    pub fn to_pool(&self, pool: &MemoryPool) -> Result<Self> {
        let Some(to) = pool.device_pool() else {
            return match self.storage.device_block() {
                Some(block) => self.download(block, pool),
                None => self.copy_in(pool, None),
            };
        };
        let geometry = Geometry::contiguous("to_device", self.shape(), self.dtype)?;
        let bytes = self.nbytes();
        let block = match self.storage.device_block() {
            Some(from) if self.is_contiguous() && from.engine().device() == to.engine().device() => {
                let block = to.allocate(bytes, 1, Queue::Compute)?;
                transfer::copy(from, self.offset, &block, bytes)?;
                block
            }
            Some(from) => return self.download(from, MemoryPool::global())?.to_pool(pool),
            None => {
                self.check_host("to_device")?;
                let block = to.allocate(bytes, 1, Queue::Upload)?;
                self.send(&block)?;
                block
            }
        };
        Ok(Self::of_block(block, geometry, self.dtype))
    }

    /// Copies the elements, in their order, to the start of `block`, which has room for them.
    pub(super) fn send(&self, block: &DeviceBlock) -> Result<()> {
        self.contiguous()?
            .with_bytes("to_device", |bytes| transfer::upload(bytes, block))?
    }

    /// A tensor of all of a block's elements.
    pub(super) fn of_block(block: DeviceBlock, geometry: Geometry, dtype: DType) -> Self {
        Self::from_parts(Arc::new(DeviceMemory::of_device(block)), geometry, 0, dtype)
    }

    /// Work that uses the storage and may not be done.
    pub(super) fn under_way(&self) -> Waits {
        let block = self.storage.device_block();
        block.map_or_else(Waits::new, |block| block.uses_under_way())
    }

    /// Waits until all work that was submitted on the storage is done. On the host there is none.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub fn synchronize(&self) -> Result<()> {
        let Some(block) = self.storage.device_block() else {
            return Ok(());
        };
        block.engine().check()?;
        block.engine().wait(&self.under_way())
    }

    /// A contiguous copy in host memory.
    fn download(&self, block: &DeviceBlock, pool: &MemoryPool) -> Result<Self> {
        if self.is_contiguous() {
            let geometry = Geometry::contiguous("to_device", self.shape(), self.dtype)?;
            let mut copy = Self::allocate(pool, None, geometry, self.dtype, Init::Uninit)?;
            copy.settle();
            transfer::download(block, self.offset, copy.as_bytes_mut("to_device")?)?;
            return Ok(copy);
        }
        // All between its first and its last element, and the view again on that.
        let extent = self.geometry.extent();
        let size = self.dtype.size();
        let elements = (extent.end - extent.start).cast_unsigned();
        let before = extent.start.unsigned_abs() * size;
        let flat = Geometry::contiguous("to_device", &[elements], self.dtype)?;
        let mut all = Self::allocate(MemoryPool::global(), None, flat, self.dtype, Init::Uninit)?;
        all.settle();
        transfer::download(block, self.offset - before, all.as_bytes_mut("to_device")?)?;
        let view = Self::from_parts(all.storage.clone(), self.geometry.clone(), before, self.dtype);
        view.copy_in(pool, None)
    }
}
