//! Pools of device memory: blocks from a few slabs, reused in the order of the device's work, without waiting for it.
//!
//! ```text
//! block freed        uses known: nothing under way       idle: anybody's
//!                    work of one queue                    tagged with it: at once for work of that queue; others wait for it
//!                    work of several                      pending, until it is done
//! ```
//!
//! - `engines.rs`: devices that are in use, and the public side; `engine.rs`: a device, and what has to stay; `ring.rs`: staging memory;
//!   `lane.rs`: threads that transfer while the caller goes on; `import.rs`, `face.rs`, `domain.rs`: host memory that devices reach.
//! - `region.rs`: a slab and its heap, with the tags; `uses.rs`: which work uses a block; `block.rs`: a block, and work on it;
//!   `handle.rs`: who owns one, and where it is written down; `place.rs`: where a request is served from, and what is tried before it
//!   is refused; `expand.rs`: memory that grows in one range of addresses; `debug.rs`: blocks that are allocations of the driver; `room.rs`: what
//!   the device does not give; `share.rs`, `foreign.rs`: memory that others share, or own; `peer.rs`: copies from device to device;
//!   `theirs.rs`, `loan.rs`: streams of others that have blocks on loan; `hook/`: a pool as somebody else's allocator; `ask.rs`: what else a pool
//!   is asked, and all pools together.
//!
//! Lock order: a domain, all pools of the host; a block's uses, the pool's growth, the pool, the engine. No driver is called with the pool's lock held.

mod ask;
#[cfg(all(test, not(loom)))]
mod ask_tests;
mod block;
mod debug;
#[cfg(all(test, not(loom)))]
mod debug_tests;
mod domain;
mod engine;
mod engines;
mod expand;
#[cfg(all(test, not(loom)))]
mod expand_tests;
mod face;
mod foreign;
mod handle;
mod hook;
mod import;
mod lane;
mod loan;
mod peer;
mod place;
mod region;
mod ring;
mod room;
#[cfg(all(test, not(loom)))]
mod room_tests;
mod share;
#[cfg(all(test, not(loom)))]
mod tests;
mod theirs;
#[cfg(all(test, not(loom)))]
mod turn_tests;
mod uses;

use std::sync::Arc;

use self::handle::{Address, Room};
use self::region::{GRANULE, Region};
use self::uses::Users;
use super::scope::Scopes;
use crate::heap::Block;
use crate::ledger::{Counters, Usage};
use crate::sync::global::{AtomicBool, Mutex, MutexGuard, lock};

pub(crate) use self::ask::{Pools, lock_pools, pools};
pub(crate) use self::block::{DeviceBlock, cuda_turn, note_elsewhere, submit, turn};
pub(crate) use self::domain::Domain;
pub(crate) use self::engine::{Engine, gone};
pub use self::engines::shutdown;
#[cfg(all(test, not(loom)))]
pub(crate) use self::engines::{Lent, lend};
pub(crate) use self::engines::{engine_of, import_refused, may_enter, page_locker};
pub(crate) use self::face::Face;
pub(crate) use self::foreign::ForeignBlock;
pub use self::foreign::Ready;
pub(crate) use self::handle::{PoolBlock, PoolOwner};
pub use self::hook::{Hook, HookSlot, Keeper, OnFailure, SLOTS, SlotUse, refused_frees};
pub(crate) use self::import::{
    Import, Table as ImportTable, bytes_of as imported_bytes, finish as finish_imports, is_any as is_imported,
    is_locked, lock_pages, lock_table as lock_imports, locking_domains, release as release_imports, take_locked,
};
pub(crate) use self::lane::{Landing, Way};
pub(crate) use self::loan::Loan;
pub(crate) use self::peer::copy_to_peer;
pub(crate) use self::ring::{CHUNK, Chunk};
pub(crate) use self::share::SharedBlock;
pub(crate) use self::theirs::{LEGACY, PER_THREAD, Theirs};
pub use self::uses::Access;
pub(crate) use self::uses::{Numbers, Waits};
#[cfg(all(test, not(loom)))]
pub(crate) use crate::backend::planted::without;
pub(crate) use crate::backend::planted::{Omission, omitted};

/// A pool of one device's memory. Lives as long as its owner, or a block of it.
#[derive(Debug)]
pub(crate) struct DevicePool {
    address: Address,
    engine: Arc<Engine>,
    /// Most bytes of slabs.
    limit: u64,
    /// Held while the device is asked for a slab, or a range of addresses gets memory or loses some.
    growth: Mutex<()>,
    /// Slabs are for others, too.
    exports: AtomicBool,
    /// Grows in one range of addresses.
    expands: AtomicBool,
    /// Every block is an allocation of the driver.
    debugs: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A region keeps its place; a place may be vacant.
    regions: Vec<Option<Region>>,
    /// Freed blocks that work of several queues uses.
    pending: Vec<Pending>,
    counters: Counters,
    committed: Usage,
    reserved: Usage,
    scopes: Scopes,
    /// Allocations until one is refused.
    fail_in: Option<u64>,
    /// Its owner is gone.
    closed: bool,
    /// Who found it among all pools, and is not done with it.
    visits: usize,
    /// Rooms for blocks to come.
    spare: Vec<Room>,
}

#[derive(Debug)]
struct Pending {
    region: usize,
    block: Block,
    last: Numbers,
}

impl DevicePool {
    /// A pool of at most `limit` bytes.
    pub(crate) fn make(engine: Arc<Engine>, limit: u64) -> PoolOwner {
        debug_assert!(GRANULE.is_multiple_of(engine.backend().facts().alignment));
        PoolOwner::new(Self {
            address: Address::NOWHERE,
            engine,
            limit,
            growth: Mutex::default(),
            exports: AtomicBool::new(false),
            expands: AtomicBool::new(false),
            debugs: AtomicBool::new(debug::is_asked_for()),
            state: Mutex::default(),
        })
    }

    /// Its owner goes. Whether it is nobody's then.
    fn close(&self) -> bool {
        let mut state = self.state();
        state.closed = true;
        state.is_abandoned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl State {
    /// Whether neither the owner nor a block nor a visit is left.
    fn is_abandoned(&self) -> bool {
        self.closed && self.counters.blocks.current == 0 && self.visits == 0
    }

    /// Takes up what is done: blocks that were pending, and ranges that queues used.
    fn reclaim(&mut self, done: &Numbers) {
        let State { regions, pending, .. } = self;
        pending.retain(|pending| {
            let region = regions[pending.region].as_mut().filter(|region| !region.is_alone());
            !region.is_some_and(|region| region.free(pending.block, Users::up_to(&pending.last, done)))
        });
        regions.iter_mut().flatten().for_each(|region| region.reclaim(done));
    }
}

impl Drop for DevicePool {
    /// Waits for nothing: slabs that work still uses go when it is done.
    fn drop(&mut self) {
        if !self.engine.is_here() {
            return;
        }
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (at, region) in state.regions.iter().enumerate() {
            let Some(region) = region else { continue };
            let mut until = *region.behind();
            for pending in state.pending.iter().filter(|pending| pending.region == at) {
                until
                    .iter_mut()
                    .zip(pending.last)
                    .for_each(|(until, last)| *until = last.max(*until));
            }
            self.engine.retire(region.slab.id, until);
        }
    }
}
