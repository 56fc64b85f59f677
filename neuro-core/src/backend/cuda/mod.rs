//! Devices that speak CUDA, by the driver's own interface.
//!
//! ```text
//! driver     the table of calls                                    loader     the library, opened at run time
//! discover   which devices there are, and what they can do         refuse     what the driver says, as a `Refusal`
//! context    the device's context, current for one call            event      marks in streams, used again
//! line       a queue as a stream, and how far it is                submit     work, in order
//! slabs      memory, of the device and page-locked                 guest      streams of others
//! range      slabs that grow where they are                        raw        what it shows to others who speak CUDA
//! peer       copies to another device                              close      the end of it all
//! ```
//!
//! Invariants:
//! 1. A device works in its primary context, which it retains until it is shut down: so its memory is good in every library that uses the
//!    runtime interface. Each call finds the caller's own context as it was, and leaves it so.
//! 2. Nothing of CUDA is called once the process is ending or devices were shut down, nor in a forked child: each call of [`Backend`]
//!    asks [`Health::check`] first, and is inside ([`life`]) until it returns. Frees do nothing then.
//! 3. No lock is held while anybody waits for the device. Locks of two lines are not held at once.
//! 4. A device that was lost stays lost.
//! 5. No call waits for the whole device, but those that give memory back (the driver's own doing) and the shutdown.
//!
//! Absent on purpose: memory pools of the driver (`cuMemAllocAsync`), graphs, managed memory.

mod close;
mod context;
mod discover;
pub(crate) mod driver;
mod event;
mod guest;
mod line;
mod loader;
mod peer;
mod range;
mod raw;
mod refuse;
mod slabs;
mod submit;
#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use self::driver::{Code, DeviceNumber, Driver, Handle};
use self::line::Line;
use self::slabs::Slabs;
use super::budget::Budget;
use super::health::Health;
use super::range::Ranges;
use super::raw_cuda::RawCuda;
use super::{Backend, Facts, Op, QUEUES, Queue, Refusal, Slab, SlabId, SlabKind, Ticket, life};
use crate::sync::global::{AtomicBool, Mutex, lock};

pub(crate) use self::close::close;
pub(crate) use self::discover::devices;

/// What everything of a device needs.
#[derive(Debug)]
struct Shared {
    driver: &'static Driver,
    context: Handle,
    health: Health,
    spare_events: Mutex<Vec<Handle>>,
    /// All that was made was given back.
    is_shut: AtomicBool,
}

impl Shared {
    /// # Errors
    /// Whatever is not success.
    fn answer(&self, call: &'static str, code: Code) -> Result<(), Refusal> {
        self.driver.answer(&self.health, call, code)
    }

    /// What is said where the driver is too old for a call.
    fn lacks(&self, call: &'static str) -> Refusal {
        Refusal::Call {
            call,
            code: 0,
            meaning: format!("the CUDA driver has no {call}; a newer driver has it"),
        }
    }
}

/// A device that was opened.
pub(crate) struct CudaDevice {
    shared: Arc<Shared>,
    number: DeviceNumber,
    capability: (u32, u32),
    driver_version: u32,
    facts: Facts,
    /// What pieces of a range are multiples of; `None`: it has no ranges.
    granularity: Option<u64>,
    lines: [Mutex<Line>; QUEUES.len()],
    slabs: Slabs,
    /// Held while a stream of somebody else is taken up or let go.
    opening: Mutex<()>,
    /// Devices whose memory this one was told to reach, if it can.
    peers: Mutex<Vec<DeviceNumber>>,
}

static OPEN: Mutex<BTreeMap<u32, &'static CudaDevice>> = Mutex::new(BTreeMap::new());

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaDevice")
            .field("number", &self.number)
            .field("context", &format_args!("{:#x}", self.shared.context))
            .finish_non_exhaustive()
    }
}

impl CudaDevice {
    /// The device of this ordinal, as the driver counts. It is opened on first use, once a process.
    ///
    /// # Errors
    /// What was looked for, what is there, and what to do. What could not be opened may be tried again.
    pub(crate) fn open(ordinal: u32) -> Result<&'static Self, String> {
        let _inside = life::enter()?;
        let mut open = lock(&OPEN);
        if let Some(device) = open.get(&ordinal) {
            return Ok(device);
        }
        let device: &'static Self = Box::leak(Box::new(Self::make(loader::driver()?, ordinal)?));
        open.insert(ordinal, device);
        Ok(device)
    }

    /// Makes a device, which shares nothing but the primary context with others of the same ordinal. Nothing of it is given back when this
    /// is dropped.
    ///
    /// # Errors
    /// What the driver said; nothing is left then.
    fn make(driver: &'static Driver, ordinal: u32) -> Result<Self, String> {
        let found = discover::one(driver, ordinal)?;
        if let Some(why) = found.unusable {
            return Err(format!("{}: {why}", found.name));
        }
        let words = |call: &str, code: Code| format!("{}: {call}: {}", found.name, refuse::words(driver, code));
        let mut context = 0;
        // SAFETY: a device that the driver has listed, and room for the answer.
        let code = unsafe { (driver.context_retain)(&mut context, found.number) };
        if code != 0 {
            return Err(words("cuDevicePrimaryCtxRetain", code));
        }
        life::watch_for_the_end(); // the driver may have registered what it does at the end just now
        let shared = Arc::new(Shared {
            driver,
            context,
            health: Health::default(),
            spare_events: Mutex::default(),
            is_shut: AtomicBool::new(false),
        });
        let streams = shared.make_streams().map_err(|refusal| {
            // SAFETY: retained above; nothing was made in it.
            unsafe { (driver.context_release)(found.number) };
            let why = match refusal {
                Refusal::NoMemory => "it has no memory for that".to_owned(),
                Refusal::Lost(why) => why,
                Refusal::Call { call, meaning, .. } => format!("{call}: {meaning}"),
            };
            format!("{}: a stream could not be made: {why}", found.name)
        })?;
        Ok(Self {
            lines: QUEUES.map(|queue| Mutex::new(Line::new(queue, streams.get(queue.index()).copied()))),
            shared,
            number: found.number,
            capability: found.capability,
            driver_version: found.driver_version,
            facts: found.facts,
            granularity: found.granularity,
            slabs: Slabs::default(),
            opening: Mutex::default(),
            peers: Mutex::default(),
        })
    }
}

impl Backend for CudaDevice {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        let _inside = self.shared.health.check()?;
        let _current = self.shared.make_current()?;
        self.slabs.allocate(&self.shared, &self.facts, bytes, kind)
    }

    unsafe fn import_host(&self, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        let _inside = self.shared.health.check()?;
        let _current = self.shared.make_current()?;
        // SAFETY: forwarded contract.
        unsafe { self.slabs.register(&self.shared, memory, bytes) }
    }

    fn import_domain(&self) -> Option<usize> {
        // What one locks with `PORTABLE` is locked for all devices of the driver.
        Some(std::ptr::from_ref(self.shared.driver).addr())
    }

    unsafe fn free(&self, slab: SlabId) {
        // A lost device answers nothing else, and that is all: its memory is gone with the context.
        if let Ok(_inside) = life::enter()
            && let Ok(_current) = self.shared.make_current()
        {
            // SAFETY: forwarded contract.
            unsafe { self.slabs.free(&self.shared, slab) };
        }
    }

    unsafe fn submit(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        let _inside = self.shared.health.check()?;
        // SAFETY: forwarded contract.
        unsafe { self.submit_ops(queue, waits, ops) }
    }

    fn queues(&self) -> &'static [Queue] {
        &QUEUES
    }

    fn done(&self, queue: Queue) -> Result<u64, Refusal> {
        let _inside = self.shared.health.check()?;
        let mut line = self.line(queue);
        if line.is_idle() {
            return Ok(line.last().number);
        }
        let _current = self.shared.make_current()?;
        line.done(&self.shared)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        self.wait_for(ticket)
    }

    fn budget(&self) -> Option<Budget> {
        let _inside = self.shared.health.check().ok()?;
        let _current = self.shared.make_current().ok()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: there is room for both, and the context is current.
        let code = unsafe { (self.shared.driver.memory_info)(&mut free, &mut total) };
        let used = self.slabs.device_bytes();
        (code == 0).then(|| Budget {
            bytes: free as u64 + used,
            used,
        })
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        self.granularity.map(|_| self as &dyn Ranges)
    }

    fn cuda(&self) -> Option<&dyn RawCuda> {
        Some(self)
    }

    unsafe fn shut_down(&self, keep: &[SlabId]) {
        // SAFETY: forwarded contract.
        unsafe { self.destroy(keep) };
    }
}
