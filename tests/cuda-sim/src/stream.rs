//! Streams: what they have to do, and how far they are. Nothing is done before somebody asks.
//!
//! Invariant Q1: work waits only for work that was submitted before it. So something can always go on, but for functions of the
//! host that do not return.

use std::collections::VecDeque;
use std::ffi::c_void;

use races::{Clock, Event};
use smallvec::SmallVec;

use crate::codes::{Answer, INVALID_HANDLE};
use crate::handle::{Handle, LEGACY_STREAMS, PER_THREAD_STREAM};
use crate::kernel::Launch;
use crate::protect::table;
use crate::space::Parts;
use crate::state::{HOST, State};

/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;

/// Where a copy goes, or comes from.
#[derive(Debug)]
pub(crate) enum End {
    Known(Parts),
    /// Pageable memory, which the call waits for.
    Pageable(u64),
    /// What pageable memory held.
    Bytes(Vec<u8>),
}

/// `CUhostFn` and its argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFunction {
    pub(crate) function: unsafe extern "C" fn(*mut c_void),
    pub(crate) argument: usize,
}

#[derive(Debug)]
pub(crate) enum Action {
    Copy {
        to: End,
        from: End,
        bytes: u64,
    },
    Fill {
        to: Parts,
        bytes: u64,
        value: u32,
        width: u64,
    },
    Launch(Box<Launch>),
    Mark(u32),
    Wait,
    Host(HostFunction),
}

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) call: &'static str,
    pub(crate) number: u64,
    /// Streams, and how far they must be.
    pub(crate) waits: SmallVec<[(u32, u64); 2]>,
    pub(crate) clock: Clock,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) device: u32,
    pub(crate) flags: u32,
    pub(crate) actor: usize,
    /// Behind all that was submitted, and what it waits for.
    pub(crate) clock: Clock,
    pub(crate) submitted: u64,
    pub(crate) done: u64,
    pub(crate) todo: VecDeque<Work>,
    /// A function of the host runs for it.
    pub(crate) busy: bool,
    pub(crate) destroyed: bool,
    /// It is being captured into a graph, which is not simulated: whoever uses it then is found.
    pub(crate) captured: bool,
}

/// Who takes part in the race check.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) count: u64,
    /// Its stream is gone, so another may take its place, as soon as the host knows all of its work to be done.
    free: bool,
    /// Its work on page-locked memory that the host does not know to be done, in its order.
    pub(crate) in_flight: VecDeque<HostUse>,
}

impl Actor {
    pub(crate) fn named(name: String) -> Self {
        Self {
            name,
            count: 0,
            free: false,
            in_flight: VecDeque::new(),
        }
    }
}

/// Work on page-locked memory.
#[derive(Debug)]
pub(crate) struct HostUse {
    pub(crate) count: u64,
    pub(crate) bytes: std::ops::Range<u64>,
    pub(crate) writes: bool,
    pub(crate) place: Option<usize>,
}

impl State {
    /// Makes a stream.
    pub(crate) fn add_stream(&mut self, device: u32, flags: u32) -> u32 {
        let host = &self.host;
        let free = self
            .actors
            .iter()
            .enumerate()
            .position(|(actor, state)| state.free && host.of(actor) >= state.count);
        let actor = free.unwrap_or_else(|| {
            self.actors.push(Actor::named(String::new()));
            self.actors.len() - 1
        });
        let count = self.actors[actor].count;
        let number = self.streams.add(Stream {
            device,
            flags,
            actor,
            clock: Clock::new(),
            submitted: count,
            done: count,
            todo: VecDeque::new(),
            busy: false,
            destroyed: false,
            captured: false,
        });
        self.actors[actor].free = false;
        self.actors[actor].name = format!("stream {number} of device {device}");
        number
    }

    /// The stream that `handle` is for a call with the context of `device`.
    ///
    /// # Errors
    /// `INVALID_HANDLE`, which is a finding.
    pub(crate) fn stream(&mut self, call: &str, device: u32, handle: Handle) -> Answer<u32> {
        if LEGACY_STREAMS.contains(&handle) {
            return Ok(self.default_stream(device, true));
        }
        if handle == PER_THREAD_STREAM {
            return Ok(self.default_stream(device, false));
        }
        let found = self.streams.find(handle).ok();
        match found.filter(|&number| self.streams.get(number).is_some_and(|stream| !stream.destroyed)) {
            Some(number) => Ok(number),
            None => {
                let words = match found {
                    Some(number) => format!("Stream {number} ({handle:#x}), which was destroyed"),
                    None => self.streams.wrong(handle),
                };
                self.wrong(format!("{call} is given {words}"), INVALID_HANDLE)
            }
        }
    }

    fn default_stream(&mut self, device: u32, legacy: bool) -> u32 {
        let of = |state: &mut Self| {
            let device = &mut state.devices[device as usize];
            if legacy { device.legacy } else { device.per_thread }
        };
        if let Some(number) = of(self) {
            return number;
        }
        // That of a thread waits for the legacy one, and that for it, as CUDA documents it.
        let number = self.add_stream(device, 0);
        let actor = self.streams.get(number).map_or(HOST, |stream| stream.actor);
        let which = if legacy { "legacy" } else { "per-thread" };
        self.actors[actor].name = format!("the {which} default stream of device {device}");
        let device = &mut self.devices[device as usize];
        *(if legacy {
            &mut device.legacy
        } else {
            &mut device.per_thread
        }) = Some(number);
        number
    }

    /// Streams of `stream`'s context that work there is ordered behind without being told: the legacy stream and blocking ones.
    fn implied(&self, stream: u32) -> SmallVec<[u32; 4]> {
        let Some(this) = self.streams.get(stream) else {
            return SmallVec::new();
        };
        let legacy = self.devices[this.device as usize].legacy;
        if this.flags & NON_BLOCKING != 0 {
            return SmallVec::new();
        }
        if legacy != Some(stream) {
            return legacy.into_iter().collect();
        }
        let blocking = |other: &Stream| other.device == this.device && other.flags & NON_BLOCKING == 0;
        let others = self
            .streams
            .iter()
            .filter(|&(number, other)| number != stream && blocking(other));
        others.map(|(number, _)| number).collect()
    }

    /// Takes work up: what it is, by its actor's count, and the clock that lies behind it.
    pub(crate) fn submit(
        &mut self,
        call: &'static str,
        stream: u32,
        moment: Option<(u32, u64, &Clock)>,
        action: Action,
    ) -> (Event, Clock) {
        let mut waits: SmallVec<[(u32, u64); 2]> = SmallVec::new();
        let mut clock = self.host.clone();
        if let Some((other, number, behind)) = moment {
            clock.join(behind);
            waits.push((other, number));
        }
        for other in self.implied(stream) {
            if let Some(other_stream) = self.streams.get(other) {
                clock.join(&other_stream.clock);
                waits.push((other, other_stream.submitted));
            }
        }
        let Some(this) = self.streams.get_mut(stream) else {
            return (Event { actor: HOST, count: 0 }, clock); // the caller has just looked it up
        };
        clock.join(&this.clock);
        this.submitted += 1;
        let event = Event {
            actor: this.actor,
            count: this.submitted,
        };
        clock.set(event.actor, event.count);
        this.clock = clock.clone();
        this.todo.push_back(Work {
            call,
            number: event.count,
            waits,
            clock: clock.clone(),
            action,
        });
        self.actors[event.actor].count = event.count;
        (event, clock)
    }

    /// After a submission: now and then something is done, so that much is under way.
    pub(crate) fn now_and_then(&mut self) {
        if self.random.next(3) == 0 {
            self.step();
        }
    }

    /// Lets some stream that may do its next piece; whether there was one.
    pub(crate) fn step(&mut self) -> bool {
        let may: SmallVec<[u32; 16]> = self
            .streams
            .iter()
            .filter(|(_, stream)| {
                let first = stream.todo.front().filter(|_| !stream.busy);
                first.is_some_and(|work| work.waits.iter().all(|&(other, number)| self.is_over(other, number)))
            })
            .map(|(number, _)| number)
            .collect();
        if may.is_empty() {
            return false;
        }
        let ending = self.is_ending();
        let number = may[self.random.next(may.len())];
        let Some(stream) = self.streams.get_mut(number) else {
            return false;
        };
        let Some(work) = stream.todo.pop_front() else {
            return false;
        };
        self.ticks += 1;
        if let Action::Host(function) = work.action
            && !ending
        {
            stream.busy = true;
            self.run_for_stream(number, work.number, work.clock, function);
            return true;
        }
        let (actor, device) = (stream.actor, stream.device);
        self.perform(actor, device, &work);
        self.finish(number, work.number);
        true
    }

    /// A piece of work is done.
    pub(crate) fn finish(&mut self, number: u32, done: u64) {
        if let Some(stream) = self.streams.get_mut(number) {
            stream.done = done;
            stream.busy = false;
        }
        self.remove_if_over(number);
    }

    /// A stream that was destroyed goes with its last work.
    pub(crate) fn remove_if_over(&mut self, number: u32) {
        let over = |stream: &Stream| stream.destroyed && stream.todo.is_empty() && !stream.busy;
        let ended = self.streams.get(number).filter(|stream| over(stream));
        if let Some((actor, device, clock)) = ended.map(|stream| (stream.actor, stream.device, stream.clock.clone())) {
            if let Some(device) = self.devices.get_mut(device as usize) {
                device.gone.join(&clock);
            }
            self.streams.remove(number);
            self.actors[actor].free = true;
        }
    }

    /// The host knows all behind `clock` to be done.
    pub(crate) fn host_sees(&mut self, clock: &Clock) {
        self.host.join(clock);
        for (number, actor) in self.actors.iter_mut().enumerate() {
            let known = self.host.of(number);
            while actor.in_flight.front().is_some_and(|work| work.count <= known) {
                if let Some(HostUse {
                    bytes,
                    writes,
                    place: Some(place),
                    ..
                }) = actor.in_flight.pop_front()
                {
                    table::remove_in_flight(place);
                    self.cover.remove(&bytes, writes);
                }
            }
        }
    }
}
