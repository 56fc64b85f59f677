//! Memory that goes from process to process, or from interface to interface, by file descriptor: pools whose slabs others may import, and
//! blocks that lie in what others exported.
//!
//! An imported slab has one block, and goes with it, behind the work that uses it. What is done with the memory on the other side is not
//! known here, and not waited for.

use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::block::OtherHome;
use super::{DeviceBlock, DevicePool, Engine};
use crate::backend::{Identity, SlabKind, Span};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::sync::global::Ordering;

impl MemoryPool {
    /// Takes memory of the device that other processes and other interfaces can import: see
    /// [`DynTensor::export_fd`](crate::DynTensor::export_fd). Told before the first allocation, which reports it if the device cannot;
    /// what the pool has by then stays as it is. A pool of host memory has nothing to export, and goes on as before.
    ///
    /// Whoever imports one tensor reaches all that lies in the same piece of memory: give such a pool to what is shared only.
    #[must_use]
    pub fn with_export(self, export: bool) -> Self {
        if let Some(pool) = self.device_pool() {
            // Relaxed: who told the pool orders that before his requests.
            pool.exports.store(export, Ordering::Relaxed);
        }
        self
    }
}

impl DevicePool {
    /// What slabs it asks for.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the device has none such.
    pub(super) fn kind_of_slabs(&self) -> Result<SlabKind> {
        if !self.exports.load(Ordering::Relaxed) {
            return Ok(SlabKind::Device);
        }
        self.engine().identity("a pool with_export")?;
        Ok(SlabKind::Exported)
    }
}

impl Engine {
    /// Who the device is to those that share its memory.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it shares none.
    pub(crate) fn identity(&self, what: &'static str) -> Result<Identity> {
        self.backend().facts().identity.ok_or_else(|| Error::Unavailable {
            what: format!("{what} on {}", self.device()),
            reason: match self.device() {
                Device::Vulkan(_) => {
                    "the device was opened without VK_KHR_external_memory_fd, or its driver cannot share buffers by it; copy through \
                     the cpu instead, or enable it on a device that is adopted"
                }
                _ => "only Vulkan devices share memory by file descriptor; copy through the cpu instead",
            }
            .to_owned(),
        })
    }
}

/// A piece of memory for others, and where a block lies in it.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) fd: OwnedFd,
    pub(crate) allocation_bytes: u64,
    pub(crate) offset: u64,
    pub(crate) identity: Identity,
}

impl DeviceBlock {
    /// The memory that the block lies in, for others. What is under way on it is not waited for.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::InvalidArgument`] where it is not of a pool with export, what the driver says.
    pub(crate) fn export(&self, op: &'static str) -> Result<Export> {
        let engine = self.engine();
        engine.check()?;
        let identity = engine.identity(op)?;
        if !self.pool().is_some_and(|pool| pool.exports.load(Ordering::Relaxed)) {
            return Err(Error::InvalidArgument {
                op,
                what: format!(
                    "the tensor is in memory of {} that was not made to be exported; copy it to a pool made with_export(true) (to_pool)",
                    engine.device()
                ),
            });
        }
        let (fd, allocation_bytes) = engine
            .backend()
            .export(self.span.slab)
            .map_err(|refusal| engine.error(refusal))?;
        Ok(Export {
            fd,
            allocation_bytes,
            offset: self.span.offset,
            identity,
        })
    }
}

/// A block in a slab that was imported for it alone.
#[derive(Debug)]
pub(crate) struct SharedBlock(Box<DeviceBlock>);

impl SharedBlock {
    /// The `bytes` bytes from `offset` on of the `allocation_bytes` bytes of memory behind `fd`, which have them.
    ///
    /// # Errors
    /// What the driver says.
    ///
    /// # Safety
    /// As [`Backend::import_fd`](crate::backend::Backend::import_fd).
    pub(crate) unsafe fn import(
        engine: &Arc<Engine>,
        fd: BorrowedFd<'_>,
        allocation_bytes: u64,
        offset: u64,
        bytes: usize,
    ) -> Result<Self> {
        engine.check()?;
        debug_assert!(
            offset
                .checked_add(bytes as u64)
                .is_some_and(|end| end <= allocation_bytes)
        );
        // SAFETY: forwarded contract.
        let slab = unsafe { engine.backend().import_fd(fd, allocation_bytes) };
        let slab = slab.map_err(|refusal| engine.error(refusal))?;
        let span = Span {
            slab: slab.id,
            offset,
            bytes: bytes as u64,
        };
        // SAFETY: the block lies within its slab.
        let host = slab.host.map(|host| unsafe { host.add(offset as usize) });
        let home = OtherHome::Shared(Arc::clone(engine));
        Ok(Self(Box::new(DeviceBlock::without_pool(Some(home), span, bytes, host))))
    }
}

impl Deref for SharedBlock {
    type Target = DeviceBlock;

    fn deref(&self) -> &DeviceBlock {
        &self.0
    }
}

impl Drop for SharedBlock {
    fn drop(&mut self) {
        let engine = self.engine();
        if engine.is_here() && self.end_all_loans() {
            engine.retire(self.span.slab, self.last_use());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::backend::Queue;
    use crate::backend::sim::Sim;

    #[test]
    fn the_first_allocation_says_that_the_device_cannot() {
        let sim: &'static Sim = Box::leak(Box::new(Sim::new(1)));
        let engine = Arc::new(Engine::new(Device::Vulkan(7), sim));
        let pool = MemoryPool::of_engine(engine, 64 << 20).with_export(true);
        let device_pool = pool.device_pool().unwrap();
        let error = device_pool.allocate(100, 1, Queue::COMPUTE).unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("VK_KHR_external_memory_fd") && text.contains("vulkan:7"),
            "{text}"
        );
        assert_eq!(sim.calls().allocate, 0);
        let cuda = MemoryPool::of_engine(Arc::new(Engine::new(Device::Cuda(7), sim)), 64 << 20).with_export(true);
        let error = cuda
            .device_pool()
            .unwrap()
            .allocate(100, 1, Queue::COMPUTE)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("only Vulkan devices") && text.contains("cuda:7"),
            "{text}"
        );
        let pool = pool.with_export(false);
        let block = pool.device_pool().unwrap().allocate(100, 1, Queue::COMPUTE).unwrap();
        assert!(matches!(block.export("export_fd"), Err(Error::Unavailable { .. })));
    }
}
