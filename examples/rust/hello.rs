//! A pool, a tensor, views of it, and a file that is read back where it lies.
//!
//! `cargo run --example hello`

use neuro_core::io::safetensors;
use neuro_core::{DType, DynTensor, MemoryPool, Result, Scalar};

fn main() -> Result<()> {
    let pool = MemoryPool::new(64 << 20);

    let mut images = DynTensor::zeros_in(&pool, None, &[8, 28, 28], DType::F32)?;
    images.as_mut_slice::<f32>()?[..28].fill(0.5);
    println!(
        "{} {:?}, aligned to {} B",
        images.dtype(),
        images.shape(),
        images.alignment()
    );

    // Views share the storage; nothing is copied, and the storage lives as long as any of them.
    let first = images.select(0, 0)?;
    let corner = first.slice(0, 0, 2, 1)?.slice(1, 0, 3, 1)?;
    println!(
        "corner {:?}, {} handles share the storage",
        corner.to_vec::<f32>()?,
        images.refcount()
    );

    // A limit is an error that says what was asked and what was there.
    if let Err(error) = DynTensor::full_in(&pool, None, &[1 << 20, 100], DType::F64, Scalar::Float(1.0)) {
        println!("{error}");
    }

    let path = std::env::temp_dir().join(format!("neuro-hello-{}.safetensors", std::process::id()));
    safetensors::save(&path, &[("images", &images)], None)?;
    let mapped = safetensors::map(&path)?;
    println!(
        "mapped {}: {:?}, read-only: {}",
        mapped.tensors[0].0,
        mapped.tensors[0].1.shape(),
        mapped.tensors[0].1.is_readonly()
    );
    // Best effort: a file left in the temporary directory does no harm.
    let _ = std::fs::remove_file(&path);

    drop((images, first, corner));
    let stats = pool.stats();
    println!(
        "at the end: {} B live in {} blocks, peak {} B",
        stats.live_bytes, stats.live_blocks, stats.peak_bytes
    );
    Ok(())
}
