//! What happens when work is submitted: it is put behind what it waits for, and each use is looked at.

use races::{Clock, Event, Use};

use super::{NAMES, State, locked, named};
use crate::backend::{Op, Queue, Span, Ticket};

impl State {
    /// Takes work up. `in_order`: it is ordered behind what the queue had before, as well as behind `waits`.
    pub(super) fn accept(&mut self, queue: Queue, waits: &[Ticket], ops: &[Op], in_order: bool) -> Ticket {
        self.calls.submit += 1;
        let line = queue.index();
        let number = self.queues[line].submitted + 1;
        let event = Event {
            actor: line,
            count: number,
        };
        let mut clock = self.host.clone();
        if in_order {
            clock.join(self.queues[line].clocks.last().unwrap_or(&Clock::default()));
            // What it does itself lies behind its end, and not before: its own parts are in order.
            clock.set(line, number);
        }
        for wait in waits {
            let other = &self.queues[wait.queue.index()];
            match other.clocks.get(wait.number as usize) {
                Some(behind) => clock.join(&behind.clone()),
                None => self.findings.push(format!(
                    "{} waits for {wait:?}, which was never submitted",
                    named(event)
                )),
            }
        }
        for op in ops {
            match *op {
                Op::Fill { to, .. } => {
                    if !(to.offset | to.bytes).is_multiple_of(4) {
                        self.findings
                            .push(format!("{} fills {to:?}, which are not whole words", named(event)));
                    }
                    self.touch(to, Use::Write, event, &clock);
                }
                Op::Copy { from, to } => {
                    if from.bytes != to.bytes {
                        self.findings
                            .push(format!("{} copies {from:?} to {to:?}", named(event)));
                    }
                    self.touch(from, Use::Read, event, &clock);
                    self.touch(to, Use::Write, event, &clock);
                }
            }
        }
        clock.set(line, number);
        let line = &mut self.queues[line];
        if line.clocks.is_empty() {
            line.clocks.push(Clock::default()); // of number 0, before everything
        }
        // What follows in the queue lies behind all before it, whether or not this does.
        clock.join(line.clocks.last().unwrap_or(&Clock::default()));
        line.clocks.push(clock);
        line.submitted = number;
        line.todo.push_back((waits.to_vec(), ops.to_vec()));
        // Less than is submitted, so that much is under way.
        if self.next(3) == 0 {
            self.step();
        }
        Ticket { queue, number }
    }

    /// Bytes are used: what is wrong with that is written down.
    pub(super) fn touch(&mut self, span: Span, how: Use, event: Event, clock: &Clock) {
        let addresses = locked::addresses(&span);
        if self.locked.is_some_and(|locked| locked.has(addresses.clone())) {
            if let Some(finding) = self.host_memory.touch(addresses, how, event, clock) {
                self.findings.push(format!(
                    "host memory: {}",
                    finding.words(&|actor| NAMES[actor].to_owned())
                ));
            }
            return;
        }
        let Some(held) = self.slabs.get_mut(&span.slab) else {
            self.findings.push(format!(
                "{} uses slab {}, which is not there",
                named(event),
                span.slab.0
            ));
            return;
        };
        let end = span.offset + span.bytes;
        if end > held.memory.len() {
            let beyond = if end > held.memory.addresses() {
                "beyond its slab"
            } else {
                "where nothing is mapped"
            };
            self.findings.push(format!("{} uses {span:?} {beyond}", named(event)));
            return;
        }
        if let Some(finding) = held.shadow.touch(span.offset..end, how, event, clock) {
            let words = finding.words(&|actor| NAMES[actor].to_owned());
            self.findings.push(format!("slab {}: {words}", span.slab.0));
        }
    }
}
