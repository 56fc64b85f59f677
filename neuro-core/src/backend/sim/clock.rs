//! Vector clocks, and what they say of bytes: who wrote them last, who has read them since, and whether the next use is ordered
//! behind that. Checked when work is submitted, so that a finding does not depend on the order in which it is then done.
//!
//! Actors are the queues and the host, all its threads together.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::backend::OWN_QUEUES;

/// Number of the host among the actors; queues have theirs.
pub(super) const HOST: usize = OWN_QUEUES.len();
const ACTORS: usize = HOST + 1;
const NAMES: [&str; ACTORS] = ["compute", "upload", "download", "the host"];

/// How much of each actor's past lies behind a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Clock(pub(super) [u64; ACTORS]);

impl Clock {
    pub(super) fn join(&mut self, other: &Clock) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = (*mine).max(theirs);
        }
    }

    fn is_behind(&self, event: Event) -> bool {
        self.0[event.actor] >= event.count
    }
}

/// What an actor did, by its own count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event {
    pub(super) actor: usize,
    pub(super) count: u64,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} #{}", NAMES[self.actor], self.count)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Read,
    Write,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    end: u64,
    defined: bool,
    written: Option<Event>,
    read: Vec<Event>,
}

/// The bytes of one slab, in stretches that have the same past.
#[derive(Debug)]
pub(super) struct Shadow(BTreeMap<u64, Bytes>);

impl Shadow {
    pub(super) fn new(len: u64) -> Self {
        let whole = Bytes {
            end: len,
            ..Bytes::default()
        };
        Self([(0, whole)].into())
    }

    /// Of memory that holds something already.
    pub(super) fn defined(len: u64) -> Self {
        let mut shadow = Self::new(len);
        shadow.0.values_mut().for_each(|bytes| bytes.defined = true);
        shadow
    }

    /// Makes `at` the start of a stretch, if it lies inside one.
    fn split(&mut self, at: u64) {
        if let Some((&start, bytes)) = self.0.range_mut(..=at).next_back()
            && start < at
            && at < bytes.end
        {
            let rest = bytes.clone();
            bytes.end = at;
            self.0.insert(at, rest);
        }
    }

    fn stretches(&mut self, range: Range<u64>) -> impl Iterator<Item = (&u64, &mut Bytes)> {
        self.split(range.start);
        self.split(range.end);
        self.0.range_mut(range)
    }

    /// `event`, behind which `clock` lies, uses `range`: what is wrong with that, if anything is.
    pub(super) fn touch(&mut self, range: Range<u64>, how: Use, event: Event, clock: &Clock) -> Option<String> {
        let mut finding = None;
        for (start, bytes) in self.stretches(range) {
            let place = format!("bytes {start}..{}", bytes.end);
            let unordered = |other: &Event| !clock.is_behind(*other);
            if let Some(writer) = bytes.written.filter(unordered) {
                finding.get_or_insert(format!(
                    "race: {event} {how:?}s {place}, not ordered behind the write of {writer}"
                ));
            }
            if how == Use::Write {
                if let Some(reader) = bytes.read.iter().copied().find(unordered) {
                    finding.get_or_insert(format!(
                        "race: {event} writes {place}, not ordered behind the read of {reader}"
                    ));
                }
                *bytes = Bytes {
                    end: bytes.end,
                    defined: true,
                    written: Some(event),
                    read: Vec::new(),
                };
            } else {
                if !bytes.defined {
                    finding.get_or_insert(format!("{event} reads {place}, which nobody has written"));
                }
                bytes.read.retain(|other| other.actor != event.actor);
                bytes.read.push(event);
            }
        }
        finding
    }

    /// What the bytes hold is nobody's from now on; who used them stays known.
    pub(super) fn forget(&mut self, range: Range<u64>) {
        self.stretches(range).for_each(|(_, bytes)| bytes.defined = false);
    }

    /// `range` goes: a use of it that does not lie behind `clock`. Whoever has the bytes next knows nothing of what was before.
    pub(super) fn retire(&mut self, range: Range<u64>, clock: &Clock) -> Option<Event> {
        let mut found = None;
        for (_, bytes) in self.stretches(range) {
            let mut uses = bytes.written.iter().chain(&bytes.read).copied();
            found = found.or_else(|| uses.find(|event| !clock.is_behind(*event)));
            (bytes.written, bytes.read) = (None, Vec::new());
        }
        found
    }

    /// A use that does not lie behind `clock`.
    pub(super) fn unfinished(&self, clock: &Clock) -> Option<Event> {
        let uses = self
            .0
            .values()
            .flat_map(|bytes| bytes.written.iter().chain(&bytes.read));
        uses.copied().find(|event| !clock.is_behind(*event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(actor: usize, count: u64) -> Event {
        Event { actor, count }
    }

    #[test]
    fn what_is_not_ordered_is_found() {
        let mut shadow = Shadow::new(100);
        let nothing = Clock::default();
        assert_eq!(shadow.touch(0..50, Use::Write, event(0, 1), &nothing), None);
        let read = shadow.touch(40..50, Use::Read, event(1, 1), &nothing).unwrap();
        assert!(read.contains("not ordered behind the write of compute #1"), "{read}");
        let seen = Clock([1, 0, 0, 0]);
        assert_eq!(shadow.touch(0..10, Use::Read, event(1, 2), &seen), None);
        let written = shadow.touch(5..6, Use::Write, event(2, 1), &seen).unwrap();
        assert!(written.contains("behind the read of upload #2"), "{written}");
        assert_eq!(shadow.touch(10..40, Use::Write, event(2, 2), &seen), None);
        assert_eq!(shadow.unfinished(&Clock([1, 2, 2, 0])), None);
        assert_eq!(shadow.unfinished(&Clock([1, 2, 1, 0])), Some(event(2, 2)));
    }

    #[test]
    fn what_nobody_wrote_is_found() {
        let mut shadow = Shadow::new(100);
        let all = Clock([9; ACTORS]);
        assert_eq!(shadow.touch(10..20, Use::Write, event(0, 1), &all), None);
        assert_eq!(shadow.touch(12..20, Use::Read, event(0, 2), &all), None);
        assert!(
            shadow
                .touch(12..21, Use::Read, event(0, 3), &all)
                .unwrap()
                .contains("bytes 20..21")
        );
        shadow.forget(15..16);
        assert!(
            shadow
                .touch(0..20, Use::Read, event(0, 4), &all)
                .unwrap()
                .contains("bytes 0..10")
        );
        assert!(shadow.touch(15..16, Use::Read, event(0, 4), &all).is_some());
        assert_eq!(shadow.touch(16..20, Use::Read, event(0, 5), &all), None);
    }
}
