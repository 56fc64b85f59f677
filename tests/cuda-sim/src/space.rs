//! Memory that the driver knows: pieces (of a device, or of the host and page-locked), and at which addresses they are seen.
//!
//! Invariants:
//! - S1: maps do not overlap; each lies within its piece.
//! - S2: a piece of the host is seen at its own address, by every device.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use races::{Clock, Event, Shadow};
use smallvec::SmallVec;

use crate::arena::{Arena, Closed};
use crate::contents::{self, Contents, GONE};
use crate::protect::table;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Of `cuMemAlloc`.
    Device(u32),
    /// Of `cuMemCreate`; seen where it is mapped.
    Piece(u32),
    /// Of `cuMemHostAlloc`.
    Host,
    /// Of `cuMemHostRegister`.
    Registered,
}

impl Kind {
    pub(crate) fn is_host(self) -> bool {
        matches!(self, Kind::Host | Kind::Registered)
    }

    pub(crate) fn device(self) -> Option<u32> {
        match self {
            Kind::Device(device) | Kind::Piece(device) => Some(device),
            Kind::Host | Kind::Registered => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    /// Of the host: where it lies.
    pub(crate) address: u64,
    pub(crate) shadow: Shadow,
    contents: Contents,
    /// The last work of each stream that was told to use it.
    users: SmallVec<[Event; 4]>,
    pub(crate) region: Option<table::Region>,
    /// Whether its pages may be protected.
    pub(crate) guarded: bool,
    /// Of `cuMemCreate`: its handle was not released; how often it is mapped.
    pub(crate) held: bool,
    pub(crate) mapped: u32,
}

impl Piece {
    pub(crate) fn new(kind: Kind, bytes: u64, address: u64) -> Self {
        let shadow = if kind.is_host() {
            Shadow::defined(bytes)
        } else {
            Shadow::new(bytes)
        };
        Self {
            kind,
            bytes,
            address,
            shadow,
            contents: Contents::default(),
            users: SmallVec::new(),
            region: None,
            guarded: false,
            held: true,
            mapped: 0,
        }
    }

    pub(crate) fn uses(&mut self, event: Event) {
        self.users.retain(|other| other.actor != event.actor);
        self.users.push(event);
    }

    /// Work that uses it and does not lie behind `clock`.
    pub(crate) fn unfinished(&self, clock: &Clock) -> Option<Event> {
        self.users.iter().copied().find(|event| !clock.is_behind(*event))
    }

    pub(crate) fn words(&self) -> String {
        let (address, bytes) = (self.address, self.bytes);
        match self.kind {
            Kind::Device(device) => format!("memory of device {device} ({address:#x}, {bytes} B)"),
            Kind::Piece(device) => format!("physical memory of device {device} ({bytes} B)"),
            Kind::Host => format!("page-locked memory ({address:#x}, {bytes} B)"),
            Kind::Registered => format!("registered memory ({address:#x}, {bytes} B)"),
        }
    }

    /// False where the host's memory is not there any more.
    #[must_use]
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> bool {
        if self.kind.is_host() {
            return contents::host_read(self.address + offset, into);
        }
        self.contents.read(offset, into);
        true
    }

    #[must_use]
    pub(crate) fn write(&mut self, offset: u64, from: &[u8]) -> bool {
        if self.kind.is_host() {
            return contents::host_write(self.address + offset, from);
        }
        self.contents.write(offset, from);
        true
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            table::remove_region(region);
        }
        if self.kind == Kind::Host {
            let start = std::ptr::with_exposed_provenance_mut(self.address as usize);
            // SAFETY: mapped for this piece, which is given back, or whose world ends.
            unsafe { libc::munmap(start, self.bytes as usize) };
        }
    }
}

/// Where a piece is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map {
    pub(crate) end: u64,
    pub(crate) piece: u32,
    pub(crate) kind: Kind,
    /// A bit for each device that `cuMemSetAccess` lets in; other memory has its own rules.
    pub(crate) access: u32,
}

/// A part of one piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) piece: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) kind: Kind,
    pub(crate) access: u32,
}

pub(crate) type Parts = SmallVec<[Part; 1]>;

/// What there is at an address.
#[derive(Debug)]
pub(crate) enum Found {
    Known(Parts),
    /// Memory of the host that the driver does not know.
    Pageable,
    /// What is wrong.
    Wrong(String),
}

#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) pieces: BTreeMap<u32, Piece>,
    last: u32,
    pub(crate) maps: BTreeMap<u64, Map>,
    /// Where maps and ranges lie, for finding places.
    pub(crate) taken: BTreeMap<u64, u64>,
    /// What was given back: its end, and what it was.
    gone: BTreeMap<u64, (u64, String)>,
    /// Ranges of `cuMemAddressReserve`.
    pub(crate) ranges: BTreeMap<u64, u64>,
    /// Of each device, and the last one for ranges: made when they are needed.
    pub(crate) arenas: BTreeMap<u32, Arena>,
    closed: VecDeque<Closed>,
}

/// How many pieces of page-locked memory stay closed.
const MANY_CLOSED: usize = 64;

/// What is remembered of memory that was given back.
const MANY_GONE: usize = 4096;

impl Space {
    /// A place for `bytes` among the addresses that `owner` has.
    pub(crate) fn place(&mut self, world: u32, owner: u32, bytes: u64, alignment: u64) -> Option<u64> {
        let arena = match self.arenas.entry(owner) {
            std::collections::btree_map::Entry::Occupied(arena) => arena.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => none.insert(Arena::new(world)?),
        };
        arena.place(bytes, alignment, &self.taken)
    }

    pub(crate) fn add(&mut self, piece: Piece) -> u32 {
        self.last += 1;
        self.pieces.insert(self.last, piece);
        self.last
    }

    /// Shows a piece at `address`.
    pub(crate) fn map(&mut self, address: u64, piece: u32, access: u32) {
        if let Some(of) = self.pieces.get_mut(&piece) {
            let end = address + of.bytes;
            of.mapped += 1;
            let kind = of.kind;
            self.maps.insert(
                address,
                Map {
                    end,
                    piece,
                    kind,
                    access,
                },
            );
            self.forget_gone(address..end);
        }
    }

    fn forget_gone(&mut self, range: Range<u64>) {
        while let Some((&start, _)) = self
            .gone
            .range(..range.end)
            .next_back()
            .filter(|(_, (end, _))| *end > range.start)
        {
            self.gone.remove(&start);
        }
    }

    pub(crate) fn remember_gone(&mut self, address: u64, bytes: u64, words: String) {
        self.forget_gone(address..address + bytes);
        if self.gone.len() >= MANY_GONE {
            self.gone.pop_first();
        }
        self.gone.insert(address, (address + bytes, words));
    }

    /// Page-locked memory of the driver's own goes.
    pub(crate) fn close(&mut self, mut piece: Piece, world: u32) {
        if let Some(region) = piece.region.take() {
            table::remove_region(region);
        }
        if let Some(closed) = Closed::new(piece.address, piece.bytes, world) {
            // It is unmapped as what takes its place.
            piece.kind = Kind::Registered;
            self.closed.push_back(closed);
        }
        if self.closed.len() > MANY_CLOSED {
            self.closed.pop_front();
        }
    }

    /// The map that begins at `address`.
    pub(crate) fn map_at(&self, address: u64) -> Option<(u32, &Piece)> {
        let map = self.maps.get(&address)?;
        Some((map.piece, self.pieces.get(&map.piece)?))
    }

    /// What there is at `address`, where there ought to be something of `what`.
    pub(crate) fn nothing_at(&self, address: u64) -> String {
        let gone = self
            .gone
            .range(..=address)
            .next_back()
            .filter(|(_, (end, _))| *end > address);
        if let Some((_, (_, words))) = gone {
            return format!("use after free: {address:#x} lies in {words}, which was given back");
        }
        match self.maps.range(..=address).next_back() {
            Some((start, map)) if map.end > address => {
                let words = self.pieces.get(&map.piece).map(Piece::words).unwrap_or_default();
                format!("{address:#x} lies {} B within {words}", address - start)
            }
            _ => format!("wild pointer: nothing lies at {address:#x}"),
        }
    }

    fn is_ours(&self, address: u64) -> bool {
        self.arenas.values().any(|arena| arena.range.contains(&address)) || table_says_device(address)
    }

    /// What lies at `address..address + bytes`; at least one byte.
    pub(crate) fn find(&self, address: u64, bytes: u64) -> Found {
        let Some(end) = address.checked_add(bytes) else {
            return Found::Wrong(format!("wild pointer: {bytes} B from {address:#x} on"));
        };
        let mut parts = Parts::new();
        let mut at = address;
        while at < end {
            let Some((&start, map)) = self.maps.range(..=at).next_back().filter(|(_, map)| map.end > at) else {
                if !parts.is_empty() {
                    return Found::Wrong(self.over_the_end(address, bytes));
                }
                return self.find_unknown(address, end);
            };
            let next = map.end.min(end);
            if next < end && !matches!(map.kind, Kind::Piece(_)) {
                return Found::Wrong(self.over_the_end(address, bytes));
            }
            parts.push(Part {
                piece: map.piece,
                offset: at - start,
                bytes: next - at,
                kind: map.kind,
                access: map.access,
            });
            at = next;
        }
        Found::Known(parts)
    }

    fn over_the_end(&self, address: u64, bytes: u64) -> String {
        let within = self.nothing_at(address);
        format!("out of bounds: {bytes} B are used from {address:#x} on: {within}, and they do not end there")
    }

    fn find_unknown(&self, address: u64, end: u64) -> Found {
        if self.is_ours(address) {
            return Found::Wrong(self.nothing_at(address));
        }
        match self.maps.range(address..end).next() {
            Some((start, _)) => Found::Wrong(format!(
                "{} B from {address:#x} on are partly pageable, and partly memory that the driver knows, from {start:#x} on",
                end - address
            )),
            None => Found::Pageable,
        }
    }

    /// Reads parts one behind the other, from byte `at` of them on.
    pub(crate) fn read(&self, parts: &[Part], at: u64, into: &mut [u8]) -> bool {
        let mut fine = true;
        pieces_of(parts, at, into.len(), |part, offset, range| {
            match self.pieces.get(&part.piece) {
                Some(piece) => fine &= piece.read(offset, &mut into[range]),
                None => into[range].fill(GONE),
            }
        });
        fine
    }

    /// Writes parts; what was given back is let alone.
    pub(crate) fn write(&mut self, parts: &[Part], at: u64, from: &[u8]) -> bool {
        let mut fine = true;
        pieces_of(parts, at, from.len(), |part, offset, range| {
            if let Some(piece) = self.pieces.get_mut(&part.piece) {
                fine &= piece.write(offset, &from[range]);
            }
        });
        fine
    }
}

fn table_says_device(address: u64) -> bool {
    table::region_at(address).is_some_and(|(kind, _)| kind == table::Kind::Device)
}

/// Walks through `len` bytes of parts from byte `at` on.
fn pieces_of(parts: &[Part], at: u64, len: usize, mut each: impl FnMut(&Part, u64, Range<usize>)) {
    let (mut skip, mut done) = (at, 0);
    for part in parts {
        if skip >= part.bytes {
            skip -= part.bytes;
            continue;
        }
        let room = (part.bytes - skip).min((len - done) as u64) as usize;
        if room == 0 {
            return;
        }
        each(part, part.offset + skip, done..done + room);
        done += room;
        skip = 0;
    }
}
