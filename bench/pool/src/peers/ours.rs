//! What is measured: `MemoryPool`, and `OffsetHeap` by itself.

use std::ptr::NonNull;

use neuro_core::heap::{Block, OffsetHeap, Tag};
use neuro_core::{Init, MemoryPool};

use super::offsets::{UNITS, units};
use super::{ALIGN, Address, Peer};
use bench_worker::Result;

pub struct Pool(MemoryPool);

impl Peer for Pool {
    type Handle = Address;

    fn new() -> Result<Self> {
        Ok(Self(MemoryPool::unlimited()))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Address> {
        self.0
            .allocate_bytes(bytes as usize, None, Init::Uninit)
            .ok()
            .map(Address)
    }

    #[inline]
    unsafe fn free(&mut self, block: Address, _bytes: u32) {
        // SAFETY: the block is live, and nobody uses it after this.
        unsafe { MemoryPool::free(block.0) }.expect("the block is live");
    }

    fn place(block: Address) -> usize {
        block.0.addr().get()
    }

    fn memory(block: Address) -> Option<NonNull<u8>> {
        Some(block.0)
    }

    fn twin(&self) -> Option<Self> {
        Some(Self(self.0.clone()))
    }

    fn side_bytes(&self) -> Option<usize> {
        Some(self.0.stats().side_bytes)
    }

    fn committed_bytes(&self) -> Option<usize> {
        Some(self.0.stats().committed_bytes)
    }
}

pub struct Heap(OffsetHeap);

impl Peer for Heap {
    type Handle = Block;

    fn new() -> Result<Self> {
        Ok(Self(OffsetHeap::new(UNITS)))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Block> {
        self.0.allocate(units(bytes), 1, Tag::IDLE)
    }

    #[inline]
    unsafe fn free(&mut self, block: Block, _bytes: u32) {
        self.0.free(block, Tag::IDLE).expect("the block is live");
    }

    fn place(block: Block) -> usize {
        block.offset as usize * ALIGN
    }

    fn memory(_: Block) -> Option<NonNull<u8>> {
        None
    }

    fn side_bytes(&self) -> Option<usize> {
        Some(self.0.side_bytes())
    }
}
