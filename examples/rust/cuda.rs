//! A kernel of one's own in CUDA C, compiled when the program runs, on a tensor of a pool, where it lies: nothing is copied, and nobody
//! waits before the result is read.
//!
//! `cargo run -p neuro-core --example cuda`. Without a CUDA device, or without NVRTC, it says SKIPPED, or fails where
//! `NEURO_REQUIRE_CUDA` is set.

use neuro_core::cuda::{CompileOptions, Grid, Module};
use neuro_core::{DType, Device, DynTensor, Error, MemoryPool, Scalar};

const SOURCE: &str = include_str!("../kernels/double.cu");

/// What is not there is no failure, unless it is required.
fn or_skip<T>(got: Result<T, Error>, why: &str) -> Result<Option<T>, Error> {
    match got {
        Err(Error::Unavailable { what, reason }) if std::env::var_os("NEURO_REQUIRE_CUDA").is_none() => {
            println!("SKIPPED: examples/rust/cuda.rs: {why}{what}: {reason}");
            Ok(None)
        }
        got => got.map(Some),
    }
}

fn main() -> Result<(), Error> {
    let Some(pool) = or_skip(MemoryPool::new_gpu(Device::Cuda(0), 64 << 20), "needs hardware: ")? else {
        return Ok(());
    };
    let options = CompileOptions::new().name("double.cu");
    let Some(module) = or_skip(Module::compile(pool.device(), SOURCE, &options), "")? else {
        return Ok(());
    };
    let twice = module.function("twice", None)?; // its parameters are found in the source

    let mut numbers = DynTensor::zeros(&[1000, 1000], DType::F32)?;
    numbers.fill(Scalar::Float(1.5))?;
    let there = numbers.to_pool(&pool)?;
    let grid = Grid::for_elements(there.numel(), 256)?;
    for _ in 0..3 {
        // SAFETY: the kernel writes the first `numel` elements of this tensor only, and ends.
        unsafe { twice.launch(&grid, &[(&there).into(), (there.numel() as u64).into()]) }?;
    }
    let back = there.to_device(Device::Cpu)?; // behind the kernel
    assert!(back.to_vec::<f32>()?.iter().all(|&number| number == 12.0));
    println!(
        "1.5, doubled three times on {}: {}",
        pool.device(),
        back.item::<f32>(&[0, 0])?
    );
    Ok(())
}
