//! The clock for single operations: the processor's time stamp counter where there is one, else the system's clock.
//!
//! Reading the counter takes some 10 ns, the system's clock several times that; both lie in what is measured. The counter
//! may move in steps that long, so a single time is no finer than that.

use std::time::{Duration, Instant};

/// How long the counter is compared with the system's clock.
const CALIBRATION: Duration = Duration::from_millis(50);

/// Readings that are timed to see what one takes.
const READINGS: u32 = 10_000;

/// The clock, and how long its tick is.
pub struct Ticks {
    pub ns_a_tick: f64,
    /// Nanoseconds that a reading takes, in the mean: what each single time includes.
    pub reading_ns: f64,
}

impl Ticks {
    pub fn calibrated() -> Self {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < CALIBRATION {}
        let (elapsed, last) = (start.elapsed(), ticks());
        let ns_a_tick = elapsed.as_nanos() as f64 / (last - first).max(1) as f64;
        let first = ticks();
        let mut last = first;
        for _ in 0..READINGS {
            last = ticks();
        }
        let reading_ns = (last - first) as f64 * ns_a_tick / f64::from(READINGS);
        Self { ns_a_tick, reading_ns }
    }
}

/// Ticks since some moment of the past.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since the first call.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
