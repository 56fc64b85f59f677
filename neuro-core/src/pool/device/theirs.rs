//! `Theirs`: a stream of somebody else's, to whom a block was handed without a `Stream` being made of it.
//!
//! Such a stream has a queue of its own if a place is left (the backend has few). Else what it has done so far is put before the queue of
//! kernels when somebody asks: that waits for it, and stands for it from then on. More waits than were needed, and nothing too early.

use std::sync::Arc;

use super::Engine;
use crate::backend::raw_cuda::RawCuda;
use crate::backend::{Queue, Refusal, Ticket};
use crate::error::Result;

/// `CU_STREAM_LEGACY`: the default stream, which lives as long as its context.
pub(crate) const LEGACY: usize = 1;

#[derive(Debug)]
pub(crate) struct Theirs {
    engine: Arc<Engine>,
    raw: usize,
    place: Option<Queue>,
}

impl Theirs {
    /// The stream `raw` of a CUDA device: 0 and 1 are the legacy default stream, 2 is the default stream of whatever thread asks.
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
        let place = if is_of_thread(raw) {
            None
        } else {
            // SAFETY: forwarded contract.
            match unsafe { cuda.open_stream(raw) } {
                Ok(queue) => Some(queue),
                Err(lost @ Refusal::Lost(_)) => return Err(told(lost)),
                // All places are taken, or it is no stream of this device: that is found out here.
                // SAFETY: forwarded contract; it waits for nothing.
                Err(_) => unsafe { cuda.order_stream(raw, &[]) }.map(|()| None).map_err(told)?,
            }
        };
        Ok(Self {
            engine: Arc::clone(engine),
            raw,
            place,
        })
    }

    /// The queue whose freed ranges its work finds ready, or nearly so.
    pub(crate) fn queue(&self) -> Queue {
        self.place.unwrap_or(Queue::COMPUTE)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
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

/// `CU_STREAM_PER_THREAD`: a queue would be of one thread's only.
fn is_of_thread(raw: usize) -> bool {
    raw == 2
}

fn cuda_of(engine: &Engine) -> Result<&dyn RawCuda> {
    engine.check()?;
    engine.backend().cuda().ok_or_else(|| engine.not_cuda("a stream"))
}
