//! What debug mode of a pool of a device is for: the driver sees a use beyond the end of a tensor, and one of a tensor that is gone. In a slab
//! of many blocks both are somebody's bytes.

use super::calls;
use super::machine::Machine;
use crate::cuda::{Arg, Grid};
use crate::dtype::DType;
use crate::pool::MemoryPool;
use crate::tensor::DynTensor;

const WORDS: usize = 1000;

/// Two tensors of so many words, and a kernel that reads `count` words from the address of the first on, which may be gone, and writes as many to
/// the second. What the driver found.
fn found(debug: bool, is_gone: bool, count: u32) -> Vec<String> {
    let machine = Machine::new(1, 1, false);
    let pool = MemoryPool::new_gpu(machine.devices[0], 4 << 20)
        .unwrap()
        .with_debug(debug);
    let make = || DynTensor::zeros_in(&pool, None, &[WORDS], DType::U32).unwrap();
    let [x, y] = [make(), make()];
    [&x, &y].iter().for_each(|tensor| tensor.synchronize().unwrap());
    let address = crate::cuda::pointer(&x).unwrap();
    let kept = (!is_gone).then_some(x); // else it is dropped here
    let kernel = calls::kernel_of_address(machine.devices[0]);
    let arguments = [address.into(), Arg::from(&y), 1u32.into(), count.into()];
    // SAFETY: none: what is wrong is to be found. The simulated driver touches no memory that is not there.
    unsafe { kernel.launch(&Grid::for_elements(WORDS + 1, 64).unwrap(), &arguments) }.unwrap();
    let _ = y.synchronize(); // of what it reads nobody here knows; a device that was lost says so
    drop((kept, y, pool, kernel));
    machine.end(false)
}

#[test]
fn what_is_beyond_the_end_is_found() {
    assert_eq!(found(true, false, WORDS as u32), [""; 0]);
    assert_eq!(found(false, false, WORDS as u32 + 1), [""; 0], "the slab goes on");
    let found = found(true, false, WORDS as u32 + 1);
    assert!(found.iter().any(|finding| finding.contains("raised")), "{found:#?}");
}

#[test]
fn what_is_gone_is_found() {
    assert_eq!(found(false, true, 1), [""; 0], "the slab is there");
    let found = found(true, true, 1);
    assert!(found.iter().any(|finding| finding.contains("raised")), "{found:#?}");
}
