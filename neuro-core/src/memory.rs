//! `DeviceMemory`: one owned byte range on one device, from a pool or foreign with its keeper.
//!
//! Invariants:
//! - M1: `ptr..ptr + bytes` stays readable (and writable, unless read-only) until the `DeviceMemory` is dropped.
//! - M2: the range goes back exactly once: to its pool, or by dropping its keeper, with no lock held.
//! - M3: `exposed` never goes back to false: a raw pointer that left Rust may still be in use.
//!
//! Absent on purpose: shape and dtype (`tensor/`), and any use of the bytes.

use std::fmt;
use std::ptr::NonNull;

use crate::backend::Queue;
use crate::device::Device;
use crate::error::Result;
use crate::pool::device::{
    Access, DeviceBlock, Engine, Face, ForeignBlock, Loan, PoolBlock, Ready, SharedBlock, Theirs,
};
use crate::pool::{Init, MemoryPool, PoolPtr};
use crate::rc::Arc;
use crate::sync::{AtomicBool, Ordering};

/// Stands for the address of memory that has none here: nobody follows it, and it has every alignment that a pool gives.
const NOWHERE: NonNull<u8> = NonNull::without_provenance(std::num::NonZero::new(2 << 20).unwrap());

/// One owned byte range on one device.
///
/// Share it as `Arc<DeviceMemory>`; dropping the last handle, on any thread, gives the range back.
pub struct DeviceMemory {
    ptr: NonNull<u8>,
    bytes: usize,
    device: Device,
    readonly: bool,
    exposed: AtomicBool,
    owner: Owner,
}

enum Owner {
    Pool(#[expect(dead_code, reason = "dropped, never read: its drop returns the block")] PoolPtr<u8>),
    Foreign(#[expect(dead_code, reason = "dropped, never read: its drop is the deleter")] Box<dyn Send + Sync>),
    Device(PoolBlock),
    /// Memory that somebody exported.
    Shared(SharedBlock),
    /// Memory of a device that somebody else allocated.
    Guest(ForeignBlock),
    /// Memory of the host as a device uses it; the host's own handle of it.
    Face(Face, Arc<DeviceMemory>),
}

// SAFETY: the range belongs to this value alone (M1), its owner is Send, and nothing here is tied to a thread.
unsafe impl Send for DeviceMemory {}
// SAFETY: `&DeviceMemory` gives out the address and plain facts only; the flag is atomic. Whoever reads or writes through
// the address proves the absence of races where it does so.
unsafe impl Sync for DeviceMemory {}

impl DeviceMemory {
    /// `bytes` bytes of `pool`, on whatever device its memory is, aligned to `alignment` (the pool's own where `None`).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::InvalidArgument`](crate::Error::InvalidArgument) for an alignment that the
    /// pool cannot give; [`Error::DeviceLost`](crate::Error::DeviceLost).
    #[inline]
    pub fn from_pool(pool: &MemoryPool, bytes: usize, alignment: Option<usize>, init: Init) -> Result<Self> {
        if let Some(pool) = pool.device_pool() {
            let block = pool.allocate(bytes, alignment.unwrap_or(1), Queue::COMPUTE)?;
            if init == Init::Zeroed {
                block.zero()?;
            }
            return Ok(Self::of_device(block));
        }
        Self::of_host(pool, bytes, alignment, init)
    }

    fn of_host(pool: &MemoryPool, bytes: usize, alignment: Option<usize>, init: Init) -> Result<Self> {
        let block = pool.allocate_block(bytes, alignment, init)?;
        Ok(Self {
            ptr: block.as_non_null(),
            bytes,
            device: Device::Cpu,
            readonly: false,
            exposed: AtomicBool::new(false),
            owner: Owner::Pool(block),
        })
    }

    /// A block of a device. Its address is where the host reaches it, if it does; else a number that stands for none.
    #[inline(always)] // else the block is copied from place to place
    pub(crate) fn of_device(block: PoolBlock) -> Self {
        Self {
            ptr: block.host().unwrap_or(NOWHERE),
            bytes: block.bytes(),
            device: block.engine().device(),
            readonly: false,
            exposed: AtomicBool::new(false),
            owner: Owner::Device(block),
        }
    }

    /// Memory that somebody exported: whoever has a handle of it can write it at any time.
    pub(crate) fn of_shared(block: SharedBlock) -> Self {
        Self {
            ptr: block.host().unwrap_or(NOWHERE),
            bytes: block.bytes(),
            device: block.engine().device(),
            readonly: false,
            exposed: AtomicBool::new(true),
            owner: Owner::Shared(block),
        }
    }

    /// Memory of a CUDA device that somebody else allocated. `keeper` comes back where it cannot be taken.
    ///
    /// # Errors
    /// As [`ForeignBlock::of`].
    ///
    /// # Safety
    /// As [`ForeignBlock::of`]; it is written by nobody where it is `readonly`.
    pub(crate) unsafe fn of_guest<K: Send + Sync + 'static>(
        engine: &std::sync::Arc<Engine>,
        (address, bytes): (u64, usize),
        readonly: bool,
        ready: Ready,
        keeper: K,
    ) -> Result<Self, (crate::error::Error, K)> {
        // SAFETY: forwarded contract.
        let block = unsafe { ForeignBlock::of(engine, address, bytes, ready, keeper)? };
        Ok(Self {
            ptr: NOWHERE,
            bytes,
            device: engine.device(),
            readonly,
            exposed: AtomicBool::new(true),
            owner: Owner::Guest(block),
        })
    }

    /// The block of a device that it is.
    pub(crate) fn device_block(&self) -> Option<&DeviceBlock> {
        match &self.owner {
            Owner::Device(block) => Some(block),
            Owner::Shared(block) => Some(block),
            Owner::Guest(block) => Some(block),
            Owner::Face(face, _) => Some(face),
            Owner::Pool(_) | Owner::Foreign(_) => None,
        }
    }

    /// Host memory as `engine`'s device uses it where it lies; `None` where that cannot be.
    pub(crate) fn face(host: &Arc<Self>, engine: &std::sync::Arc<Engine>) -> Option<Face> {
        if host.device != Device::Cpu || !host.is_of_a_pool() {
            return None;
        }
        Face::of(engine, host.ptr, host.bytes, || Box::new(Arc::clone(host)))
    }

    /// The same bytes as memory of the device.
    pub(crate) fn of_face(face: Face, host: Arc<Self>) -> Self {
        Self {
            ptr: host.ptr,
            bytes: host.bytes,
            device: face.engine().device(),
            readonly: host.readonly,
            exposed: AtomicBool::new(false),
            owner: Owner::Face(face, host),
        }
    }

    /// Whether `bytes` bytes from `start` on are host memory that CUDA devices have locked in place.
    pub(crate) fn is_pinned(&self, start: usize, bytes: usize) -> bool {
        self.device == Device::Cpu && self.is_of_a_pool() && crate::pool::device::is_locked(&(start..start + bytes))
    }

    /// Memory of a device that the processor reaches, as memory of the processor.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub(crate) fn map(memory: &Arc<Self>) -> Result<Option<Self>> {
        let host = memory.device_block().map_or(Ok(None), DeviceBlock::map)?;
        // SAFETY: where the processor reaches the block (M1), which the keeper keeps.
        let foreign = |ptr| unsafe {
            Self::foreign(
                ptr,
                memory.bytes,
                Device::Cpu,
                memory.readonly,
                Box::new(Arc::clone(memory)),
            )
        };
        Ok(host.map(foreign))
    }

    /// The host's handle of memory that a device uses where it lies.
    pub(crate) fn host_of_face(&self) -> Option<&Arc<Self>> {
        match &self.owner {
            Owner::Face(_, host) => Some(host),
            _ => None,
        }
    }

    /// Whether the bytes lie in a block of a host pool, for as long as this lives.
    fn is_of_a_pool(&self) -> bool {
        match &self.owner {
            Owner::Pool(_) => true,
            // An array of another library whose memory comes from a pool: its keeper keeps the block.
            Owner::Foreign(_) => MemoryPool::owns(self.ptr.as_ptr()),
            Owner::Device(_) | Owner::Shared(_) | Owner::Guest(_) | Owner::Face(..) => false,
        }
    }

    /// Memory that somebody else allocated. `keeper` is dropped, once, when the memory is no longer needed.
    ///
    /// It counts as exposed from birth: its other owners may read and write it at any time.
    ///
    /// # Safety
    /// `ptr..ptr + bytes` lies on `device`, is readable there (and writable, unless `readonly`) until `keeper` is dropped,
    /// and dropping `keeper` on any thread gives it back.
    pub unsafe fn foreign(
        ptr: NonNull<u8>,
        bytes: usize,
        device: Device,
        readonly: bool,
        keeper: Box<dyn Send + Sync>,
    ) -> Self {
        Self {
            ptr,
            bytes,
            device,
            readonly,
            exposed: AtomicBool::new(true),
            owner: Owner::Foreign(keeper),
        }
    }

    /// Address of the first byte, for who has found on [`device`](Self::device) that he can follow it.
    pub fn ptr(&self) -> NonNull<u8> {
        self.ptr
    }

    /// Length in bytes, as asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it lies.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether writing is forbidden.
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// Whether it is a block of a pool of this library.
    pub fn is_pooled(&self) -> bool {
        match &self.owner {
            Owner::Pool(_) | Owner::Device(_) => true,
            Owner::Face(_, host) => host.is_pooled(),
            Owner::Foreign(_) | Owner::Shared(_) | Owner::Guest(_) => false,
        }
    }

    /// Says that a raw pointer to the bytes has left Rust (M3): safe borrows are refused from now on.
    pub fn mark_exposed(&self) {
        // Relaxed: the pointer itself is published by whoever hands it out, after this call, with at least Release.
        self.exposed.store(true, Ordering::Relaxed);
    }

    /// Whether code outside Rust may read or write the bytes.
    pub fn is_exposed(&self) -> bool {
        self.exposed.load(Ordering::Relaxed)
    }
}

/// Memory of a device while a stream of somebody else has it on loan, which it has until this is dropped.
pub(crate) struct Lent {
    memory: Arc<DeviceMemory>,
    loan: Loan,
}

impl Lent {
    /// Lends it to `stream`: with `ordered`, what the stream gets from now on is behind all that was submitted on the memory. `None`: it is no
    /// device's.
    ///
    /// # Errors
    /// As [`DeviceBlock::lend`].
    pub(crate) fn new(
        memory: &Arc<DeviceMemory>,
        stream: std::sync::Arc<Theirs>,
        ordered: bool,
    ) -> Result<Option<Self>> {
        let Some(block) = memory.device_block() else {
            return Ok(None);
        };
        let access = if memory.readonly { Access::Read } else { Access::Write };
        let loan = block.lend(stream, access, ordered)?;
        let memory = Arc::clone(memory);
        Ok(Some(Self { memory, loan }))
    }

    pub(crate) fn memory(&self) -> &Arc<DeviceMemory> {
        &self.memory
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let ended = self.memory.device_block().map(|block| block.end_loan(&self.loan));
        if matches!(ended, Some(Err(_))) {
            // The stream may use it for ever (N2 of `pool/device/loan.rs`).
            std::mem::forget(Arc::clone(&self.memory));
        }
    }
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory")
            .field("ptr", &self.ptr)
            .field("bytes", &self.bytes)
            .field("device", &self.device)
            .field("readonly", &self.readonly)
            .field("pooled", &self.is_pooled())
            .field("exposed", &self.is_exposed())
            .finish()
    }
}
