//! Guests: streams of others, as queues.
//!
//! A guest's place is a queue for as long as the process lives; which stream it stands for changes. Tickets go on counting, and a new
//! guest's work is behind all of the guest that had the place before, so that a queue stays what it is: in order (B1).

use super::CudaDevice;
use super::driver::Handle;
use crate::backend::planted::{Omission, omitted};
use crate::backend::raw_cuda::HeldEvent;
use crate::backend::{OWN_QUEUES, QUEUES, Queue, Refusal, Ticket};
use crate::sync::global::lock;

impl CudaDevice {
    /// As [`RawCuda::open_stream`](crate::backend::raw_cuda::RawCuda::open_stream).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn open_guest(&self, stream: Handle) -> Result<Queue, Refusal> {
        const CALL: &str = "open_stream";
        let stream = match stream {
            // `CU_STREAM_LEGACY`, which 0 stands for where it is not said otherwise.
            1 => 0,
            // `CU_STREAM_PER_THREAD`: another one on each thread that names it.
            2 => {
                return Err(Refusal::Call {
                    call: CALL,
                    code: 0,
                    meaning:
                        "the default stream of a thread is another one on each thread; make a stream, and use that"
                            .to_owned(),
                });
            }
            stream => stream,
        };
        let _current = self.shared.make_current()?;
        self.check_stream(stream)?;
        let _one = lock(&self.opening);
        let mut free = None;
        for queue in QUEUES {
            let mut line = self.line(queue);
            if line.stream == Some(stream) {
                line.opened += 1;
                return Ok(queue);
            }
            if line.stream.is_none() && free.is_none() && !line.is_lost() {
                free = Some(queue);
            }
        }
        let Some(queue) = free else {
            let guests = QUEUES.len() - OWN_QUEUES.len();
            return Err(Refusal::Call {
                call: CALL,
                code: 0,
                meaning: format!(
                    "{guests} streams of others are open on this device, which is the most; close one first"
                ),
            });
        };
        let mut line = self.line(queue);
        let before = line.last().number;
        if let Some(moment) = line.moment(&self.shared, before)?
            && !omitted(Omission::GuestAfterGuest)
        {
            // SAFETY: the stream is of this context, by contract; the event was recorded.
            let code = unsafe { (self.shared.driver.stream_wait)(stream, moment.event.handle(), 0) };
            self.shared.answer("cuStreamWaitEvent", code)?;
        }
        line.forget_seen();
        (line.stream, line.opened) = (Some(stream), 1);
        Ok(queue)
    }

    /// As [`RawCuda::close_stream`](crate::backend::raw_cuda::RawCuda::close_stream). If the last mark cannot be recorded, it waits for the stream.
    /// If that cannot be, either, what is behind the mark before is never known to be done (L4 of `line.rs`), and nobody else gets the place.
    ///
    /// # Errors
    /// What the driver said.
    pub(super) fn close_guest(&self, queue: Queue) -> Result<(), Refusal> {
        let _one = lock(&self.opening);
        let mut line = self.line(queue);
        line.opened = line.opened.saturating_sub(1);
        if line.opened > 0 || OWN_QUEUES.contains(&queue) {
            return Ok(());
        }
        let last = line.last().number;
        if omitted(Omission::MarkOfGuest) {
            line.note_done(last);
        }
        // L4. Whatever comes of it, the stream is its owner's from here on.
        let current = self.shared.make_current();
        let marked = current.and_then(|_current| {
            let marked = line.moment(&self.shared, last).map(drop);
            drop(line);
            // Where its end cannot be marked, it has to be waited for.
            marked.or_else(|_| self.wait_for_stream(queue))
        });
        self.line(queue).stream = None;
        marked
    }

    /// As [`RawCuda::order_stream`](crate::backend::raw_cuda::RawCuda::order_stream).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn order_other(&self, stream: Handle, waits: &[Ticket]) -> Result<(), Refusal> {
        let _current = self.shared.make_current()?;
        self.check_stream(stream)?;
        let events = self.held_events(waits)?;
        if !events.is_empty() {
            self.shared.check_capture(stream)?;
        }
        events
            .iter()
            .try_for_each(|event| self.shared.wait_for_held(stream, event))
    }

    /// As [`RawCuda::mark_stream`](crate::backend::raw_cuda::RawCuda::mark_stream).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn mark_other(&self, stream: Handle) -> Result<HeldEvent, Refusal> {
        let _current = self.shared.make_current()?;
        self.check_stream(stream)?;
        self.shared.check_capture(stream)?;
        let event = self.shared.mark(stream)?;
        Ok(HeldEvent {
            event: event.handle(),
            _keeper: event,
        })
    }

    /// As [`RawCuda::finish_stream`](crate::backend::raw_cuda::RawCuda::finish_stream).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn finish_other(&self, stream: Handle) -> Result<(), Refusal> {
        let _current = self.shared.make_current()?;
        self.shared.check_capture(stream)?; // to wait for it would end the capture
        // SAFETY: a stream of this context, by contract.
        let code = unsafe { (self.shared.driver.stream_synchronize)(stream) };
        self.shared.answer("cuStreamSynchronize", code)
    }

    /// # Errors
    /// [`Refusal::Call`] where the driver says that a stream is of another context, or none.
    fn check_stream(&self, stream: Handle) -> Result<(), Refusal> {
        let Some(context_of) = self.shared.driver.stream_context else {
            return Ok(());
        };
        let mut context = 0;
        // SAFETY: there is room for the answer; the driver says what is wrong with a stream that is none.
        let code = unsafe { context_of(stream, &mut context) };
        self.shared.answer("cuStreamGetCtx", code)?;
        if context == self.shared.context {
            return Ok(());
        }
        Err(Refusal::Call {
            call: "cuStreamGetCtx",
            code: 0,
            meaning: "the stream is not of this device's primary context; make it with that context current".to_owned(),
        })
    }
}
