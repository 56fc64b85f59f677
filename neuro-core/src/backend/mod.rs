//! Where memory comes from. One folder a kind of memory.
//!
//! Host pools speak to `host/` directly: their blocks have addresses, and whoever has one reads and writes it at once. Memory of a
//! device is reached by work that is submitted and done later; the contract for that is [`Backend`]. What is written here holds for
//! every kind of device, and each rule is a test in `contract.rs` that each backend runs.
//!
//! ```text
//! queue compute    ──[1]──[2]────────[3]──>     work of a queue is done in order, and counted
//! queue upload     ──[1]────────[2]──>          between queues only waits order it
//!                         └─ wait ──┘
//! ```
//!
//! Rules:
//! - B1: the work of one queue, and the pieces of one submission, are done in the order in which they were submitted. Tickets of a queue
//!   count up from 1, without gaps.
//! - B2: work begins when all tickets that it waits for are done. Nothing else orders queues.
//! - B3: `done` never goes back. A ticket is done iff `done` of its queue has reached it.
//! - B4: what work wrote is seen by all work ordered behind it, and by the host once `done` or `wait` has said so.
//! - B5: what the host wrote to memory it can reach is seen by work submitted afterwards.
//! - B6: a submission that is refused does nothing and takes no ticket.
//! - B7: a slab begins on the device's alignment; what it holds is anything. It may be freed when no work that is not done uses it.
//! - B8: memory that is not there is refused as [`Refusal::NoMemory`], and everything else still works.
//! - B9: all calls may come from any thread at any time.
//! - B10: imported memory of the host is a slab like any other, at the host's own address; who cannot import refuses.
//! - B11: exported memory is the same bytes for everybody who imports it, and stays until the last of them gave it back. Work of one is
//!   ordered before work of another by waiting for it, and by nothing else. Descriptors are neither kept nor lost, refused or not.
//! - B12: a slab that grows where it is keeps its addresses, and what stays mapped keeps what it holds ([`range`]).
//!
//! A backend assumes checked input (`debug_assert`s it) and knows nothing of blocks, limits or statistics: those are the pool's.

pub(crate) mod budget;
#[cfg(all(test, not(loom)))]
mod contract;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod host;
pub(crate) mod info;
pub(crate) mod life;
pub(crate) mod planted;
pub(crate) mod range;
pub(crate) mod raw;
pub(crate) mod raw_cuda;
#[cfg(all(test, not(loom)))]
pub(crate) mod sim;
#[cfg(any(feature = "cuda", feature = "vulkan"))]
mod health;
#[cfg(feature = "vulkan")]
pub(crate) mod vulkan;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

use self::budget::Budget;
use self::range::Ranges;
use self::raw::{Adopt, NotAdopted, RawVulkan};
use self::raw_cuda::RawCuda;
use crate::device::Device;

/// A stream of work of one device, by number: three of the library's own, and those of others that work is handed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Queue(u8);

impl Queue {
    /// Kernels, and copies between blocks of the device.
    pub(crate) const COMPUTE: Self = Self(0);
    /// Copies from the host.
    pub(crate) const UPLOAD: Self = Self(1);
    /// Copies to the host.
    pub(crate) const DOWNLOAD: Self = Self(2);

    /// Its place in [`QUEUES`].
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The library's own queues, which every device has.
pub(crate) const OWN_QUEUES: [Queue; 3] = [Queue::COMPUTE, Queue::UPLOAD, Queue::DOWNLOAD];

/// All queues that a device can have, in the order of their numbers: the library's own, then streams of others, where the interface
/// has those (CUDA).
pub(crate) const QUEUES: [Queue; 8] = [
    Queue::COMPUTE,
    Queue::UPLOAD,
    Queue::DOWNLOAD,
    Queue(3),
    Queue(4),
    Queue(5),
    Queue(6),
    Queue(7),
];

/// A moment of a queue: all its work up to this number has been done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ticket {
    pub(crate) queue: Queue,
    pub(crate) number: u64,
}

/// Who is to reach a slab's memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SlabKind {
    /// The device. The host may be able to, too ([`Slab::host`]), where that costs nothing.
    Device,
    /// As `Device`, and whoever imports it ([`Backend::export`]).
    Exported,
    /// The host writes, the device reads: staging on the way in.
    Upload,
    /// The device writes, the host reads: staging on the way out.
    Readback,
}

/// A slab of a backend, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SlabId(pub(crate) u64);

/// Memory that a backend gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slab {
    pub(crate) id: SlabId,
    pub(crate) bytes: u64,
    /// Where the host reaches it, if it does.
    pub(crate) host: Option<NonNull<u8>>,
}

// SAFETY: plain facts. Whoever uses the address proves that he may where he does so.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

/// Bytes of a slab; of page-locked memory of the host also beyond it ([`Backend::import_domain`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) slab: SlabId,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// One piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// As many bytes as both have; they do not overlap.
    Copy { from: Span, to: Span },
    /// Every 4 bytes become `value`, in the byte order of the machine. Offset and length are multiples of 4.
    Fill { to: Span, value: u32 },
}

/// Who a device is, and by whose driver: what memory goes between by file descriptor has both in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) device: [u8; 16],
    pub(crate) driver: [u8; 16],
}

/// What a pool has to know of a device.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Offsets of blocks that any work can use are multiples of this: a power of two, at most 256.
    pub(crate) alignment: u64,
    /// Longest slab.
    pub(crate) max_slab_bytes: u64,
    /// The name of the limit that makes it so.
    pub(crate) longest_by: &'static str,
    /// Memory that it has.
    pub(crate) memory_bytes: u64,
    /// What host memory begins on, and is as long as a multiple of, that can be imported; `None` if none can.
    pub(crate) import_alignment: Option<u64>,
    /// Whether its memory is the host's: then imported memory is as good to it as its own.
    pub(crate) shares_memory: bool,
    /// What kernels want the offsets of their buffers to be multiples of: a power of two, at most `alignment`.
    pub(crate) bind_alignment: u64,
    /// Who it is, if it exports and imports memory by file descriptor.
    pub(crate) identity: Option<Identity>,
}

/// Opens a device.
///
/// # Errors
/// What was looked for, and how to get it.
pub(crate) fn open(device: Device) -> Result<&'static dyn Backend, String> {
    match device {
        Device::Cpu => Err("host memory needs no device".to_owned()),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => Ok(cuda::CudaDevice::open(ordinal)?),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err("the library was built without the feature \"cuda\"".to_owned()),
        #[cfg(feature = "vulkan")]
        Device::Vulkan(ordinal) => Ok(vulkan::VulkanDevice::open(ordinal)?),
        #[cfg(not(feature = "vulkan"))]
        Device::Vulkan(_) => Err("the library was built without the feature \"vulkan\"".to_owned()),
    }
}

/// The devices that can page-lock host memory, for all of their kind. Loads their driver.
pub(crate) fn devices_that_lock() -> Vec<Device> {
    #[cfg(feature = "cuda")]
    let found = cuda::devices().unwrap_or_default();
    #[cfg(not(feature = "cuda"))]
    let found: Vec<info::DeviceInfo> = Vec::new();
    let usable = found.into_iter().filter(|info| info.unusable.is_none());
    usable
        .filter(|info| info.host_import_alignment.is_some())
        .map(|info| info.device)
        .collect()
}

/// Takes up a device that somebody else opened: its ordinal.
///
/// # Errors
/// What is wrong with it.
///
/// # Safety
/// As [`vulkan::adopt`](crate::vulkan::adopt).
pub(crate) unsafe fn adopt(device: Adopt) -> Result<u32, NotAdopted> {
    #[cfg(feature = "vulkan")]
    // SAFETY: forwarded contract.
    return unsafe { vulkan::adopt(device) };
    #[cfg(not(feature = "vulkan"))]
    Err(NotAdopted::Lacks(format!(
        "the library was built without the feature \"vulkan\", and {device:?} stays alone"
    )))
}

/// Lets drivers go whose devices were shut down.
///
/// # Safety
/// Nobody calls a driver any more ([`life`]).
pub(crate) unsafe fn close_drivers() {
    #[cfg(feature = "vulkan")]
    // SAFETY: forwarded contract.
    unsafe {
        vulkan::close();
    }
    #[cfg(feature = "cuda")]
    // SAFETY: as above.
    unsafe {
        cuda::close();
    }
}

/// Why a backend did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "vulkan"),
    allow(dead_code, reason = "a build without devices refuses before it asks one")
)]
pub(crate) enum Refusal {
    /// It has no memory for that.
    NoMemory,
    /// The device is gone for good, and why.
    Lost(String),
    /// The driver refused a call.
    Call {
        call: &'static str,
        code: i64,
        meaning: String,
    },
}

/// What those say who neither export memory nor import it.
fn no_sharing(call: &'static str) -> Refusal {
    Refusal::Call {
        call,
        code: 0,
        meaning: "the device neither exports nor imports memory by file descriptor".to_owned(),
    }
}

/// A device, as the pool and the transfers use it. The rules are above.
pub(crate) trait Backend: Send + Sync + UnwindSafe + RefUnwindSafe + fmt::Debug {
    fn facts(&self) -> &Facts;

    /// # Errors
    /// [`Refusal::NoMemory`], also for more than [`Facts::max_slab_bytes`]; or what the driver said.
    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal>;

    /// Makes memory of the host a slab, which work uses where it lies.
    ///
    /// # Errors
    /// What the driver said; [`Refusal::Call`] where that cannot be.
    ///
    /// # Safety
    /// The bytes begin on [`Facts::import_alignment`] and are a multiple of it; they stay as they are mapped until the slab was
    /// freed.
    unsafe fn import_host(&self, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        let _ = (memory, bytes);
        Err(Refusal::Call {
            call: "import_host",
            code: 0,
            meaning: "the device cannot use host memory where it lies".to_owned(),
        })
    }

    /// Host memory is imported once for all devices that say the same number here, by one of them, and then all of them reach it. A slab
    /// of it is named by its address, and a span of it may reach beyond its slab, into the next that lies there; such
    /// imports do not overlap. `None`: each device imports for itself, also what is imported already.
    fn import_domain(&self) -> Option<usize> {
        None
    }

    /// A file descriptor for the memory of a slab of kind [`SlabKind::Exported`], and how many bytes that has. The slab begins with it,
    /// and may be a little shorter.
    ///
    /// # Errors
    /// What the driver said; [`Refusal::Call`] for another slab, and where that cannot be.
    fn export(&self, slab: SlabId) -> Result<(OwnedFd, u64), Refusal> {
        let _ = slab;
        Err(no_sharing("export"))
    }

    /// Makes memory that was exported a slab, all `bytes` bytes of it. `fd` stays the caller's.
    ///
    /// # Errors
    /// What the driver said; [`Refusal::Call`] where that cannot be.
    ///
    /// # Safety
    /// If the driver takes `fd` for memory of its own, it is from [`export`](Self::export) of a device of the same [`Identity`], by
    /// this process or another, and has `bytes` bytes.
    unsafe fn import_fd(&self, fd: BorrowedFd<'_>, bytes: u64) -> Result<Slab, Refusal> {
        let _ = (fd, bytes);
        Err(no_sharing("import_fd"))
    }

    /// Gives a slab back.
    ///
    /// # Safety
    /// It is from [`allocate`](Self::allocate) or an import, is not used any more, and no work that is not done uses it.
    unsafe fn free(&self, slab: SlabId);

    /// Hands work to a queue: it begins when `waits` are done.
    ///
    /// # Errors
    /// What the driver said; nothing was submitted then.
    ///
    /// # Safety
    /// The spans lie in live slabs, and stay there until the work is done. Other work on the same bytes, and what the host does with
    /// them, is ordered before or after this, unless both only read.
    unsafe fn submit(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal>;

    /// The queues that it has.
    fn queues(&self) -> &'static [Queue] {
        &OWN_QUEUES
    }

    /// How far a queue is: all its work up to this number is done.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    fn done(&self, queue: Queue) -> Result<u64, Refusal>;

    /// Waits until a ticket is done.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    fn wait(&self, ticket: Ticket) -> Result<(), Refusal>;

    /// How much of the device's own memory this process may have, where the driver says so. Asked anew each time.
    fn budget(&self) -> Option<Budget> {
        None
    }

    /// Slabs that grow where they are, if it has such.
    fn ranges(&self) -> Option<&dyn Ranges> {
        None
    }

    /// What only Vulkan has.
    fn vulkan(&self) -> Option<&dyn RawVulkan> {
        None
    }

    /// What only CUDA has.
    fn cuda(&self) -> Option<&dyn RawCuda> {
        None
    }

    /// Waits until the device is idle, and gives everything back, for good: all but the slabs of `keep`.
    ///
    /// # Safety
    /// Nobody calls anything of it any more ([`life`]).
    unsafe fn shut_down(&self, keep: &[SlabId]) {
        let _ = keep;
    }

    /// Said before the host reads or writes bytes of a slab that it reaches. Only a backend that looks for races listens.
    fn host_uses(&self, span: Span, writes: bool) {
        let _ = (span, writes);
    }

    /// Said when a pool hands bytes out: what they hold is nobody's. Only a backend that looks for reads of such bytes listens.
    fn handed_out(&self, span: Span) {
        let _ = span;
    }
}
