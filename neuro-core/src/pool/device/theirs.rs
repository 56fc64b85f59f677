//! `Theirs`: a stream of somebody else's, to whom a block was handed without a `Stream` being made of it.
//!
//! Such a stream has a queue of its own if a place is left (the backend has few). Else what it has done so far is put before the queue of
//! kernels when somebody asks: that waits for it, and stands for it from then on. More waits than were needed, and nothing too early.

use std::sync::Arc;

use super::Engine;
use crate::backend::raw_cuda::RawCuda;
use crate::backend::{Queue, Refusal, Ticket};
use crate::error::Result;
use crate::sync::global::lock;

/// `CU_STREAM_LEGACY`: the default stream, which lives as long as its context.
pub(crate) const LEGACY: usize = 1;
/// `CU_STREAM_PER_THREAD`.
pub(crate) const PER_THREAD: usize = 2;

#[derive(Debug)]
pub(crate) struct Theirs {
    engine: Arc<Engine>,
    raw: usize,
    place: Option<Queue>,
}

impl Theirs {
    /// The stream `raw` of a CUDA device: 0 and 1 are the legacy default stream. So is 2, the default stream of a thread, here: that of another
    /// thread would be another one, and all of them are in order with the legacy one, both ways.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) where the device is none of CUDA's; [`Error::Driver`](crate::Error::Driver) for a
    /// stream of another device, or none; [`Error::DeviceLost`](crate::Error::DeviceLost).
    ///
    /// # Safety
    /// It is a stream of the device's primary context, and stays until this was dropped.
    pub(crate) unsafe fn open(engine: &Arc<Engine>, raw: usize) -> Result<Self> {
        let cuda = cuda_of(engine)?;
        let told = |refusal| engine.error(refusal);
        let raw = if raw <= PER_THREAD { LEGACY } else { raw };
        // SAFETY: forwarded contract.
        let place = match unsafe { cuda.open_stream(raw) } {
            Ok(queue) => Some(queue),
            Err(lost @ Refusal::Lost(_)) => return Err(told(lost)),
            // All places are taken, or it is no stream of this device: that is found out here.
            // SAFETY: forwarded contract; it waits for nothing.
            Err(_) => unsafe { cuda.order_stream(raw, &[]) }.map(|()| None).map_err(told)?,
        };
        Ok(Self {
            engine: Arc::clone(engine),
            raw,
            place,
        })
    }

    /// The stream `raw` for the length of an exchange. While it is captured into a graph its work cannot be ordered with other work: then it is
    /// refused before anything depends on it.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Driver`](crate::Error::Driver) for a stream that is being captured.
    ///
    /// # Safety
    /// As [`open`](Self::open).
    pub(crate) unsafe fn open_to_exchange(engine: &Arc<Engine>, raw: usize) -> Result<Arc<Self>> {
        if raw <= PER_THREAD {
            return Self::legacy(engine);
        }
        // SAFETY: forwarded contract.
        unsafe { cuda_of(engine)?.check_capture(raw) }.map_err(|refusal| engine.error(refusal))?;
        // SAFETY: as above.
        unsafe { Self::open(engine, raw) }.map(Arc::new)
    }

    /// The queue whose freed ranges its work finds ready, or nearly so.
    pub(crate) fn queue(&self) -> Queue {
        self.place.unwrap_or(Queue::COMPUTE)
    }

    /// The default stream of `engine`'s device, which is there as long as its context, and so stays open once it was.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn legacy(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        Self::kept(engine, 0, |_| LEGACY)
    }

    /// The stream that kernels run on here, for others who use it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn compute(engine: &Arc<Engine>) -> Result<Arc<Self>> {
        Self::kept(engine, 1, |cuda| cuda.handles().compute)
    }

    fn kept(engine: &Arc<Engine>, at: usize, raw: impl FnOnce(&dyn RawCuda) -> usize) -> Result<Arc<Self>> {
        engine.check()?; // in a forked child the lock may be that of a thread that is not there
        let mut kept = lock(engine.own_streams());
        if let Some(stream) = &kept[at] {
            return Ok(Arc::clone(stream));
        }
        let raw = raw(cuda_of(engine)?);
        // SAFETY: the device's own, which stays.
        let stream = Arc::new(unsafe { Self::open(engine, raw)? });
        kept[at] = Some(Arc::clone(&stream));
        Ok(stream)
    }

    /// Has all that is submitted to it from now on wait. Nobody waits on the host.
    ///
    /// # Errors
    /// [`Error::Driver`](crate::Error::Driver), also while the stream is captured into a graph, unless there is nothing to wait for;
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub(crate) fn wait_for(&self, waits: &[Ticket]) -> Result<()> {
        let done = self.engine.done();
        // Of its own work nothing has to wait, and the driver need not be asked.
        let others = waits.iter().filter(|wait| Some(wait.queue) != self.place);
        let mut waits = others.filter(|wait| wait.number > done[wait.queue.index()]).copied();
        let Some(first) = waits.next() else { return Ok(()) };
        let waits: super::Waits = std::iter::once(first).chain(waits).collect();
        let cuda = cuda_of(&self.engine)?;
        let held = match self.place {
            Some(queue) => cuda.hold(queue, &waits),
            // SAFETY: the stream stays as long as this does (`open`).
            None => unsafe { cuda.order_stream(self.raw, &waits) },
        };
        held.map_err(|refusal| self.engine.error(refusal))
    }

    /// Waits on the host until it is done, for who holds a block.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub(super) fn finish(&self) -> Result<()> {
        // SAFETY: the stream stays as long as this does (`open`).
        let finished = unsafe { cuda_of(&self.engine)?.finish_stream(self.raw) };
        finished.map_err(|refusal| self.engine.error(refusal))
    }

    /// Has a mark stand in it, behind which are all streams that wait for it, as far as they are, and before all that they get later.
    ///
    /// # Errors
    /// As [`so_far`](Self::so_far).
    pub(crate) fn stand_between(&self) -> Result<()> {
        let so_far = self.so_far()?;
        let marked = cuda_of(&self.engine)?.events_of(&[so_far]);
        marked.map(drop).map_err(|refusal| self.engine.error(refusal))
    }

    /// All that was submitted to it up to now, as a piece of work.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for). Where the stream has a queue, only [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub(crate) fn so_far(&self) -> Result<Ticket> {
        let cuda = cuda_of(&self.engine)?;
        let told = |refusal| self.engine.error(refusal);
        if let Some(queue) = self.place {
            return cuda.so_far(queue).map_err(told);
        }
        // SAFETY: the stream stays as long as this does (`open`).
        let mark = unsafe { cuda.mark_stream(self.raw) }.map_err(told)?;
        let mut refused = None;
        let mut wait = |stream: usize| {
            refused = cuda.wait_for_event(stream, &mark).err();
            refused.is_none()
        };
        // SAFETY: it touches no memory.
        let behind = unsafe { cuda.with_stream(Queue::COMPUTE, &[], &mut wait) }.map_err(told)?;
        behind.ok_or_else(|| told(refused.unwrap_or(Refusal::NoMemory)))
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        if let (Some(queue), Ok(cuda)) = (self.place, cuda_of(&self.engine)) {
            cuda.close_stream(queue);
        }
    }
}

fn cuda_of(engine: &Engine) -> Result<&dyn RawCuda> {
    engine.check()?;
    engine.backend().cuda().ok_or_else(|| engine.not_cuda("a stream"))
}
