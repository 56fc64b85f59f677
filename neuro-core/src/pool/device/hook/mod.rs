//! `Hook`: a CUDA pool as the allocator of somebody else, who knows a block by its address alone and uses it on streams of his own.
//!
//! ```text
//! allocate on s     a range that s itself used last: at once; another: s waits, on the device, for who used it
//! record_stream t   t uses it, too, until it is freed
//! free              behind all that s and t have by then (or another stream that it is freed on), without a wait
//! ```
//!
//! - `streams.rs`: streams that were opened, so that no call of the driver is needed for one that comes again; `table.rs`: blocks by their
//!   addresses; `slots.rs`: hooks by a small number, for callbacks that are told nothing else.
//!
//! Invariants:
//! - K1: a block is in the table from before its address is handed out until it is freed; who takes it out ends it.
//! - K2: a block that is ended goes back to its pool behind all that its streams had when it was freed. Where one cannot say how far it is, as while it is
//!   captured into a graph, the block stays, and is asked after again with the next request.
//! - K3: no lock of this module is held while the driver, the pool, or a keeper is called.
//!
//! Absent on purpose: sizes of frees, which nobody can be trusted with; a second layer of caching above the pool's own.

mod slots;
mod streams;
mod table;

use std::sync::Arc;

use self::streams::{Opened, PER_THREAD, Streams, check_capture};
use self::table::{Handed, Table, Taken};
use super::{DevicePool, LEGACY, PoolBlock};
use crate::backend::Ticket;
use crate::backend::planted::{Omission, omitted};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::sync::global::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

pub use self::slots::{HookSlot, OnFailure, SLOTS, SlotUse};
pub use self::streams::StreamKeeper as Keeper;

/// Frees of this process that were refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// A CUDA pool as the allocator of somebody else: of a framework, whose blocks it knows by their addresses.
///
/// Memory is handed out in the order of streams: what is freed on one may at once be handed to an allocation on it, and to one on another
/// stream only behind its work. Streams are `CUstream`s of the device's primary context, as numbers; 0 and 1 are the legacy default stream, 2 is the
/// default stream of whatever thread asks. All that was allocated counts in the pool's figures,
/// and keeps to its limit. Any thread may use it. What is not freed when it goes is freed then.
#[derive(Debug)]
pub struct Hook {
    pool: MemoryPool,
    /// Whether each request asks if its stream is captured.
    asks_of_captures: bool,
    streams: Mutex<Streams>,
    table: Mutex<Table>,
    /// Freed blocks whose streams could not say how far they are; whether there are any.
    left: Mutex<Vec<Handed>>,
    any_left: AtomicBool,
}

impl Hook {
    /// Of a pool of a CUDA device. A request on a stream that is being captured into a graph is refused, which costs a call of the driver.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a pool of anything else.
    pub fn new(pool: &MemoryPool) -> Result<Self> {
        Self::make(pool, true)
    }

    /// The same without that call, for who lets no request come from a stream that is captured.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_captures(pool: &MemoryPool) -> Result<Self> {
        Self::make(pool, false)
    }

    fn make(pool: &MemoryPool, asks_of_captures: bool) -> Result<Self> {
        if !matches!(pool.device(), Device::Cuda(_)) {
            let device = pool.device();
            let what = format!("the pool is of {device}, and memory of a CUDA device is needed; make one of cuda:0");
            return Err(Error::InvalidArgument { op: "Hook::new", what });
        }
        Ok(Self {
            pool: pool.clone(),
            asks_of_captures,
            streams: Mutex::default(),
            table: Mutex::default(),
            left: Mutex::default(),
            any_left: AtomicBool::new(false),
        })
    }

    /// The pool.
    pub fn pool(&self) -> &MemoryPool {
        &self.pool
    }

    /// Blocks that are allocated and not freed.
    pub fn live_blocks(&self) -> usize {
        self.pool_of_device().map_or(0, |_| lock(&self.table).len())
    }

    /// Memory of at least `bytes` bytes, aligned to 256, to be used on `stream` from now on: `CUdeviceptr`. No bytes are 0, of which nothing has to be
    /// freed.
    ///
    /// `None`: on the legacy default stream and any that waits for it, as all do that were not made to be non-blocking. Where the memory was used
    /// before, these are ordered behind that all together.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] where the stream is none of this device, or captured; [`Error::DeviceLost`].
    ///
    /// # Safety
    /// It is a stream of the device's primary context. It stays until what was allocated, recorded or freed on it is freed and it was
    /// [forgotten](Self::forget_stream), or `keeper`, which is called where the stream is taken up and dropped when it is let go, keeps it.
    pub unsafe fn allocate(&self, bytes: usize, stream: Option<usize>, keeper: impl FnOnce() -> Keeper) -> Result<u64> {
        let pool = self.pool_of_device()?;
        if bytes == 0 {
            return Ok(0);
        }
        // SAFETY: forwarded contract; the legacy stream stays as long as its context.
        let on = unsafe { self.stream(pool, stream.unwrap_or(LEGACY), keeper) }?;
        self.end_those_left();
        if self.asks_of_captures {
            // SAFETY: forwarded contract.
            unsafe { check_capture(pool, stream.unwrap_or(LEGACY)) }?;
        }
        let block = pool.allocate(bytes, 1, on.theirs().queue())?;
        let waits = block.waits_of_host(super::Access::Write)?;
        if !waits.is_empty() {
            on.theirs().wait_for(&waits)?;
            if matches!(stream, None | Some(PER_THREAD)) && !omitted(Omission::MarkForAll) {
                all_behind(pool, &waits)?;
            }
        }
        let address = address_of(pool, &block)?;
        lock(&self.table).enter(address, Handed::new(block, on));
        Ok(address)
    }

    /// Gives a block back. It is handed out again behind all that `stream` has by now; `None`: the stream that it was allocated on; and behind
    /// all that streams have by now on which it was [recorded](Self::record_stream). Who names another stream than the block's has ordered that behind
    /// what uses the block. 0 does nothing.
    ///
    /// # Errors
    /// [`Error::InvalidFree`] for what is no live block of this hook, which changes nothing, and is counted; what is wrong with the stream, and
    /// then the block stays allocated; [`Error::DeviceLost`] in a forked child.
    ///
    /// # Safety
    /// As [`allocate`](Self::allocate). Nobody submits work on the block from now on.
    pub unsafe fn free(&self, address: u64, stream: Option<usize>, keeper: impl FnOnce() -> Keeper) -> Result<()> {
        let pool = self.pool_of_device()?;
        if address == 0 {
            return Ok(());
        }
        let taken = lock(&self.table).take(address, |on| stream.is_none_or(|raw| on.is(raw)));
        let handed = match (taken, stream) {
            (Taken::Block(handed), _) => handed,
            (Taken::Other, Some(raw)) => {
                // SAFETY: forwarded contract.
                let on = unsafe { self.stream(pool, raw, keeper) }?;
                // Another free of it may have come between.
                match lock(&self.table).take(address, |_| true) {
                    Taken::Block(handed) => handed.freed_on(on),
                    _ => return Err(refused(address)),
                }
            }
            _ => return Err(refused(address)),
        };
        self.end(handed);
        self.end_those_left();
        Ok(())
    }

    /// Says that a block is used on another stream than it was allocated on: until it is freed, whatever that stream has then. Costs no call of the
    /// driver for a stream that is known.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no live block of this hook; what is wrong with the stream, and then the block is never handed out
    /// again; [`Error::DeviceLost`].
    ///
    /// # Safety
    /// As [`allocate`](Self::allocate).
    pub unsafe fn record_stream(&self, address: u64, stream: usize, keeper: impl FnOnce() -> Keeper) -> Result<()> {
        let pool = self.pool_of_device()?;
        if address == 0 {
            return Ok(());
        }
        // SAFETY: forwarded contract.
        let opened = unsafe { self.stream(pool, stream, keeper) };
        let (known, opened) = match opened {
            Ok(on) => (lock(&self.table).record(address, Some(&on)), Ok(())),
            Err(error) => (lock(&self.table).record(address, None), Err(error)),
        };
        if known {
            return opened;
        }
        let what = format!("{address:#x} is no live block of this hook; record a block before it is freed");
        let op = "record_stream";
        Err(Error::InvalidArgument { op, what })
    }

    /// Whether a live block of this hook begins there.
    pub fn owns(&self, address: u64) -> bool {
        self.pool_of_device().is_ok() && lock(&self.table).has(address)
    }

    /// Lets go of a stream that its owner is about to destroy. Of what was allocated on it and is live nothing changes: free that first.
    pub fn forget_stream(&self, stream: usize) {
        if self.pool_of_device().is_ok() {
            self.end_those_left();
            let gone = lock(&self.streams).forget(stream);
            drop(gone);
        }
    }

    /// Waits until the streams that it knows have done what they have by now, and gives what is empty then back to the device: bytes.
    pub fn trim(&self) -> usize {
        let Ok(pool) = self.pool_of_device() else { return 0 };
        self.end_those_left();
        let streams = lock(&self.streams).all();
        // What is used by one whose end cannot be told stays.
        let ends: Vec<Ticket> = streams.iter().filter_map(|on| on.theirs().so_far().ok()).collect();
        let _ = pool.engine().wait(&ends);
        self.pool.trim(0)
    }

    /// Whether no block of it is live, or waits to be freed.
    fn is_unused(&self) -> bool {
        self.live_blocks() == 0 && !self.any_left.load(Ordering::Acquire)
    }

    /// # Errors
    /// [`Error::DeviceLost`] in a forked child, where locks of this may be held by threads that are not there.
    fn pool_of_device(&self) -> Result<&DevicePool> {
        let pool = self.pool.device_pool().ok_or_else(|| Error::InvalidArgument {
            op: "Hook",
            what: "the pool is of no device".to_owned(),
        })?;
        pool.engine().check()?;
        Ok(pool)
    }

    /// A stream, opened if it was not.
    ///
    /// # Errors
    /// As [`super::Theirs::open`].
    ///
    /// # Safety
    /// As [`allocate`](Self::allocate).
    unsafe fn stream(&self, pool: &DevicePool, raw: usize, keeper: impl FnOnce() -> Keeper) -> Result<Arc<Opened>> {
        if let Some(known) = lock(&self.streams).find(raw) {
            return Ok(known);
        }
        // SAFETY: forwarded contract.
        let opened = Arc::new(unsafe { Opened::open(pool.engine(), raw, keeper()) }?);
        let (on, gone) = lock(&self.streams).enter(opened);
        drop(gone);
        Ok(on)
    }

    /// Ends a block that is in the table no more.
    fn end(&self, handed: Handed) {
        match handed.note_end() {
            // Where the device is gone there is nothing to be ordered behind.
            Ok(()) | Err(Error::DeviceLost { .. }) => drop(handed),
            Err(_) if handed.is_lost() => handed.forget(),
            Err(_) => {
                lock(&self.left).push(handed);
                self.any_left.store(true, Ordering::Release);
            }
        }
    }

    fn end_those_left(&self) {
        // Acquire: as whoever has left one has stored it. Who misses it comes again.
        if self.any_left.load(Ordering::Acquire) && self.any_left.swap(false, Ordering::AcqRel) {
            let left = std::mem::take(&mut *lock(&self.left));
            left.into_iter().for_each(|handed| self.end(handed));
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if self.pool_of_device().is_err() {
            return; // the parent's; blocks see to themselves
        }
        let mut all = lock(&self.table).take_all();
        all.append(&mut lock(&self.left));
        for handed in all {
            // Once more: whose end cannot be told now will not be told at all, and its memory is never handed out again.
            if let Err(Error::DeviceLost { .. }) | Ok(()) = handed.note_end() {
                drop(handed);
            } else {
                handed.forget();
            }
        }
    }
}

/// Frees of this process that were refused, since they named no live block.
pub fn refused_frees() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

fn refused(address: u64) -> Error {
    REFUSED.fetch_add(1, Ordering::Relaxed);
    Error::InvalidFree {
        address: address as usize,
        reason: "no live block of this hook begins there: it was freed, or is somebody else's",
    }
}

/// Has all streams that wait for the legacy one be ordered behind work, by a mark that stands in that: what it does comes behind all that they have by
/// then, and before all that they get later.
///
/// # Errors
/// What the driver said.
fn all_behind(pool: &DevicePool, waits: &[Ticket]) -> Result<()> {
    let engine = pool.engine();
    let cuda = engine.backend().cuda().ok_or_else(|| engine.not_cuda("a hook"))?;
    cuda.events_of(waits).map(drop).map_err(|refusal| engine.error(refusal))
}

fn address_of(pool: &DevicePool, block: &PoolBlock) -> Result<u64> {
    let engine = pool.engine();
    let cuda = engine.backend().cuda().ok_or_else(|| engine.not_cuda("a hook"))?;
    Ok(cuda.address(block.part(0, 0)))
}
