//! How much of the past of all actors lies behind a moment.

use smallvec::SmallVec;

/// How much of each actor's past lies behind a moment (R1). Actors beyond its end have none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Clock(SmallVec<[u64; 8]>);

impl Clock {
    /// Nothing lies behind it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events of `actor` lie behind it.
    #[must_use]
    pub fn of(&self, actor: usize) -> u64 {
        self.0.get(actor).copied().unwrap_or(0)
    }

    /// Puts it behind the first `count` events of `actor`, and no more of them.
    pub fn set(&mut self, actor: usize, count: u64) {
        if self.0.len() <= actor {
            self.0.resize(actor + 1, 0);
        }
        self.0[actor] = count;
    }

    /// Puts it behind all that `other` is behind.
    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Whether `event` lies behind it.
    #[must_use]
    pub fn is_behind(&self, event: Event) -> bool {
        self.of(event.actor) >= event.count
    }
}

impl<const N: usize> From<[u64; N]> for Clock {
    fn from(counts: [u64; N]) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// What an actor did, by its own count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Which actor.
    pub actor: usize,
    /// Its how-manieth, from 1 on.
    pub count: u64,
}

impl Event {
    pub(crate) fn words(self, names: &dyn Fn(usize) -> String) -> String {
        format!("{} #{}", names(self.actor), self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_of_different_lengths_join() {
        let (mut short, long) = (Clock::from([3]), Clock::from([1, 0, 5]));
        assert_eq!((short.of(0), short.of(2)), (3, 0));
        short.join(&long);
        assert_eq!(short, Clock::from([3, 0, 5]));
        let mut long = long;
        long.join(&Clock::from([7, 2]));
        assert_eq!(long, Clock::from([7, 2, 5]));
        long.set(9, 4);
        assert_eq!((long.of(8), long.of(9), long.of(10)), (0, 4, 0));
        assert!(long.is_behind(Event { actor: 9, count: 4 }) && !long.is_behind(Event { actor: 9, count: 5 }));
    }
}
