//! Copies between two CUDA devices, from memory to memory, without the host: by the source's queue of downloads, behind what both blocks are
//! used by.
//!
//! The other device knows of it by a piece of work of its own queue of uploads, which does nothing but wait for the copy.

use smallvec::SmallVec;

use super::loan::others_last;
use super::{Access, DeviceBlock, Waits};
use crate::backend::planted::{Omission, omitted};
use crate::backend::raw_cuda::{HeldEvent, RawCuda};
use crate::backend::{Queue, Refusal, Ticket};
use crate::error::Result;
use crate::sync::global::lock;

/// Copies `bytes` bytes of `from`, from `offset` on, to the start of `to`, on another device; false where that cannot be done without the
/// host. Nobody waits.
///
/// # Errors
/// What a driver said. Nothing is under way then.
pub(crate) fn copy_to_peer(from: &DeviceBlock, offset: usize, to: &DeviceBlock, bytes: usize) -> Result<bool> {
    let (here, there) = (from.engine(), to.engine());
    let (Some(source), Some(target)) = (here.backend().cuda(), there.backend().cuda()) else {
        return Ok(false);
    };
    here.check()?;
    there.check()?;
    let (from_span, to_span) = (from.part(offset, bytes), to.part(0, bytes));
    if bytes == 0 || !source.is_for_peers(from_span.slab) || !target.is_for_peers(to_span.slab) {
        return Ok(bytes == 0);
    }
    let peer = (target.handles(), target.address(to_span));
    // In one order, so that two copies do not wait for each other.
    let from_first = std::ptr::from_ref(from).addr() < std::ptr::from_ref(to).addr();
    let first = from_first.then(|| lock(&from.uses));
    let mut to_uses = lock(&to.uses);
    let mut from_uses = first.unwrap_or_else(|| lock(&from.uses));

    let mut waits = Waits::new();
    from_uses.waits_of(Queue::DOWNLOAD, Access::Read, &mut waits);
    from.waits_of_loans(Access::Read, &mut waits)?;
    others_last(&mut waits, Queue::DOWNLOAD);
    let theirs = if omitted(Omission::PeerWait) {
        Vec::new()
    } else {
        let mut waits = to_uses.waits_of_host(Access::Write);
        to.waits_of_loans(Access::Write, &mut waits)?;
        target.events_of(&waits).map_err(|refusal| there.error(refusal))?
    };
    let mut refused = None;
    let mut copy = |stream: usize| {
        let waited = theirs.iter().try_for_each(|event| source.wait_for_event(stream, event));
        // SAFETY: live bytes of both blocks; the waits of both order it, and their slabs stay until the tickets below are done.
        let copied = waited.and_then(|()| unsafe { source.copy_to_peer(stream, from_span, peer, bytes) });
        refused = copied.err();
        refused.is_none()
    };
    // SAFETY: it submits the copy, or nothing.
    let ticket =
        unsafe { source.with_stream(Queue::DOWNLOAD, &waits, &mut copy) }.map_err(|refusal| here.error(refusal))?;
    let Some(ticket) = ticket else {
        return Err(here.error(refused.unwrap_or(Refusal::NoMemory)));
    };
    from_uses.note(ticket, Access::Read);
    from.tell_lent(here, ticket, Access::Read);
    match follow(source, target, ticket) {
        Ok(behind) => {
            if !omitted(Omission::PeerNote) {
                to_uses.note(behind, Access::Write);
            }
            to.tell_lent(there, behind, Access::Write);
            Ok(true)
        }
        Err(refusal) => {
            // The other device cannot be told, so that the copy must be over before anything else is.
            here.wait_holding(ticket)?;
            Err(there.error(refusal))
        }
    }
}

/// Work of `target` that does nothing but wait for `ticket` of `source`.
fn follow(source: &dyn RawCuda, target: &dyn RawCuda, ticket: Ticket) -> Result<Ticket, Refusal> {
    let events: SmallVec<[HeldEvent; 1]> = source.events_of(&[ticket])?.into();
    let mut refused = None;
    let mut wait = |stream: usize| {
        refused = events
            .iter()
            .try_for_each(|event| target.wait_for_event(stream, event))
            .err();
        refused.is_none()
    };
    // SAFETY: it touches no memory.
    let behind = unsafe { target.with_stream(Queue::UPLOAD, &[], &mut wait) }?;
    behind.ok_or(refused.unwrap_or(Refusal::NoMemory))
}
