//! "power-of-two classes": each size rounded up to a power of two; each class has its own free list, and what it once took
//! no other class gets.

use std::ops::Range;

use super::{GRANULE, Rule};

pub(crate) struct PowerOfTwo {
    /// Starts of free blocks, by the exponent of their size; the last freed is the next used.
    free: [Vec<u64>; 64],
    end: u64,
}

/// A block: start in bytes, and the exponent of its size.
#[derive(Clone, Copy, Default)]
pub(crate) struct Placed {
    start: u64,
    class: u32,
}

impl Rule for PowerOfTwo {
    const NAME: &'static str = "power-of-two classes";
    type Handle = Placed;

    fn new() -> Self {
        Self {
            free: std::array::from_fn(|_| Vec::new()),
            end: 0,
        }
    }

    fn allocate(&mut self, bytes: u64) -> Result<Placed, String> {
        let size = bytes.max(GRANULE).checked_next_power_of_two();
        let size = size.ok_or_else(|| format!("{bytes} B: the next power of two does not fit 64 bits"))?;
        let class = size.trailing_zeros();
        let start = self.free[class as usize].pop().unwrap_or_else(|| {
            let start = self.end;
            self.end += size;
            start
        });
        Ok(Placed { start, class })
    }

    fn free(&mut self, block: Placed) {
        self.free[block.class as usize].push(block.start);
    }

    fn addresses(&self, block: Placed) -> Option<Range<u64>> {
        Some(block.start..block.start + (1 << block.class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_keeps_what_it_took() {
        let mut rule = PowerOfTwo::new();
        let first = rule.allocate(65).unwrap();
        let second = rule.allocate(1).unwrap();
        assert_eq!((first.start, second.start, rule.end), (0, 128, 192));
        rule.free(first);
        assert_eq!(rule.allocate(64).unwrap().start, 192);
        assert_eq!(rule.allocate(128).unwrap().start, 0);
        assert_eq!(rule.end, 256);
        assert!(rule.allocate(u64::MAX).is_err());
    }
}
