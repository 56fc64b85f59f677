//! Replays a rule: for its times, for the addresses it uses, for its bookkeeping. Each replay begins with a fresh one.

use std::hint::black_box;
use std::time::Instant;

use bench_worker::ticks::{Ticks, ticks};

use crate::rules::Rule;
use crate::trace::{Op, Trace};

/// Replays that are timed, of each kind.
pub(crate) const REPLAYS: usize = 5;

/// What a rule made of a trace.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// Bytes it had to have from the system.
    pub(crate) reserved_bytes: u64,
    /// Bookkeeping at the peak, in bytes; `None` for a model.
    pub(crate) side_bytes: Option<usize>,
    /// Mean nanoseconds an operation, one value a replay.
    pub(crate) mean_ns: Vec<f64>,
    /// Least nanoseconds of each operation over all replays, ascending.
    pub(crate) least_ns: Vec<f64>,
}

impl Measured {
    /// The mean of the fastest replay.
    pub(crate) fn best_mean_ns(&self) -> f64 {
        self.mean_ns.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The mean of the slowest replay.
    pub(crate) fn worst_mean_ns(&self) -> f64 {
        self.mean_ns.iter().copied().fold(0.0, f64::max)
    }

    /// What 9,999 of 10,000 operations stay within; of fewer operations, all of them.
    pub(crate) fn p9999_ns(&self) -> f64 {
        let rank = (self.least_ns.len() * 9_999).div_ceil(10_000);
        self.least_ns[rank.saturating_sub(1)]
    }

    /// How many operations took longer, in each replay.
    pub(crate) fn above(&self, ns: f64) -> usize {
        self.least_ns.len() - self.least_ns.partition_point(|&least| least <= ns)
    }

    pub(crate) fn worst_ns(&self) -> f64 {
        self.least_ns[self.least_ns.len() - 1]
    }
}

/// All figures of one rule.
///
/// # Errors
/// Which rule had no room, and why.
pub(crate) fn measure<R: Rule>(trace: &Trace, clock: &Ticks) -> Result<Measured, String> {
    let failed = |error| format!("{}: {error}", R::NAME);
    let reserved_bytes = reserved::<R>(trace).map_err(failed)?;
    let side_bytes = side_bytes::<R>(trace).map_err(failed)?;
    let mean_ns = (0..REPLAYS).map(|_| mean_ns::<R>(trace)).collect::<Result<_, _>>();
    let mut least = vec![u64::MAX; trace.ops.len()];
    for _ in 0..REPLAYS {
        single_ticks::<R>(trace, &mut least).map_err(failed)?;
    }
    least.sort_unstable();
    Ok(Measured {
        name: R::NAME,
        reserved_bytes,
        side_bytes,
        mean_ns: mean_ns.map_err(failed)?,
        least_ns: least.into_iter().map(|ticks| ticks as f64 * clock.ns_a_tick).collect(),
    })
}

/// A fresh rule, and room for the handles of all blocks.
fn fresh<R: Rule>(trace: &Trace) -> (R, Vec<R::Handle>) {
    // Written, not only reserved, so that no page fault of this array falls into the time.
    let mut handles = Vec::with_capacity(trace.buffers);
    handles.resize(trace.buffers, R::Handle::default());
    (R::new(), black_box(handles))
}

#[inline(always)]
fn step<R: Rule>(rule: &mut R, handles: &mut [R::Handle], op: Op) -> Result<(), String> {
    let handle = &mut handles[op.buffer as usize];
    if op.bytes > 0 {
        *handle = rule.allocate(op.bytes)?;
    } else {
        rule.free(*handle);
    }
    Ok(())
}

/// Bytes from the start of the lowest block to the end of the highest, or what the rule says it took.
pub(crate) fn reserved<R: Rule>(trace: &Trace) -> Result<u64, String> {
    let (mut rule, mut handles) = fresh::<R>(trace);
    let (mut lowest, mut highest) = (u64::MAX, 0);
    for &op in &trace.ops {
        step(&mut rule, &mut handles, op)?;
        if op.bytes > 0
            && let Some(block) = rule.addresses(handles[op.buffer as usize])
        {
            lowest = lowest.min(block.start);
            highest = highest.max(block.end);
        }
    }
    Ok(rule.reserved().unwrap_or_else(|| highest.saturating_sub(lowest)))
}

/// Bookkeeping when most bytes are live. A replay of its own, because asking a pool may change what it does next.
fn side_bytes<R: Rule>(trace: &Trace) -> Result<Option<usize>, String> {
    let (mut rule, mut handles) = fresh::<R>(trace);
    let (to_peak, rest) = trace.ops.split_at(trace.ops_to_peak);
    for &op in to_peak {
        step(&mut rule, &mut handles, op)?;
    }
    let bytes = rule.side_bytes();
    // To the end, because a pool lives on while it has a block.
    for &op in rest {
        step(&mut rule, &mut handles, op)?;
    }
    Ok(bytes)
}

/// One replay on the clock as a whole.
#[inline(never)]
fn mean_ns<R: Rule>(trace: &Trace) -> Result<f64, String> {
    let (mut rule, mut handles) = fresh::<R>(trace);
    let start = Instant::now();
    for &op in &trace.ops {
        step(&mut rule, &mut handles, op)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / trace.ops.len() as f64)
}

/// One replay with each operation on the clock; `least` keeps the lesser of what it has and what this took.
#[inline(never)]
fn single_ticks<R: Rule>(trace: &Trace, least: &mut [u64]) -> Result<(), String> {
    let (mut rule, mut handles) = fresh::<R>(trace);
    for (&op, least) in trace.ops.iter().zip(least) {
        let start = ticks();
        step(&mut rule, &mut handles, op)?;
        *least = (*least).min(ticks() - start);
    }
    Ok(())
}
