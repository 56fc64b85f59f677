//! `DeviceBlock`: a block of device memory, and work on it.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use smallvec::SmallVec;

use super::import::Imports;
use super::loan::{Loans, others_last};
use super::uses::{Access, Numbers, Uses, Waits};
use super::{DevicePool, Engine};
use crate::backend::planted::{Omission, omitted};
use crate::backend::raw::QueueTurn;
use crate::backend::raw_cuda::RawCuda;
use crate::backend::{Op, Queue, Span, Ticket};
use crate::error::{Error, Result};
use crate::heap;
use crate::sync::global::{Mutex, MutexGuard, lock};

/// What is known of a block. Its owner is a [`PoolBlock`](super::PoolBlock) or a [`Face`](super::Face).
pub(crate) struct DeviceBlock {
    /// The pool that it is of, which stays while it is live (`handle.rs`, H2), and where it lies there. Without a meaning where there is another home.
    pub(super) pool: NonNull<DevicePool>,
    pub(super) region: u32,
    pub(super) block: heap::Block,
    pub(super) other_home: Option<OtherHome>,
    pub(super) span: Span,
    /// Bytes asked for.
    pub(super) requested: usize,
    /// Where the host reaches it.
    pub(super) host: Option<NonNull<u8>>,
    pub(super) uses: Mutex<Uses>,
    /// Whom it is lent (`loan.rs`). Locked with its uses, after them.
    pub(super) loans: Mutex<Loans>,
}

/// Where memory comes from that is of no pool of the device.
pub(super) enum OtherHome {
    /// From a host pool.
    Host {
        engine: Arc<Engine>,
        /// All that it lies in; the first names the span.
        _imports: Imports,
        /// Gives it back to its pool.
        _keeper: Box<dyn Send + Sync>,
    },
    /// From whoever exported it. The slab is this block's.
    Shared(Arc<Engine>),
    /// From another allocator of the process, which gets it back by `keeper`.
    Foreign {
        engine: Arc<Engine>,
        /// Behind which it is ready: no work of ours.
        begun: Ticket,
        keeper: Option<Box<dyn Send + Sync>>,
    },
}

// SAFETY: the address is that of memory which is this block's alone; who uses it proves that he may where he does so.
unsafe impl Send for DeviceBlock {}
// SAFETY: as above; the rest is behind locks.
unsafe impl Sync for DeviceBlock {}

impl fmt::Debug for DeviceBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceBlock")
            .field("device", &self.engine().device())
            .field("span", &self.span)
            .field("uses", &*self.uses())
            .finish_non_exhaustive()
    }
}

impl DeviceBlock {
    /// One that is in no pool. Without a home it is a room for one that will be.
    pub(super) fn without_pool(
        home: Option<OtherHome>,
        span: Span,
        requested: usize,
        host: Option<NonNull<u8>>,
    ) -> Self {
        Self {
            pool: NonNull::dangling(),
            region: 0,
            block: heap::Block {
                offset: 0,
                node: 0,
                tag: heap::Tag::IDLE,
            },
            other_home: home,
            span,
            requested,
            host,
            uses: Mutex::new(Uses::none()),
            loans: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        match &self.other_home {
            // SAFETY: the pool stays while the block is live, which it is as long as this value is there (H1, H2).
            None => unsafe { self.pool.as_ref() }.engine(),
            Some(OtherHome::Host { engine, .. } | OtherHome::Shared(engine) | OtherHome::Foreign { engine, .. }) => {
                engine
            }
        }
    }

    /// The pool of the device that it is of.
    pub(super) fn pool(&self) -> Option<&DevicePool> {
        if self.other_home.is_some() {
            return None;
        }
        // SAFETY: as in `engine`.
        Some(unsafe { self.pool.as_ref() })
    }

    /// Bytes asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.requested
    }

    /// Where the host reaches it, if it does.
    pub(crate) fn host(&self) -> Option<NonNull<u8>> {
        self.host
    }

    /// `bytes` bytes of it from `offset` on.
    pub(crate) fn part(&self, offset: usize, bytes: usize) -> Span {
        debug_assert!(offset + bytes <= self.span.bytes as usize);
        Span {
            slab: self.span.slab,
            offset: self.span.offset + offset as u64,
            bytes: bytes as u64,
        }
    }

    pub(super) fn uses(&self) -> MutexGuard<'_, Uses> {
        lock(&self.uses)
    }

    /// Its bytes were used up to `last` before.
    pub(super) fn begin_behind(&mut self, last: Ticket) {
        super::handle::uses_of(self).begin_behind(last);
    }

    /// What the host waits for before it uses the block.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], also in a forked child; what the driver says of streams that it is lent.
    pub(crate) fn waits_of_host(&self, access: Access) -> Result<Waits> {
        self.engine().check()?;
        let uses = self.uses();
        let mut waits = uses.waits_of_host(access);
        self.waits_of_loans(access, &mut waits)?;
        Ok(waits)
    }

    /// Work that was submitted on it here, of which some may not be done.
    pub(crate) fn uses_under_way(&self) -> Waits {
        if self.engine().is_here() {
            self.uses().waits_of_host(Access::Write)
        } else {
            Waits::new()
        }
    }

    /// Leave for the host to look into the block for ever, where it reaches it.
    ///
    /// # Errors
    /// As [`Engine::enter`].
    pub(crate) fn map(&self) -> Result<Option<NonNull<u8>>> {
        let _inside = self.engine().enter()?;
        if self.host.is_some() {
            self.engine().note_mapped(self.span.slab);
        }
        Ok(self.host)
    }

    /// The last work of each queue that may use it.
    pub(super) fn last_use(&self) -> Numbers {
        self.uses().last()
    }

    /// The last work of each queue that may use it is known to be done, and nobody has it on loan.
    pub(crate) fn is_idle(&self) -> bool {
        self.engine().is_here() && {
            let uses = self.uses();
            self.loans().is_empty() && super::engine::is_done(&uses.last(), &self.engine().done())
        }
    }
}

impl DeviceBlock {
    /// Makes all of it zero.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Driver`].
    pub(crate) fn zero(&self) -> Result<()> {
        let fill = Op::Fill {
            to: self.span,
            value: 0,
        };
        // SAFETY: the span is the block's.
        unsafe { submit(Queue::COMPUTE, &[(self, Access::Write)], &[], &[fill]) }.map(drop)
    }
}

/// Submits work on blocks of one device, ordered behind what else uses them, and `after`.
///
/// # Errors
/// [`Error::DeviceLost`], [`Error::Driver`]; nothing is under way then.
///
/// # Safety
/// `ops` use bytes of these blocks, as it says, and other bytes only that nothing else uses, whose slabs stay until the work is
/// done.
pub(crate) unsafe fn submit(
    queue: Queue,
    blocks: &[(&DeviceBlock, Access)],
    after: &[Ticket],
    ops: &[Op],
) -> Result<Ticket> {
    in_order(queue, blocks, after, |engine, waits| {
        // SAFETY: by contract; the blocks' own order is in `waits`, and they stay until the work is done: freed, they are handed out
        // again behind it, and their slabs stay behind it, too.
        let submitted = unsafe { engine.backend().submit(queue, waits, ops) };
        submitted
            .map(|ticket| (ticket, ticket))
            .map_err(|refusal| engine.error(refusal))
    })
}

/// Has somebody else hand work on blocks of one Vulkan device to its queue of kernels, ordered as by [`submit`].
///
/// # Errors
/// [`Error::Unavailable`] where the device is none of Vulkan's, [`Error::DeviceLost`]; then `work` was not called. Or what `work` says.
///
/// # Safety
/// `work` does what [`RawVulkan::with_queue`](crate::backend::raw::RawVulkan::with_queue) asks for, where `Ok` means that it has
/// submitted; and that uses bytes of these blocks, as it says.
pub(crate) unsafe fn turn<T, E: From<Error>>(
    blocks: &[(&DeviceBlock, Access)],
    work: impl FnOnce(&QueueTurn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    in_order(Queue::COMPUTE, blocks, &[], |engine, waits| {
        let Some(vulkan) = engine.backend().vulkan() else {
            return Err(engine.not_vulkan("with_queue").into());
        };
        let mut work = Some(work);
        let mut answer = None;
        let mut once = |turn: &QueueTurn<'_>| {
            let said = work.take().map(|work| work(turn));
            let submitted = matches!(said, Some(Ok(_)));
            answer = said;
            submitted
        };
        // SAFETY: forwarded contract; order and life are as in `submit`.
        let ticket = unsafe { vulkan.with_queue(waits, &mut once) }.map_err(|refusal| engine.error(refusal))?;
        match (ticket, answer) {
            (Some(ticket), Some(Ok(answer))) => Ok((ticket, answer)),
            (_, Some(Err(error))) => Err(error),
            (ticket, _) => unreachable!("the device called the work once, and has {ticket:?}"),
        }
    })
}

/// Has somebody else hand work on blocks of a CUDA device to the stream of a queue, ordered as by [`submit`]. The work need not use a
/// block. Also its ticket.
///
/// # Errors
/// [`Error::Unavailable`] where the device is none of CUDA's, [`Error::DeviceLost`], [`Error::Driver`]; then `work` was not called. Or
/// what `work` says.
///
/// # Safety
/// The blocks are of `engine`'s device. Where `work` returns `Ok`, all that it has submitted is on the stream that it is given, and uses
/// bytes of these blocks, as it says, and other bytes only that nothing else uses, which stay until the work is done. Else it has
/// submitted nothing.
pub(crate) unsafe fn cuda_turn<T, E: From<Error>>(
    engine: &Engine,
    queue: Queue,
    blocks: &[(&DeviceBlock, Access)],
    work: impl FnOnce(&dyn RawCuda, usize) -> Result<T, E>,
) -> Result<(Ticket, T), E> {
    in_order_on(engine, queue, blocks, &[], |engine, waits| {
        let Some(cuda) = engine.backend().cuda() else {
            return Err(engine.not_cuda("a launch").into());
        };
        let mut work = Some(work);
        let mut answer = None;
        let mut once = |stream: usize| {
            let said = work.take().map(|work| work(cuda, stream));
            let submitted = matches!(said, Some(Ok(_)));
            answer = said;
            submitted
        };
        // SAFETY: forwarded contract; order and life are as in `submit`.
        let ticket = unsafe { cuda.with_stream(queue, waits, &mut once) }.map_err(|refusal| engine.error(refusal))?;
        match (ticket, answer) {
            (Some(ticket), Some(Ok(answer))) => Ok((ticket, (ticket, answer))),
            (_, Some(Err(error))) => Err(error),
            (ticket, _) => unreachable!("the device called the work once, and has {ticket:?}"),
        }
    })
}

/// Writes down that work uses a block which was not handed over here: up to the ticket that `so_far` gives, behind one that it is given, if
/// any; and what came of that order.
///
/// # Errors
/// [`Error::DeviceLost`] in a forked child; what `so_far` says. Of the order it is told when the work was written down.
pub(crate) fn note_elsewhere(
    block: &DeviceBlock,
    access: Access,
    so_far: impl FnOnce(Option<Ticket>) -> Result<(Ticket, Result<()>)>,
) -> Result<()> {
    block.engine().check()?;
    let mut uses = block.uses();
    // Of two that write beside each other only the later is kept as the one that wrote, so it has to be behind the other.
    let before = (access == Access::Write).then(|| uses.written()).flatten();
    let (ticket, ordered) = so_far(before)?;
    if !omitted(Omission::NoteElsewhere) {
        uses.note_beside(ticket, access);
    }
    // The work is under way, whatever became of its order.
    ordered
}

/// [`in_order_on`] the device of the blocks.
fn in_order<T, E: From<Error>>(
    queue: Queue,
    blocks: &[(&DeviceBlock, Access)],
    after: &[Ticket],
    hand_over: impl FnOnce(&Engine, &[Ticket]) -> Result<(Ticket, T), E>,
) -> Result<T, E> {
    let Some((first, _)) = blocks.first() else {
        let what = "no block is used".to_owned();
        return Err(Error::InvalidArgument { op: "submit", what }.into());
    };
    in_order_on(first.engine(), queue, blocks, after, hand_over)
}

/// Gives `hand_over` what work of `queue` on blocks of `engine`'s device waits for, `after` included, and writes down the ticket that
/// comes of it. Meanwhile nobody else uses the blocks.
fn in_order_on<T, E: From<Error>>(
    engine: &Engine,
    queue: Queue,
    blocks: &[(&DeviceBlock, Access)],
    after: &[Ticket],
    hand_over: impl FnOnce(&Engine, &[Ticket]) -> Result<(Ticket, T), E>,
) -> Result<T, E> {
    engine.check()?;
    // In one order, so that two submissions do not wait for each other; and each block once, written if it is at all.
    let mut sorted: SmallVec<[(&DeviceBlock, Access); 4]> = blocks.iter().copied().collect();
    sorted.sort_by_key(|(block, access)| (std::ptr::from_ref(*block).addr(), *access == Access::Read));
    sorted.dedup_by_key(|(block, _)| std::ptr::from_ref(*block));
    let mut held: SmallVec<[(MutexGuard<'_, Uses>, Access); 4]> =
        sorted.iter().map(|(block, access)| (block.uses(), *access)).collect();
    let mut waits: Waits = after.iter().copied().collect();
    for ((uses, access), (block, _)) in held.iter().zip(&sorted) {
        uses.waits_of(queue, *access, &mut waits);
        block.waits_of_loans(*access, &mut waits)?;
    }
    others_last(&mut waits, queue);
    let (ticket, answer) = hand_over(engine, &waits)?;
    for (uses, access) in &mut held {
        let omission = match access {
            Access::Read => Omission::NoteRead,
            Access::Write => Omission::NoteWrite,
        };
        if !omitted(omission) {
            uses.note(ticket, *access);
        }
    }
    for (block, access) in &sorted {
        block.tell_lent(engine, ticket, *access);
    }
    Ok(answer)
}
