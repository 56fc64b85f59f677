//! Streams of others through the public interface.

use super::calls;
use super::machine::Machine;
use crate::cuda::{Access, Stream, pointer};
use crate::dtype::DType;
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
