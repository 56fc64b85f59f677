//! Handles: numbers that say what they are, of which world, and which one. None is given twice, so one that is used after its end is
//! told from one that never was.
//!
//! ```text
//! bits   63..56   kind
//!        55..28   world
//!        27..0    number, from 1 on
//! ```

use std::collections::BTreeMap;

use crate::codes::{Answer, INVALID_HANDLE};

/// `CUcontext`, `CUstream` and the like, which only the driver follows.
pub(crate) type Handle = usize;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Context = 0x51,
    Stream,
    Event,
    Module,
    Function,
    /// Physical memory of `cuMemCreate`.
    Piece,
}

/// Streams that every context has.
pub(crate) const LEGACY_STREAMS: [Handle; 2] = [0, 1];
pub(crate) const PER_THREAD_STREAM: Handle = 2;

const NUMBER_BITS: u32 = 28;

pub(crate) fn handle(kind: Kind, world: u32, number: u32) -> Handle {
    (kind as usize) << 56 | (world as usize) << NUMBER_BITS | number as usize
}

fn kind_is(handle: Handle, kind: Kind) -> bool {
    handle >> 56 == kind as usize
}

/// World and number of a handle, if it is of that kind.
pub(crate) fn parts(handle: Handle, kind: Kind) -> Option<(u32, u32)> {
    let below = |bits: u32| (1usize << bits) - 1;
    let world = handle >> NUMBER_BITS & below(NUMBER_BITS);
    kind_is(handle, kind).then_some((world as u32, (handle & below(NUMBER_BITS)) as u32))
}

/// What handles of one kind lead to.
#[derive(Debug)]
pub(crate) struct Table<T> {
    kind: Kind,
    world: u32,
    live: BTreeMap<u32, T>,
    last: u32,
}

impl<T> Table<T> {
    pub(crate) fn new(kind: Kind, world: u32) -> Self {
        Self {
            kind,
            world,
            live: BTreeMap::new(),
            last: 0,
        }
    }

    pub(crate) fn add(&mut self, thing: T) -> u32 {
        self.last += 1;
        self.live.insert(self.last, thing);
        self.last
    }

    pub(crate) fn handle(&self, number: u32) -> Handle {
        handle(self.kind, self.world, number)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.live.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.live.get_mut(&number)
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        self.live.remove(&number)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.live.iter().map(|(&number, thing)| (number, thing))
    }

    /// The number of a handle that leads to something here.
    ///
    /// # Errors
    /// The code, and what is wrong with the handle.
    pub(crate) fn find(&self, handle: Handle) -> Answer<u32> {
        let number = parts(handle, self.kind).filter(|(world, _)| *world == self.world);
        let number = number
            .map(|(_, number)| number)
            .filter(|number| self.live.contains_key(number));
        number.ok_or(INVALID_HANDLE)
    }

    /// What is wrong with a handle that leads to nothing here.
    pub(crate) fn wrong(&self, handle: Handle) -> String {
        let kind = self.kind;
        match parts(handle, kind) {
            Some((world, number)) if world == self.world && number >= 1 && number <= self.last => {
                format!("{kind:?} {number} ({handle:#x}), which was destroyed")
            }
            Some((world, _)) if world != self.world => format!("{kind:?} {handle:#x} of another world"),
            _ => format!("{handle:#x}, which is no {kind:?}"),
        }
    }
}
