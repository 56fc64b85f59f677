//! `PoolBlock`: the one handle of a block of a pool; `PoolOwner`: that of a pool; `Visit`: of one that was found among all.
//!
//! What is known of the block lies in a room that its pool gives out again, so that the handle is one word, and neither taking nor
//! giving back a block asks anybody for memory or moves anything around.
//!
//! Invariants:
//! - H1: a room holds a block from `PoolBlock::new` until the drop of that handle; else it is among the pool's spare ones, or nobody's.
//! - H2: a pool lives while its owner does, and after that while a block of it is live, or a visit lasts. Who of them is the last is
//!   found out under the pool's lock, and frees it.
//! - H3: a pool that is in the list of all leaves it, under the list's lock, before it is freed.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::PoisonError;

use super::uses::Uses;
use super::{DeviceBlock, DevicePool, ask};
use crate::backend::{SlabId, Span, Ticket};
use crate::heap;

/// Where a block is written down, or was, or will be.
pub(super) type Room = Box<DeviceBlock>;

/// A block. Dropping it gives the range back at once, behind the work that uses it; it waits for nothing.
#[derive(Debug)]
pub(crate) struct PoolBlock(NonNull<DeviceBlock>);

// SAFETY: the one owner of a `DeviceBlock`, which may be used and dropped on any thread.
unsafe impl Send for PoolBlock {}
// SAFETY: as above; a shared handle gives a shared block.
unsafe impl Sync for PoolBlock {}

impl PoolBlock {
    /// A block that is live in `pool`, at `place`: its region, and the parts of its heap's block; and the other fields.
    #[inline(always)]
    pub(super) fn new(
        room: Option<Room>,
        pool: &DevicePool,
        place: (u32, u32, u32, heap::Tag),
        span: Span,
        requested: usize,
        host: Option<NonNull<u8>>,
        behind: Ticket,
    ) -> Self {
        let mut room = room.unwrap_or_else(fresh_room);
        let block = &mut *room;
        // Field by field: put together elsewhere and moved here as a whole, it takes much longer (the processor waits when it reads what it
        // has just written in other pieces).
        block.pool = pool.address.0;
        block.region = place.0;
        (block.block.offset, block.block.node, block.block.tag) = (place.1, place.2, place.3);
        block.span = span;
        block.requested = requested;
        block.host = host;
        uses_of(block).begin_behind(behind);
        Self(NonNull::from(Box::leak(room)))
    }
}

pub(super) fn uses_of(block: &mut DeviceBlock) -> &mut Uses {
    block.uses.get_mut().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn fresh_room() -> Room {
    let span = Span {
        slab: SlabId(0),
        offset: 0,
        bytes: 0,
    };
    Box::new(DeviceBlock::without_pool(None, span, 0, None))
}

impl Deref for PoolBlock {
    type Target = DeviceBlock;

    #[inline]
    fn deref(&self) -> &DeviceBlock {
        // SAFETY: the room holds a block (H1).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for PoolBlock {
    fn drop(&mut self) {
        // SAFETY: the room holds a block (H1), and this is its only handle.
        let block = unsafe { self.0.as_mut() };
        debug_assert!(block.other_home.is_none(), "a block without a pool");
        let pool = block.pool;
        // SAFETY: the pool lives while this block does (H2).
        let here = unsafe { pool.as_ref() };
        if !here.engine().is_here() {
            // The block is the parent's. The room is the child's own copy, in which no other thread is.
            // SAFETY: leaked in `new`, and this is the end of its only handle.
            return drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
        let loans = block.loans.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !loans.is_empty() && !block.end_all_loans() {
            return; // who has it may use it for ever (N2 of `loan.rs`)
        }
        // SAFETY: leaked in `new`, and this is the end of its only handle.
        let room = unsafe { Box::from_raw(self.0.as_ptr()) };
        if here.take_back(room) {
            // SAFETY: its owner is gone, and this was the last block, as was found under the lock (H2).
            unsafe { free(pool) };
        }
    }
}

/// Who a pool belongs to.
#[derive(Debug)]
pub(crate) struct PoolOwner(NonNull<DevicePool>);

// SAFETY: a pool is used from any thread, and dropped by whoever is the last.
unsafe impl Send for PoolOwner {}
// SAFETY: as above.
unsafe impl Sync for PoolOwner {}

impl PoolOwner {
    pub(super) fn new(pool: DevicePool) -> Self {
        let pool = Box::leak(Box::new(pool));
        let address = NonNull::from(&mut *pool);
        // SAFETY: nobody else has it yet. From here on there are shared references only, until the last frees it.
        unsafe { (*address.as_ptr()).address = Address(address) };
        Self(address)
    }
}

/// Where a pool lies, as its blocks know it: good for freeing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Address(NonNull<DevicePool>);

// SAFETY: a number until somebody follows it, who proves that he may.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

impl Address {
    /// Of a pool that is being made.
    pub(super) const NOWHERE: Self = Self(NonNull::dangling());
}

impl Deref for PoolOwner {
    type Target = DevicePool;

    #[inline]
    fn deref(&self) -> &DevicePool {
        // SAFETY: the pool lives while its owner does (H2).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for PoolOwner {
    fn drop(&mut self) {
        if self.engine().is_here() && self.close() {
            // SAFETY: the last, as was found under the lock (H2), so nobody reaches it any more.
            unsafe { free(self.0) };
        }
    }
}

/// A pool that somebody who is not its owner looks at.
#[derive(Debug)]
pub(crate) struct Visit(Address);

impl Visit {
    /// Of a pool that is in the list of all, whose lock the caller has; not of one whose last handle has gone.
    ///
    /// # Safety
    /// `address` is in that list.
    pub(super) unsafe fn begin(address: Address) -> Option<Self> {
        // SAFETY: it is in the list, which it would have to leave before it is freed (H3).
        let pool = unsafe { address.0.as_ref() };
        if !pool.engine().is_here() {
            return None;
        }
        let mut state = pool.state();
        if state.is_abandoned() {
            return None; // whoever was the last is about to free it
        }
        state.visits += 1;
        Some(Self(address))
    }
}

impl Deref for Visit {
    type Target = DevicePool;

    fn deref(&self) -> &DevicePool {
        // SAFETY: the pool lives while this does (H2).
        unsafe { self.0.0.as_ref() }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.engine().is_here() {
            return;
        }
        let mut state = self.state();
        state.visits -= 1;
        let last = state.is_abandoned();
        drop(state);
        if last {
            // SAFETY: the last, as was found under the lock (H2), so nobody reaches it any more.
            unsafe { free(self.0.0) };
        }
    }
}

/// # Safety
/// As [`PoolOwner::new`] made it, and the caller is the last that H2 speaks of.
unsafe fn free(pool: NonNull<DevicePool>) {
    ask::leave(Address(pool));
    // SAFETY: by contract.
    drop(unsafe { Box::from_raw(pool.as_ptr()) });
}
