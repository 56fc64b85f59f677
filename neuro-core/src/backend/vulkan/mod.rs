//! Devices that speak Vulkan: graphics cards of any maker, and a program on the processor where there is none.
//!
//! ```text
//! loader     the library, opened at run time, and the instance         refuse     what the driver says, as a `Refusal`
//! discover   which devices there are, and what they can do             close      the end of it all
//! open       the device, and which real queue does what                slabs      memory
//! queue      tickets, command buffers, submission                      record     pieces of work as commands, with barriers
//! timeline   semaphores that count                                   import     host memory that the device uses where it lies
//! adopt      devices that others opened                              raw        what it shows to others who speak Vulkan
//! share      memory that others import, or have exported             buffer     what slabs are
//! ```
//!
//! Invariants:
//! 1. The instance, and each device that was opened, stay until the process ends, and nothing of them is destroyed then: the driver may
//!    be gone by that time. So handles of them are valid in every call. Only an explicit shutdown destroys them, with nobody inside.
//! 2. Nothing of Vulkan is called once the process is ending or devices were shut down, nor in a forked child: each call of [`Backend`]
//!    asks [`Health::check`](Health::check) before it takes a lock, and is inside ([`life`]) until it returns. Frees do nothing then.
//! 3. No lock is held while anybody waits for the device.
//! 4. A device that was lost stays lost.
//!
//! Absent on purpose: flushing of memory that is not coherent (such memory is not shown to the host), kernels.

mod adopt;
mod buffer;
mod close;
mod discover;
mod import;
mod loader;
mod open;
mod queue;
mod raw;
mod record;
mod refuse;
mod share;
mod slabs;
#[cfg(all(test, not(loom)))]
mod tests;
mod timeline;
#[cfg(all(test, not(loom)))]
mod validation;

use std::collections::BTreeMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use ash::{Instance, StaticFn};

use self::discover::Found;
use self::open::Opened;
use self::queue::Lines;
use self::slabs::Slabs;
use super::budget::Budget;
use super::health::Health;
use super::raw::{Handles, RawVulkan};
use super::{Backend, Facts, Op, Queue, Refusal, Slab, SlabId, SlabKind, Ticket, life};
use crate::sync::global::{AtomicBool, Mutex, lock};

pub(crate) use self::adopt::adopt;
pub(crate) use self::close::close;
pub(crate) use self::discover::devices;

/// A device that was opened.
pub(crate) struct VulkanDevice {
    found: Found,
    lines: Lines,
    /// Not dropped, ever: that would give memory back under buffers that live.
    slabs: ManuallyDrop<Slabs>,
    health: Health,
    handles: Handles,
    is_adopted: bool,
    is_shut: AtomicBool,
    is_gone: AtomicBool,
}

/// Devices by ordinal: listed ones from 0, adopted ones from [`adopt::FIRST`].
static OPEN: Mutex<BTreeMap<u32, &'static VulkanDevice>> = Mutex::new(BTreeMap::new());

impl fmt::Debug for VulkanDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VulkanDevice")
            .field("name", &self.found.name)
            .finish_non_exhaustive()
    }
}

impl VulkanDevice {
    /// The device of this ordinal: its place in [`devices`]. It is opened on first use, once a process.
    ///
    /// # Errors
    /// What was looked for, what is there, and what to do. What could not be opened may be tried again.
    pub(crate) fn open(ordinal: u32) -> Result<&'static Self, String> {
        let _inside = life::enter()?;
        let mut open = lock(&OPEN);
        if let Some(device) = open.get(&ordinal) {
            return Ok(device);
        }
        if ordinal >= adopt::FIRST {
            return Err(format!(
                "numbers from {} on are those of devices that the program opened itself, and it has not handed over this one",
                adopt::FIRST
            ));
        }
        let device: &'static Self = Box::leak(Box::new(Self::make(ordinal)?));
        open.insert(ordinal, device);
        Ok(device)
    }

    /// Makes a device, which shares nothing with others of the same ordinal. Nothing of it is destroyed when this is dropped.
    fn make(ordinal: u32) -> Result<Self, String> {
        let vulkan = loader::vulkan()?;
        let mut all = devices()?;
        if all.is_empty() {
            return Err(format!(
                "the Vulkan drivers that are installed list no device; {}",
                loader::ADVICE
            ));
        }
        if ordinal as usize >= all.len() {
            return Err(format!("the Vulkan drivers list {} devices, counted from 0", all.len()));
        }
        let found = all.swap_remove(ordinal as usize);
        if let Some(why) = &found.unusable {
            return Err(format!("{}: {why}", found.name));
        }
        let opened = open::open(&vulkan.instance, &found).map_err(|why| format!("{}: {why}", found.name))?;
        life::watch_for_the_end();
        let api_version = loader::VERSION.min(found.api.packed());
        let functions = vulkan.entry.static_fn();
        Ok(Self::of(functions, &vulkan.instance, found, opened, api_version))
    }

    /// The parts put together.
    fn of(functions: &StaticFn, instance: &Instance, found: Found, opened: Opened, api_version: u32) -> Self {
        let handles = raw::handles(functions, instance, &found, &opened, api_version);
        Self {
            found,
            lines: opened.lines,
            slabs: ManuallyDrop::new(opened.slabs),
            health: Health::default(),
            handles,
            is_adopted: false,
            is_shut: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        }
    }
}

impl Backend for VulkanDevice {
    fn facts(&self) -> &Facts {
        self.slabs.facts()
    }

    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        let _inside = self.health.check()?;
        self.slabs.allocate(bytes, kind, &self.health)
    }

    unsafe fn import_host(&self, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        let _inside = self.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.slabs.import(memory, bytes, &self.health) }
    }

    fn export(&self, slab: SlabId) -> Result<(OwnedFd, u64), Refusal> {
        let _inside = self.health.check()?;
        self.slabs.export(slab, &self.health)
    }

    unsafe fn import_fd(&self, fd: BorrowedFd<'_>, bytes: u64) -> Result<Slab, Refusal> {
        let _inside = self.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.slabs.import_fd(fd, bytes, &self.health) }
    }

    unsafe fn free(&self, slab: SlabId) {
        // A lost device still takes its memory back.
        if let Ok(_inside) = life::enter() {
            // SAFETY: forwarded contract.
            unsafe { self.slabs.free(slab) };
        }
    }

    unsafe fn submit(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        let _inside = self.health.check()?;
        let buffers = self.slabs.buffers(ops)?;
        // SAFETY: forwarded contract; the slabs live, so these stay their buffers.
        unsafe { self.lines.submit(queue, waits, ops, &buffers, &self.health) }
    }

    fn done(&self, queue: Queue) -> Result<u64, Refusal> {
        let _inside = self.health.check()?;
        self.lines.done(queue, &self.health)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Refusal> {
        let _inside = self.health.check()?;
        self.lines.wait(ticket, &self.health)
    }

    fn budget(&self) -> Option<Budget> {
        let _inside = self.health.check().ok()?;
        self.slabs.budget()
    }

    unsafe fn shut_down(&self, keep: &[SlabId]) {
        // SAFETY: forwarded contract.
        unsafe { self.destroy(keep) };
    }

    fn vulkan(&self) -> Option<&dyn RawVulkan> {
        Some(self)
    }
}
