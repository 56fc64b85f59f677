//! Addresses: a stretch of the address space that nobody may touch, so that a host that follows a device's pointer is stopped.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::protect::table;

/// Addresses that one device has, and that ranges of virtual memory are reserved from: the most that the system gives of these. Under
/// valgrind there are few.
const BYTES: [u64; 2] = [64 << 30, 4 << 30];

/// Addresses between two allocations that nobody gets.
const GAP: u64 = 4096;

#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) range: Range<u64>,
    next: u64,
    region: Option<table::Region>,
}

impl Arena {
    /// Reserves addresses; `None` where the system refuses.
    pub(crate) fn new(world: u32) -> Option<Self> {
        BYTES.into_iter().find_map(|bytes| Self::of(bytes, world))
    }

    fn of(bytes: u64, world: u32) -> Option<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping wherever there is room, which nobody may touch.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes as usize, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let range = start.addr() as u64..start.addr() as u64 + bytes;
        Some(Self {
            next: range.start,
            region: table::add_region(&range, world, table::Kind::Device),
            range,
        })
    }

    /// A place for `bytes`, not among `taken` (start and end of each), and not where something was given back lately.
    pub(crate) fn place(&mut self, bytes: u64, alignment: u64, taken: &BTreeMap<u64, u64>) -> Option<u64> {
        let room = bytes.checked_add(GAP)?;
        for from in [self.next, self.range.start] {
            let mut at = from.next_multiple_of(alignment);
            while at.checked_add(room)? <= self.range.end {
                match taken.range(..at + room).next_back().filter(|(_, end)| **end + GAP > at) {
                    None => {
                        self.next = at + room;
                        return Some(at);
                    }
                    Some((_, &end)) => at = (end + GAP).next_multiple_of(alignment),
                }
            }
        }
        None
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            table::remove_region(region);
        }
        let start = std::ptr::with_exposed_provenance_mut(self.range.start as usize);
        // SAFETY: mapped by `of`, and nothing lies in it.
        unsafe { libc::munmap(start, (self.range.end - self.range.start) as usize) };
    }
}

/// Page-locked memory that was given back: nobody gets its addresses for a while, and who touches it is stopped.
#[derive(Debug)]
pub(crate) struct Closed {
    range: Range<u64>,
    region: Option<table::Region>,
}

impl Closed {
    /// Takes the place of memory that the driver has mapped, and that goes.
    pub(crate) fn new(address: u64, bytes: u64, world: u32) -> Option<Self> {
        let start = std::ptr::with_exposed_provenance_mut(address as usize);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        let bytes = bytes.next_multiple_of(crate::protect::page());
        // SAFETY: in the place of what was mapped for a piece that is given back.
        let closed = unsafe { libc::mmap(start, bytes as usize, libc::PROT_NONE, flags, -1, 0) };
        let range = address..address + bytes;
        (closed != libc::MAP_FAILED).then(|| Self {
            region: table::add_region(&range, world, table::Kind::Closed),
            range,
        })
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            table::remove_region(region);
        }
        let start = std::ptr::with_exposed_provenance_mut(self.range.start as usize);
        // SAFETY: mapped by `new`, and nothing lies in it.
        unsafe { libc::munmap(start, (self.range.end - self.range.start) as usize) };
    }
}
