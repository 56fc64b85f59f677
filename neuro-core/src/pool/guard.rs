//! `Guard`: what a pool in debug mode does to find writes past the end of a block and after its free; and what any pool does in
//! a program built with AddressSanitizer, so that it finds reads as well.
//!
//! ```text
//! live    | as asked for | red zone: to the end of the block, 64 bytes at least |
//! freed   | poison, all of it |      and out of reach for a while: the quarantine
//! ```
//!
//! In debug mode red zones and poison are bytes of a known value, looked at when the block is freed, when it leaves the
//! quarantine, and by [`MemoryPool::check`](super::MemoryPool::check). Under AddressSanitizer they are marked as not to be
//! touched, and the first touch is reported where it happens.
//!
//! Invariants:
//! - D1: `live` and `quarantine` name blocks of the pool, which stay where they are until they are taken out of here.
//! - D2: the bytes behind `requested` of a live block, and all of a block in quarantine, belong to the guard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::ptr::NonNull;

use super::asan::Asan;
use super::record::GRANULE;
use crate::backend::host::{STEP, os};

/// Blocks and bytes that wait in quarantine at most.
const MOST_BLOCKS: usize = 1024;
const MOST_BYTES: usize = 16 << 20;
/// Of red zones, of poison, and of memory that was not written yet.
const RED: u8 = 0xfd;
const POISON: u8 = 0xdd;
const NEW: u8 = 0xcd;

/// A freed block.
struct Freed {
    ptr: NonNull<u8>,
    bytes: usize,
}

pub(super) struct Guard {
    /// Debug mode; else it is here for AddressSanitizer alone.
    fills: bool,
    asan: Option<Asan>,
    /// Steps of memory in which something is marked for AddressSanitizer, by their number. A region has far more addresses than
    /// it uses, and each that is unmarked costs.
    marked: BTreeSet<usize>,
    live: BTreeMap<usize, (NonNull<u8>, usize, usize)>,
    quarantine: VecDeque<Freed>,
    quarantined: usize,
    /// What was found and has not been told yet.
    found: Vec<String>,
}

// SAFETY: the blocks belong to the guard as D1 and D2 say, and are not tied to a thread.
unsafe impl Send for Guard {}

impl Guard {
    /// `None` if there is nothing to do: neither debug mode nor AddressSanitizer.
    pub(super) fn new(fills: bool) -> Option<Self> {
        let asan = Asan::find();
        (fills || asan.is_some()).then(|| Self {
            fills,
            asan,
            marked: BTreeSet::new(),
            live: BTreeMap::new(),
            quarantine: VecDeque::new(),
            quarantined: 0,
            found: Vec::new(),
        })
    }

    /// Whether it writes to memory: a new block is then full of something.
    pub(super) fn fills(&self) -> bool {
        self.fills
    }

    /// Bytes that a block is longer than asked for.
    pub(super) fn extra(&self) -> usize {
        GRANULE
    }

    /// A block of `bytes` bytes was taken from the heap, of which `requested` were asked for.
    pub(super) fn arm(&mut self, ptr: NonNull<u8>, requested: usize, bytes: usize) {
        self.live.insert(ptr.addr().get(), (ptr, requested, bytes));
        if self.fills {
            self.unpoison(ptr, bytes);
            // SAFETY: the block is new and nobody's but the caller's, who gives it on afterwards.
            unsafe {
                ptr.write_bytes(NEW, requested);
                ptr.add(requested).write_bytes(RED, bytes - requested);
            }
        }
        self.unpoison(ptr, requested);
        // SAFETY: within the block.
        self.poison(unsafe { ptr.add(requested) }, bytes - requested);
    }

    /// A live block's requested length changed in place, within or with the block's own.
    pub(super) fn rearm(&mut self, ptr: NonNull<u8>, requested: usize, bytes: usize) {
        let Some(entry) = self.live.get_mut(&ptr.addr().get()) else {
            return;
        };
        *entry = (ptr, requested, bytes);
        self.unpoison(ptr, bytes);
        if self.fills {
            // SAFETY: within the block, behind what was asked for (D2).
            unsafe { ptr.add(requested).write_bytes(RED, bytes - requested) };
        }
        // SAFETY: within the block.
        self.poison(unsafe { ptr.add(requested) }, bytes - requested);
    }

    /// What is wrong with the live block at `ptr`, if anything is.
    pub(super) fn look_at(&self, ptr: NonNull<u8>) -> Option<String> {
        let &(_, requested, bytes) = self.live.get(&ptr.addr().get())?;
        self.look_behind(ptr, requested, bytes)
    }

    /// A block is freed: it is looked at and goes into quarantine. The bytes asked for, its length, and what was wrong with
    /// it; `None` if it is older than the guard.
    pub(super) fn disarm(&mut self, ptr: NonNull<u8>) -> Option<(usize, usize, Option<String>)> {
        let (_, requested, bytes) = self.live.remove(&ptr.addr().get())?;
        let finding = self.look_behind(ptr, requested, bytes);
        if self.fills {
            self.unpoison(ptr, bytes);
            // SAFETY: the block was given back, and is in nobody's hands (D2).
            unsafe { ptr.write_bytes(POISON, bytes) };
        }
        self.poison(ptr, bytes);
        self.quarantine.push_back(Freed { ptr, bytes });
        self.quarantined += bytes;
        Some((requested, bytes, finding))
    }

    /// The next block that has been in quarantine for long enough; or any, if `all` are wanted.
    pub(super) fn release(&mut self, all: bool) -> Option<NonNull<u8>> {
        if !all && self.quarantine.len() <= MOST_BLOCKS && self.quarantined <= MOST_BYTES {
            return None;
        }
        let Freed { ptr, bytes } = self.quarantine.pop_front()?;
        self.quarantined -= bytes;
        if let Some(finding) = self.look_at_freed(ptr, bytes) {
            // There is nobody to return it to: whoever wrote is long gone.
            tell(&finding);
            self.found.push(finding);
        }
        Some(ptr)
    }

    /// Looks at every block. All that was found since the last time.
    pub(super) fn check(&mut self) -> Vec<String> {
        let mut found = std::mem::take(&mut self.found);
        found.extend(
            self.live
                .values()
                .filter_map(|&(ptr, requested, bytes)| self.look_behind(ptr, requested, bytes)),
        );
        let freed = self.quarantine.iter();
        found.extend(freed.filter_map(|freed| self.look_at_freed(freed.ptr, freed.bytes)));
        found
    }

    /// A region is given back, or the guard goes: whatever comes to lie at these addresses is not to be reported.
    pub(super) fn forget(&mut self, addresses: Range<usize>) {
        let steps = self.marked.range(addresses.start / STEP..addresses.end.div_ceil(STEP));
        for step in steps.copied().collect::<Vec<_>>() {
            self.marked.remove(&step);
            if let Some(asan) = &self.asan {
                let end = ((step + 1) * STEP).min(addresses.end);
                let start = (step * STEP).max(addresses.start);
                asan.unpoison(start, end - start);
            }
        }
    }

    fn look_behind(&self, ptr: NonNull<u8>, requested: usize, bytes: usize) -> Option<String> {
        let at = self.first_other(ptr, requested..bytes, RED)?;
        Some(format!(
            "{} B were written behind the {requested} B of the block at {:#x}: the first at byte {at}",
            self.count_other(ptr, at..bytes, RED),
            ptr.addr()
        ))
    }

    fn look_at_freed(&self, ptr: NonNull<u8>, bytes: usize) -> Option<String> {
        let at = self.first_other(ptr, 0..bytes, POISON)?;
        Some(format!(
            "the freed block at {:#x} of {bytes} B was written: {} B, the first at byte {at}",
            ptr.addr(),
            self.count_other(ptr, at..bytes, POISON),
        ))
    }

    fn first_other(&self, ptr: NonNull<u8>, range: Range<usize>, value: u8) -> Option<usize> {
        // SAFETY: of a block that is ours as D2 says, in memory that stays (D1); volatile, since somebody may be writing
        // where he must not: that is what this is looking for.
        let other = |at: &usize| unsafe { ptr.add(*at).read_volatile() } != value;
        self.fills.then(|| range.into_iter().find(other)).flatten()
    }

    fn count_other(&self, ptr: NonNull<u8>, range: Range<usize>, value: u8) -> usize {
        // SAFETY: as in `first_other`.
        range
            .filter(|&at| unsafe { ptr.add(at).read_volatile() } != value)
            .count()
    }

    fn poison(&mut self, ptr: NonNull<u8>, bytes: usize) {
        if let Some(asan) = self.asan.as_ref().filter(|_| !self.fills) {
            let at = ptr.addr().get();
            asan.poison(at, bytes);
            self.marked.extend(at / STEP..(at + bytes).div_ceil(STEP));
        }
    }

    fn unpoison(&self, ptr: NonNull<u8>, bytes: usize) {
        if let Some(asan) = &self.asan {
            asan.unpoison(ptr.addr().get(), bytes);
        }
    }
}

/// Says what was found where nobody can be told by a return value.
#[cold]
pub(super) fn tell(finding: &str) {
    os::say(&format!("neuro_memory: {finding}\n"));
}
