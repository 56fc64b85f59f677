//! Loans: blocks that a stream of somebody else's uses without saying when (an array library that was handed a tensor).
//!
//! ```text
//! their stream    ──[lend]──?──?────────[tell]──?──?────[end]──>      ?: what they submit, which nobody tells us
//! our queue       ──[write]──────[wait][ copy ]────────────────────>  behind all ? so far, and the ? after it behind the copy
//! ```
//!
//! Invariants:
//! - N1: what is submitted here on a block that is lent is behind all that the stream had by then, and the stream's later work is behind it;
//!   unless both only read.
//! - N2: where a loan ends, what the stream had by then is among the block's uses, so that memory is handed out again behind it.
//! - N3: of a block that is given back no loan is left.
//!
//! What cannot be told to their stream is waited for on the host instead. What their stream has done cannot be known where the driver does
//! not say it: then work here is refused, and a block is kept rather than given back.

use std::sync::Arc;

use smallvec::SmallVec;

use super::theirs::Theirs;
use super::uses::{Access, Uses, Waits};
use super::{DeviceBlock, Engine};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{Queue, Ticket};
use crate::error::{Error, Result};
use crate::sync::global::{MutexGuard, lock};

/// The loans of a block.
pub(super) type Loans = SmallVec<[Lease; 1]>;

/// A stream, and what it does with the block.
#[derive(Debug)]
pub(super) struct Lease {
    stream: Arc<Theirs>,
    access: Access,
    /// How often it was lent to that stream.
    count: usize,
    until: Until,
}

/// How long a loan lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    /// Each is said to be over.
    Said,
    /// The block goes.
    BlockGoes,
    /// The block goes, which need not be behind the stream: memory of somebody else, who uses it there on his own account.
    OwnersAccount,
}

impl Lease {
    /// Whether work that does `access` has to be in order with the stream's.
    fn meets(&self, access: Access) -> bool {
        (self.access == Access::Write || access == Access::Write) && !omitted(Omission::Loan)
    }
}

/// A block is lent until it is said to be back ([`DeviceBlock::end_loan`]).
#[derive(Debug)]
pub(crate) struct Loan {
    stream: Arc<Theirs>,
    access: Access,
}

impl DeviceBlock {
    /// Lends the block to a stream: with `ordered`, what that gets from now on is behind all that was submitted on the block. The same stream
    /// may be lent it again and again.
    ///
    /// # Errors
    /// As [`Theirs::wait_for`]; nothing is lent then.
    pub(crate) fn lend(&self, stream: Arc<Theirs>, access: Access, ordered: bool) -> Result<Loan> {
        self.engine().check()?;
        self.engine().let_go();
        let uses = self.uses();
        let mut loans = self.loans();
        if ordered {
            let mut waits = uses.waits_of_host(access);
            add_waits(&loans, access, &mut waits)?;
            stream.wait_for(&waits)?;
        }
        let same = |lease: &&mut Lease| {
            Arc::ptr_eq(&lease.stream, &stream) && lease.access == access && lease.until == Until::Said
        };
        match loans.iter_mut().find(same) {
            Some(lease) => lease.count += 1,
            None => loans.push(Lease {
                stream: Arc::clone(&stream),
                access,
                count: 1,
                until: Until::Said,
            }),
        }
        Ok(Loan { stream, access })
    }

    /// Lends the block to a stream that is there as long as its device, until the block goes; what the stream gets from now on is behind all
    /// that was submitted on the block.
    ///
    /// # Errors
    /// As [`Theirs::wait_for`]; nothing is lent then, if it was not before.
    pub(crate) fn lend_for_good(&self, stream: Arc<Theirs>, access: Access) -> Result<()> {
        self.engine().check()?;
        let uses = self.uses();
        let mut loans = self.loans();
        let mut waits = uses.waits_of_host(access);
        add_waits(&loans, access, &mut waits)?;
        stream.wait_for(&waits)?;
        let known = |lease: &Lease| {
            Arc::ptr_eq(&lease.stream, &stream) && lease.access == access && lease.until == Until::BlockGoes
        };
        if !loans.iter().any(known) {
            loans.push(Lease {
                stream,
                access,
                count: 1,
                until: Until::BlockGoes,
            });
        }
        Ok(())
    }

    /// The same for a block that nobody knows yet, and that holds what it should on its own account.
    pub(super) fn lend_at_birth(&mut self, stream: Arc<Theirs>, access: Access) {
        self.loans().push(Lease {
            stream,
            access,
            count: 1,
            until: Until::OwnersAccount,
        });
    }

    /// What the stream has by now is the last that it does with the block.
    ///
    /// # Errors
    /// Where that cannot be known: then it may be in use for ever, and must not be given back.
    pub(crate) fn end_loan(&self, loan: &Loan) -> Result<()> {
        if !self.engine().is_here() {
            return Ok(());
        }
        let mut uses = self.uses();
        let mut loans = self.loans();
        let of_it = |lease: &Lease| {
            Arc::ptr_eq(&lease.stream, &loan.stream) && lease.access == loan.access && lease.until == Until::Said
        };
        let Some(at) = loans.iter().position(of_it) else {
            return Ok(());
        };
        loans[at].count -= 1;
        if loans[at].count > 0 {
            return Ok(());
        }
        // Whatever comes of it: the stream may be gone when this returns.
        let lease = loans.swap_remove(at);
        drop(loans);
        end(self.engine(), &lease, &mut uses)
    }

    /// Ends what loans are left, of a block that goes. Whether it may be given back: else they stay.
    #[cold]
    pub(super) fn end_all_loans(&self) -> bool {
        let mut uses = self.uses();
        let mut loans = self.loans();
        let ended = loans
            .iter()
            .filter(|lease| lease.until != Until::OwnersAccount)
            .all(|lease| end(self.engine(), lease, &mut uses).is_ok());
        if ended {
            loans.clear();
        }
        ended
    }

    pub(super) fn loans(&self) -> MutexGuard<'_, Loans> {
        lock(&self.loans)
    }

    /// Adds what work that does `access` waits for because of loans (N1). The caller has the block's uses.
    ///
    /// # Errors
    /// As [`Theirs::so_far`].
    pub(super) fn waits_of_loans(&self, access: Access, waits: &mut Waits) -> Result<()> {
        add_waits(&self.loans(), access, waits)
    }

    /// Has those whom the block is lent wait for work that was just submitted (N1). The caller has the block's uses.
    pub(super) fn tell_lent(&self, engine: &Engine, ticket: Ticket, access: Access) {
        for lease in self.loans().iter().filter(|lease| lease.meets(access)) {
            if lease.stream.wait_for(&[ticket]).is_err() {
                // A device that is lost does no work that anybody could meet. Nothing is let go of here, where a block is held.
                let _ = engine.wait_holding(ticket);
            }
        }
    }
}

/// # Errors
/// As [`Theirs::so_far`].
fn add_waits(loans: &Loans, access: Access, waits: &mut Waits) -> Result<()> {
    for lease in loans.iter().filter(|lease| lease.meets(access)) {
        waits.push(lease.stream.so_far()?);
    }
    Ok(())
}

/// # Errors
/// As [`Theirs::so_far`], but for a device that is lost.
fn end(engine: &Engine, lease: &Lease, uses: &mut Uses) -> Result<()> {
    if omitted(Omission::EndOfLoan) {
        return Ok(());
    }
    // Of two that wrote beside each other only the later is kept as the one that wrote, so it has to be behind the other.
    let before = uses.written().filter(|_| lease.access == Access::Write);
    let ordered = before.map_or(Ok(()), |before| {
        let told = lease.stream.wait_for(&[before]);
        told.or_else(|_| engine.wait_holding(before))
    });
    match ordered.and_then(|()| lease.stream.so_far()) {
        Ok(ticket) => {
            uses.note_beside(ticket, lease.access);
            Ok(())
        }
        Err(Error::DeviceLost { .. }) => Ok(()),
        // It cannot be marked, so it has to be over.
        Err(error) => lease.stream.finish().map_err(|_| error),
    }
}

/// Leaves out waits for work of the queue itself, and all but the last of each other.
pub(super) fn others_last(waits: &mut Waits, queue: Queue) {
    let mut last = Waits::new();
    for wait in waits.drain(..) {
        super::uses::add(&mut last, queue, wait);
    }
    *waits = last;
}
