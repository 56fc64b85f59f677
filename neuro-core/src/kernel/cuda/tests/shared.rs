//! Shared memory that a launch asks for.

use super::calls;
use super::machine::Machine;
use crate::cuda::{Arg, Grid};
use crate::dtype::DType;
use crate::error::Error;
use crate::pool::MemoryPool;
use crate::tensor::DynTensor;

/// What is beyond 48 KiB has to be allowed a kernel, once; what is beyond the device is refused.
#[test]
fn a_launch_may_ask_for_what_the_device_has() {
    let machine = Machine::new(1, 1, false);
    let pool = MemoryPool::new_gpu(machine.devices[0], 4 << 20).unwrap();
    let kernel = calls::kernel(machine.devices[0]);
    let x = DynTensor::zeros_in(&pool, None, &[100], DType::U32).unwrap();
    let launch = |kib: u32| {
        let mut grid = Grid::for_elements(100, 64).unwrap();
        grid.shared_bytes = kib << 10;
        let arguments = [Arg::from(&x), (&x).into(), 1u32.into(), 100u32.into()];
        // SAFETY: the kernel reads and writes the first 100 elements, and ends.
        unsafe { kernel.launch(&grid, &arguments) }
    };
    for (kib, calls) in [(48, 0), (100, 1), (100, 1), (227, 2), (10, 2)] {
        launch(kib).unwrap();
        assert_eq!(machine.world.calls().of("cuFuncSetAttribute"), calls, "{kib} KiB");
    }
    let refused = launch(228);
    assert!(
        matches!(&refused, Err(Error::Driver { code: 1, meaning, .. }) if meaning.contains("233472 B of shared memory")),
        "{refused:?}"
    );
    let there = x.to_pool(&MemoryPool::unlimited()).unwrap();
    assert_eq!(there.to_vec::<u32>().unwrap(), [5; 100]);
    drop((x, pool, kernel));
    assert_eq!(machine.end(false), Vec::<String>::new());
}
