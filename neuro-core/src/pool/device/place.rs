//! Where a request is served from, and what is tried before it is refused.
//!
//! In this order: ranges that are idle, or that the request's own queue used last; the same after asking the device what is
//! done; ranges that other queues used, behind their work; one more slab, or more memory of the one range of addresses
//! (`expand.rs`); empty slabs out of the way, and that again; then it waits for work that is under way. Only when none is left, it is refused.

use super::handle::{Room, uses_of};
use super::region::{GRANULE, Region};
use super::uses::{Numbers, Users};
use super::{DevicePool, Pending, PoolBlock, State};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{QUEUES, Queue, Refusal, Slab, Span, Ticket};
use crate::error::{Error, Result};
use crate::heap::Tag;
use crate::sync::global::lock;

/// A slab is this long, and later ones longer, up to [`MOST`], so that a few suffice.
const LEAST: u64 = 64 << 20;
const MOST: u64 = 1 << 30;
/// Rooms for blocks that a pool keeps.
const SPARE: usize = 1 << 12;
/// Alignments a pool of device memory can give: powers of two up to this.
const MAX_ALIGNMENT: usize = 2 << 20;

struct Found {
    region: u32,
    slab: Slab,
    // A block's own fields: as one it would be moved with the bytes between them, for which the processor waits.
    offset: u32,
    node: u32,
    tag: Tag,
    /// Number 0: it is idle.
    behind: Ticket,
}

/// What is asked for: bytes, and the granules that makes.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) bytes: usize,
    pub(super) units: u32,
    pub(super) align: u32,
}

impl DevicePool {
    /// A block of `bytes` bytes, whose first use will probably be on `queue`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the pool's figures; [`Error::InvalidArgument`] for an alignment that is no power of two up to
    /// 2 MiB; [`Error::DeviceLost`].
    #[inline]
    pub(crate) fn allocate(&self, bytes: usize, alignment: usize, queue: Queue) -> Result<PoolBlock> {
        if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
            return Err(Error::InvalidArgument {
                op: "allocate",
                what: format!("alignment {alignment} B is not a power of two up to {MAX_ALIGNMENT} B"),
            });
        }
        self.engine().check()?;
        let refused = || self.out_of_memory(bytes, alignment, None);
        let units = u32::try_from((bytes.max(1) as u64).div_ceil(GRANULE)).map_err(|_| refused())?;
        let align = (alignment as u64 / GRANULE).max(1) as u32;
        let request = Request { bytes, units, align };
        let mut state = self.state();
        if state.must_fail() {
            drop(state);
            let cause = std::io::Error::other("a failure that fail_nth asked for");
            return Err(self.out_of_memory(bytes, alignment, Some(cause)));
        }
        if self.debugs() {
            drop(state);
            return self.allocate_alone(request)?.ok_or_else(refused);
        }
        if let Some(found) = state.find(request, &[queue]) {
            let room = state.spare.pop();
            drop(state);
            return Ok(self.hand_out(found, request, room));
        }
        drop(state);
        let found = self.find_at_last(request, queue)?.ok_or_else(refused)?;
        Ok(self.hand_out(found, request, None))
    }

    #[inline(always)] // else the block is copied from place to place
    fn hand_out(&self, found: Found, request: Request, room: Option<Room>) -> PoolBlock {
        let offset = u64::from(found.offset) * GRANULE;
        let span = Span {
            slab: found.slab.id,
            offset,
            bytes: u64::from(request.units) * GRANULE,
        };
        if cfg!(test) {
            self.engine().backend().handed_out(span); // nobody else listens
        }
        // SAFETY: the block lies within its slab.
        let host = found.slab.host.map(|host| unsafe { host.add(offset as usize) });
        PoolBlock::new(
            room,
            self,
            (found.region, found.offset, found.node, found.tag),
            span,
            request.bytes,
            host,
            found.behind,
        )
    }

    /// What is tried when no range is idle or the queue's own.
    #[cold]
    fn find_at_last(&self, request: Request, queue: Queue) -> Result<Option<Found>> {
        if u64::from(request.units) * GRANULE > self.longest_block() {
            return Ok(None); // whatever is given back
        }
        let done = self.engine().poll()?;
        {
            let mut state = self.state();
            state.reclaim(&done);
            let found = state.find(request, &[queue]).or_else(|| state.find(request, &QUEUES));
            if found.is_some() {
                return Ok(found);
            }
        }
        let found = self.find_by_growing(request)?;
        if found.is_some() {
            return Ok(found);
        }
        let (found, waited) = self.find_by_waiting(request)?;
        // Slabs of which nothing is in use now may make room for a longer one; so may those of pools that are gone.
        if found.is_none() && (self.engine().finish_kept() || waited) {
            return self.find_by_growing(request);
        }
        Ok(found)
    }

    /// One more slab; or empty ones given back, and one then.
    fn find_by_growing(&self, request: Request) -> Result<Option<Found>> {
        // Others may take what this makes free, so each step looks again.
        for trim_first in [false, true] {
            if trim_first && self.make_way() == 0 {
                break;
            }
            // One thread at a time asks the device; who waited for another finds what that one got.
            let growing = lock(&self.growth);
            loop {
                let found = self.state().find(request, &QUEUES);
                if found.is_some() {
                    return Ok(found);
                }
                let grown = if self.expands() {
                    self.expand(request)?
                } else {
                    self.grow(request.units)?
                };
                // What has come may be taken by those who only look, before this looks: then there is more to come, or it is refused.
                if !grown {
                    break;
                }
            }
            drop(growing);
        }
        Ok(None)
    }

    /// What becomes free when work is done; and whether there was any to wait for.
    fn find_by_waiting(&self, request: Request) -> Result<(Option<Found>, bool)> {
        let mut waited = false;
        loop {
            let done = self.engine().done();
            let mut state = self.state();
            state.reclaim(&done);
            let found = state.find(request, &QUEUES);
            let next = state.next_to_finish(&done);
            drop(state);
            match next {
                Some(until) if found.is_none() => self.engine().wait(&[until])?,
                _ => return Ok((found, waited)),
            }
            waited = true;
        }
    }

    /// One more slab, with room for `units`; false where the limit or the device leaves none. The caller has the lock `growth`.
    fn grow(&self, units: u32) -> Result<bool> {
        let need = u64::from(units) * GRANULE;
        let longest = self.engine().longest_slab();
        let want = {
            let state = self.state();
            let taken = state.committed.current as u64;
            let room = self.limit.saturating_sub(taken).min(longest) / GRANULE * GRANULE;
            if room < need {
                return Ok(false);
            }
            let slabs = state.regions.iter().flatten().count() as u32;
            (LEAST << slabs.min(8)).min(MOST).max(need).min(room)
        };
        let kind = self.kind_of_slabs()?;
        let Some(mut want) = self.engine().within_budget(need, want, GRANULE) else {
            return Ok(false);
        };
        let slab = loop {
            match self.engine().backend().allocate(want, kind) {
                Err(Refusal::NoMemory) if want > need => want = (want / 2).max(need).next_multiple_of(GRANULE),
                other => break other,
            }
        };
        let mut state = self.state();
        match slab {
            Ok(slab) => {
                state.committed.add(slab.bytes as usize);
                state.enter(Region::new(slab));
                Ok(true)
            }
            Err(Refusal::NoMemory) => Ok(false),
            Err(refusal) => Err(self.engine().error(refusal)),
        }
    }

    /// A block's range comes back, which work may still use; and the room that it was written down in. Whether the pool is nobody's now:
    /// the caller is to free it.
    pub(super) fn take_back(&self, mut room: Room) -> bool {
        let (region, block) = (room.region as usize, room.block);
        let (requested, bytes) = (room.requested, room.span.bytes as usize);
        if self.debugs() {
            let _ = self.engine().ask(); // else what is done is given back with the next request
        }
        let uses = uses_of(&mut room);
        let users = if omitted(Omission::TagOfFreed) {
            Users::Nobody
        } else {
            uses.users(|queue| self.engine().done_of(queue))
        };
        let last = (users == Users::Several).then(|| uses.last());
        let mut state = self.state();
        state.count(|counters| counters.remove_block(requested, bytes));
        if state.regions[region].as_ref().is_some_and(Region::is_alone) {
            let last = (users != Users::Nobody).then(|| uses_of(&mut room).last());
            return self.take_back_alone(state, room, last);
        }
        let freed = state.regions[region]
            .as_mut()
            .is_some_and(|region| region.free(block, users));
        if !freed {
            let last = last.unwrap_or_default();
            state.pending.push(Pending { region, block, last });
        }
        state.keep_room(room);
        state.is_abandoned()
    }

    #[cold]
    fn out_of_memory(&self, asked: usize, alignment: usize, cause: Option<std::io::Error>) -> Error {
        Error::OutOfMemory {
            device: self.engine().device(),
            asked,
            alignment,
            figures: Box::new(self.stats().into()),
            cause: cause
                .map(std::sync::Arc::new)
                .or_else(|| self.engine().why_no_memory(asked)),
        }
    }
}

impl State {
    /// A room for a block to come.
    #[inline]
    pub(super) fn keep_room(&mut self, room: Room) {
        if self.spare.len() < SPARE {
            self.spare.push(room);
        }
    }

    /// One more region: its place.
    pub(super) fn enter(&mut self, region: Region) -> usize {
        self.reserved.add(region.slab.bytes as usize);
        match self.regions.iter().position(Option::is_none) {
            Some(vacant) => {
                self.regions[vacant] = Some(region);
                vacant
            }
            None => {
                self.regions.push(Some(region));
                self.regions.len() - 1
            }
        }
    }

    /// Hands out and counts a range that is idle, or that one of `queues` used last, the first first.
    #[inline(always)]
    fn find(&mut self, request: Request, queues: &[Queue]) -> Option<Found> {
        let Request { bytes, units, align } = request;
        for &queue in queues {
            for (at, region) in self.regions.iter_mut().enumerate() {
                let Some(region) = region else { continue };
                let Some((block, number)) = region.allocate(units, align, queue) else {
                    continue;
                };
                let slab = region.slab;
                self.count(|counters| counters.add_block(bytes, (u64::from(units) * GRANULE) as usize));
                return Some(Found {
                    region: at as u32,
                    slab,
                    offset: block.offset,
                    node: block.node,
                    tag: block.tag,
                    behind: Ticket {
                        queue,
                        number: if omitted(Omission::BehindOfReused) { 0 } else { number },
                    },
                });
            }
        }
        None
    }

    /// Some work that is not done and that free or pending ranges are behind.
    pub(super) fn next_to_finish(&self, done: &Numbers) -> Option<Ticket> {
        let pending = self.pending.iter().map(|pending| &pending.last);
        let free = self.regions.iter().flatten().map(Region::behind);
        for last in pending.chain(free) {
            for queue in QUEUES {
                if last[queue.index()] > done[queue.index()] {
                    let number = last[queue.index()];
                    return Some(Ticket { queue, number });
                }
            }
        }
        None
    }
}
