//! Work is done: each use is shown to the race check, with the clock of its submission, and bytes move.
//!
//! The check is made here, and not at submission, because what a kernel uses is known only when it runs. Its outcome is the same
//! (R3 of `races`): streams are done in an order that their waits allow, and clocks come from the submissions.

use races::{Clock, Event, Use};

use crate::contents;
use crate::space::Part;
use crate::state::State;
use crate::stream::{Action, End, Work};

/// Bytes that are moved at a time.
const CHUNK: u64 = 256 << 10;

impl State {
    pub(crate) fn perform(&mut self, actor: usize, device: u32, work: &Work) {
        let event = Event {
            actor,
            count: work.number,
        };
        match &work.action {
            Action::Copy { to, from, bytes } => {
                if let End::Known(parts) = from {
                    self.touch(work.call, parts, Use::Read, event, &work.clock);
                }
                if let End::Known(parts) = to {
                    self.touch(work.call, parts, Use::Write, event, &work.clock);
                }
                if !self.is_ending() {
                    self.move_bytes(work.call, to, from, *bytes, event);
                }
            }
            Action::Fill {
                to,
                bytes,
                value,
                width,
            } => {
                self.touch(work.call, to, Use::Write, event, &work.clock);
                if !self.is_ending() {
                    self.fill_bytes(work.call, to, *bytes, &value.to_le_bytes()[..*width as usize], event);
                }
            }
            // What it does is not known without doing it.
            Action::Launch(_) if self.is_ending() => {}
            Action::Launch(launch) => self.run_kernel(launch, work.call, device, event, &work.clock),
            Action::Mark(number) => {
                let ticks = self.ticks;
                if let Some(state) = self.events.get_mut(*number) {
                    state.at = Some(ticks);
                }
            }
            Action::Wait | Action::Host(_) => {}
        }
    }

    /// Shows uses to the race check.
    pub(crate) fn touch(&mut self, call: &str, parts: &[Part], how: Use, event: Event, clock: &Clock) {
        for part in parts {
            // What was given back too early was found then.
            let Some(piece) = self.space.pieces.get_mut(&part.piece) else {
                continue;
            };
            let range = part.offset..part.offset + part.bytes;
            if let Some(finding) = piece.shadow.touch(range, how, event, clock) {
                let names = |actor: usize| {
                    self.actors
                        .get(actor)
                        .map(|actor| actor.name.clone())
                        .unwrap_or_default()
                };
                let words = format!("{call}, {}: {}", piece.words(), finding.words(&names));
                self.finding(words);
            }
        }
    }

    fn fill_bytes(&mut self, call: &str, to: &[Part], bytes: u64, value: &[u8], event: Event) {
        let pattern: Vec<u8> = value.iter().copied().cycle().take(bytes.min(CHUNK) as usize).collect();
        let (mut at, mut fine) = (0, true);
        while at < bytes {
            let len = (bytes - at).min(CHUNK);
            fine &= self.space.write(to, at, &pattern[..len as usize]);
            at += len;
        }
        self.check_host(fine, call, event);
    }

    fn move_bytes(&mut self, call: &str, to: &End, from: &End, bytes: u64, event: Event) {
        let mut buffer = vec![0; bytes.min(CHUNK) as usize];
        let (mut at, mut fine) = (0, true);
        while at < bytes {
            let len = (bytes - at).min(CHUNK) as usize;
            let part: &[u8] = match from {
                End::Known(parts) => {
                    fine &= self.space.read(parts, at, &mut buffer[..len]);
                    &buffer[..len]
                }
                End::Bytes(held) => &held[at as usize..at as usize + len],
                End::Pageable(_) => return, // read at submission
            };
            fine &= self.put(to, at, part);
            at += len as u64;
        }
        self.check_host(fine, call, event);
    }

    /// Writes bytes of a copy, from byte `at` of its end on.
    // Not a part of the loop: the compiler would ask before that, once for all pieces, how many parts a `Known` end has, of one that is none; and
    // valgrind would complain of an answer that nobody uses.
    #[inline(never)]
    fn put(&mut self, to: &End, at: u64, bytes: &[u8]) -> bool {
        match to {
            End::Known(parts) => self.space.write(parts, at, bytes),
            // SAFETY: the contract of the copy: it writes there, and the call waits for it.
            End::Pageable(address) => unsafe { contents::host_write_plainly(address + at, bytes) },
            End::Bytes(_) => true, // never written
        }
    }

    fn check_host(&mut self, fine: bool, call: &str, event: Event) {
        if !fine {
            let words = format!(
                "{call}: {}: memory of the host that it uses is not there any more",
                self.event_words(event)
            );
            self.finding(words);
        }
    }
}
