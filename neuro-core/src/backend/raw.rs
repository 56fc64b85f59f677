//! What a Vulkan device shows of itself, for code that speaks Vulkan: handles, the buffers of slabs, and turns on its queue.
//!
//! Handles are numbers here, so that this needs no bindings: what C calls `VkDevice` or `VkBuffer`, as an integer.

use std::ffi::{c_char, c_void};

use smallvec::SmallVec;

use super::{QUEUES, Queue, Refusal, SlabId, Ticket};

/// `PFN_vkGetInstanceProcAddr`, of which all other functions of Vulkan can be had.
pub type GetInstanceProcAddr =
    unsafe extern "system" fn(instance: *mut c_void, name: *const c_char) -> Option<unsafe extern "system" fn()>;

/// What Vulkan calls a device that is open. It stays valid until the process ends.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Handles {
    /// All functions of Vulkan, by name.
    pub get_instance_proc_addr: GetInstanceProcAddr,
    /// `VkInstance`.
    pub instance: u64,
    /// `VkPhysicalDevice`.
    pub physical_device: u64,
    /// `VkDevice`.
    pub device: u64,
    /// `VkQueue` that kernels run on. Only who has a [turn](QueueTurn) uses it.
    pub queue: u64,
    /// Family of that queue.
    pub queue_family: u32,
    /// The version whose functions can be called, packed as `VK_MAKE_API_VERSION` does.
    pub api_version: u32,
    /// `maxStorageBufferRange`: how many bytes of a buffer a shader sees through one binding.
    pub max_range: u64,
}

/// A timeline semaphore, and a value of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SemaphoreValue {
    /// `VkSemaphore`.
    pub semaphore: u64,
    /// What it counts up to.
    pub value: u64,
}

/// The queue of a device, which nobody else uses meanwhile, and how one submission to it is ordered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueTurn<'a> {
    /// `VkQueue`.
    pub queue: u64,
    /// Its family.
    pub queue_family: u32,
    /// What the submission has to wait for.
    pub waits: &'a [SemaphoreValue],
    /// What it has to signal.
    pub signal: SemaphoreValue,
}

/// How an engine guards a queue of its own that is used here, too. From any thread, no call within another of the same thread.
pub trait QueueLock: Send + Sync {
    /// Waits until nobody else uses the queue, and takes it. Does not panic.
    fn lock(&self);
    /// Gives it back. Does not panic.
    fn unlock(&self);
}

/// Someone else's instance, device and queue.
pub struct Adopt {
    /// The functions of that instance.
    pub get_instance_proc_addr: GetInstanceProcAddr,
    /// `VkInstance`.
    pub instance: u64,
    /// `VkPhysicalDevice`, of that instance.
    pub physical_device: u64,
    /// `VkDevice`, of that physical device.
    pub device: u64,
    /// `VkQueue`, of that device: all work is submitted to it.
    pub queue: u64,
    /// Its family, which can do kernels.
    pub queue_family: u32,
    /// `apiVersion` that the instance was created with.
    pub api_version: u32,
    /// How the engine guards the queue, if it uses it itself.
    pub lock: Option<Box<dyn QueueLock>>,
}

impl std::fmt::Debug for Adopt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adopt")
            .field("device", &format_args!("{:#x}", self.device))
            .field("queue", &format_args!("{:#x}", self.queue))
            .finish_non_exhaustive()
    }
}

/// Why a device was not adopted.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "vulkan"),
    allow(dead_code, reason = "a build without devices refuses before it looks")
)]
pub(crate) enum NotAdopted {
    /// Something that was given cannot be right.
    Argument(String),
    /// It lacks what is needed.
    Lacks(String),
}

/// The part of a device that only Vulkan has.
#[cfg_attr(
    not(feature = "vulkan"),
    allow(dead_code, reason = "a build without devices has none that are Vulkan's")
)]
pub(crate) trait RawVulkan {
    fn handles(&self) -> Handles;

    /// `VkBuffer` of a slab.
    ///
    /// # Errors
    /// [`Refusal::Call`] for a slab that is not there.
    fn buffer(&self, slab: SlabId) -> Result<u64, Refusal>;

    /// Hands `work` the queue of [`Queue::COMPUTE`]. Where it says that it has submitted, that is the next piece of work of that
    /// queue, and this is its ticket. If it panics, it has submitted nothing.
    ///
    /// # Errors
    /// What the driver said; `work` was not called then.
    ///
    /// # Safety
    /// Where `work` says true, it has submitted once to the turn's queue, behind the turn's waits, and that signals the turn's value
    /// when it is done; its writes are then visible to the host. Else it has submitted nothing. What it uses is as
    /// [`Backend::submit`](super::Backend::submit) asks.
    unsafe fn with_queue(
        &self,
        waits: &[Ticket],
        work: &mut dyn FnMut(&QueueTurn<'_>) -> bool,
    ) -> Result<Option<Ticket>, Refusal>;
}

/// Of each queue but `own` the latest ticket of `waits`: it says it all, since a queue works in order.
#[cfg_attr(
    not(feature = "vulkan"),
    allow(dead_code, reason = "a build without devices submits nothing")
)]
pub(crate) fn latest_of_others(own: Queue, waits: &[Ticket]) -> SmallVec<[Ticket; 4]> {
    let latest = |queue: Queue| {
        let tickets = waits.iter().filter(|wait| wait.queue == queue && queue != own);
        let number = tickets.map(|wait| wait.number).max()?;
        Some(Ticket { queue, number })
    };
    QUEUES.into_iter().filter_map(latest).collect()
}
