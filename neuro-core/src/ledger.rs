//! Counts of what is live: now, at most, and in total.
//!
//! A pool keeps one [`Counters`] under its lock. A thread that serves itself from its own cache counts in a [`Drift`], which
//! is folded into the counters when it grows, when the cache goes to the pool for more, and whenever somebody asks: so a
//! peak is exact while one thread allocates, and too high by at most each other thread's drift (64 KiB) otherwise.

/// One count: now, the most since the last reset, and the sum of all that was ever added.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What there is now.
    pub current: usize,
    /// The most there was at once, since the beginning or the last reset.
    pub peak: usize,
    /// All that was ever added.
    pub total: u64,
}

impl Usage {
    // While blocks are counted by one thread and uncounted by another, which has not folded yet, `current` may be below zero
    // for a time: it wraps, and is compared as the signed number that it stands for.
    pub(crate) fn add(&mut self, amount: usize) {
        self.current = self.current.wrapping_add(amount);
        self.raise_peak(self.current);
        self.total += amount as u64;
    }

    pub(crate) fn remove(&mut self, amount: usize) {
        self.current = self.current.wrapping_sub(amount);
    }

    /// Sets what there is now; an increase counts as added.
    pub(crate) fn set(&mut self, now: usize) {
        let more = now.wrapping_sub(self.current) as isize;
        if more > 0 {
            self.add(more as usize);
        } else {
            self.current = now;
        }
    }

    fn raise_peak(&mut self, seen: usize) {
        if seen as isize > self.peak as isize {
            self.peak = seen;
        }
    }

    fn fold(&mut self, live: isize, peak: isize, total: u64) {
        self.raise_peak(self.current.wrapping_add_signed(peak));
        self.current = self.current.wrapping_add_signed(live);
        self.raise_peak(self.current);
        self.total += total;
    }
}

/// Bytes asked for, bytes that blocks occupy, and blocks.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Bytes as asked for.
    pub requested: Usage,
    /// Bytes that blocks occupy.
    pub allocated: Usage,
    /// Blocks; its total is the number of allocations.
    pub blocks: Usage,
}

impl Counters {
    /// A block was handed out.
    pub(crate) fn add_block(&mut self, requested: usize, allocated: usize) {
        self.requested.add(requested);
        self.allocated.add(allocated);
        self.blocks.add(1);
    }

    /// A block came back.
    pub(crate) fn remove_block(&mut self, requested: usize, allocated: usize) {
        self.requested.remove(requested);
        self.allocated.remove(allocated);
        self.blocks.remove(1);
    }

    /// A live block's bytes asked for, and its length, changed from `old` to `new`.
    pub(crate) fn resize_block(&mut self, old: (usize, usize), new: (usize, usize)) {
        self.requested
            .set(self.requested.current.wrapping_sub(old.0).wrapping_add(new.0));
        self.allocated
            .set(self.allocated.current.wrapping_sub(old.1).wrapping_add(new.1));
    }

    /// Peaks start again from what is live now.
    pub(crate) fn reset_peak(&mut self) {
        for usage in [&mut self.requested, &mut self.allocated, &mut self.blocks] {
            usage.peak = usage.current;
        }
    }

    /// Peaks start again from what is live now, and totals from nothing.
    pub(crate) fn start_over(&mut self) {
        self.reset_peak();
        for usage in [&mut self.requested, &mut self.allocated, &mut self.blocks] {
            usage.total = 0;
        }
    }

    /// What a thread did by itself since its last fold.
    pub(crate) fn fold(&mut self, drift: &mut Drift) {
        let d = std::mem::take(drift);
        self.requested.fold(d.live_requested, d.peak_requested, d.requested);
        self.allocated.fold(d.live_allocated, d.peak_allocated, d.allocated);
        self.blocks.fold(d.live_blocks, d.peak_blocks, d.blocks);
    }
}

/// What one thread handed out and took back since its last fold.
///
/// The order is for speed: what a free changes does not lie side by side, or compilers change two values by one wide
/// instruction, which has to wait for the narrow ones of the allocation before it.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
pub(crate) struct Drift {
    live_allocated: isize,
    peak_allocated: isize,
    live_requested: isize,
    peak_requested: isize,
    live_blocks: isize,
    peak_blocks: isize,
    allocated: u64,
    requested: u64,
    blocks: u64,
}

impl Drift {
    /// A thread folds when its own bytes have drifted this far.
    const FOLD: isize = 64 << 10;

    #[inline]
    pub(crate) fn add_block(&mut self, requested: usize, allocated: usize) {
        self.requested += requested as u64;
        self.allocated += allocated as u64;
        self.blocks += 1;
        self.live_requested += requested as isize;
        self.live_allocated += allocated as isize;
        self.live_blocks += 1;
        self.peak_requested = self.peak_requested.max(self.live_requested);
        self.peak_allocated = self.peak_allocated.max(self.live_allocated);
        self.peak_blocks = self.peak_blocks.max(self.live_blocks);
    }

    #[inline]
    pub(crate) fn remove_block(&mut self, requested: usize, allocated: usize) {
        self.live_requested -= requested as isize;
        self.live_allocated -= allocated as isize;
        self.live_blocks -= 1;
    }

    /// Whether nothing was handed out or taken back.
    #[inline]
    pub(crate) fn is_nothing(&self) -> bool {
        self.blocks == 0 && self.live_blocks == 0
    }

    /// Whether it is time to fold.
    #[inline]
    pub(crate) fn is_far(&self) -> bool {
        (self.live_allocated + Self::FOLD) as usize > 2 * Self::FOLD as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_hold_until_they_are_reset() {
        let mut counters = Counters::default();
        counters.add_block(60, 64);
        counters.add_block(100, 128);
        counters.remove_block(60, 64);
        assert_eq!(
            counters.allocated,
            Usage {
                current: 128,
                peak: 192,
                total: 192
            }
        );
        assert_eq!(
            counters.requested,
            Usage {
                current: 100,
                peak: 160,
                total: 160
            }
        );
        assert_eq!(
            counters.blocks,
            Usage {
                current: 1,
                peak: 2,
                total: 2
            }
        );
        counters.reset_peak();
        assert_eq!(
            counters.allocated,
            Usage {
                current: 128,
                peak: 128,
                total: 192
            }
        );
        counters.allocated.set(100);
        counters.allocated.set(300);
        assert_eq!(
            counters.allocated,
            Usage {
                current: 300,
                peak: 300,
                total: 392
            }
        );
    }

    /// What a thread did by itself counts as if it had been counted at once.
    #[test]
    fn a_drift_is_exact_for_one_thread() {
        let (mut direct, mut folded, mut drift) = (Counters::default(), Counters::default(), Drift::default());
        let mut state = 7u32;
        let mut live = Vec::new();
        for step in 0..1000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 0 || live.is_empty() {
                let requested = (state >> 16) as usize % 5000;
                let allocated = requested.next_multiple_of(64);
                live.push((requested, allocated));
                direct.add_block(requested, allocated);
                drift.add_block(requested, allocated);
            } else {
                let (requested, allocated) = live.swap_remove((state >> 8) as usize % live.len());
                direct.remove_block(requested, allocated);
                drift.remove_block(requested, allocated);
            }
            if step % 37 == 0 || drift.is_far() {
                folded.fold(&mut drift);
                assert_eq!(direct, folded);
            }
        }
    }
}
