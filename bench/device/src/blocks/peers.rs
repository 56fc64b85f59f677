//! gpu-allocator, as a program uses it that puts many buffers into few pieces of memory; and nothing.

use std::hint::black_box;

use ash::vk;
use bench_worker::Result;
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, AllocationScheme, Allocator, AllocatorCreateDesc};
use gpu_allocator::{AllocationSizes, AllocatorDebugSettings, MemoryLocation};
use neuro_core::Device;

use super::Blocks;
use crate::gpu::Gpu;

/// What blocks begin on, as in our pools.
const ALIGN: u64 = 256;

/// With the settings it comes with.
pub struct GpuAllocator {
    allocator: Allocator,
    /// What a buffer needs, but for its size.
    needs: vk::MemoryRequirements,
}

impl Blocks for GpuAllocator {
    type Block = Allocation;

    fn new(device: Device) -> Result<Self> {
        let gpu = Gpu::open(device)?;
        let allocator = Allocator::new(&AllocatorCreateDesc {
            instance: gpu.instance.clone(),
            device: gpu.device.clone(),
            physical_device: gpu.physical,
            debug_settings: AllocatorDebugSettings::default(),
            buffer_device_address: false,
            allocation_sizes: AllocationSizes::default(),
        })?;
        let buffer = gpu.buffer(1 << 20)?;
        // SAFETY: the buffer is of this device.
        let mut needs = unsafe { gpu.device.get_buffer_memory_requirements(buffer) };
        needs.alignment = needs.alignment.max(ALIGN);
        Ok(Self { allocator, needs })
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<Allocation> {
        let requirements = vk::MemoryRequirements {
            size: bytes.into(),
            ..self.needs
        };
        let wanted = AllocationCreateDesc {
            name: "",
            requirements,
            location: MemoryLocation::GpuOnly,
            linear: true,
            allocation_scheme: AllocationScheme::GpuAllocatorManaged,
        };
        self.allocator.allocate(&wanted).ok()
    }

    #[inline]
    fn free(&mut self, block: Allocation) {
        self.allocator.free(block).expect("the block is live");
    }

    fn pieces(&self) -> usize {
        self.allocator.generate_report().blocks.len()
    }
}

/// Hands out ever new numbers: what the loop around the calls costs by itself.
pub struct Nothing(u64);

impl Blocks for Nothing {
    type Block = u64;

    fn new(_: Device) -> Result<Self> {
        Ok(Self(0))
    }

    #[inline]
    fn allocate(&mut self, bytes: u32) -> Option<u64> {
        self.0 += u64::from(bytes);
        Some(black_box(self.0))
    }

    #[inline]
    fn free(&mut self, block: u64) {
        black_box(block);
    }

    fn pieces(&self) -> usize {
        1
    }
}
