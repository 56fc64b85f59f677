//! A queue as a stream: how far it is, by events that are recorded when somebody asks.
//!
//! ```text
//! stream    ──[1]──[2]──[3]──[4]──[5]──>
//! marks             ^2             ^5          an event behind piece 2, and one behind piece 5
//! ```
//!
//! Who waits for a piece waits for the first mark behind it; if there is none, one is recorded there and then, behind all that the
//! stream has by now. So a piece that nobody asks for costs no event. What is submitted behind work of another queue gets its mark at
//! once: other queues probably wait for it in turn, and should not wait for what comes later.
//!
//! Invariants:
//! - L1: marks are in the order of their numbers, which are above `done`, and at most `submitted`.
//! - L2: the mark of number n stands behind the pieces 1..=n of the stream, and behind nothing that was submitted later than it.
//! - L3: `seen[q]`: all that is submitted from now on is behind piece `seen[q]` of queue q.
//! - L4: without a stream (a guest that has gone) there is a mark of number `submitted`, or it is done; or that mark could not be recorded:
//!   then what is behind the last mark is never known to be done, and whoever asks for it is refused.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Shared;
use super::driver::Handle;
use super::event::Event;
use super::refuse::{NOT_READY, SUCCESS};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{OWN_QUEUES, QUEUES, Queue, Refusal, Ticket};

/// Marks from which on those that are done are looked for when another is added.
const MANY: usize = 8;

#[derive(Debug)]
struct Mark {
    number: u64,
    event: Arc<Event>,
}

/// What somebody waits for: a moment of a queue that is at or behind what he asked for.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) ticket: Ticket,
    pub(super) event: Arc<Event>,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) queue: Queue,
    pub(super) stream: Option<Handle>,
    /// How often a guest's stream was opened.
    pub(super) opened: usize,
    submitted: u64,
    done: u64,
    marks: VecDeque<Mark>,
    seen: [u64; QUEUES.len()],
}

impl Line {
    pub(super) fn new(queue: Queue, stream: Option<Handle>) -> Self {
        Self {
            queue,
            stream,
            opened: 0,
            submitted: 0,
            done: 0,
            marks: VecDeque::new(),
            seen: [0; QUEUES.len()],
        }
    }

    /// Whether what is submitted from now on is behind `ticket` anyway.
    pub(super) fn is_behind(&self, ticket: Ticket) -> bool {
        ticket.queue == self.queue || self.seen[ticket.queue.index()] >= ticket.number
    }

    /// Has the stream wait, with all that is submitted from now on. Whether it had not done so already.
    ///
    /// # Errors
    /// What the driver said.
    pub(super) fn wait_for(&mut self, shared: &Shared, stream: Handle, moment: &Moment) -> Result<bool, Refusal> {
        let Ticket { queue, number } = moment.ticket;
        if self.seen[queue.index()] >= number {
            return Ok(false);
        }
        // SAFETY: the stream and the event, which was recorded, are of this context.
        let code = unsafe { (shared.driver.stream_wait)(stream, moment.event.handle(), 0) };
        shared.answer("cuStreamWaitEvent", code)?;
        self.seen[queue.index()] = number;
        Ok(true)
    }

    /// The number of what was just submitted.
    pub(super) fn count(&mut self) -> Ticket {
        self.submitted += 1;
        Ticket {
            queue: self.queue,
            number: self.submitted,
        }
    }

    /// All that was submitted so far, counted.
    pub(super) fn last(&self) -> Ticket {
        Ticket {
            queue: self.queue,
            number: self.submitted,
        }
    }

    /// A moment at or behind piece `number`, if that may not be done. The context is current.
    ///
    /// # Errors
    /// What the driver said.
    pub(super) fn moment(&mut self, shared: &Arc<Shared>, number: u64) -> Result<Option<Moment>, Refusal> {
        if number <= self.done {
            return Ok(None);
        }
        debug_assert!(
            number <= self.submitted,
            "{number} of {:?} was never submitted",
            self.queue
        );
        let early = u64::from(omitted(Omission::EventOfTicket));
        let mut first = self.marks.partition_point(|mark| mark.number + early < number);
        if first == self.marks.len() {
            self.add_mark(shared)?;
            // Not where the end was before: marks that are done may have been taken up meanwhile.
            first = self.marks.len() - 1;
        }
        Ok(self.marks.get(first).map(|mark| Moment {
            ticket: Ticket {
                queue: self.queue,
                number: mark.number,
            },
            event: Arc::clone(&mark.event),
        }))
    }

    /// Whether it is without a stream, and the end of what that had cannot be known (L4).
    pub(super) fn is_lost(&self) -> bool {
        let marked = self.marks.back().map_or(self.done, |mark| mark.number);
        self.stream.is_none() && marked < self.submitted
    }

    /// # Errors
    /// As [`Shared::check_capture`], where the stream is one of others.
    pub(super) fn check_capture(&self, shared: &Shared) -> Result<(), Refusal> {
        match self.stream {
            Some(stream) if !OWN_QUEUES.contains(&self.queue) => shared.check_capture(stream),
            _ => Ok(()),
        }
    }

    /// Records an event behind all that was submitted.
    ///
    /// # Errors
    /// What the driver said; [`Refusal::Call`] where there is no stream to record it in.
    pub(super) fn add_mark(&mut self, shared: &Arc<Shared>) -> Result<(), Refusal> {
        let Some(stream) = self.stream else {
            return Err(Refusal::Call {
                call: "cuEventRecord",
                code: 0,
                meaning: "the stream was closed, and the driver could not mark the end of its work".to_owned(),
            });
        };
        self.check_capture(shared)?;
        if self.marks.len() >= MANY {
            self.look(shared)?;
        }
        let event = shared.mark(stream)?;
        self.marks.push_back(Mark {
            number: self.submitted,
            event,
        });
        Ok(())
    }

    /// Whether all that was submitted is known to be done.
    pub(super) fn is_idle(&self) -> bool {
        self.done == self.submitted
    }

    /// The stream is another from now on, which has waited for nothing.
    pub(super) fn forget_seen(&mut self) {
        self.seen = [0; QUEUES.len()];
    }

    /// How far it is. Where nobody has asked for the last piece yet, it gets its mark, so that who asks again finds it done.
    ///
    /// # Errors
    /// What the driver said.
    pub(super) fn done(&mut self, shared: &Arc<Shared>) -> Result<u64, Refusal> {
        self.look(shared)?;
        if self.marks.is_empty() && self.done < self.submitted && self.stream.is_some() {
            let marked = self.add_mark(shared);
            // What cannot be marked of a stream of others is not known to be done, and does not keep anybody from the rest.
            if OWN_QUEUES.contains(&self.queue) {
                marked?;
            }
        }
        Ok(self.done)
    }

    /// Takes up marks that are done.
    fn look(&mut self, shared: &Shared) -> Result<(), Refusal> {
        while let Some(mark) = self.marks.front() {
            // SAFETY: an event of this context.
            match unsafe { (shared.driver.event_query)(mark.event.handle()) } {
                SUCCESS => {}
                NOT_READY if omitted(Omission::EventIsDone) => {}
                NOT_READY => break,
                code => return shared.answer("cuEventQuery", code),
            }
            self.done = mark.number;
            self.marks.pop_front();
        }
        Ok(())
    }

    /// Somebody has seen that a piece is done.
    pub(super) fn note_done(&mut self, number: u64) {
        if number > self.done {
            self.done = number;
            let over = self.marks.partition_point(|mark| mark.number <= number);
            self.marks.drain(..over);
        }
    }
}

impl Shared {
    /// # Errors
    /// [`Refusal::Call`] where the work of a stream is being captured into a graph: an event recorded there would be a part of the graph,
    /// and so would be whatever waits for it.
    pub(super) fn check_capture(&self, stream: Handle) -> Result<(), Refusal> {
        const CALL: &str = "cuStreamIsCapturing";
        let Some(is_capturing) = self.driver.stream_is_capturing else {
            return Ok(());
        };
        let mut status = 0;
        // SAFETY: a stream of this context, and room for the answer.
        let code = unsafe { is_capturing(stream, &mut status) };
        self.answer(CALL, code)?;
        if status == 0 {
            return Ok(());
        }
        Err(Refusal::Call {
            call: CALL,
            code: 0,
            meaning: "the stream is being captured into a graph, and work of it cannot be ordered with other work until that ends".to_owned(),
        })
    }
}
