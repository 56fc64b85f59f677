//! Single pairs of an allocation and a free, and the worst of them.
//!
//! Each pair is timed by the processor's counter. The whole is done several times, each time with a fresh allocator, and a pair's
//! time is also the least of its times: what the allocator does every time stays, what others did to the machine goes.

use bench_worker::ticks::{Ticks, ticks};
use bench_worker::{Part, Random, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Blocks;
use super::replace::Replace;
use crate::device;

const REPLAYS: usize = 5;

/// What the memory is like when a pair is timed. Sizes in bytes.
#[derive(Deserialize, Clone, Copy)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Case {
    /// Random slots of full ones get another block.
    Steady { low: u32, high: u32, slots: u32 },
    /// What there is from the driver is full of blocks of `bytes`, to the last: the next takes more from it, and is freed at once.
    Boundary { bytes: u32 },
    /// So many holes between live blocks of a size between `low` and `high`; the next is as long, and freed at once.
    Holes { holes: u32, low: u32, high: u32 },
    /// Nothing is done between the readings of the clock.
    Clock,
}

/// The times of one replay, in ticks; and of what a growing pool did, once.
#[derive(Default)]
struct Times {
    pairs: Vec<u64>,
    growth: u64,
}

/// # Errors
/// Where there is no such device or no room.
pub fn tell<B: Blocks>(case: Case, pairs: usize) -> Result<Value> {
    let clock = Ticks::calibrated();
    let mut all = Vec::with_capacity(REPLAYS * pairs);
    let mut least = vec![u64::MAX; pairs];
    let mut growth = u64::MAX;
    for _ in 0..REPLAYS {
        let times = replay(B::new(device()?)?, case, pairs)?;
        growth = growth.min(times.growth);
        least
            .iter_mut()
            .zip(&times.pairs)
            .for_each(|(least, &time)| *least = time.min(*least));
        all.extend(times.pairs);
    }
    all.sort_unstable();
    least.sort_unstable();
    let ns = |ticks: u64| ticks as f64 * clock.ns_a_tick;
    // Of fewer than a thousand, the largest.
    let rank = (all.len() * 999).div_ceil(1000).max(1) - 1;
    Ok(json!({
        "p50": ns(all[all.len() / 2]),
        "p999": ns(all[rank]),
        "largest": ns(all[all.len() - 1]),
        "worst": ns(least[least.len() - 1]),
        "growth": ns(growth),
        "reading": clock.reading_ns,
    }))
}

fn replay<B: Blocks>(blocks: B, case: Case, pairs: usize) -> Result<Times> {
    match case {
        Case::Steady { low, high, slots } => steady(blocks, low, high, slots, pairs),
        Case::Boundary { bytes } => boundary(blocks, bytes, pairs),
        Case::Holes { holes, low, high } => between_holes(blocks, holes, low, high, pairs),
        Case::Clock => Ok(Times {
            pairs: (0..pairs).map(|_| timed(|| ())).collect(),
            growth: 0,
        }),
    }
}

/// Ticks that `work` takes.
#[inline(always)]
fn timed(work: impl FnOnce()) -> u64 {
    let start = ticks();
    work();
    ticks().wrapping_sub(start)
}

fn steady<B: Blocks>(blocks: B, low: u32, high: u32, slots: u32, pairs: usize) -> Result<Times> {
    let mut part = Replace::fresh(blocks, low..=high, slots)?;
    part.draw(pairs);
    part.run();
    part.draw(pairs);
    Ok(Times {
        pairs: (0..pairs).map(|at| timed(|| part.step(at))).collect(),
        growth: 0,
    })
}

fn boundary<B: Blocks>(mut blocks: B, bytes: u32, pairs: usize) -> Result<Times> {
    let mut live = vec![blocks.allocate(bytes).ok_or("there is no room")?];
    let pieces = blocks.pieces();
    let mut growth = 0;
    while blocks.pieces() == pieces {
        let mut block = None;
        growth = timed(|| block = blocks.allocate(bytes));
        live.push(block.ok_or("the driver gives no more memory")?);
    }
    blocks.free(live.pop().ok_or("there is the block that made it grow")?);
    let times = (0..pairs).map(|_| timed(|| pair(&mut blocks, bytes))).collect();
    live.into_iter().for_each(|block| blocks.free(block));
    Ok(Times { pairs: times, growth })
}

fn between_holes<B: Blocks>(mut blocks: B, holes: u32, low: u32, high: u32, pairs: usize) -> Result<Times> {
    let mut random = Random::new(1);
    let mut live = Vec::new();
    for at in 0..2 * holes {
        let block = blocks.allocate(random.size(low, high)).ok_or("there is no room")?;
        live.push((at, block));
    }
    let (gone, live): (Vec<_>, Vec<_>) = live.into_iter().partition(|(at, _)| at % 2 == 0);
    gone.into_iter().for_each(|(_, block)| blocks.free(block));
    let sizes: Vec<u32> = (0..pairs).map(|_| random.size(low, high)).collect();
    let times = sizes.iter().map(|&bytes| timed(|| pair(&mut blocks, bytes))).collect();
    live.into_iter().for_each(|(_, block)| blocks.free(block));
    Ok(Times {
        pairs: times,
        growth: 0,
    })
}

#[inline]
fn pair<B: Blocks>(blocks: &mut B, bytes: u32) {
    let block = blocks.allocate(bytes).expect("there is room");
    blocks.free(block);
}
