//! Tensors by the thousand: some are freed and others made, and what was live at most is told. What the driver was asked for
//! meanwhile is written down by the layer (`bench/layer`).

use bench_worker::{Random, Result};
use serde_json::{Value, json};

use super::Blocks;
use crate::device;

/// Sizes in bytes: each doubling as likely as the next.
const SIZES: (u32, u32) = (256, 256 << 10);
/// How often a third of them is freed and made anew.
const TURNS: u32 = 3;

/// # Errors
/// Where there is no such device or no room.
pub fn tell<B: Blocks>(tensors: usize) -> Result<Value> {
    let mut blocks = B::new(device()?)?;
    let mut random = Random::new(1);
    let (mut live_bytes, mut peak_bytes, mut made) = (0, 0, 0);
    let mut live: Vec<(u32, B::Block)> = Vec::new();
    for _ in 0..=TURNS {
        while live.len() < tensors {
            let bytes = random.size(SIZES.0, SIZES.1);
            live.push((bytes, blocks.allocate(bytes).ok_or("there is no room")?));
            live_bytes += u64::from(bytes);
            peak_bytes = live_bytes.max(peak_bytes);
            made += 1;
        }
        for _ in 0..tensors / 3 {
            let (bytes, block) = live.swap_remove(random.below(live.len() as u32) as usize);
            live_bytes -= u64::from(bytes);
            blocks.free(block);
        }
    }
    let pieces = blocks.pieces();
    live.into_iter().for_each(|(_, block)| blocks.free(block));
    Ok(json!({ "made": made, "peak": peak_bytes, "pieces": pieces }))
}
