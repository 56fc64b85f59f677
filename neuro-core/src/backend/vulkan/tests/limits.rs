//! Limits of a real driver: how many pieces of memory there are, how long one is, and the budget.

use std::sync::Arc;

use super::*;
use crate::backend::Refusal;
use crate::device::Device;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::pool::device::Engine;
use crate::tensor::DynTensor;

const SLAB: u64 = 2 << 20;

/// Slabs until no more are given.
fn all_slabs(device: &VulkanDevice) -> Vec<Slab> {
    let mut slabs = Vec::new();
    loop {
        match device.allocate(SLAB, SlabKind::Device) {
            Ok(slab) => slabs.push(slab),
            Err(Refusal::NoMemory) => return slabs,
            Err(refusal) => panic!("{refusal:?}"),
        }
        assert!(slabs.len() < 100, "the limit is not kept");
    }
}

#[test]
fn no_more_pieces_than_the_driver_allows() {
    watched(|_| {
        for most in [1, 3, 40] {
            let mut device = VulkanDevice::make(0).unwrap();
            device.slabs.max_memory_allocation_count = most;
            let slabs = all_slabs(&device);
            assert_eq!(slabs.len() as u64, most, "each has a piece of its own");
            free(&device, &slabs[0]);
            let again = device.allocate(SLAB, SlabKind::Device).unwrap();
            assert_eq!(device.allocate(SLAB, SlabKind::Upload).unwrap_err(), Refusal::NoMemory);
            slabs[1..].iter().chain([&again]).for_each(|slab| free(&device, slab));
            // The piece that short slabs share counts, too.
            let short = device.allocate(1000, SlabKind::Device).unwrap();
            assert_eq!(all_slabs(&device).len() as u64, most - 1);
            free(&device, &short);
        }
    });
}

/// A pool that gets no more pieces is full, those that have some go on with them, and given back they are anybody's.
#[test]
fn pools_without_more_pieces() {
    watched(|_| {
        let mut device = VulkanDevice::make(0).unwrap();
        device.slabs.max_memory_allocation_count = 4;
        let engine = Arc::new(Engine::new(Device::Vulkan(0), Box::leak(Box::new(device))));
        let host = MemoryPool::unlimited();
        let ones = DynTensor::from_slice(&[1000], &[1u32; 1000]).unwrap();
        let (mut pools, mut there) = (Vec::new(), Vec::new());
        let error = loop {
            pools.push(MemoryPool::of_engine(Arc::clone(&engine), 4 << 20));
            match ones.to_pool(&pools[pools.len() - 1]) {
                Ok(tensor) => there.push(tensor),
                Err(error) => break error,
            }
            assert!(there.len() <= 4, "the limit is not kept");
        };
        assert!(matches!(error, Error::OutOfMemory { asked: 4000, .. }), "{error}");
        let many: Vec<DynTensor> = (0..100).map(|_| ones.to_pool(&pools[0]).unwrap()).collect();
        for tensor in there.iter().chain(&many) {
            assert_eq!(tensor.to_pool(&host).unwrap().to_vec::<u32>().unwrap(), [1; 1000]);
        }
        drop((there, many));
        assert!(pools[0].trim(0) > 0);
        let last = ones.to_pool(&pools[pools.len() - 1]).unwrap();
        assert_eq!(last.to_pool(&host).unwrap().to_vec::<u32>().unwrap(), [1; 1000]);
    });
}

#[test]
fn too_long_a_tensor_is_told_by_which_limit() {
    watched(|_| {
        let device: &VulkanDevice = Box::leak(Box::new(VulkanDevice::make(0).unwrap()));
        let (longest, name) = (device.facts().max_slab_bytes, device.facts().longest_by);
        assert_eq!((longest, name), device.found.longest_slab());
        let pool = MemoryPool::of_engine(Arc::new(Engine::new(Device::Vulkan(0), device)), usize::MAX);
        let error = DynTensor::empty_in(&pool, None, &[longest as usize + 1], crate::DType::U8).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(&longest.to_string()), "{text}");
        assert_eq!(device.slabs.count(), 0, "the driver was not asked");
    });
}

#[test]
fn the_budget_is_of_the_heap_that_tensors_lie_in() {
    watched(|device| {
        let heap = super::super::discover::own_heap(&device.found.heaps).unwrap();
        println!("heap {heap:?}, budget {:?}", device.budget());
        match (heap.budget, device.budget()) {
            (None, budget) => assert_eq!(budget, None),
            (Some((0, _)), budget) => assert_eq!(budget, None, "0 is no budget"),
            (Some((bytes, _)), None) => assert!(bytes > heap.bytes, "{heap:?}"),
            (Some(_), Some(budget)) => assert!(budget.bytes > 0 && budget.bytes <= heap.bytes, "{budget}"),
        }
    });
}
