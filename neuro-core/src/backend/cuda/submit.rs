//! Handing work to streams, in order; and waiting for it.

use smallvec::SmallVec;

use super::driver::Handle;
use super::line::{Line, Moment};
use super::slabs::address;
use super::{CudaDevice, Shared};
use crate::backend::planted::{Omission, omitted};
use crate::backend::raw::latest_of_others;
use crate::backend::{OWN_QUEUES, Op, Queue, Refusal, Ticket};
use crate::sync::global::{MutexGuard, lock};

/// `CU_STREAM_NON_BLOCKING`: it does not wait for the default stream, nor that for it.
const NON_BLOCKING: u32 = 1;

/// What is said of a queue whose stream is gone.
pub(super) fn closed() -> Refusal {
    Refusal::Call {
        call: "submit",
        code: 0,
        meaning: "the stream was closed".to_owned(),
    }
}

impl Shared {
    /// A stream for each own queue.
    ///
    /// # Errors
    /// What the driver said; nothing is left then.
    pub(super) fn make_streams(&self) -> Result<Vec<Handle>, Refusal> {
        let _current = self.make_current()?;
        let mut streams: Vec<Handle> = Vec::new();
        for _ in OWN_QUEUES {
            let mut stream = 0;
            // SAFETY: there is room for a handle, and the context is current.
            let code = unsafe { (self.driver.stream_create)(&mut stream, NON_BLOCKING) };
            if let Err(refusal) = self.answer("cuStreamCreate", code) {
                // SAFETY: of this context, and never used.
                streams.iter().for_each(|&stream| unsafe {
                    (self.driver.stream_destroy)(stream);
                });
                return Err(refusal);
            }
            streams.push(stream);
        }
        Ok(streams)
    }
}

impl CudaDevice {
    pub(super) fn line(&self, queue: Queue) -> MutexGuard<'_, Line> {
        lock(&self.lines[queue.index()])
    }

    /// The moments that work of `queue` has to wait for. Its own line is not held.
    fn moments_of(&self, queue: Queue, waits: &[Ticket]) -> Result<SmallVec<[Moment; 4]>, Refusal> {
        let mut moments = SmallVec::new();
        for wait in latest_of_others(queue, waits) {
            if self.line(queue).is_behind(wait) || omitted(Omission::StreamWaits) {
                continue;
            }
            moments.extend(self.line(wait.queue).moment(&self.shared, wait.number)?);
        }
        Ok(moments)
    }

    /// As [`RawCuda::with_stream`](crate::backend::raw_cuda::RawCuda::with_stream), where `work` may also fail, having submitted
    /// nothing.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn in_stream<T>(
        &self,
        queue: Queue,
        waits: &[Ticket],
        work: impl FnOnce(Handle) -> Result<Option<T>, Refusal>,
    ) -> Result<Option<(Ticket, T)>, Refusal> {
        let _current = self.shared.make_current()?;
        let moments = self.moments_of(queue, waits)?;
        let mut line = self.line(queue);
        let Some(stream) = line.stream else {
            return Err(closed());
        };
        line.check_capture(&self.shared)?;
        let mut waited = false;
        for moment in &moments {
            waited |= line.wait_for(&self.shared, stream, moment)?;
        }
        let Some(said) = work(stream)? else { return Ok(None) };
        let ticket = line.count();
        if waited && let Ok(_again) = self.shared.make_current() {
            // Current once more, whatever the work did. What cannot be marked now will be when somebody asks.
            let _ = line.add_mark(&self.shared);
        }
        Ok(Some((ticket, said)))
    }

    /// As [`Backend::submit`](crate::backend::Backend::submit).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn submit_ops(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        let mut half_done = None;
        let work = |stream| {
            for (at, op) in ops.iter().enumerate() {
                // SAFETY: by contract the spans are live and the work is ordered.
                if let Err(refusal) = unsafe { self.perform(stream, op) } {
                    half_done = (at > 0 || matches!(op, Op::Copy { .. })).then_some(stream);
                    return Err(refusal);
                }
            }
            Ok(Some(()))
        };
        // SAFETY: forwarded contract; a refusal leaves nothing under way, once the stream below has come to its end.
        let submitted = unsafe { self.in_stream(queue, waits, work) };
        if let Some(stream) = half_done
            && let Ok(_current) = self.shared.make_current()
        {
            // Pieces before the one that was refused are under way, and no ticket will tell when they are done.
            // SAFETY: a stream of this context.
            unsafe { (self.shared.driver.stream_synchronize)(stream) };
        }
        let submitted = submitted?;
        submitted.map(|(ticket, ())| ticket).ok_or(Refusal::NoMemory)
    }

    /// # Safety
    /// As [`Backend::submit`](crate::backend::Backend::submit); the context is current.
    unsafe fn perform(&self, stream: Handle, op: &Op) -> Result<(), Refusal> {
        let Shared { driver, .. } = &*self.shared;
        match *op {
            // As a copy of nothing is no call.
            Op::Fill { to, .. } if to.bytes == 0 => Ok(()),
            Op::Fill { to, value } => {
                // SAFETY: whole words of a live slab.
                let code = unsafe { (driver.fill_u32)(address(to), value, (to.bytes / 4) as usize, stream) };
                self.shared.answer("cuMemsetD32Async", code)
            }
            Op::Copy { from, to } => {
                debug_assert_eq!(from.bytes, to.bytes);
                self.slabs
                    .pieces(address(to), address(from), to.bytes, |to, from, bytes| {
                        // SAFETY: bytes of live slabs, which do not overlap.
                        let code = unsafe { (driver.copy)(to, from, bytes, stream) };
                        self.shared.answer("cuMemcpyAsync", code)
                    })
            }
        }
    }

    /// As [`Backend::wait`](crate::backend::Backend::wait).
    ///
    /// # Errors
    /// As there.
    pub(super) fn wait_for(&self, ticket: Ticket) -> Result<(), Refusal> {
        let _current = self.shared.make_current()?;
        let moment = self.line(ticket.queue).moment(&self.shared, ticket.number);
        let waited = moment.and_then(|moment| {
            let Some(moment) = moment else { return Ok(()) };
            // SAFETY: an event of this context, which stays as it was recorded while this has it.
            let code = unsafe { (self.shared.driver.event_synchronize)(moment.event.handle()) };
            self.shared.answer("cuEventSynchronize", code)?;
            self.line(ticket.queue).note_done(moment.ticket.number);
            Ok(())
        });
        match waited {
            // Who waits may be about to let go of what the work uses, so it has to be over, whether or not its end can be marked.
            Err(Refusal::Call { .. } | Refusal::NoMemory) => self.wait_for_stream(ticket.queue).or(waited),
            waited => waited,
        }
    }

    /// Waits until all that was submitted to a stream is done. The context is current.
    ///
    /// # Errors
    /// What the driver said; that it was closed.
    pub(super) fn wait_for_stream(&self, queue: Queue) -> Result<(), Refusal> {
        let (stream, last) = {
            let line = self.line(queue);
            line.check_capture(&self.shared)?; // to wait for it would end the capture
            (line.stream.ok_or_else(closed)?, line.last().number)
        };
        // SAFETY: a stream of this context.
        let code = unsafe { (self.shared.driver.stream_synchronize)(stream) };
        self.shared.answer("cuStreamSynchronize", code)?;
        self.line(queue).note_done(last);
        Ok(())
    }
}
