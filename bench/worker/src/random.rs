//! Random programs, the same for every peer: a fixed seed, and drawn before the clock runs.

/// Marsaglia's xorshift64*.
pub struct Random(u64);

impl Random {
    /// `stream` tells apart what runs side by side.
    pub fn new(stream: u64) -> Self {
        Self(0x9E37_79B9_7F4A_7C15 ^ stream << 32)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// A size in bytes between `low` and `high`, each doubling as likely as the next.
    pub fn size(&mut self, low: u32, high: u32) -> u32 {
        let share = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (from, to) = (f64::from(low).ln(), f64::from(high).ln());
        ((from + share * (to - from)).exp() as u32).clamp(low, high)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u32 + 1) as usize);
        }
    }
}
