//! The past of a stretch of memory, byte by byte.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Clock, Event};

/// How bytes are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// They are looked at.
    Read,
    /// They are overwritten, whatever they held.
    Write,
}

/// What is wrong with a use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// `event` uses bytes and is not ordered behind the write of `writer`.
    AfterWrite {
        /// What is wrong.
        event: Event,
        /// What it does with the bytes.
        how: Use,
        /// Which bytes.
        place: Range<u64>,
        /// Who wrote them last.
        writer: Event,
    },
    /// `event` writes bytes and is not ordered behind the read of `reader`.
    AfterRead {
        /// What is wrong.
        event: Event,
        /// Which bytes.
        place: Range<u64>,
        /// Who has read them since they were written.
        reader: Event,
    },
    /// `event` reads bytes which nobody has written.
    Undefined {
        /// What is wrong.
        event: Event,
        /// Which bytes.
        place: Range<u64>,
    },
}

impl Finding {
    /// In words, with the names of the actors.
    #[must_use]
    pub fn words(&self, names: &dyn Fn(usize) -> String) -> String {
        match self {
            Finding::AfterWrite {
                event,
                how,
                place,
                writer,
            } => {
                let does = if *how == Use::Read { "reads" } else { "writes" };
                format!(
                    "race: {} {does} bytes {}..{}, not ordered behind the write of {}",
                    event.words(names),
                    place.start,
                    place.end,
                    writer.words(names)
                )
            }
            Finding::AfterRead { event, place, reader } => format!(
                "race: {} writes bytes {}..{}, not ordered behind the read of {}",
                event.words(names),
                place.start,
                place.end,
                reader.words(names)
            ),
            Finding::Undefined { event, place } => format!(
                "{} reads bytes {}..{}, which nobody has written",
                event.words(names),
                place.start,
                place.end
            ),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    end: u64,
    defined: bool,
    written: Option<Event>,
    read: Vec<Event>,
}

/// The bytes of one piece of memory, in stretches that have the same past (R2).
#[derive(Debug)]
pub struct Shadow(BTreeMap<u64, Bytes>);

impl Shadow {
    /// Of `len` bytes that hold nothing yet.
    #[must_use]
    pub fn new(len: u64) -> Self {
        let whole = Bytes {
            end: len,
            ..Bytes::default()
        };
        Self([(0, whole)].into())
    }

    /// Of memory that holds something already.
    #[must_use]
    pub fn defined(len: u64) -> Self {
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
    pub fn touch(&mut self, range: Range<u64>, how: Use, event: Event, clock: &Clock) -> Option<Finding> {
        if range.is_empty() {
            return None;
        }
        let mut finding = None;
        for (&start, bytes) in self.stretches(range.clone()) {
            let place = start..bytes.end;
            let unordered = |other: &Event| !clock.is_behind(*other);
            if let Some(writer) = bytes.written.filter(unordered) {
                finding.get_or_insert(Finding::AfterWrite {
                    event,
                    how,
                    place: place.clone(),
                    writer,
                });
            }
            if how == Use::Write {
                if let Some(reader) = bytes.read.iter().copied().find(unordered) {
                    finding.get_or_insert(Finding::AfterRead { event, place, reader });
                }
            } else {
                if !bytes.defined {
                    finding.get_or_insert(Finding::Undefined { event, place });
                }
                bytes.read.retain(|other| other.actor != event.actor);
                bytes.read.push(event);
            }
        }
        if how == Use::Write {
            self.overwrite(range, event);
        }
        finding
    }

    /// Makes `range`, which begins and ends where stretches do, one stretch with nothing but this write in its past.
    fn overwrite(&mut self, range: Range<u64>, event: Event) {
        let inner: Vec<u64> = self
            .0
            .range(range.start + 1..range.end)
            .map(|(&start, _)| start)
            .collect();
        inner.iter().for_each(|start| drop(self.0.remove(start)));
        if let Some(first) = self.0.get_mut(&range.start) {
            *first = Bytes {
                end: range.end,
                defined: true,
                written: Some(event),
                read: Vec::new(),
            };
        }
    }

    /// What the bytes hold is nobody's from now on; who used them stays known.
    pub fn forget(&mut self, range: Range<u64>) {
        self.stretches(range).for_each(|(_, bytes)| bytes.defined = false);
    }

    /// A use that does not lie behind `clock`.
    #[must_use]
    pub fn unfinished(&self, clock: &Clock) -> Option<Event> {
        let uses = self
            .0
            .values()
            .flat_map(|bytes| bytes.written.iter().chain(&bytes.read));
        uses.copied().find(|event| !clock.is_behind(*event))
    }

    /// The same of some of the bytes.
    pub fn unfinished_in(&mut self, range: Range<u64>, clock: &Clock) -> Option<Event> {
        let mut uses = self
            .stretches(range)
            .flat_map(|(_, bytes)| bytes.written.iter().chain(&bytes.read));
        uses.find(|event| !clock.is_behind(**event)).copied()
    }

    /// `range` goes: a use of it that does not lie behind `clock`. Whoever has the bytes next knows nothing of what was before.
    pub fn retire(&mut self, range: Range<u64>, clock: &Clock) -> Option<Event> {
        let mut found = None;
        for (_, bytes) in self.stretches(range) {
            let mut uses = bytes.written.iter().chain(&bytes.read).copied();
            found = found.or_else(|| uses.find(|event| !clock.is_behind(*event)));
            (bytes.written, bytes.read) = (None, Vec::new());
        }
        found
    }

    /// Nobody has used these bytes yet.
    pub fn renew(&mut self, range: Range<u64>) {
        for (_, bytes) in self.stretches(range) {
            *bytes = Bytes {
                end: bytes.end,
                ..Bytes::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(actor: usize, count: u64) -> Event {
        Event { actor, count }
    }

    fn words(finding: Option<Finding>) -> String {
        let names = |actor: usize| ["compute", "upload", "download", "the host"][actor].to_owned();
        finding.expect("nothing was found").words(&names)
    }

    #[test]
    fn what_is_not_ordered_is_found() {
        let mut shadow = Shadow::new(100);
        let nothing = Clock::default();
        assert_eq!(shadow.touch(0..50, Use::Write, event(0, 1), &nothing), None);
        let read = words(shadow.touch(40..50, Use::Read, event(1, 1), &nothing));
        assert_eq!(
            read,
            "race: upload #1 reads bytes 40..50, not ordered behind the write of compute #1"
        );
        let seen = Clock::from([1, 0, 0, 0]);
        assert_eq!(shadow.touch(0..10, Use::Read, event(1, 2), &seen), None);
        let written = words(shadow.touch(5..6, Use::Write, event(2, 1), &seen));
        assert_eq!(
            written,
            "race: download #1 writes bytes 5..6, not ordered behind the read of upload #2"
        );
        assert_eq!(shadow.touch(10..40, Use::Write, event(2, 2), &seen), None);
        assert_eq!(shadow.unfinished(&Clock::from([1, 2, 2, 0])), None);
        assert_eq!(shadow.unfinished(&Clock::from([1, 2, 1, 0])), Some(event(2, 2)));
    }

    #[test]
    fn what_nobody_wrote_is_found() {
        let mut shadow = Shadow::new(100);
        let all = Clock::from([9; 4]);
        assert_eq!(shadow.touch(10..20, Use::Write, event(0, 1), &all), None);
        assert_eq!(shadow.touch(12..20, Use::Read, event(0, 2), &all), None);
        assert!(words(shadow.touch(12..21, Use::Read, event(0, 3), &all)).contains("bytes 20..21"));
        shadow.forget(15..16);
        assert!(words(shadow.touch(0..20, Use::Read, event(0, 4), &all)).contains("bytes 0..10"));
        assert!(shadow.touch(15..16, Use::Read, event(0, 4), &all).is_some());
        assert_eq!(shadow.touch(16..20, Use::Read, event(0, 5), &all), None);
        assert_eq!(Shadow::defined(8).touch(0..8, Use::Read, event(0, 1), &all), None);
    }

    /// A write over many stretches leaves one, and forgets nothing around it.
    #[test]
    fn a_write_makes_one_stretch() {
        let mut shadow = Shadow::defined(100);
        for start in 0..100 {
            let clock = Clock::from([start]);
            assert_eq!(
                shadow.touch(start..start + 1, Use::Write, event(0, start + 1), &clock),
                None
            );
        }
        assert_eq!(shadow.0.len(), 100);
        let late = shadow.touch(10..90, Use::Write, event(1, 1), &Clock::from([89]));
        assert!(words(late).contains("bytes 89..90, not ordered behind the write of compute #90"));
        assert_eq!(shadow.0.len(), 21);
        assert!(
            shadow
                .touch(0..100, Use::Read, event(2, 1), &Clock::from([99, 1]))
                .is_some()
        );
        assert_eq!(shadow.touch(0..99, Use::Read, event(2, 1), &Clock::from([99, 1])), None);
        assert_eq!(shadow.touch(7..7, Use::Write, event(2, 1), &Clock::default()), None);
    }
}
