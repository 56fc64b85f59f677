//! The weights of a transformer in a pool that devices reach: how much memory is page-locked for them. Nobody writes to it.

use bench_worker::Result;
use neuro_core::{DeviceMemory, Init, MemoryPool};
use serde_json::{Value, json};

use crate::driver::Driver;

/// A decoder of 10.96 billion weights of 2 bytes.
const BYTES: usize = 2;
const HIDDEN: usize = 4096;
const KEYS: usize = 1024;
const INNER: usize = 13_056;
const VOCABULARY: usize = 151_936;
const LAYERS: usize = 48;

/// Elements of each tensor of a layer.
const LAYER: [usize; 9] = [
    HIDDEN, // norm
    HIDDEN * HIDDEN,
    KEYS * HIDDEN,
    KEYS * HIDDEN,
    HIDDEN * HIDDEN,
    HIDDEN, // norm
    INNER * HIDDEN,
    INNER * HIDDEN,
    HIDDEN * INNER,
];

/// Bytes of each tensor, in the order in which a file has them.
fn tensors() -> impl Iterator<Item = usize> {
    let layers = std::iter::repeat_n(LAYER, LAYERS).flatten();
    [VOCABULARY * HIDDEN]
        .into_iter()
        .chain(layers)
        .chain([HIDDEN, VOCABULARY * HIDDEN])
        .map(|elements| elements * BYTES)
}

/// # Errors
/// Where there is no such device, or no address space.
pub fn tell() -> Result<Value> {
    let driver = Driver::open()?;
    let pool = MemoryPool::unlimited().with_gpu_support(true);
    pool.gpu_support()?;
    let before = driver.pinned_bytes();
    let weights = tensors()
        .map(|bytes| DeviceMemory::from_pool(&pool, bytes, None, Init::Uninit))
        .collect::<neuro_core::Result<Vec<_>>>()?;
    let pinned = driver.pinned_bytes() - before;
    let told = pool.stats().pinned_bytes;
    let count = weights.len();
    drop(weights);
    driver.check()?;
    Ok(json!({
        "tensors": count,
        "asked": tensors().sum::<usize>(),
        "pinned": pinned,
        "told": told,
        "powers": tensors().map(usize::next_power_of_two).sum::<usize>(),
    }))
}
