//! A loop as a training is one: once it is warm it asks the driver for nothing but work, and to free costs no call at all.

use std::collections::BTreeMap;

use crate::cuda::{Access, Arg, Function, Grid, Stream, pointer};
use crate::dtype::DType;
use crate::kernel::cuda::tests::{calls, machine::Machine};
use crate::pool::MemoryPool;
use crate::tensor::DynTensor;

const STEPS: usize = 100;
const LAYERS: usize = 10;
/// Elements of activations, again and again.
const SIZES: [usize; 4] = [64, 96, 1000, 5000];

struct Training {
    machine: Machine,
    pool: MemoryPool,
    host: MemoryPool,
    kernel: Function,
    compute: Stream,
    batch: DynTensor,
}

impl Training {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(seed, 1, false);
        let (device, engine) = (machine.devices[0], &machine.engines[0]);
        let handles = engine.backend().cuda().unwrap().handles();
        let host = MemoryPool::unlimited().with_gpu_support(true).locked_by(engine);
        let values: Vec<u32> = (0..64).collect();
        Self {
            pool: MemoryPool::new_gpu(device, 256 << 20).unwrap(),
            kernel: calls::kernel(device),
            // SAFETY: the device's own stream, which stays.
            compute: unsafe { Stream::of(device, handles.compute) }.unwrap(),
            batch: DynTensor::from_slice_in(&host, &[64], &values).unwrap(),
            host,
            machine,
        }
    }

    /// Forward, with so many activations, each of which some piece of work uses; a loss; then all of them are freed.
    fn step(&self, activations: usize) {
        let batch = self.batch.to_pool_async(&self.pool).unwrap().wait().unwrap();
        let mut kept = Vec::new();
        for layer in 0..LAYERS {
            let made = |at: usize| {
                DynTensor::empty_in(&self.pool, None, &[SIZES[(at + layer) % SIZES.len()]], DType::U32).unwrap()
            };
            let all: Vec<DynTensor> = (0..activations / LAYERS).map(made).collect();
            let uses: Vec<_> = all.iter().map(|tensor| (tensor, Access::Write)).collect();
            // SAFETY: submits nothing that touches them; that they count as used is the point.
            unsafe { self.compute.submit(&uses, |_| Ok::<(), crate::Error>(())) }.unwrap();
            // A fill, a copy, and a kernel.
            let zeros = DynTensor::zeros_in(&self.pool, None, &[64], DType::U32).unwrap();
            let out = zeros.to_pool(&self.pool).unwrap();
            let arguments = [Arg::from(&batch), (&out).into(), (layer as u32).into(), 64u32.into()];
            // SAFETY: the kernel reads and writes 64 elements of each.
            unsafe { self.kernel.launch(&Grid::for_elements(64, 64).unwrap(), &arguments) }.unwrap();
            kept.push((all, zeros, out));
        }
        let loss = &kept[LAYERS - 1].2;
        assert_ne!(pointer(loss).unwrap(), pointer(&batch).unwrap());
        let loss = loss.to_pool(&self.host).unwrap();
        let raised: Vec<u32> = (0..64).map(|at| at + LAYERS as u32 - 1).collect();
        assert_eq!(loss.to_vec::<u32>().unwrap(), raised);
    }

    /// What the driver is asked in `STEPS` steps, once it is warm.
    fn calls_of_steps(self, activations: usize) -> BTreeMap<&'static str, u64> {
        (0..5).for_each(|_| self.step(activations));
        let before = self.machine.world.calls();
        (0..STEPS).for_each(|_| self.step(activations));
        let after = self.machine.world.calls();
        assert_eq!(
            after.device_syncs, before.device_syncs,
            "the whole device was waited for"
        );
        assert_eq!(after.pageable, before.pageable, "memory that is not page-locked");
        let Self { machine, .. } = self;
        let counts = after
            .counts
            .iter()
            .map(|(name, count)| (*name, count - before.of(name)));
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        drop((self.pool, self.host, self.kernel, self.compute, self.batch));
        assert_eq!(machine.end(false), Vec::<String>::new());
        counts
    }
}

#[test]
fn a_step_asks_the_driver_for_nothing_but_work() {
    for seed in 1..4 {
        let counts = Training::new(seed).calls_of_steps(200);
        // Whatever else may be there in time: this is all that a step is made of.
        let work = [
            "cuCtxPushCurrent_v2",
            "cuCtxPopCurrent_v2",
            "cuMemcpyAsync",
            "cuMemsetD32Async",
            "cuLaunchKernel",
            "cuStreamWaitEvent",
            "cuEventRecord",
            "cuEventQuery",
            "cuEventSynchronize",
        ];
        for name in counts.keys() {
            assert!(work.contains(name), "seed {seed}: {name}, {counts:?}");
        }
        assert_eq!(counts["cuLaunchKernel"], (STEPS * LAYERS) as u64);
        assert_eq!(counts["cuMemsetD32Async"], (STEPS * LAYERS) as u64);
        assert_eq!(counts["cuMemcpyAsync"], (STEPS * (LAYERS + 2)) as u64);
    }
}

/// Ten times as many frees, of memory that work has used: not one event more, but for those that chance decides.
#[test]
fn to_free_records_no_event() {
    for seed in 1..3 {
        let [few, many] = [200, 2000].map(|frees| Training::new(seed).calls_of_steps(frees));
        for name in [
            "cuEventRecord",
            "cuStreamWaitEvent",
            "cuEventQuery",
            "cuCtxPushCurrent_v2",
        ] {
            let [few, many] = [&few, &many].map(|counts| counts[name]);
            // 1800 frees more a step; a call for one in twenty of them would be found.
            assert!(
                many <= few + (STEPS * 1800 / 20) as u64,
                "{name}: {few}, and {many} with more frees"
            );
        }
        assert!(many["cuEventRecord"] <= few["cuEventRecord"] + few["cuEventRecord"] / 4);
    }
}
