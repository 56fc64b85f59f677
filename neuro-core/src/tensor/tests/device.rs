//! Tensors on a device: the simulated one, which finds what is not ordered.

use std::sync::Arc;

use super::*;
use crate::backend::sim::Sim;
use crate::error::Error;
use crate::pool::device::Engine;

pub(super) fn device(seed: u64) -> (MemoryPool, &'static Sim) {
    let sim: &'static Sim = Box::leak(Box::new(Sim::new(seed)));
    let engine = Arc::new(Engine::new(Device::Vulkan(7), sim));
    (MemoryPool::of_engine(engine, 8 << 20), sim)
}

pub(super) fn host() -> MemoryPool {
    MemoryPool::unlimited()
}

proptest! {
    /// Law: whatever view goes to a device, over to another tensor there, and back: the same values, of every type.
    #[test]
    fn views_come_back_as_they_went(dims in prop::collection::vec(0usize..6, 0..4), seed in any::<u64>(), visible in any::<bool>()) {
        let (pool, sim) = device(seed);
        sim.set_visible(visible);
        let numel = dims.iter().product::<usize>();
        let values: Vec<i32> = (0..numel as i32).collect();
        let base = DynTensor::from_slice(&dims, &values).unwrap();
        let view = cut(&base, seed);
        let there = view.to_pool(&pool).unwrap();
        prop_assert_eq!((there.device(), there.shape(), there.is_contiguous()), (Device::Vulkan(7), view.shape(), true));
        let across = there.to_pool(&pool).unwrap();
        // A view of what is there, brought back.
        let again = cut(&across, seed ^ 1).to_pool(&host()).unwrap();
        let expected = cut(&view.copy().unwrap(), seed ^ 1);
        prop_assert_eq!(one_by_one::<i32>(&again), one_by_one::<i32>(&expected));
        prop_assert_eq!(again.device(), Device::Cpu);
        drop((there, across));
        prop_assert_eq!(sim.findings(), vec![""; 0]);
        prop_assert_eq!(pool.stats().live_blocks, 0);
    }
}

#[test]
fn bytes_of_odd_lengths_survive() {
    let (pool, sim) = device(3);
    for len in [1, 2, 3, 5, 255, 256, 257, 70_001] {
        let values: Vec<u8> = (0..len).map(|at| at as u8 ^ 0x5a).collect();
        let there = DynTensor::from_slice(&[len], &values).unwrap().to_pool(&pool).unwrap();
        let tail = there.slice(0, (len / 2) as isize, len as isize, 1).unwrap();
        assert_eq!(
            tail.to_pool(&host()).unwrap().to_vec::<u8>().unwrap(),
            values[len / 2..]
        );
    }
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn made_on_the_device() {
    let (pool, sim) = device(4);
    let zeros = DynTensor::zeros_in(&pool, None, &[300], DType::F64).unwrap();
    assert_eq!(zeros.to_pool(&host()).unwrap().to_vec::<f64>().unwrap(), [0.0; 300]);
    let sevens = DynTensor::full_in(&pool, None, &[5, 2], DType::I16, Scalar::Int(7)).unwrap();
    assert_eq!(sevens.to_pool(&host()).unwrap().to_vec::<i16>().unwrap(), [7; 10]);
    let listed = DynTensor::from_slice_in(&pool, &[3], &[1.5f32, 2.5, 3.5]).unwrap();
    assert_eq!(
        listed.to_pool(&host()).unwrap().to_vec::<f32>().unwrap(),
        [1.5, 2.5, 3.5]
    );
    let empty = DynTensor::empty_in(&pool, None, &[0, 4], DType::U8).unwrap();
    assert_eq!(
        (empty.numel(), empty.to_pool(&host()).unwrap().shape().to_vec()),
        (0, vec![0, 4])
    );
    assert!(DynTensor::empty_in(&pool, Some(4096), &[9], DType::U8).is_ok());
    assert_eq!((pool.stats().live_blocks, sim.findings().len()), (4, 0));
}

/// What the processor cannot reach is refused, with what to do; nothing is touched.
#[test]
fn the_host_keeps_its_hands_off() {
    let (pool, sim) = device(5);
    let mut there = DynTensor::zeros_in(&pool, None, &[4], DType::F32).unwrap();
    let refusals = [
        there.to_vec::<f32>().map(drop),
        there.item::<f32>(&[0]).map(drop),
        there.as_slice::<f32>().map(drop),
        there.as_mut_slice::<f32>().map(drop),
        there.copy().map(drop),
        there.fill(Scalar::Int(1)),
        pool.allocate::<f32>(4).map(drop),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert!(
            matches!(error, Error::Unavailable { .. }) && error.to_string().contains("vulkan:7"),
            "{error}"
        );
    }
    let same = there.to_device(Device::Vulkan(7)).unwrap();
    assert_eq!(same.refcount(), 2, "already there: shared, not copied");
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn devices_that_are_not_there_say_so() {
    let tensor = DynTensor::zeros(&[2], DType::F32).unwrap();
    for device in [Device::Cuda(0), Device::Vulkan(99)] {
        for error in [
            tensor.to_device(device).map(drop),
            MemoryPool::new_gpu(device, 1 << 20).map(drop),
            DynTensor::zeros_on(device, &[2], DType::F32).map(drop),
        ] {
            let error = error.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains(&device.to_string()), "{error}");
        }
    }
    assert_eq!(MemoryPool::new_gpu(Device::Cpu, 1 << 20).unwrap().device(), Device::Cpu);
    assert_eq!(tensor.to_device(Device::Cpu).unwrap().refcount(), 2);
}
