//! `Uses`: which work uses a block, so that the next can be ordered behind it.
//!
//! Between reads there is no order. A read is ordered behind the last write; a write behind that and behind the last read of each
//! queue, of which one number suffices, since a queue does its work in order (B1). Work of the same queue needs no wait.
//!
//! Invariant U1: every piece of work on the block that may not be done is `written`, or at most `read` of its queue, or is ordered
//! before one of these.

use smallvec::SmallVec;

use crate::backend::planted::{Omission, omitted};
use crate::backend::{QUEUES, Queue, Ticket};

/// Numbers of tickets by queue; 0 is before all work.
pub(crate) type Numbers = [u64; QUEUES.len()];

/// Before all work.
const NOTHING: Ticket = Ticket {
    queue: Queue::COMPUTE,
    number: 0,
};

/// The tickets that a piece of work waits for.
pub(crate) type Waits = SmallVec<[Ticket; 4]>;

/// What work does with a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// It reads, and leaves it as it is.
    Read,
    /// It writes, and may read, too.
    Write,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Uses {
    /// Number 0: nothing.
    written: Ticket,
    read: Numbers,
}

impl Uses {
    /// Of a block whose bytes were used up to `last` by others before; number 0: by nobody.
    #[inline]
    pub(crate) fn behind(last: Ticket) -> Self {
        Self {
            written: last,
            read: Numbers::default(),
        }
    }

    /// The same, where it stands.
    #[inline]
    pub(crate) fn begin_behind(&mut self, last: Ticket) {
        self.written.queue = last.queue;
        self.written.number = last.number;
        self.read = Numbers::default();
    }

    /// Of a block that nobody uses.
    pub(crate) fn none() -> Self {
        Self::behind(NOTHING)
    }

    /// Adds to `waits` what work of `queue` has to wait for.
    pub(crate) fn waits_of(&self, queue: Queue, access: Access, waits: &mut Waits) {
        if !omitted(Omission::WaitForWrite) {
            add(waits, queue, self.written);
        }
        if access == Access::Write && !omitted(Omission::WaitForReads) {
            for (other, &number) in QUEUES.iter().zip(&self.read) {
                add(waits, queue, Ticket { queue: *other, number });
            }
        }
    }

    /// Writes down work that was just submitted.
    pub(crate) fn note(&mut self, ticket: Ticket, access: Access) {
        match access {
            Access::Read => self.read[ticket.queue.index()] = ticket.number,
            Access::Write => *self = Uses::behind(ticket),
        }
    }

    /// The last work that wrote.
    pub(crate) fn written(&self) -> Option<Ticket> {
        Some(self.written).filter(|ticket| ticket.number > 0)
    }

    /// Writes down work of others, of which nobody here knows what it waits for: what was known stays so.
    pub(crate) fn note_beside(&mut self, ticket: Ticket, access: Access) {
        let before = self.written;
        let mut reads = |ticket: Ticket| {
            let read = &mut self.read[ticket.queue.index()];
            *read = ticket.number.max(*read);
        };
        match access {
            Access::Read => reads(ticket),
            Access::Write => {
                reads(before);
                self.written = ticket;
            }
        }
    }

    /// The last number of each queue that may still use the block.
    pub(crate) fn last(&self) -> Numbers {
        let mut last = self.read;
        let number = &mut last[self.written.queue.index()];
        *number = self.written.number.max(*number);
        last
    }

    /// What the host has to wait for before it reads or writes.
    pub(crate) fn waits_of_host(&self, access: Access) -> Waits {
        let mut waits = Waits::new();
        waits.extend(Some(self.written).filter(|ticket| ticket.number > 0));
        if access == Access::Write {
            let readers = QUEUES.iter().zip(&self.read).filter(|(_, number)| **number > 0);
            waits.extend(readers.map(|(&queue, &number)| Ticket { queue, number }));
        }
        waits
    }
}

/// Adds a ticket of another queue; of each queue the last suffices.
fn add(waits: &mut Waits, queue: Queue, ticket: Ticket) {
    if ticket.queue == queue || ticket.number == 0 {
        return;
    }
    match waits.iter_mut().find(|other| other.queue == ticket.queue) {
        Some(_) if omitted(Omission::LastOfQueue) => {}
        Some(other) => other.number = other.number.max(ticket.number),
        None => waits.push(ticket),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ticket(queue: Queue, number: u64) -> Ticket {
        Ticket { queue, number }
    }

    fn waits(uses: &Uses, queue: Queue, access: Access) -> Vec<(Queue, u64)> {
        let mut waits = Waits::new();
        uses.waits_of(queue, access, &mut waits);
        waits.into_iter().map(|ticket| (ticket.queue, ticket.number)).collect()
    }

    #[test]
    fn reads_wait_for_the_write_and_writes_for_all() {
        let [compute, upload, download] = crate::backend::OWN_QUEUES;
        let mut uses = Uses::none();
        assert_eq!(waits(&uses, compute, Access::Write), []);
        uses.note(ticket(upload, 3), Access::Write);
        assert_eq!(waits(&uses, upload, Access::Write), []);
        assert_eq!(waits(&uses, compute, Access::Read), [(upload, 3)]);
        uses.note(ticket(compute, 5), Access::Read);
        uses.note(ticket(download, 2), Access::Read);
        uses.note(ticket(compute, 6), Access::Read);
        assert_eq!(waits(&uses, download, Access::Read), [(upload, 3)]);
        assert_eq!(waits(&uses, upload, Access::Write), [(compute, 6), (download, 2)]);
        assert_eq!(waits(&uses, compute, Access::Write), [(upload, 3), (download, 2)]);
        assert_eq!(uses.last()[..3], [6, 3, 2]);
        assert_eq!(uses.waits_of_host(Access::Read).as_slice(), [ticket(upload, 3)]);
        assert_eq!(uses.waits_of_host(Access::Write).len(), 3);
        let mut beside = uses;
        beside.note_beside(ticket(Queue::COMPUTE, 9), Access::Read);
        assert_eq!(beside.last()[..3], [9, 3, 2]);
        beside.note_beside(ticket(download, 4), Access::Write);
        assert_eq!(beside.last()[..3], [9, 3, 4], "what was known before stays");
        assert_eq!(waits(&beside, compute, Access::Read), [(download, 4)]);
        uses.note(ticket(compute, 7), Access::Write);
        assert_eq!(waits(&uses, compute, Access::Write), []);
        assert_eq!(
            (&uses.last()[..], waits(&uses, upload, Access::Read)),
            (&[7, 0, 0, 0, 0, 0, 0, 0][..], vec![(compute, 7)])
        );
    }
}
