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
    /// Of each queue that is in `readers`, by its bit, the last number; of others anything.
    read: Numbers,
    readers: u8,
}

const _: () = assert!(QUEUES.len() <= u8::BITS as usize);

/// Who may still use a block that is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Users {
    Nobody,
    /// Work of one queue, up to this.
    One(Ticket),
    Several,
}

impl Users {
    /// Those of some tickets that are not done.
    #[inline]
    fn of(tickets: impl Iterator<Item = Ticket>, done: impl Fn(Queue) -> u64) -> Self {
        let mut users = Users::Nobody;
        for ticket in tickets {
            if ticket.number <= done(ticket.queue) || omitted(Omission::DoneBeforePendingIsFree) {
                continue;
            }
            users = match users {
                Users::Nobody => Users::One(ticket),
                Users::One(Ticket { queue, number }) if queue == ticket.queue => Users::One(Ticket {
                    queue,
                    number: number.max(ticket.number),
                }),
                Users::One(first) if omitted(Omission::SecondQueue) => Users::One(first),
                _ => Users::Several,
            };
        }
        users
    }

    /// Those up to a number of each queue.
    pub(super) fn up_to(last: &Numbers, done: &Numbers) -> Self {
        let tickets = QUEUES
            .iter()
            .zip(last)
            .map(|(&queue, &number)| Ticket { queue, number });
        Self::of(tickets, |queue| done[queue.index()])
    }
}

impl Uses {
    /// Of a block whose bytes were used up to `last` by others before; number 0: by nobody.
    #[inline]
    pub(crate) fn behind(last: Ticket) -> Self {
        Self {
            written: last,
            read: Numbers::default(),
            readers: 0,
        }
    }

    /// The same, where it stands.
    #[inline]
    pub(crate) fn begin_behind(&mut self, last: Ticket) {
        self.written.queue = last.queue;
        self.written.number = last.number;
        self.readers = 0;
    }

    /// The last that read, of each queue.
    #[inline]
    fn reads(&self) -> impl Iterator<Item = Ticket> + '_ {
        let mut left = self.readers;
        std::iter::from_fn(move || {
            let at = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            let (queue, number) = (*QUEUES.get(at)?, self.read[at]);
            Some(Ticket { queue, number })
        })
    }

    fn note_read(&mut self, ticket: Ticket) {
        let (at, bit) = (ticket.queue.index(), 1 << ticket.queue.index());
        let known = if self.readers & bit == 0 { 0 } else { self.read[at] };
        self.read[at] = ticket.number.max(known);
        self.readers |= bit;
    }

    /// Who may still use the block, as far as it is known what is done.
    #[inline]
    pub(super) fn users(&self, done: impl Fn(Queue) -> u64) -> Users {
        Users::of(std::iter::once(self.written).chain(self.reads()), done)
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
            self.reads().for_each(|read| add(waits, queue, read));
        }
    }

    /// Writes down work that was just submitted.
    pub(crate) fn note(&mut self, ticket: Ticket, access: Access) {
        match access {
            Access::Read => self.note_read(ticket),
            Access::Write => *self = Uses::behind(ticket),
        }
    }

    /// The last work that wrote.
    pub(crate) fn written(&self) -> Option<Ticket> {
        Some(self.written).filter(|ticket| ticket.number > 0)
    }

    /// Writes down work of others, of which nobody here knows what it waits for: what was known stays so.
    pub(crate) fn note_beside(&mut self, ticket: Ticket, access: Access) {
        match access {
            Access::Read => self.note_read(ticket),
            Access::Write => {
                self.note_read(self.written);
                self.written = ticket;
            }
        }
    }

    /// The last number of each queue that may still use the block.
    pub(crate) fn last(&self) -> Numbers {
        let mut last = Numbers::default();
        for ticket in std::iter::once(self.written).chain(self.reads()) {
            let number = &mut last[ticket.queue.index()];
            *number = ticket.number.max(*number);
        }
        last
    }

    /// What the host has to wait for before it reads or writes.
    pub(crate) fn waits_of_host(&self, access: Access) -> Waits {
        let mut waits = Waits::new();
        waits.extend(Some(self.written).filter(|ticket| ticket.number > 0));
        if access == Access::Write {
            waits.extend(self.reads().filter(|ticket| ticket.number > 0));
        }
        waits
    }
}

/// Adds a ticket of another queue; of each queue the last suffices.
pub(super) fn add(waits: &mut Waits, queue: Queue, ticket: Ticket) {
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
