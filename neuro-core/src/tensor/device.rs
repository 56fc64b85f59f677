//! Tensors on devices: moving between them, and to the host and back.

use super::DynTensor;
use crate::backend::Queue;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::memory::DeviceMemory;
use crate::pool::device::{Access, DeviceBlock, Engine, Face, PoolBlock, Waits, copy_to_peer};
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
    /// A contiguous tensor of a pool [with GPU support](MemoryPool::with_gpu_support) is not copied to a device that shares the
    /// host's memory, nor back: both are the same bytes then, of which whoever writes them keeps other users away. For a copy in any
    /// case there is [`to_pool`](Self::to_pool).
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
        if let Some(same) = self.shared_with(device)? {
            // The processor looks only; what the device does next is ordered anyway.
            self.synchronize()?;
            return Ok(same);
        }
        self.to_pool(&MemoryPool::of_device(device)?)
    }

    /// The same bytes as a tensor on `device`, where both reach them: nothing is copied. Work may be under way on it.
    pub(super) fn shared_with(&self, device: Device) -> Result<Option<Self>> {
        match self.storage.host_of_face() {
            Some(host) if device == Device::Cpu => Ok(Some(self.over(host.clone()))),
            None if self.device() == Device::Cpu && device != Device::Cpu => {
                let pool = MemoryPool::of_device(device)?;
                Ok(pool.device_pool().and_then(|pool| self.shared_by(pool.engine())))
            }
            _ => Ok(None),
        }
    }

    /// A tensor of the host as one of a device that can use its bytes as if they were in its own memory.
    pub(crate) fn shared_by(&self, engine: &std::sync::Arc<Engine>) -> Option<Self> {
        let facts = engine.backend().facts();
        let fits = facts.shares_memory
            && self.is_contiguous()
            && !self.is_readonly()
            && self.storage.is_pooled()
            && (self.data_ptr().addr() as u64).is_multiple_of(facts.bind_alignment);
        let face = fits.then(|| DeviceMemory::face(&self.storage, engine))??;
        Some(self.over(Arc::new(DeviceMemory::of_face(face, self.storage.clone()))))
    }

    /// Whether the elements lie in host memory that CUDA devices have locked in place (page-locked, pinned), as in a pool
    /// [`with_gpu_support`](MemoryPool::with_gpu_support) where there is such a device: they are copied without staging, by whatever library.
    pub fn is_pinned(&self) -> bool {
        let extent = self.geometry.extent();
        let size = self.dtype.size();
        let below = extent.start.unsigned_abs() * size;
        let bytes = (extent.end - extent.start).unsigned_abs() * size;
        bytes > 0 && self.storage.is_pinned(self.data_ptr().addr() - below, bytes)
    }

    /// The same elements over another handle of the same bytes.
    fn over(&self, storage: Arc<DeviceMemory>) -> Self {
        Self::from_parts(storage, self.geometry.clone(), self.offset, self.dtype)
    }

    /// A view of device memory that the processor reaches, for the processor. Waits until what was submitted on it is done; from
    /// then on whoever writes on one side sees to it that nobody uses the other: work that is submitted later sees what the
    /// processor has written, and the processor sees what work wrote after [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) where the processor does not reach the memory, as on most graphics cards;
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub fn map(&self) -> Result<Self> {
        let Some(block) = self.storage.device_block() else {
            return Ok(self.clone());
        };
        self.synchronize()?;
        if let Some(same) = self.shared_with(Device::Cpu)? {
            return Ok(same);
        }
        let storage = DeviceMemory::map(&self.storage)?.ok_or_else(|| Error::Unavailable {
            what: format!("map of memory of {}", block.engine().device()),
            reason: "the processor does not reach it, or only slowly; copy the tensor to the cpu instead".to_owned(),
        })?;
        Ok(self.over(Arc::new(storage)))
    }

    /// A contiguous copy in `pool`, on whatever device its memory is.
    ///
    /// Between memory of one device the device copies, and so it does between two CUDA devices; else the bytes go through the host. A view that is not contiguous is put in
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
                let block = to.allocate(bytes, 1, Queue::COMPUTE)?;
                transfer::copy(Queue::COMPUTE, from, self.offset, &block, bytes)?;
                block
            }
            Some(from) if self.is_contiguous() && from.engine().backend().cuda().is_some() => {
                let block = to.allocate(bytes, 1, Queue::UPLOAD)?;
                if !copy_to_peer(from, self.offset, &block, bytes)? {
                    return self.download(from, MemoryPool::global())?.to_pool(pool);
                }
                block
            }
            Some(from) => return self.download(from, MemoryPool::global())?.to_pool(pool),
            None => {
                self.check_host("to_device")?;
                let block = to.allocate(bytes, 1, Queue::UPLOAD)?;
                // The caller may write his tensor when this returns.
                let (until, _in_use) = self.send(&block)?;
                to.engine().wait(&until)?;
                block
            }
        };
        Ok(Self::of_block(block, geometry, self.dtype))
    }

    /// Copies the elements, in their order, to the start of `block`, which has room for them. Until the work that it returns is done,
    /// nobody writes this tensor; and who lets go of the face then, and not before, leaves it to nobody else.
    pub(super) fn send(&self, block: &DeviceBlock) -> Result<(Waits, Option<Face>)> {
        let source = self.contiguous()?;
        if !transfer::is_at_once(block)
            && let Some(face) = DeviceMemory::face(&source.storage, block.engine())
        {
            let ticket = transfer::copy(Queue::UPLOAD, &face, source.offset, block, source.nbytes())?;
            return Ok((ticket.into_iter().collect(), Some(face)));
        }
        source.with_bytes("to_device", |bytes| transfer::upload(bytes, block))??;
        Ok((Waits::new(), None))
    }

    /// A tensor of all of a block's elements.
    pub(super) fn of_block(block: PoolBlock, geometry: Geometry, dtype: DType) -> Self {
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
        block.engine().wait(&block.waits_of_host(Access::Write)?)
    }

    /// A contiguous copy in host memory.
    fn download(&self, block: &DeviceBlock, pool: &MemoryPool) -> Result<Self> {
        if self.is_contiguous() {
            let geometry = Geometry::contiguous("to_device", self.shape(), self.dtype)?;
            let mut copy = Self::allocate(pool, None, geometry, self.dtype, Init::Uninit)?;
            copy.settle();
            if block.host().is_none()
                && let Some(face) = DeviceMemory::face(&copy.storage, block.engine())
            {
                let ticket = transfer::copy(Queue::DOWNLOAD, block, self.offset, &face, self.nbytes())?;
                block.engine().wait(ticket.as_slice())?;
                return Ok(copy);
            }
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
