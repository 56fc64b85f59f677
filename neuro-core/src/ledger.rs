//! Counters of what is live. One set a pool, kept under the pool's lock, so every figure and every peak is exact.

/// Live bytes and blocks, now, at most, and in total.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) live_bytes: usize,
    pub(crate) peak_bytes: usize,
    pub(crate) live_blocks: usize,
    pub(crate) peak_blocks: usize,
    pub(crate) total_allocations: u64,
}

impl Counters {
    /// A block of `bytes` was handed out.
    pub(crate) fn add_block(&mut self, bytes: usize) {
        self.live_blocks += 1;
        self.peak_blocks = self.peak_blocks.max(self.live_blocks);
        self.total_allocations += 1;
        self.grow(bytes);
    }

    /// A block of `bytes` came back.
    pub(crate) fn remove_block(&mut self, bytes: usize) {
        self.live_blocks -= 1;
        self.live_bytes -= bytes;
    }

    /// A live block changed its length in place.
    pub(crate) fn resize_block(&mut self, old: usize, new: usize) {
        self.live_bytes -= old;
        self.grow(new);
    }

    fn grow(&mut self, bytes: usize) {
        self.live_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    /// Peaks start again from what is live now.
    pub(crate) fn reset_peak(&mut self) {
        self.peak_bytes = self.live_bytes;
        self.peak_blocks = self.live_blocks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_hold_until_they_are_reset() {
        let mut counters = Counters::default();
        counters.add_block(64);
        counters.add_block(128);
        counters.remove_block(64);
        counters.resize_block(128, 64);
        assert_eq!((counters.live_bytes, counters.live_blocks), (64, 1));
        assert_eq!(
            (counters.peak_bytes, counters.peak_blocks, counters.total_allocations),
            (192, 2, 2)
        );
        counters.reset_peak();
        assert_eq!(
            (counters.peak_bytes, counters.peak_blocks, counters.total_allocations),
            (64, 1, 2)
        );
    }
}
