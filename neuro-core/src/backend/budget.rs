//! `Budget`: how much of a device's own memory this process may have, as its driver says at one moment.
//!
//! A driver may give more than that, and then moves memory out of the way, of this process or of others, which makes all of them slow.
//! So a pool asks before it grows, and stays within. Growing is rare, so that it can ask each time: what was said before is old.

use std::fmt;

/// Estimates, which change with what other processes do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Budget {
    /// Bytes that this process may have.
    pub(crate) bytes: u64,
    /// Bytes that it has.
    pub(crate) used: u64,
}

#[cfg_attr(
    not(any(feature = "vulkan", test)),
    allow(dead_code, reason = "a build without devices has none that says anything")
)]
impl Budget {
    /// What a driver says of a heap of `heap` bytes. `None` where that cannot be: no budget at all, or more than there is. A driver that
    /// says so does not know, and a pool that believed it would never get anything, or far too much.
    pub(crate) fn of(heap: u64, bytes: u64, used: u64) -> Option<Self> {
        (1..=heap).contains(&bytes).then_some(Self { bytes, used })
    }

    /// Bytes that it may still take.
    pub(crate) fn left(self) -> u64 {
        self.bytes.saturating_sub(self.used)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, used } = *self;
        write!(
            f,
            "{} B of its memory are left to this process, which may have {bytes} B and has {used} B",
            self.left()
        )
    }
}

/// How long a slab may be that should have `want` bytes, and must have `need`, a multiple of `unit`; `None`: there is no room for it.
/// Where nothing is known, the driver is simply asked.
pub(crate) fn within(budget: Option<Budget>, need: u64, want: u64, unit: u64) -> Option<u64> {
    let Some(budget) = budget else { return Some(want) };
    let most = want.min(budget.left());
    (most >= need).then_some(if most == want { want } else { most / unit * unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_stays_within_the_budget() {
        let budget = |bytes, used| Some(Budget { bytes, used });
        // (budget, need, want) and what may be asked for.
        let cases = [
            (None, 1 << 40, 1 << 41, Some(1 << 41)),
            (budget(1000, 0), 256, 512, Some(512)),
            (budget(1000, 0), 1000, 1000, Some(1000)),
            (budget(1000, 0), 256, 4096, Some(768)),
            (budget(1000, 489), 256, 4096, Some(256)),
            (budget(1000, 744), 256, 4096, Some(256)),
            (budget(1000, 745), 256, 4096, None),
            (budget(1000, 1000), 256, 256, None),
            (budget(1000, 5000), 256, 256, None),
            (budget(u64::MAX, 0), 256, u64::MAX, Some(u64::MAX)),
        ];
        for (budget, need, want, expected) in cases {
            assert_eq!(within(budget, need, want, 256), expected, "{budget:?} {need} {want}");
        }
    }

    #[test]
    fn a_driver_that_does_not_know_is_not_believed() {
        assert_eq!(Budget::of(100, 0, 0), None);
        assert_eq!(Budget::of(100, 101, 0), None);
        // Some software devices give the system's free memory, and what is left of the heap without it, below zero.
        assert_eq!(Budget::of(2 << 30, 20 << 30, (18u64 << 30).wrapping_neg()), None);
        let known = Budget::of(100, 80, 30).unwrap();
        assert_eq!((known.left(), known.bytes), (50, 80));
        assert!(known.to_string().contains("50 B of its memory are left"), "{known}");
        assert_eq!(Budget::of(100, 80, 90).unwrap().left(), 0);
    }
}
