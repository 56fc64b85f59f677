//! Host memory that a device reaches where it lies: blocks of pools with GPU support, without a copy or by a copy of the device's
//! own.
//!
//! ```text
//! region of a host pool   |....|=====================|....|            steps of 2 MiB; === imported, once a device, as one slab
//! blocks                           [ a ]   [ b ]                       a has a face: what uses it on the device, in one place
//! ```
//!
//! Memory is imported when a block in it is first used by a device, and stays so until the pool is trimmed or gone: that it must not
//! move meanwhile makes it expensive to import (the system pins its pages).
//!
//! Invariants:
//! - I1: memory of a range that is imported, or about to be, is not given back to the system: its region is pinned, from before
//!   the import until no import of it is left.
//! - I2: of each block a device has one face at most, so that all its work on the block is ordered.
//! - I3: a face, and with it the block, stays until the device's work on it is known to be done.
//!
//! Lock order: the pool, then the table here. The driver is called with neither held.

use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

use super::block::OtherHome;
use super::uses::Numbers;
use super::{DeviceBlock, Engine};
use crate::backend::host::STEP;
use crate::backend::planted::{Omission, omitted};
use crate::backend::{Slab, Span};
use crate::pool::MemoryPool;
use crate::sync::global::{Mutex, MutexGuard, lock};

/// Imports are joined up to this many bytes.
const JOINED: usize = 1 << 30;

/// A range of host memory as a slab of a device.
#[derive(Debug)]
pub(crate) struct Import {
    engine: Arc<Engine>,
    slab: Slab,
    start: usize,
}

/// The faces of a device, by the address of what they show (I2).
pub(super) type Faces = BTreeMap<usize, Weak<FaceBlock>>;

impl Import {
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
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

/// By the engine, and the first address.
type Key = (usize, usize);

#[derive(Debug)]
struct Entry {
    end: usize,
    pool: u64,
    /// `None` while it is being made.
    import: Option<Arc<Import>>,
}

/// Ranges that are imported; those of one engine do not overlap.
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

    fn covering(&self, engine: usize, range: &Range<usize>) -> Option<Arc<Import>> {
        let (_, entry) = self.0.range((engine, 0)..=(engine, range.start)).next_back()?;
        entry.import.clone().filter(|_| entry.end >= range.end)
    }

    /// Enters a range that is about to be imported, joined with those of the engine that it overlaps, which leave the table.
    fn begin(&mut self, engine: usize, mut range: Range<usize>, pool: u64, most: usize) -> (Range<usize>, Vec<Entry>) {
        let overlapping: Vec<Key> = self
            .0
            .range((engine, 0)..(engine, range.end))
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
            import: None,
        };
        self.0.insert((engine, range.start), entry);
        (range, left)
    }
}

/// Whether some of these addresses are imported, or about to be. Asked under the pool's lock.
pub(crate) fn is_any(addresses: &Range<usize>) -> bool {
    let table = lock(&TABLE);
    table
        .0
        .iter()
        .any(|(key, entry)| key.1 < addresses.end && entry.end > addresses.start)
}

/// Gives up the imports of a pool, or of all, that no device uses. No lock is held.
pub(crate) fn release(pool: Option<u64>) {
    let mut gone = Vec::new();
    lock(&TABLE).0.retain(|_, entry| {
        let unused = entry
            .import
            .as_ref()
            .is_some_and(|import| Arc::strong_count(import) == 1);
        let ours = pool.is_none_or(|pool| entry.pool == pool);
        if unused && ours {
            gone.extend(entry.import.take());
        }
        !(unused && ours)
    });
    drop(gone); // calls the driver: after the lock
}

/// Waits for the devices that still use freed blocks of a pool; whether there were any.
pub(crate) fn finish(pool: u64) -> bool {
    let table = lock(&TABLE);
    let imports = table.0.values().filter(|entry| entry.pool == pool);
    let mut engines: Vec<Arc<Engine>> = imports
        .filter_map(|entry| Some(Arc::clone(entry.import.as_ref()?.engine())))
        .collect();
    drop(table);
    engines.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let waited = engines.iter().filter(|engine| engine.is_here() && engine.finish_kept());
    waited.count() > 0
}

/// A block of host memory, as a device uses it. While it lives, so does the block.
#[derive(Clone, Debug)]
pub(crate) struct Face(Arc<FaceBlock>);

/// What the handles of a face share.
#[derive(Debug)]
pub(super) struct FaceBlock(DeviceBlock);

impl Drop for FaceBlock {
    fn drop(&mut self) {
        if let (Some(OtherHome::Host { import, .. }), Some(host)) = (&self.0.other_home, self.0.host)
            && self.0.engine().is_here()
        {
            let mut faces = lock(import.engine().faces());
            let host = host.addr().get();
            if faces.get(&host).is_some_and(|face| face.strong_count() == 0) {
                faces.remove(&host);
            }
        }
    }
}

impl Deref for Face {
    type Target = DeviceBlock;

    fn deref(&self) -> &DeviceBlock {
        &self.0.0
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        let engine = self.engine();
        if !engine.is_here() || self.is_idle() || omitted(Omission::HostBlockInUse) {
            return;
        }
        engine.keep(self.last_use(), Box::new(Arc::clone(&self.0)));
    }
}

impl Face {
    /// The face for `engine` of the `bytes` bytes at `host`, which lie in a live block of a pool; `keeper` keeps that block. `None`
    /// where the device does not reach them: why is in [`Engine::import_refused`], if it was tried.
    pub(crate) fn of(
        engine: &Arc<Engine>,
        host: NonNull<u8>,
        bytes: usize,
        keeper: impl FnOnce() -> Box<dyn Send + Sync>,
    ) -> Option<Self> {
        engine
            .backend()
            .facts()
            .import_alignment
            .filter(|&align| align <= STEP as u64)?;
        if bytes == 0 || !engine.is_here() {
            return None;
        }
        let start = host.addr().get();
        let range = start..start + bytes;
        let known = lock(engine.faces()).get(&start).and_then(Weak::upgrade);
        if let Some(face) = known.filter(|face| face.0.bytes() >= bytes) {
            return Some(Self(face));
        }
        let import = {
            let table = lock(&TABLE);
            table.covering(key_of(engine), &range)
        };
        let import = match import {
            Some(import) => import,
            None => make(engine, host, &range)?,
        };
        let span = Span {
            slab: import.slab.id,
            offset: (start - import.start) as u64,
            bytes: range.len() as u64,
        };
        let home = OtherHome::Host {
            import,
            _keeper: keeper(),
        };
        let block = Arc::new(FaceBlock(DeviceBlock::without_pool(
            Some(home),
            span,
            bytes,
            Some(host),
        )));
        let mut faces = lock(engine.faces());
        // Somebody else may have made it meanwhile. What is dropped here is so without the lock, which its drop takes.
        let known = faces.get(&start).and_then(Weak::upgrade);
        let is_enough = known.as_ref().is_some_and(|face| face.0.bytes() >= bytes);
        if !is_enough {
            faces.insert(start, Arc::downgrade(&block));
        }
        drop(faces);
        Some(Self(known.filter(|_| is_enough).unwrap_or(block)))
    }
}

fn key_of(engine: &Arc<Engine>) -> usize {
    Arc::as_ptr(engine).addr()
}

#[cold]
fn make(engine: &Arc<Engine>, host: NonNull<u8>, wanted: &Range<usize>) -> Option<Arc<Import>> {
    let (pool, region) = MemoryPool::gpu_region_of(host)?;
    let steps = wanted.start / STEP * STEP..wanted.end.next_multiple_of(STEP);
    if steps.start < region.start || steps.end > region.end {
        return None; // what somebody else says to lie here reaches beyond
    }
    let key = key_of(engine);
    // One import at a time: whoever waited looks again.
    let _one = engine.lock_imports();
    let most = (engine.backend().facts().max_slab_bytes).min(JOINED as u64) as usize;
    let (range, left) = {
        let mut table = lock(&TABLE);
        if let Some(import) = table.covering(key, wanted) {
            return Some(import);
        }
        table.begin(key, steps, pool, most)
    };
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
            let import = Arc::new(Import {
                engine: Arc::clone(engine),
                slab,
                start: range.start,
            });
            engine.note_import_refused(None);
            if let Some(entry) = table.0.get_mut(&(key, range.start)) {
                entry.import = Some(Arc::clone(&import));
            }
            Some(import)
        }
        refused => {
            table.0.remove(&(key, range.start));
            drop(table);
            if let Some(Err(refusal)) = refused {
                engine.note_import_refused(Some(engine.error(refusal).to_string()));
            }
            None
        }
    }
}
