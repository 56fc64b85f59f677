//! Blocks of a hook by their addresses, and what is known of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use smallvec::SmallVec;

use super::streams::Opened;
use crate::backend::Ticket;
use crate::backend::planted::{Omission, omitted};
use crate::error::{Error, Result};
use crate::pool::device::{Access, DeviceBlock, PoolBlock};
use crate::sync::global::lock;

/// A block that somebody has.
#[derive(Debug)]
pub(super) struct Handed {
    block: PoolBlock,
    /// What is submitted there is behind all that used the bytes before.
    on: Arc<Opened>,
    /// Other streams that use it.
    others: SmallVec<[Arc<Opened>; 1]>,
    /// Another stream that it was freed on, which is behind all that used it.
    freed_on: Option<Arc<Opened>>,
    /// A stream uses it of which nothing is known.
    unknown: bool,
}

impl Handed {
    pub(super) fn new(block: PoolBlock, on: Arc<Opened>) -> Self {
        Self {
            block,
            on,
            others: SmallVec::new(),
            freed_on: None,
            unknown: false,
        }
    }

    pub(super) fn freed_on(mut self, other: Arc<Opened>) -> Self {
        self.freed_on = Some(other);
        self
    }

    /// Nobody will ever know when it is used no more.
    pub(super) fn is_lost(&self) -> bool {
        self.unknown
    }

    /// Writes down all that its streams have up to now.
    ///
    /// # Errors
    /// What the driver said of a stream.
    pub(super) fn note_end(&self) -> Result<()> {
        if self.unknown {
            let what = "a stream uses the block that could not be opened".to_owned();
            return Err(Error::InvalidArgument { op: "free", what });
        }
        match &self.freed_on {
            None => self.block.note_use(self.on.theirs().so_far()?, Access::Write),
            Some(last) => self.block.note_use(last.theirs().so_far()?, Access::Read),
        }
        for other in self.others.iter().filter(|_| !omitted(Omission::NoteOther)) {
            self.block.note_use(other.theirs().so_far()?, Access::Read);
        }
        Ok(())
    }

    /// The memory is never handed out again.
    pub(super) fn forget(self) {
        std::mem::forget(self.block);
    }
}

/// Addresses are multiples of 256, and tell blocks apart by their middle.
#[derive(Default)]
struct ByAddress(u64);

impl Hasher for ByAddress {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, address: u64) {
        let mixed = (self.0 ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// What came of a block that somebody wants to take out.
pub(super) enum Taken {
    Block(Handed),
    /// It is there, and not on the stream that was meant.
    Other,
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Table(HashMap<u64, Handed, BuildHasherDefault<ByAddress>>);

impl Table {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has(&self, address: u64) -> bool {
        self.0.contains_key(&address)
    }

    pub(super) fn enter(&mut self, address: u64, handed: Handed) {
        let before = self.0.insert(address, handed);
        debug_assert!(before.is_none(), "two live blocks at {address:#x}");
    }

    /// Takes out a block if it is on a stream that is meant.
    pub(super) fn take(&mut self, address: u64, is_meant: impl FnOnce(&Opened) -> bool) -> Taken {
        let Entry::Occupied(entry) = self.0.entry(address) else {
            return Taken::Nothing;
        };
        if is_meant(&entry.get().on) {
            Taken::Block(entry.remove())
        } else {
            Taken::Other
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// A stream uses a block; `None`: one that is not known. Whether there is such a block.
    pub(super) fn record(&mut self, address: u64, on: Option<&Arc<Opened>>) -> bool {
        let Some(handed) = self.0.get_mut(&address) else {
            return false;
        };
        match on {
            None => handed.unknown = true,
            Some(on) => {
                let known = std::iter::once(&handed.on).chain(&handed.others);
                if !known.into_iter().any(|known| Arc::ptr_eq(known, on)) {
                    handed.others.push(Arc::clone(on));
                }
            }
        }
        true
    }
}

impl DeviceBlock {
    /// Writes down work of others: `Write`, where all that is known to use it is ordered before that.
    fn note_use(&self, ticket: Ticket, access: Access) {
        if !omitted(Omission::NoteElsewhere) {
            lock(&self.uses).note(ticket, access);
        }
    }
}
