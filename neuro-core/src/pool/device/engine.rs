//! `Engine`: a device that is in use. Its backend, how far its queues are known to be, slabs that stay until work is done, and the
//! staging rings.
//!
//! Invariants:
//! - E1: `done` of a queue is at most what the backend has said.
//! - E2: a slab that is kept until some work is done is given back when that work is known to be done, or never.
//!
//! Calls of the driver are made with no lock of a pool held.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Domain;
use super::face::Faces;
use super::lane::{Lane, Way};
use super::ring::Ring;
use super::theirs::Theirs;
use super::uses::Numbers;
use crate::backend::life::{self, Inside};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{Backend, QUEUES, Queue, Refusal, SlabId, SlabKind, Ticket};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::sync::global::{Mutex, lock};

pub(crate) struct Engine {
    device: Device,
    backend: &'static dyn Backend,
    done: [AtomicU64; QUEUES.len()],
    kept: Mutex<Vec<Kept>>,
    upload: Ring,
    download: Ring,
    lanes: [Lane; 2],
    domain: Arc<Domain>,
    faces: Mutex<Faces>,
    /// Slabs that the host looks into.
    mapped: Mutex<Vec<SlabId>>,
    /// The default stream and that of kernels, as others have them on loan, once they were asked for.
    own_streams: Mutex<[Option<Arc<Theirs>>; 2]>,
    /// Forks that this process was the child of when the engine was made.
    forks: u32,
}

/// Forks that this process was the child of.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In a forked child: what the parent has on devices is out of reach, and locks of it may be held by threads that are not here.
pub(crate) fn gone() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// What work still uses.
struct Kept {
    what: Thing,
    until: Numbers,
}

enum Thing {
    Slab(SlabId),
    /// Dropped when the work is done.
    Other(Box<dyn Send + Sync>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("device", &self.device)
            .field("done", &self.done())
            .finish_non_exhaustive()
    }
}

pub(super) fn is_done(until: &Numbers, done: &Numbers) -> bool {
    until.iter().zip(done).all(|(until, done)| until <= done)
}

impl Engine {
    pub(crate) fn new(device: Device, backend: &'static dyn Backend) -> Self {
        Self {
            device,
            backend,
            done: Default::default(),
            kept: Mutex::new(Vec::new()),
            upload: Ring::new(SlabKind::Upload),
            download: Ring::new(SlabKind::Readback),
            lanes: Default::default(),
            domain: Domain::of(backend),
            faces: Mutex::default(),
            mapped: Mutex::default(),
            own_streams: Mutex::default(),
            forks: FORKS.load(Ordering::Relaxed),
        }
    }

    /// Whether this is the process that opened the device. In a child of it nothing of the device, its pools and its blocks may be
    /// used, locks included.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`Error::DeviceLost`] in a forked child.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::DeviceLost {
            device: self.device,
            reason: "this is a forked child; only the process that opened the device can use it".to_owned(),
        })
    }

    /// Leave to use the device, and memory that it mapped, as long as what this returns lives.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] in a forked child, after [`shutdown`](crate::shutdown), and when the process ends.
    pub(crate) fn enter(&self) -> Result<Inside> {
        self.check()?;
        life::enter().map_err(|reason| self.error(Refusal::Lost(reason)))
    }

    /// The host looks into this slab, and may do so for ever.
    pub(crate) fn note_mapped(&self, slab: SlabId) {
        let mut mapped = lock(&self.mapped);
        if !mapped.contains(&slab) {
            mapped.push(slab);
        }
    }

    /// Gives everything of the device back, but what the host looks into.
    ///
    /// # Safety
    /// Nobody is inside, or comes in again ([`life`]).
    pub(crate) unsafe fn shut_down(&self) {
        let mapped = lock(&self.mapped).clone();
        // SAFETY: forwarded contract.
        unsafe { self.backend.shut_down(&mapped) };
        // All work is done, and no ticket will come.
        self.done
            .iter()
            .for_each(|done| done.store(u64::MAX, Ordering::Release));
        let kept = std::mem::take(&mut *lock(&self.kept));
        drop(kept);
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn backend(&self) -> &'static dyn Backend {
        self.backend
    }

    /// Staging on the way to the device.
    pub(crate) fn upload_ring(&self) -> &Ring {
        &self.upload
    }

    /// Staging on the way to the host.
    pub(crate) fn download_ring(&self) -> &Ring {
        &self.download
    }

    pub(super) fn lane(&self, way: Way) -> &Lane {
        &self.lanes[way as usize]
    }

    /// How far the queues are known to be. Asks nobody.
    pub(crate) fn done(&self) -> Numbers {
        // Acquire: whoever sees that work is done may use what it wrote.
        std::array::from_fn(|queue| self.done[queue].load(Ordering::Acquire))
    }

    /// The same of one queue.
    #[inline]
    pub(super) fn done_of(&self, queue: Queue) -> u64 {
        self.done[queue.index()].load(Ordering::Acquire)
    }

    /// Asks how far the queues are, and lets go of what nothing uses any more.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn poll(&self) -> Result<Numbers> {
        let done = self.ask()?;
        self.sweep(&done);
        Ok(done)
    }

    /// Asks how far the queues are, and nothing else.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(super) fn ask(&self) -> Result<Numbers> {
        for &queue in self.backend.queues() {
            let done = self.backend.done(queue).map_err(|refusal| self.error(refusal))?;
            self.done[queue.index()].fetch_max(done, Ordering::AcqRel);
        }
        Ok(self.done())
    }

    /// Waits until the tickets are done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn wait(&self, tickets: &[Ticket]) -> Result<()> {
        for ticket in tickets {
            let done = &self.done[ticket.queue.index()];
            if done.load(Ordering::Acquire) < ticket.number {
                self.backend.wait(*ticket).map_err(|refusal| self.error(refusal))?;
                done.fetch_max(ticket.number, Ordering::AcqRel);
            }
        }
        self.sweep(&self.done());
        Ok(())
    }

    /// Waits for a ticket, for who holds a block: lets go of nothing.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(super) fn wait_holding(&self, ticket: Ticket) -> Result<()> {
        self.backend.wait(ticket).map_err(|refusal| self.error(refusal))?;
        self.done[ticket.queue.index()].fetch_max(ticket.number, Ordering::AcqRel);
        Ok(())
    }

    /// Gives a slab back as soon as all work up to `until` is done. Waits for nothing.
    pub(crate) fn retire(&self, slab: SlabId, until: Numbers) {
        if is_done(&until, &self.done()) || omitted(Omission::SlabInUse) {
            // SAFETY: the pool has no block of it, and no work that is not done uses it.
            unsafe { self.backend.free(slab) };
            return;
        }
        self.keep_thing(Thing::Slab(slab), until);
    }

    /// Drops `what` when all work up to `until` is known to be done, or never. Waits for nothing.
    pub(crate) fn keep(&self, until: Numbers, what: Box<dyn Send + Sync>) {
        self.keep_thing(Thing::Other(what), until);
    }

    fn keep_thing(&self, what: Thing, until: Numbers) {
        lock(&self.kept).push(Kept { what, until });
    }

    /// Waits for the work that things are kept for; whether there were any.
    pub(crate) fn finish_kept(&self) -> bool {
        let mut until = Numbers::default();
        let kept = lock(&self.kept);
        let any = !kept.is_empty();
        for kept in &*kept {
            until
                .iter_mut()
                .zip(kept.until)
                .for_each(|(until, last)| *until = last.max(*until));
        }
        drop(kept);
        any && self.finish(&until).is_ok()
    }

    /// Host memory that the device uses.
    pub(super) fn faces(&self) -> &Mutex<Faces> {
        &self.faces
    }

    /// Lets go of what is kept for work that is done by now, if there is anything.
    pub(super) fn let_go(&self) {
        if !lock(&self.kept).is_empty() {
            let _ = self.poll(); // what cannot be asked now stays, and is asked after again
        }
    }

    pub(super) fn own_streams(&self) -> &Mutex<[Option<Arc<Theirs>>; 2]> {
        &self.own_streams
    }

    /// With whom it shares what is imported of the host's memory.
    pub(crate) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Why host memory could not be imported when it was last tried, if it could not.
    pub(crate) fn import_refused(&self) -> Option<String> {
        self.domain.refused()
    }

    /// Lets go of what is kept for work that is done.
    fn sweep(&self, done: &Numbers) {
        let mut kept = lock(&self.kept);
        if kept.is_empty() {
            return;
        }
        let (gone, stay) = std::mem::take(&mut *kept)
            .into_iter()
            .partition(|kept| is_done(&kept.until, done));
        *kept = stay;
        drop(kept);
        let gone: Vec<Kept> = gone;
        for Kept { what, .. } in gone {
            match what {
                // SAFETY: as in `retire`.
                Thing::Slab(slab) => unsafe { self.backend.free(slab) },
                Thing::Other(other) => drop(other), // may free blocks of any pool: no lock is held
            }
        }
    }

    /// Waits for work, and lets go of all that was kept for it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn finish(&self, until: &Numbers) -> Result<()> {
        let tickets = QUEUES
            .iter()
            .zip(until)
            .map(|(&queue, &number)| Ticket { queue, number });
        self.wait(&tickets.filter(|ticket| ticket.number > 0).collect::<Vec<_>>())
    }

    /// What the caller is told who wants of it what only Vulkan has.
    pub(crate) fn not_vulkan(&self, op: &'static str) -> Error {
        Error::Unavailable {
            what: format!("{op} on {}", self.device),
            reason: "only a Vulkan device has it; move the tensor to one, as vulkan:0, first".to_owned(),
        }
    }

    /// What the caller is told who wants of it what only CUDA has.
    pub(crate) fn not_cuda(&self, op: &'static str) -> Error {
        Error::Unavailable {
            what: format!("{op} on {}", self.device),
            reason: "only a CUDA device has it; move the tensor to one, as cuda:0, first".to_owned(),
        }
    }

    /// What the caller is told of a refusal; `NoMemory` is the pool's to tell.
    pub(crate) fn error(&self, refusal: Refusal) -> Error {
        let device = self.device;
        match refusal {
            Refusal::Lost(reason) => Error::DeviceLost { device, reason },
            Refusal::NoMemory => Error::Driver {
                device,
                call: "allocate",
                code: 0,
                meaning: "the device has no memory left".to_owned(),
            },
            Refusal::Call { call, code, meaning } => Error::Driver {
                device,
                call,
                code,
                meaning,
            },
        }
    }
}
