//! A device that is not there, for tests: lazy queues over host memory, done in an order that a seed decides, and a check of every use.
//!
//! Work waits in its queue until somebody asks how far things are; then some queue whose turn it may be does one piece. So
//! whatever the order is that only waits can forbid, some seed has it. Whether uses are ordered is not left to chance: see
//! the crate `races`. Memory that was just made, and that is given back, is filled with a mark.
//!
//! Faults: memory ends at a limit, the n-th call is refused, the device is lost.

mod accept;
mod locked;
mod memory;
mod orders;
mod range;
mod raw;
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use races::{Clock, Event, Shadow, Use};

pub(crate) use self::locked::Locked;
use self::memory::Memory;
pub(crate) use self::orders::Calls;
use super::budget::Budget;
use super::range::Ranges;
use super::raw::RawVulkan;
use super::{Backend, Facts, OWN_QUEUES, Op, Queue, Refusal, Slab, SlabId, SlabKind, Span, Ticket, no_sharing};
use crate::sync::global::lock;

/// Number of the host among the actors of the race check; queues have theirs.
const HOST: usize = OWN_QUEUES.len();
const NAMES: [&str; HOST + 1] = ["compute", "upload", "download", "the host"];

/// An event of the race check, in words.
fn named(event: Event) -> String {
    format!("{} #{}", NAMES[event.actor], event.count)
}

#[derive(Debug)]
pub(crate) struct Sim {
    facts: Facts,
    /// What pieces of a range are multiples of; `None`: it has no ranges.
    granularity: Option<u64>,
    /// Its driver, if that locks memory of the host for all its devices.
    locked: Option<&'static Locked>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slabs: BTreeMap<SlabId, Held>,
    last_slab: u64,
    used: u64,
    limit: u64,
    /// Bytes that it says one may have; `None`: it does not say.
    budget: Option<u64>,
    queues: [Line; OWN_QUEUES.len()],
    host: Clock,
    random: u64,
    findings: Vec<String>,
    /// Calls until one is refused; `None`: none is.
    fail_in: Option<u32>,
    lost: bool,
    locked: Option<&'static Locked>,
    /// Of memory that is locked, by its address.
    host_memory: Shadow,
    /// Whether the host reaches the device's own memory.
    visible: bool,
    calls: Calls,
}

#[derive(Debug)]
struct Held {
    memory: Memory,
    reached: bool,
    shadow: Shadow,
    /// What a range is mapped in multiples of; 0: it is none.
    piece: u64,
}

/// A queue: what it has to do, how far it is, and the clock of each piece that may still be asked for.
#[derive(Debug, Default)]
struct Line {
    todo: VecDeque<(Vec<Ticket>, Vec<Op>)>,
    done: u64,
    submitted: u64,
    clocks: Vec<Clock>,
}

impl Sim {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            facts: Facts {
                alignment: 256,
                max_slab_bytes: 1 << 30,
                longest_by: "the simulated limit",
                memory_bytes: 1 << 30,
                import_alignment: Some(4096),
                shares_memory: false,
                bind_alignment: 64,
                identity: None,
            },
            granularity: Some(64 << 10),
            locked: None,
            state: Mutex::new(State {
                slabs: BTreeMap::new(),
                last_slab: 0,
                used: 0,
                limit: 1 << 30,
                budget: None,
                queues: Default::default(),
                host: Clock::default(),
                random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
                findings: Vec::new(),
                fail_in: None,
                lost: false,
                locked: None,
                host_memory: Shadow::defined(u64::MAX),
                visible: false,
                calls: Calls::default(),
            }),
        }
    }

    /// A device whose memory is the host's.
    pub(crate) fn sharing(seed: u64) -> Self {
        let mut sim = Self::new(seed);
        sim.facts.shares_memory = true;
        sim
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % below
    }

    fn refused(&mut self, call: &'static str) -> Result<(), Refusal> {
        if self.lost {
            return Err(Refusal::Lost("a test said so".to_owned()));
        }
        if let Some(left) = self.fail_in.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.fail_in = None;
                let meaning = "a failure that a test asked for".to_owned();
                return Err(Refusal::Call {
                    call,
                    code: -1,
                    meaning,
                });
            }
        }
        Ok(())
    }

    /// Lets some queue that may do its next piece; whether there was one.
    fn step(&mut self) -> bool {
        let may: Vec<usize> = (0..OWN_QUEUES.len())
            .filter(|&queue| {
                let first = self.queues[queue].todo.front();
                first.is_some_and(|(waits, _)| {
                    waits
                        .iter()
                        .all(|wait| self.queues[wait.queue.index()].done >= wait.number)
                })
            })
            .collect();
        if may.is_empty() {
            return false;
        }
        let queue = may[self.next(may.len())];
        if let Some((_, ops)) = self.queues[queue].todo.pop_front() {
            ops.iter().for_each(|op| self.perform(op));
            self.queues[queue].done += 1;
        }
        true
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Fill { to, value } => {
                if let Some(bytes) = self.bytes_of(to) {
                    let words = bytes.chunks_exact_mut(4);
                    words.for_each(|word| word.copy_from_slice(&value.to_ne_bytes()));
                }
            }
            Op::Copy { from, to } => {
                let Some(bytes) = self.bytes_of(from).map(|bytes| bytes.to_vec()) else {
                    return;
                };
                if let Some(to) = self.bytes_of(to) {
                    to.copy_from_slice(&bytes);
                }
            }
        }
    }

    /// The bytes of a span, if they are there. Where not, they were given back too early, which has been found.
    fn bytes_of(&mut self, span: &Span) -> Option<&mut [u8]> {
        if let Some(held) = self.slabs.get_mut(&span.slab) {
            let fits = span.offset + span.bytes <= held.memory.len();
            return fits.then(|| held.memory.bytes(span));
        }
        let addresses = locked::addresses(span);
        self.locked?.has(addresses.clone()).then(|| {
            let start = std::ptr::with_exposed_provenance_mut(addresses.start as usize);
            // SAFETY: locked memory stays as it is mapped, and the host writes it only while tests have no work under way there.
            unsafe { std::slice::from_raw_parts_mut(start, span.bytes as usize) }
        })
    }

    /// The device's memory counts so many bytes more, or is at its end. More than the budget is wrong.
    fn take(&mut self, bytes: u64, kind: SlabKind) -> Result<(), Refusal> {
        if bytes > self.limit.saturating_sub(self.used) {
            return Err(Refusal::NoMemory);
        }
        self.used += bytes;
        if kind == SlabKind::Device && self.budget.is_some_and(|budget| self.used > budget) {
            let finding = format!("{} B are used, beyond the budget {:?}", self.used, self.budget);
            self.findings.push(finding);
        }
        Ok(())
    }

    /// The host has seen that a ticket is done.
    fn host_sees(&mut self, ticket: Ticket) {
        if let Some(clock) = self.queues[ticket.queue.index()].clocks.get(ticket.number as usize) {
            self.host.join(clock);
        }
    }
}

impl Backend for Sim {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn allocate(&self, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        let mut state = self.state();
        state.refused("allocate")?;
        if bytes > self.facts.max_slab_bytes {
            return Err(Refusal::NoMemory);
        }
        if kind == SlabKind::Exported {
            return Err(no_sharing("allocate"));
        }
        let bytes = bytes.next_multiple_of(8);
        state.take(bytes, kind)?;
        state.calls.allocate += 1;
        state.last_slab += 1;
        let id = SlabId(state.last_slab);
        let mut memory = Memory::new(bytes);
        let reached = kind != SlabKind::Device || state.visible;
        let host = reached.then(|| memory.start());
        state.slabs.insert(
            id,
            Held {
                memory,
                reached,
                shadow: Shadow::new(bytes),
                piece: 0,
            },
        );
        Ok(Slab { id, bytes, host })
    }

    unsafe fn import_host(&self, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        let mut state = self.state();
        state.refused("import_host")?;
        state.calls.import += 1;
        if let Some(locked) = self.locked {
            drop(state);
            let _ = memory.as_ptr().expose_provenance();
            return locked.lock_in_place(memory, bytes);
        }
        state.last_slab += 1;
        let id = SlabId(state.last_slab);
        let held = Held {
            memory: Memory::Host(memory, bytes),
            reached: true,
            // The host has written it, or not, as it liked.
            shadow: Shadow::defined(bytes),
            piece: 0,
        };
        state.slabs.insert(id, held);
        Ok(Slab {
            id,
            bytes,
            host: Some(memory),
        })
    }

    fn import_domain(&self) -> Option<usize> {
        self.locked.map(|locked| std::ptr::from_ref(locked).addr())
    }

    unsafe fn free(&self, slab: SlabId) {
        self.state().calls.free += 1;
        if self.locked.is_some_and(|locked| locked.unlock(slab)) {
            return;
        }
        let mut state = self.state();
        let Some(mut held) = state.slabs.remove(&slab) else {
            state
                .findings
                .push(format!("slab {} is freed, and is not there", slab.0));
            return;
        };
        if let Some(event) = held.shadow.unfinished(&state.host) {
            state.findings.push(format!(
                "slab {} is freed, and the host does not know that {} is done",
                slab.0,
                named(event)
            ));
        }
        if !matches!(held.memory, Memory::Host(..)) {
            state.used -= held.memory.len();
        }
        held.memory.mark_gone();
    }

    unsafe fn submit(&self, queue: Queue, waits: &[Ticket], ops: &[Op]) -> Result<Ticket, Refusal> {
        let mut state = self.state();
        state.refused("submit")?;
        Ok(state.accept(queue, waits, ops, true))
    }

    fn done(&self, queue: Queue) -> Result<u64, Refusal> {
        let mut state = self.state();
        if state.lost {
            return Err(Refusal::Lost("a test said so".to_owned()));
        }
        state.step();
        let number = state.queues[queue.index()].done;
        state.host_sees(Ticket { queue, number });
        Ok(number)
    }

    fn wait(&self, ticket: Ticket) -> Result<(), Refusal> {
        let mut state = self.state();
        state.calls.wait += 1;
        while state.queues[ticket.queue.index()].done < ticket.number {
            if state.lost {
                return Err(Refusal::Lost("a test said so".to_owned()));
            }
            if !state.step() {
                state.findings.push(format!("{ticket:?} can never be done"));
                return Err(Refusal::Lost("deadlock".to_owned()));
            }
        }
        state.host_sees(ticket);
        Ok(())
    }

    fn budget(&self) -> Option<Budget> {
        let state = self.state();
        let used = state.used;
        state.budget.map(|bytes| Budget { bytes, used })
    }

    fn ranges(&self) -> Option<&dyn Ranges> {
        self.granularity.map(|_| self as &dyn Ranges)
    }

    fn vulkan(&self) -> Option<&dyn RawVulkan> {
        Some(self)
    }

    fn host_uses(&self, span: Span, writes: bool) {
        let mut state = self.state();
        let count = state.host.of(HOST) + 1;
        state.host.set(HOST, count);
        let clock = state.host.clone();
        let event = Event { actor: HOST, count };
        if state.slabs.get(&span.slab).is_some_and(|held| !held.reached) {
            state
                .findings
                .push(format!("the host uses slab {}, which it cannot reach", span.slab.0));
        }
        state.touch(span, if writes { Use::Write } else { Use::Read }, event, &clock);
    }

    fn handed_out(&self, span: Span) {
        if let Some(held) = self.state().slabs.get_mut(&span.slab) {
            held.shadow.forget(span.offset..span.offset + span.bytes);
        }
    }
}
