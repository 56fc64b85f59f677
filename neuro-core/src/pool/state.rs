//! What a pool's lock guards, and what happens to blocks under it.
//!
//! - here: handing out and taking back; `small.rs`: slots and slabs; `live.rs`: blocks that are live;
//! - `grow.rs`: regions: placing blocks in them, growth, the order on out-of-memory, trim;
//! - `flush.rs`: the threads' caches: emptying, counting, letting go.
//!
//! Invariants:
//! - P1: what the heaps have handed out, slabs whole, is at most the limit, rounded up to a granule; so nobody who takes a slot
//!   from a cache has to look. Where free slots of slabs stand in the way of the last bytes, the pool is *overdrawn*: it counts
//!   blocks alone, and every request comes here. The capacities of the regions of each kind are at most the limit, too.
//! - P2: the address table names this pool for exactly the addresses of its regions.
//! - P3: a region that is dropped has no live block, and no cache has a block of it.
//! - P4: each block of a heap is a slab, or live, or waits in a cache or the pending list; its record says which.
//!
//! Absent on purpose: foreign code. Nothing here calls out, so the lock is never held for longer than a system call.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use super::cache::{Cache, Kept, Medium};
use super::depot::Depot;
use super::guard::Guard;
use super::head::Head;
use super::options::Options;
use super::record::{BlockWord, GRANULE, Record, SlabWord};
use super::region::{Placed, Region};
use super::scope::Scopes;
use super::slab::{LIVE, REQUESTED, SMALL_UNITS, Slabs, Slot};
use super::{Inner, local};
use crate::backend::host::STEP;
use crate::error::{Error, Result};
use crate::ledger::{Counters, Usage};

/// Alignments a pool can give, in bytes: powers of two up to this.
const MAX_ALIGNMENT: usize = STEP;

/// # Errors
/// [`Error::InvalidArgument`] for an alignment that no pool can give.
#[inline]
pub(super) fn check_alignment(alignment: usize) -> Result<()> {
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        op: "allocate",
        what: format!("alignment {alignment} B is not a power of two up to {MAX_ALIGNMENT} B"),
    })
}

/// A block that is handed out, and which of its bytes may hold something.
pub(super) struct Given {
    pub(super) ptr: NonNull<u8>,
    pub(super) dirty: std::ops::Range<usize>,
}

pub(super) struct State {
    /// `MemoryPool` values that name this pool.
    pub(super) handles: usize,
    pub(super) options: Options,
    pub(super) counters: Counters,
    pub(super) reserved: Usage,
    pub(super) committed: Usage,
    pub(super) regions: Vec<Region>,
    pub(super) slabs: Slabs,
    pub(super) caches: Vec<NonNull<Cache>>,
    /// By the number of the cache; the first is nobody's.
    pub(super) depots: Vec<Depot>,
    /// How many things need every request to come here: scopes, guards, injected failures. Caches are claimed meanwhile.
    pub(super) slow: usize,
    /// No handle is left: no cache, no pending list, and the last block takes the pool along.
    pub(super) closing: bool,
    /// P1: the limit is counted in blocks; one of the reasons for `slow`.
    pub(super) overdrawn: bool,
    /// Committed bytes at which the caches are emptied before the pool grows.
    pub(super) next_flush: usize,
    pub(super) scopes: Scopes,
    pub(super) guard: Option<Guard>,
    /// Allocations until one is refused.
    pub(super) fail_in: Option<u64>,
    /// Most bytes allocated since the reaper looked last.
    pub(super) recent_peak: usize,
    /// Blocks that had been handed out by then, looks since it was at work, and when to look again.
    pub(super) served_before: u64,
    pub(super) idle_looks: u32,
    pub(super) next_look: Option<Instant>,
    /// A driver would not lock memory, since it was last asked to give some up.
    pub(super) lock_refused: bool,
    /// Whether the soft limit's callback has been called since it was last below.
    pub(super) soft_reached: bool,
}

// SAFETY: caches are Sync, and belong to the pool until it lets go of them.
unsafe impl Send for State {}

impl State {
    pub(super) fn new(options: Options) -> Self {
        Self {
            handles: 1,
            options,
            counters: Counters::default(),
            reserved: Usage::default(),
            committed: Usage::default(),
            regions: Vec::new(),
            slabs: Slabs::default(),
            caches: Vec::new(),
            depots: Vec::new(),
            slow: 0,
            closing: false,
            overdrawn: false,
            next_flush: 0,
            scopes: Scopes::default(),
            guard: None,
            fail_in: None,
            recent_peak: 0,
            served_before: 0,
            idle_looks: 0,
            next_look: None,
            lock_refused: false,
            soft_reached: false,
        }
    }

    /// Whether nobody can reach the pool any more: no handle, no block.
    pub(super) fn is_abandoned(&self) -> bool {
        self.closing && self.counters.blocks.current == 0
    }

    /// Hands out a block of `requested` bytes for `pool`, whose state this is.
    pub(super) fn allocate(&mut self, pool: &Inner, requested: usize, alignment: usize) -> Result<Given> {
        check_alignment(alignment)?;
        self.drain(pool);
        if self.must_fail(pool) {
            let cause = std::io::Error::other("a failure that fail_nth asked for");
            return Err(self.out_of_memory(pool, requested, alignment, Some(cause)));
        }
        let room = requested
            .max(1)
            .saturating_add(self.guard.as_ref().map_or(0, Guard::extra));
        let Ok(units) = u32::try_from(room.div_ceil(GRANULE)) else {
            return Err(self.out_of_memory(pool, requested, alignment, None));
        };
        if self.overdrawn && self.room() < u64::from(units) {
            return Err(self.out_of_memory(pool, requested, alignment, None));
        }
        // Both are powers of two; a granule is aligned to itself.
        let align = (alignment / GRANULE).max(1) as u32;
        let small = units.saturating_add(align - 1) & !(align - 1);
        if small <= SMALL_UNITS
            && (!self.overdrawn || u64::from(small) <= self.room())
            && self.guard.is_none()
            && let Some(ptr) = self.allocate_small(pool, small, requested)
        {
            return Ok(Given {
                ptr,
                dirty: 0..requested,
            });
        }
        if let Some(placed) = self.reuse(units, align) {
            return Ok(self.hand_out(&placed, requested, pool));
        }
        match self.place(pool, units, align) {
            Ok(Some(placed)) => Ok(self.hand_out(&placed, requested, pool)),
            Ok(None) => Err(self.out_of_memory(pool, requested, alignment, None)),
            Err(cause) => Err(self.out_of_memory(pool, requested, alignment, Some(cause))),
        }
    }

    /// Writes the record of a new block of the heap, and counts it.
    #[inline]
    fn hand_out(&mut self, placed: &Placed, requested: usize, pool: &Inner) -> Given {
        let bytes = placed.units as usize * GRANULE;
        let word = BlockWord::new(placed.block, placed.units, requested, self.guard.is_none());
        let address = placed.ptr.addr().get();
        if let Some(region) = self.region_of(address)
            && !region.head().record(address, placed.units, word)
        {
            pool.odd().insert(address, word);
        }
        self.fold_own(pool);
        self.count_in(requested, bytes);
        let mut dirty = placed.dirty_from.min(requested)..placed.dirty_to.min(requested);
        if let Some(guard) = self.guard.as_mut() {
            guard.arm(placed.ptr, requested, bytes);
            if guard.fills() {
                dirty = 0..requested; // full of a mark
            }
        }
        Given { ptr: placed.ptr, dirty }
    }

    /// A block comes back whose record says that it was freed: into this thread's cache in the place of another, if that is
    /// wanted, or to its slab or heap. What a guard has to say about it.
    pub(super) fn free(&mut self, pool: &Inner, ptr: NonNull<u8>, place: Option<(Medium, usize)>) -> Option<String> {
        if let Some(guard) = self.guard.as_mut()
            && let Some((requested, bytes, finding)) = guard.disarm(ptr)
        {
            self.count_out(pool, requested, bytes);
            self.release_quarantine(pool, false);
            return finding;
        }
        if let Some((medium, requested)) = place {
            let kept = local::with_store(pool.number, |store| {
                self.counters.fold(&mut store.drift);
                if let Some(out) = store.make_room(medium.units) {
                    self.return_medium(out.ptr);
                }
                store.keep_medium(medium, requested)
            });
            if matches!(kept, Some(Kept::Yes | Kept::AndFold)) {
                return None;
            }
        }
        self.take_back(pool, ptr);
        None
    }

    /// Takes back the live block at `ptr`, whose `word` stands at `place`: there is no guard.
    #[inline]
    pub(super) fn free_recorded(
        &mut self,
        pool: &Inner,
        head: &Head,
        ptr: NonNull<u8>,
        word: BlockWord,
        place: &AtomicU64,
    ) {
        if let Some((requested, bytes)) = self.give_recorded_back(head, ptr, word, place) {
            self.fold_own(pool);
            self.count_out(pool, requested, bytes);
        }
    }

    /// Gives the range of a live block back to its heap: the bytes that were asked for, and those it occupied.
    #[inline]
    pub(super) fn give_recorded_back(
        &mut self,
        head: &Head,
        ptr: NonNull<u8>,
        word: BlockWord,
        place: &AtomicU64,
    ) -> Option<(usize, usize)> {
        let block = word.block(head.offset_of(ptr.addr().get()));
        // Erased before the range can be handed out again.
        place.store(0, Ordering::Release);
        let here = std::ptr::from_ref(head);
        let region = self
            .regions
            .iter_mut()
            .find(|region| std::ptr::eq(region.head(), here))?;
        let bytes = region.free(block)? as usize * GRANULE;
        Some((bytes - word.slack(), bytes))
    }

    /// Takes back the block at `ptr`, whose record says that it was freed.
    pub(super) fn take_back(&mut self, pool: &Inner, ptr: NonNull<u8>) {
        if let Some((requested, bytes)) = self.give_range_back(pool, ptr) {
            self.fold_own(pool);
            self.count_out(pool, requested, bytes);
        }
    }

    /// Gives the range of a freed block to its slab or heap: the bytes that were asked for, and those it occupied.
    pub(super) fn give_range_back(&mut self, pool: &Inner, ptr: NonNull<u8>) -> Option<(usize, usize)> {
        let address = ptr.addr().get();
        let region = self.region_of(address)?;
        let offset = region.head().offset_of(address);
        let (record, place) = region.head().look(address);
        let word = match record {
            Record::Slab(slab) if slot_at(slab, address, 0).is_some() => {
                let (record, requested) = slot_at(slab, address, 0)?;
                let record = NonNull::from(record);
                self.stow(Slot { ptr, record }, slab.units());
                return Some((requested, slab.units() as usize * GRANULE));
            }
            // Erased before the range can be handed out again.
            Record::Block(word) => {
                place.store(0, Ordering::Release);
                word
            }
            _ => pool.odd().remove(&address)?,
        };
        let bytes = region.free(word.block(offset))? as usize * GRANULE;
        Some((bytes - word.slack(), bytes))
    }

    /// Takes back what was freed while somebody else had the lock. Whether there was anything.
    #[inline]
    pub(super) fn drain(&mut self, pool: &Inner) -> bool {
        if pool.pending.is_empty() {
            return false;
        }
        let mut any = false;
        for block in pool.pending.take() {
            self.take_back(pool, block);
            any = true;
        }
        any
    }

    #[inline]
    pub(super) fn count_in(&mut self, requested: usize, bytes: usize) {
        self.counters.add_block(requested, bytes);
        self.scopes.count(|counters| counters.add_block(requested, bytes));
        self.watch_peak();
    }

    #[inline]
    pub(super) fn count_out(&mut self, pool: &Inner, requested: usize, bytes: usize) {
        self.counters.remove_block(requested, bytes);
        self.scopes.count(|counters| counters.remove_block(requested, bytes));
        if self.overdrawn {
            self.end_overdraft(pool);
        }
        self.rearm_soft_limit();
    }

    /// Counts down to the failure that was asked for.
    #[inline]
    fn must_fail(&mut self, pool: &Inner) -> bool {
        let Some(left) = self.fail_in.as_mut() else {
            return false;
        };
        *left -= 1;
        let now = *left == 0;
        if now {
            self.fail_in = None;
            self.end_slow(pool);
        }
        now
    }

    /// The region that holds `address`.
    #[inline]
    pub(super) fn region_of(&mut self, address: usize) -> Option<&mut Region> {
        self.regions
            .iter_mut()
            .find(|region| region.addresses().contains(&address))
    }
}

/// The record of the slot of a slab that starts at `address`, and the bytes that were asked for; only if it is live, for `live`
/// of [`LIVE`], or only if not, for 0.
pub(super) fn slot_at<'a>(slab: SlabWord, address: usize, live: u32) -> Option<(&'a AtomicU32, usize)> {
    // SAFETY: callers hold the lock of the pool from which they have read the word, at this address.
    let (_, record) = unsafe { slab.slot_at(address) }?;
    let word = record.load(Ordering::Relaxed);
    (word & LIVE == live).then_some((record, (word & REQUESTED) as usize))
}
