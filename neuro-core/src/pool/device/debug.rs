//! Debug mode of a pool of a device: every block is an allocation of the driver's own, of the bytes that were asked for, and goes back to the
//! driver when the work that uses it is known to be done.
//!
//! So whoever watches the driver's allocations (compute-sanitizer, the simulated driver) sees a use beyond the end of a block, and one of a
//! block that is gone, which in a slab of many blocks hit somebody else's bytes. The processor cannot look at such memory itself: there
//! are neither red zones nor poison.
//!
//! - A1: a block of debug mode has a region of its own, whose heap has no units, so that nothing else is ever handed out of it.
//! - A2: such a region leaves the pool when its block was freed and the work on it is known to be done. Until then it counts as committed.
//!
//! Order, limit and figures are as ever. What is rounded up: to 4 bytes, since devices fill memory by words; and where more than 256 bytes
//! of alignment are asked for, a block may have as many free bytes around it.

use std::sync::Arc;

use super::engine::is_done;
use super::handle::Room;
use super::place::Request;
use super::region::{GRANULE, Region};
use super::uses::Numbers;
use super::{DevicePool, Pending, PoolBlock, State};
use crate::backend::planted::{Omission, omitted};
use crate::backend::{Queue, Refusal, Slab, SlabKind, Span, Ticket};
use crate::error::Result;
use crate::heap::{Block, Tag};
use crate::sync::global::{MutexGuard, OnceLock, Ordering, lock};

/// What devices fill memory by.
const WORD: u64 = 4;

/// What switches it on for all pools of devices of the process, for programs that are run under a tool as they are.
const VARIABLE: &str = "NEURO_DEVICE_DEBUG";

/// Whether the environment asks for it, once and for all.
pub(super) fn is_asked_for() -> bool {
    static ASKED: OnceLock<bool> = OnceLock::new();
    *ASKED.get_or_init(|| std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0"))
}

/// A block of debug mode is nowhere in a heap.
const NOWHERE: Block = Block {
    offset: 0,
    node: 0,
    tag: Tag::IDLE,
};

impl DevicePool {
    /// Switches debug mode for blocks to come; where the environment asks for it, it stays on.
    pub(crate) fn set_debug(&self, debug: bool) {
        // Relaxed: who told the pool orders that before his requests.
        self.debugs.store(debug || is_asked_for(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn debugs(&self) -> bool {
        self.debugs.load(Ordering::Relaxed)
    }

    /// A block that is an allocation of its own. What is tried before a refusal is tried in the order of `place.rs`.
    ///
    /// # Errors
    /// What the driver said, but that it has no memory: then there is none.
    #[cold]
    pub(super) fn allocate_alone(&self, request: Request) -> Result<Option<PoolBlock>> {
        let exact = (request.bytes.max(1) as u64).next_multiple_of(WORD);
        let need = exact + u64::from(request.align - 1) * GRANULE;
        if need > self.longest_block() {
            return Ok(None); // whatever is given back
        }
        let kind = self.kind_of_slabs()?;
        let mut finished = false;
        loop {
            let done = self.engine.poll()?;
            self.give_back_done(&done);
            if let Some((region, slab)) = self.take_slab(need, kind, request.bytes, exact)? {
                return Ok(Some(self.hand_out_alone(region, slab, request, exact)));
            }
            if self.make_way() > 0 {
                continue;
            }
            let next = self.state().next_to_finish(&done);
            match next {
                Some(until) => self.engine.wait(&[until])?,
                None if !finished && self.engine.finish_kept() => finished = true,
                None => return Ok(None),
            }
        }
    }

    /// A slab of `need` bytes, entered, counted, and its place; `None` where the limit or the device leaves none.
    fn take_slab(&self, need: u64, kind: SlabKind, requested: usize, exact: u64) -> Result<Option<(u32, Slab)>> {
        // One thread at a time, so that two do not take the same room.
        let _growing = lock(&self.growth);
        let room = self.limit.saturating_sub(self.state().committed.current as u64);
        if need > room || self.engine.within_budget(need, need, WORD).is_none() {
            return Ok(None);
        }
        let slab = match self.engine.backend().allocate(need, kind) {
            Ok(slab) => slab,
            Err(Refusal::NoMemory) => return Ok(None),
            Err(refusal) => return Err(self.engine.error(refusal)),
        };
        let mut state = self.state();
        state.committed.add(slab.bytes as usize);
        let region = state.enter(Region::alone(slab));
        state.count(|counters| counters.add_block(requested, exact as usize));
        Ok(Some((region as u32, slab)))
    }

    fn hand_out_alone(&self, region: u32, slab: Slab, request: Request, exact: u64) -> PoolBlock {
        let backend = self.engine.backend();
        // Where devices have addresses, they are what is aligned; else a slab begins on any alignment, as far as its user can tell.
        let whole = Span {
            slab: slab.id,
            offset: 0,
            bytes: exact,
        };
        let address = backend.cuda().map_or(0, |cuda| cuda.address(whole));
        let offset = address.next_multiple_of(u64::from(request.align) * GRANULE) - address;
        let offset = if request.align == 1 { 0 } else { offset };
        let span = Span { offset, ..whole };
        if cfg!(test) {
            backend.handed_out(span); // nobody else listens
        }
        // SAFETY: the block lies within its slab, which has the room for its alignment.
        let host = slab.host.map(|host| unsafe { host.add(offset as usize) });
        let spare = self.state().spare.pop();
        let idle = Ticket {
            queue: Queue::COMPUTE,
            number: 0,
        };
        let place = (region, NOWHERE.offset, NOWHERE.node, NOWHERE.tag);
        PoolBlock::new(spare, self, place, span, request.bytes, host, idle)
    }

    /// A block of debug mode is freed, of which the count is taken out already: its region leaves the pool, now or once the work up to `last`
    /// is done. Whether the pool is nobody's now.
    #[cold]
    pub(super) fn take_back_alone(&self, mut state: MutexGuard<'_, State>, room: Room, last: Option<Numbers>) -> bool {
        let region = room.region as usize;
        let gone = match last {
            None => Some(state.leave(region)),
            Some(last) => {
                state.pending.push(Pending {
                    region,
                    block: NOWHERE,
                    last,
                });
                None
            }
        };
        state.keep_room(room);
        let is_abandoned = state.is_abandoned();
        // From here on the pool may be freed by another thread, if it is not by this one.
        let engine = Arc::clone(&self.engine);
        drop(state);
        if let Some(slab) = gone.flatten() {
            engine.retire(slab.id, Numbers::default());
        }
        is_abandoned
    }

    /// Gives those back whose work is done: bytes.
    pub(super) fn give_back_done(&self, done: &Numbers) -> usize {
        let gone = self.state().leave_done(done);
        gone.iter()
            .for_each(|slab| self.engine.retire(slab.id, Numbers::default()));
        gone.iter().map(|slab| slab.bytes as usize).sum()
    }
}

impl State {
    /// A region leaves: its slab.
    fn leave(&mut self, region: usize) -> Option<Slab> {
        let slab = self.regions[region].take()?.slab;
        self.committed.remove(slab.bytes as usize);
        self.reserved.remove(slab.bytes as usize);
        Some(slab)
    }

    /// Of freed blocks of debug mode, those leave whose work is done.
    fn leave_done(&mut self, done: &Numbers) -> Vec<Slab> {
        let State { regions, pending, .. } = self;
        let mut places = Vec::new();
        pending.retain(|pending| {
            let is_alone = regions[pending.region].as_ref().is_some_and(Region::is_alone);
            let goes = is_alone && (is_done(&pending.last, done) || omitted(Omission::DoneBeforePendingIsFree));
            if goes {
                places.push(pending.region);
            }
            !goes
        });
        places.into_iter().filter_map(|region| self.leave(region)).collect()
    }
}
