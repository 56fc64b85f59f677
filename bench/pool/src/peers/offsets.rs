//! Peers without memory: they say where in a range a block would lie, in units of 64 bytes.

use std::hint::black_box;
use std::ptr::NonNull;

use offset_allocator::{Allocation, Allocator};

use super::{ALIGN, Peer};
use bench_worker::Result;

/// Length of the range: 64 GiB, as much as the arenas have.
pub const UNITS: u32 = 1 << 30;

pub fn units(bytes: u32) -> u32 {
    bytes.div_ceil(ALIGN as u32)
}

pub struct OffsetAllocator(Allocator);

impl Peer for OffsetAllocator {
    type Handle = Allocation;

    fn new() -> Result<Self> {
        Ok(Self(Allocator::new(UNITS)))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Allocation> {
        self.0.allocate(units(bytes))
    }

    #[inline]
    unsafe fn free(&mut self, block: Allocation, _bytes: u32) {
        self.0.free(block);
    }

    fn place(block: Allocation) -> usize {
        block.offset as usize * ALIGN
    }

    fn memory(_: Allocation) -> Option<NonNull<u8>> {
        None
    }
}

/// Hands out ever new offsets: what the loop around the calls costs by itself.
pub struct Nothing {
    next: u64,
}

impl Peer for Nothing {
    type Handle = u64;

    fn new() -> Result<Self> {
        Ok(Self { next: 0 })
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<u64> {
        let block = self.next;
        self.next += u64::from(units(bytes));
        Some(block)
    }

    #[inline]
    unsafe fn free(&mut self, block: u64, _bytes: u32) {
        black_box(block);
    }

    fn place(block: u64) -> usize {
        block as usize * ALIGN
    }

    fn memory(_: u64) -> Option<NonNull<u8>> {
        None
    }
}
