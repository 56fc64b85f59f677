//! The records of slabs: their memory, and who draws from each.
//!
//! ```text
//! slab's number, owner | one word a slot ..       in whole lines of memory, the first for what hardly ever changes
//! ```
//!
//! Threads that write to one line wait for each other at every block (measured: 33 ns a block instead of 13). So no two slabs share
//! one, and each cache draws from slabs of its own as far as there are some.
//!
//! L1: records are not given back before their pool is gone: who follows a stale word finds records, if another slab's.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Words of a line: where the first slot's record is.
pub(super) const LINE: usize = 16;
/// Where the owner stands.
pub(super) const OWNER: usize = 1;

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU32; LINE]);

/// Who draws from a slab: a number for each cache of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Drawer(pub(super) u32);

impl Drawer {
    pub(super) const NOBODY: Drawer = Drawer(0);
}

#[derive(Default)]
pub(super) struct Records {
    all: Vec<Box<[Line]>>,
    /// Numbers that no slab uses.
    vacant: Vec<u32>,
    /// Lines of all.
    lines: usize,
}

// Relaxed throughout: written under the pool's lock, and only there does it matter.
impl Records {
    /// Records for a slab of so many slots; their number. There is one more, for the slot that may begin behind the last, in the
    /// slab's last page.
    pub(super) fn add(&mut self, slots: usize) -> u32 {
        let lines = 1 + (slots + 1).div_ceil(LINE);
        let fits = |&id: &u32| (lines..=2 * lines + 4).contains(&self.all[id as usize].len());
        if let Some(at) = self.vacant.iter().position(fits) {
            return self.vacant.swap_remove(at);
        }
        let id = self.all.len() as u32;
        let records: Box<[Line]> = (0..lines).map(|_| Line::default()).collect();
        records[0].0[0].store(id, Ordering::Relaxed);
        self.all.push(records);
        self.lines += lines;
        id
    }

    /// The slab that had them is gone, all its slots free.
    pub(super) fn remove(&mut self, id: u32) {
        self.vacant.push(id);
    }

    /// Slabs that ever had records at once.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The first word, for the words of a slab's pages.
    pub(super) fn start(&self, id: u32) -> NonNull<AtomicU32> {
        NonNull::from(&self.all[id as usize][0].0[0])
    }

    pub(super) fn of_slot(&self, id: u32, slot: usize) -> NonNull<AtomicU32> {
        NonNull::from(&self.all[id as usize][1 + slot / LINE].0[slot % LINE])
    }

    pub(super) fn owner(&self, id: u32) -> Drawer {
        Drawer(self.all[id as usize][0].0[OWNER].load(Ordering::Relaxed))
    }

    pub(super) fn set_owner(&self, id: u32, drawer: Drawer) {
        self.all[id as usize][0].0[OWNER].store(drawer.0, Ordering::Relaxed);
    }

    /// The cache is gone: what it drew from is nobody's.
    pub(super) fn forget(&self, drawer: Drawer) {
        for id in 0..self.all.len() as u32 {
            if self.owner(id) == drawer {
                self.set_owner(id, Drawer::NOBODY);
            }
        }
    }

    /// Records that slots have room for.
    #[cfg(all(test, not(loom)))]
    pub(super) fn room(&self, id: u32) -> usize {
        (self.all[id as usize].len() - 1) * LINE
    }

    pub(super) fn side_bytes(&self) -> usize {
        self.all.capacity() * size_of::<Box<[Line]>>() + self.lines * size_of::<Line>()
    }
}
