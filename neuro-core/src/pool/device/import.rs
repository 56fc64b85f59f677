//! Host memory that a device reaches where it lies: blocks of pools with GPU support, without a copy or by a copy of the device's
//! own.
//!
//! ```text
//! region of a host pool   |....|=====================|....|            steps of 2 MiB; === imported, once a device, as one slab
//! blocks                           [ a ]   [ b ]                       a has a face: what uses it on the device, in one place
//! ```
//!
//! Memory is imported when a block in it is first used by a device, and stays so until the pool is trimmed or gone: that it must not
//! move meanwhile makes it expensive to import (the system pins its pages). Where devices lock memory for all of their domain
//! (`domain.rs`), it is imported before blocks of it are handed out (`pool/locking.rs`), and here only what was refused then.
//!
//! Invariants:
//! - I1: memory of a range that is imported, or about to be, is not given back to the system: its region is pinned, or it is
//!   marked as locked, from before the import until no import of it is left.
//! - I2: of each block a device has one face at most, so that all its work on the block is ordered.
//! - I3: a face, and with it the block, stays until the device's work on it is known to be done.
//!
//! Lock order: the domain, the pool, then the table here. The driver is called with neither held.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use smallvec::SmallVec;

use super::uses::Numbers;
use super::{Domain, Engine};
use crate::backend::host::STEP;
use crate::backend::{Slab, SlabId};
use crate::pool::MemoryPool;
use crate::pool::region::Piece;
use crate::sync::global::{Mutex, MutexGuard, lock};

/// Imports of devices that do not lock are joined up to this many bytes.
const LONGEST: usize = 1 << 30;

/// A range of host memory as a slab of a device.
#[derive(Debug)]
pub(crate) struct Import {
    engine: Arc<Engine>,
    /// Others of its domain that have used it.
    users: Mutex<Vec<Arc<Engine>>>,
    slab: Slab,
    start: usize,
}

/// All that a block lies in, in order.
pub(super) type Imports = SmallVec<[Arc<Import>; 1]>;

impl Import {
    fn new(engine: &Arc<Engine>, slab: Slab, start: usize) -> Arc<Self> {
        Arc::new(Self {
            engine: Arc::clone(engine),
            users: Mutex::default(),
            slab,
            start,
        })
    }

    pub(super) fn slab(&self) -> SlabId {
        self.slab.id
    }

    pub(crate) fn addresses(&self) -> Range<usize> {
        self.start..self.start + self.slab.bytes as usize
    }

    fn note_user(&self, engine: &Arc<Engine>) {
        if !Arc::ptr_eq(&self.engine, engine) {
            let mut users = lock(&self.users);
            if !users.iter().any(|user| Arc::ptr_eq(user, engine)) {
                users.push(Arc::clone(engine));
            }
        }
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if self.engine.is_here() {
            // No face is left, so no work (I3).
            self.engine.retire(self.slab.id, Numbers::default());
        }
    }
}

/// By the domain, and the first address.
type Key = (usize, usize);

#[derive(Debug)]
struct Entry {
    end: usize,
    pool: u64,
    /// Whether its domain locks memory.
    locks: bool,
    /// `None` while it is being made.
    import: Option<Arc<Import>>,
}

/// Ranges that are imported; those of one domain do not overlap.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Key, Entry>);

static TABLE: Mutex<Table> = Mutex::new(Table(BTreeMap::new()));

/// For a fork, which happens with no lock of the library held by anybody else.
pub(crate) fn lock_table() -> MutexGuard<'static, Table> {
    lock(&TABLE)
}

impl Table {
    /// In a forked child: what the parent imported is not the child's, and stays as it is.
    pub(crate) fn leave(&mut self) {
        std::mem::forget(std::mem::take(&mut self.0));
    }

    /// What `range` lies in: one import, or, where the domain `locks`, several side by side.
    fn covering(&self, domain: usize, range: &Range<usize>, locks: bool) -> Option<Imports> {
        let (first, _) = self.0.range((domain, 0)..=(domain, range.start)).next_back()?;
        let mut imports = Imports::new();
        let mut end = range.start;
        for (&(_, start), entry) in self.0.range(*first..(domain, range.end)) {
            if start > end || entry.end <= end {
                return None; // a gap
            }
            imports.push(entry.import.clone()?);
            end = entry.end;
            if end >= range.end {
                return Some(imports);
            }
            if !locks {
                return None;
            }
        }
        None
    }

    /// Takes out what `may_go` and nobody else has.
    fn take_unused(&mut self, may_go: impl Fn(usize, &Entry) -> bool) -> Vec<Arc<Import>> {
        let mut gone = Vec::new();
        self.0.retain(|key, entry| {
            let unused = entry
                .import
                .as_ref()
                .is_some_and(|import| Arc::strong_count(import) == 1);
            let goes = unused && may_go(key.1, entry);
            if goes {
                gone.extend(entry.import.take());
            }
            !goes
        });
        gone
    }

    /// Enters a range that is about to be imported, joined with those of the domain that it overlaps, which leave the table.
    fn begin(&mut self, domain: usize, mut range: Range<usize>, pool: u64, most: usize) -> (Range<usize>, Vec<Entry>) {
        let overlapping: Vec<Key> = self
            .0
            .range((domain, 0)..(domain, range.end))
            .filter(|(key, entry)| key.1 < range.end && entry.end > range.start)
            .map(|(key, _)| *key)
            .collect();
        let left: Vec<Entry> = overlapping.iter().filter_map(|key| self.0.remove(key)).collect();
        let first = overlapping.first().map_or(range.start, |key| key.1.min(range.start));
        let last = left.last().map_or(range.end, |entry| entry.end.max(range.end));
        if last - first <= most {
            range = first..last;
        }
        let entry = Entry {
            end: range.end,
            pool,
            locks: false,
            import: None,
        };
        self.0.insert((domain, range.start), entry);
        (range, left)
    }
}

/// Whether some of these addresses are imported, or about to be, by a device that does not lock them. Asked under the pool's lock.
pub(crate) fn is_any(addresses: &Range<usize>) -> bool {
    let table = lock(&TABLE);
    let mut entries = table.0.iter().filter(|(_, entry)| !entry.locks);
    entries.any(|(key, entry)| key.1 < addresses.end && entry.end > addresses.start)
}

/// Whether all of these addresses are locked in place.
pub(crate) fn is_locked(addresses: &Range<usize>) -> bool {
    let table = lock(&TABLE);
    let locks = table.0.iter().filter(|(_, entry)| entry.locks);
    let domains: SmallVec<[usize; 2]> = locks.map(|(&(domain, _), _)| domain).collect();
    let mut domains = domains.into_iter();
    domains.any(|domain| table.covering(domain, addresses, true).is_some())
}

/// Bytes of a pool that are imported: each once, however many devices have it.
pub(crate) fn bytes_of(pool: u64) -> usize {
    let table = lock(&TABLE);
    let entries = table.0.iter();
    let ours = entries.filter(|(_, entry)| entry.pool == pool && entry.import.is_some());
    let mut ranges: Vec<(usize, usize)> = ours.map(|(key, entry)| (key.1, entry.end)).collect();
    drop(table);
    ranges.sort_unstable();
    let (mut bytes, mut seen) = (0, 0);
    for (start, end) in ranges {
        bytes += end.saturating_sub(start.max(seen));
        seen = seen.max(end);
    }
    bytes
}

/// Gives up the imports of a pool, or of all, that no device uses: those that devices have made for themselves. No lock is held.
pub(crate) fn release(pool: Option<u64>) {
    let may_go = |_: usize, entry: &Entry| !entry.locks && pool.is_none_or(|pool| entry.pool == pool);
    let gone = lock(&TABLE).take_unused(may_go);
    drop(gone); // calls the driver: after the lock
}

/// Takes the imports of a pool out that a domain has locked, that no device uses, and that are free. The domain's lock is held, until
/// they are dropped.
pub(crate) fn take_locked(
    domain: &Arc<Domain>,
    pool: u64,
    is_free: impl Fn(&Range<usize>) -> bool,
) -> Vec<Arc<Import>> {
    let ours = |import: &Arc<Import>| Arc::ptr_eq(import.engine.domain(), domain);
    let may_go = |start: usize, entry: &Entry| {
        entry.locks && entry.pool == pool && entry.import.as_ref().is_some_and(ours) && is_free(&(start..entry.end))
    };
    lock(&TABLE).take_unused(may_go)
}

/// The domains that have locked memory of a pool, or of any.
pub(crate) fn locking_domains(pool: Option<u64>) -> Vec<Arc<Domain>> {
    let table = lock(&TABLE);
    let ours = |entry: &&Entry| entry.locks && pool.is_none_or(|pool| entry.pool == pool);
    let imports = table.0.values().filter(ours).filter_map(|entry| entry.import.as_ref());
    // One domain's entries stand together.
    let mut domains: Vec<&Arc<Domain>> = imports.map(|import| import.engine.domain()).collect();
    domains.dedup_by(|a, b| Arc::ptr_eq(a, b));
    domains.into_iter().cloned().collect()
}

/// Waits for the devices that still use freed blocks of a pool; whether there were any.
pub(crate) fn finish(pool: u64) -> bool {
    let table = lock(&TABLE);
    let imports = table.0.values().filter(|entry| entry.pool == pool);
    let mut engines: Vec<Arc<Engine>> = Vec::new();
    for import in imports.filter_map(|entry| entry.import.as_ref()) {
        engines.push(Arc::clone(&import.engine));
        engines.extend(lock(&import.users).iter().cloned());
    }
    drop(table);
    engines.sort_by_key(|engine| Arc::as_ptr(engine).addr());
    engines.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let waited = engines.iter().filter(|engine| engine.is_here() && engine.finish_kept());
    waited.count() > 0
}

fn key_of(domain: &Arc<Domain>) -> usize {
    Arc::as_ptr(domain).addr()
}

/// What `wanted`, which lies in the live block of a pool at `host`, is imported as, so that `engine` can use it. `None` where it cannot be;
/// why is in [`Engine::import_refused`], if it was tried.
pub(super) fn imports_of(engine: &Arc<Engine>, host: NonNull<u8>, wanted: &Range<usize>) -> Option<Imports> {
    let locks = engine.backend().import_domain().is_some();
    let known = lock(&TABLE).covering(key_of(engine.domain()), wanted, locks);
    let imports = match known {
        Some(imports) => imports,
        None => make(engine, host, wanted, locks)?,
    };
    imports.iter().for_each(|import| import.note_user(engine));
    Some(imports)
}

#[cold]
fn make(engine: &Arc<Engine>, host: NonNull<u8>, wanted: &Range<usize>, locks: bool) -> Option<Imports> {
    let (pool, region) = MemoryPool::gpu_region_of(host)?;
    let steps = wanted.start / STEP * STEP..wanted.end.next_multiple_of(STEP);
    if steps.start < region.start || steps.end > region.end {
        return None; // what somebody else says to lie here reaches beyond
    }
    let key = key_of(engine.domain());
    // One import at a time: whoever waited looks again.
    let _change = engine.domain().change();
    if let Some(imports) = lock(&TABLE).covering(key, wanted, locks) {
        return Some(imports);
    }
    if locks {
        let pieces = MemoryPool::mark_locked_at(host, &steps);
        let refused = lock_pages(engine, pool, pieces);
        MemoryPool::clear_locked_at(host, &refused);
        return lock(&TABLE).covering(key, wanted, true);
    }
    let most = (engine.backend().facts().max_slab_bytes).min(LONGEST as u64) as usize;
    let (range, left) = lock(&TABLE).begin(key, steps, pool, most);
    drop(left); // those without a face go before their memory is imported again
    let address = host.addr().get();
    // SAFETY: the range lies in the region (all its parts are steps that blocks touch), around `host`.
    let start = unsafe { host.offset(range.start.wrapping_sub(address).cast_signed()) };
    let pinned = MemoryPool::pin_region_of(host);
    // SAFETY: the steps are memory of a region that is pinned (I1), which lives as long as its pool; that gives up its imports first.
    let slab = pinned.then(|| unsafe { engine.backend().import_host(start, range.len() as u64) });
    let mut table = lock(&TABLE);
    match slab {
        Some(Ok(slab)) => {
            let import = Import::new(engine, slab, range.start);
            engine.domain().note_refused(None);
            if let Some(entry) = table.0.get_mut(&(key, range.start)) {
                entry.import = Some(Arc::clone(&import));
            }
            Some(SmallVec::from_elem(import, 1))
        }
        refused => {
            table.0.remove(&(key, range.start));
            drop(table);
            if let Some(Err(refusal)) = refused {
                engine.domain().note_refused(Some(engine.error(refusal).to_string()));
            }
            None
        }
    }
}

/// Imports `pieces` of a pool for all devices of `engine`'s domain, each by one call; those that were refused, and what came after them.
/// The domain's lock is held, the pieces are marked as locked, and nothing of the domain overlaps them.
pub(crate) fn lock_pages(engine: &Arc<Engine>, pool: u64, pieces: Vec<Piece>) -> Vec<Piece> {
    let key = key_of(engine.domain());
    let engine = engine.domain().leader(engine);
    let mut left = pieces;
    left.reverse();
    while let Some(piece) = left.last() {
        // SAFETY: pages of a region that are marked as locked, so that their memory stays (I1); the import goes before the region does.
        match unsafe { engine.backend().import_host(piece.start, piece.bytes as u64) } {
            Ok(slab) => {
                let addresses = piece.addresses();
                let entry = Entry {
                    end: addresses.end,
                    pool,
                    locks: true,
                    import: Some(Import::new(engine, slab, addresses.start)),
                };
                lock(&TABLE).0.insert((key, addresses.start), entry);
                engine.domain().note_refused(None);
                left.pop();
            }
            Err(refusal) => {
                engine.domain().note_refused(Some(engine.error(refusal).to_string()));
                return left;
            }
        }
    }
    left
}
