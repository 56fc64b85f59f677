//! All that a world has: behind one lock.

use std::collections::BTreeMap;
use std::sync::Weak;

use races::{Clock, Event};

use crate::calls::Calls;
use crate::codes::Code;
use crate::device::Device;
use crate::event::EventState;
use crate::faults::Faults;
use crate::handle::{Kind, Table};
use crate::kernel::{Function, Module};
use crate::protect::{Cover, table};
use crate::random::Random;
use crate::space::Space;
use crate::stream::{Actor, Stream};
use crate::world::Inner;

/// Number of the host among the actors of the race check.
pub(crate) const HOST: usize = 0;

/// Findings from which on no more are written down.
const MANY_FINDINGS: usize = 1000;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) me: Weak<Inner>,
    pub(crate) world: u32,
    pub(crate) initialised: bool,
    pub(crate) random: Random,
    pub(crate) devices: Vec<Device>,
    pub(crate) peers: bool,
    pub(crate) streams: Table<Stream>,
    pub(crate) events: Table<EventState>,
    pub(crate) modules: Table<Module>,
    pub(crate) functions: Table<Function>,
    pub(crate) space: Space,
    pub(crate) actors: Vec<Actor>,
    /// What the host knows to be done.
    pub(crate) host: Clock,
    pub(crate) cover: Cover,
    pub(crate) protect: bool,
    /// The process ends: work is looked at, and not done.
    ending: bool,
    /// Functions that run for streams.
    pub(crate) running: usize,
    /// Pieces of work done so far, for times of events.
    pub(crate) ticks: u64,
    /// Contexts that threads have put on and not taken off.
    pub(crate) pushed: BTreeMap<u32, i64>,
    pub(crate) faults: Faults,
    pub(crate) calls: Calls,
    findings: Vec<String>,
}

impl State {
    pub(crate) fn new(me: Weak<Inner>, world: u32, seed: u64, devices: usize, peers: bool) -> Self {
        Self {
            me,
            world,
            initialised: false,
            random: Random::new(seed),
            devices: (0..devices).map(|_| Device::new()).collect(),
            peers,
            streams: Table::new(Kind::Stream, world),
            events: Table::new(Kind::Event, world),
            modules: Table::new(Kind::Module, world),
            functions: Table::new(Kind::Function, world),
            space: Space::default(),
            actors: vec![Actor::named("the host".to_owned())],
            host: Clock::new(),
            cover: Cover::default(),
            protect: true,
            ending: false,
            running: 0,
            ticks: 0,
            pushed: BTreeMap::new(),
            faults: Faults::default(),
            calls: Calls::default(),
            findings: Vec::new(),
        }
    }

    /// Whether work is looked at only.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// What was wrong, all that was submitted included: that is looked at, and not done, for the process ends.
    pub(crate) fn last_words(&mut self) -> Vec<String> {
        self.ending = true;
        while self.step() {}
        self.findings().to_vec()
    }

    /// Forgets findings, counts and faults, and decides anew, from this seed, what is done when. What is live stays.
    pub(crate) fn reset(&mut self, seed: u64) {
        self.random = Random::new(seed);
        drop(table::take_touched(self.world));
        self.findings.clear();
        self.faults = Faults::default();
        let pinned_bytes = self.calls.pinned_bytes;
        self.calls = Calls {
            pinned_bytes,
            peak_pinned_bytes: pinned_bytes,
            ..Calls::default()
        };
    }

    /// Something is wrong with the program.
    pub(crate) fn finding(&mut self, words: String) {
        if self.findings.len() < MANY_FINDINGS {
            self.findings.push(words);
        }
    }

    /// As [`finding`](Self::finding), and the code that the call answers.
    pub(crate) fn wrong<T>(&mut self, words: String, code: Code) -> Result<T, Code> {
        self.finding(words);
        Err(code)
    }

    pub(crate) fn findings(&mut self) -> &[String] {
        for touched in table::take_touched(self.world) {
            let by = touched.by;
            let event = self.event_words(Event {
                actor: by.actor as usize,
                count: by.count,
            });
            let does = if touched.writes { "writes" } else { "reads" };
            let uses = if by.writes { "writes" } else { "reads" };
            self.finding(format!(
                "the host {does} byte {:#x} of page-locked memory that {event} still {uses} ({:#x}..{:#x}), as far as the host knows",
                touched.address, by.start, by.end
            ));
        }
        &self.findings
    }

    pub(crate) fn event_words(&self, event: Event) -> String {
        format!("{} #{}", self.actor_name(event.actor), event.count)
    }

    fn actor_name(&self, actor: usize) -> String {
        self.actors
            .get(actor)
            .map_or_else(|| format!("actor {actor}"), |actor| actor.name.clone())
    }

    /// The device is lost: nothing is done any more, and every call says so.
    pub(crate) fn lose(&mut self, code: Code) {
        self.faults.lost = Some(code);
        let streams: Vec<u32> = self.streams.iter().map(|(number, _)| number).collect();
        for number in streams {
            if let Some(stream) = self.streams.get_mut(number) {
                stream.todo.clear();
            }
        }
        for actor in &mut self.actors {
            for work in actor.in_flight.drain(..) {
                if let Some(place) = work.place {
                    table::remove_in_flight(place);
                }
            }
        }
        self.cover.clear();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.lose(0);
        drop(table::take_touched(self.world));
    }
}
