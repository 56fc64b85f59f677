//! Streams of others through the public interface.

use super::calls;
use super::machine::Machine;
use crate::cuda::{Access, Stream, pointer};
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::tensor::DynTensor;

/// Two streams write a half of a tensor each, and say so only afterwards: who reads it is behind both.
#[test]
fn two_that_write_beside_each_other_are_both_waited_for() {
    for seed in 1..30 {
        let machine = Machine::new(seed, 1, false);
        let device = machine.devices[0];
        let pool = MemoryPool::new_gpu(device, 8 << 20).unwrap();
        let x = DynTensor::empty_in(&pool, None, &[2000], DType::U32).unwrap();
        let raw = [(); 2].map(|()| calls::stream(&machine.engines[0]));
        // SAFETY: streams of the device's context, which stay until these are dropped.
        let streams = raw.map(|raw| unsafe { Stream::of(device, raw) }.unwrap());
        let address = pointer(&x).unwrap();
        for (at, stream) in (0..).zip(&streams) {
            stream.wait_for(&x, Access::Write).unwrap();
            let half = address + at * 4000;
            calls::in_context(&machine.engines[0], || {
                calls::fill(stream.raw(), half, at as u32 + 7, 1000)
            })
            .unwrap();
        }
        for stream in &streams {
            stream.record(&x, Access::Write).unwrap();
        }
        let there = x.to_pool(&MemoryPool::unlimited()).unwrap().to_vec::<u32>().unwrap();
        assert_eq!(
            (there[0], there[999], there[1000], there[1999]),
            (7, 7, 8, 8),
            "seed {seed}"
        );
        drop((x, pool, streams));
        raw.iter().for_each(|&raw| calls::destroy(&machine.engines[0], raw));
        assert_eq!(machine.end(false), Vec::<String>::new(), "seed {seed}");
    }
}

/// What a stream of others does with a tensor is known although the driver refuses its order behind another that writes.
#[test]
fn what_is_said_to_be_used_is_so_although_an_order_is_refused() {
    for seed in 1..30 {
        let machine = Machine::new(seed, 1, false);
        let device = machine.devices[0];
        // No larger than the tensor, so that the next one has to take its place.
        let pool = MemoryPool::new_gpu(device, 8192).unwrap();
        let x = DynTensor::empty_in(&pool, None, &[2000], DType::U32).unwrap();
        let raw = [(); 2].map(|()| calls::stream(&machine.engines[0]));
        // SAFETY: streams of the device's context, which stay until these are dropped.
        let streams = raw.map(|raw| unsafe { Stream::of(device, raw) }.unwrap());
        let address = pointer(&x).unwrap();
        for (at, stream) in (0..).zip(&streams) {
            let half = address + at * 4000;
            calls::in_context(&machine.engines[0], || calls::fill(stream.raw(), half, 7, 1000)).unwrap();
        }
        streams[0].record(&x, Access::Write).unwrap();
        machine.world.fail_call("cuEventRecord", 999);
        let refused = streams[1].record(&x, Access::Write);
        assert!(matches!(refused, Err(Error::Driver { code: 999, .. })), "{refused:?}");
        drop(x);
        // The same place, or what was there before is given back: behind both.
        let z = DynTensor::zeros_in(&pool, None, &[2000], DType::U32).unwrap();
        let there = z.to_pool(&MemoryPool::unlimited()).unwrap().to_vec::<u32>().unwrap();
        assert_eq!(there, [0; 2000], "seed {seed}");
        drop((z, pool, streams));
        raw.iter().for_each(|&raw| calls::destroy(&machine.engines[0], raw));
        assert_eq!(machine.end(false), Vec::<String>::new(), "seed {seed}");
    }
}
