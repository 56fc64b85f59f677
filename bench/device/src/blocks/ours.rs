//! What is measured: tensors of a device's pool, as a user has them; and the heap of such a pool by itself.

use bench_worker::Result;
use neuro_core::heap::{Block, OffsetHeap, Tag};
use neuro_core::{DType, Device, DeviceMemory, DynTensor, Init, MemoryPool};

use super::Blocks;

/// Most bytes of a pool here: more than any program here has live, and less than a software device has.
const LIMIT: usize = 1 << 30;
/// Unit of the heap of a device's pool, in bytes.
const GRANULE: u32 = 256;

pub struct Tensors(MemoryPool);

impl Blocks for Tensors {
    type Block = DynTensor;

    fn new(device: Device) -> Result<Self> {
        Ok(Self(MemoryPool::new_gpu(device, LIMIT)?))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<DynTensor> {
        DynTensor::empty_in(&self.0, None, &[bytes as usize], DType::U8).ok()
    }

    #[inline]
    fn free(&mut self, block: DynTensor) {
        drop(block);
    }

    fn pieces(&self) -> usize {
        self.0.stats().regions
    }
}

/// The same without shape and dtype.
pub struct Memory(MemoryPool);

impl Blocks for Memory {
    type Block = DeviceMemory;

    fn new(device: Device) -> Result<Self> {
        Ok(Self(MemoryPool::new_gpu(device, LIMIT)?))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<DeviceMemory> {
        DeviceMemory::from_pool(&self.0, bytes as usize, None, Init::Uninit).ok()
    }

    #[inline]
    fn free(&mut self, block: DeviceMemory) {
        drop(block);
    }

    fn pieces(&self) -> usize {
        self.0.stats().regions
    }
}

pub struct Heap(OffsetHeap);

impl Blocks for Heap {
    type Block = Block;

    fn new(_: Device) -> Result<Self> {
        Ok(Self(OffsetHeap::new(LIMIT as u32 / GRANULE)))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Block> {
        self.0.allocate(bytes.div_ceil(GRANULE), 1, Tag::IDLE)
    }

    #[inline]
    fn free(&mut self, block: Block) {
        self.0.free(block, Tag::IDLE).expect("the block is live");
    }

    fn pieces(&self) -> usize {
        1
    }
}
