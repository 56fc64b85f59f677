//! The simulated device as somebody sees it who speaks Vulkan: turns on its queue, in which he submits pieces of work.
//!
//! Semaphores are the queues, by number from 1 on. What is submitted in a turn is ordered by the waits that it names and by nothing
//! else: who leaves one out is found.

use std::ffi::{c_char, c_void};

use super::Sim;
use crate::backend::raw::{Handles, QueueTurn, RawVulkan, SemaphoreValue, latest_of_others};
use crate::backend::{OWN_QUEUES, Op, Queue, Refusal, SlabId, Ticket};

unsafe extern "system" fn no_functions(_: *mut c_void, _: *const c_char) -> Option<unsafe extern "system" fn()> {
    None
}

fn value(ticket: Ticket) -> SemaphoreValue {
    SemaphoreValue {
        semaphore: ticket.queue.index() as u64 + 1,
        value: ticket.number,
    }
}

fn ticket(of: &SemaphoreValue) -> Ticket {
    Ticket {
        queue: OWN_QUEUES[of.semaphore as usize - 1],
        number: of.value,
    }
}

impl Sim {
    /// What somebody submits in a turn: behind `waits`, and it signals `signal` when it is done.
    pub(crate) fn submit_in_turn(&self, waits: &[SemaphoreValue], signal: SemaphoreValue, ops: &[Op]) {
        let mut state = self.state();
        let (waits, Ticket { queue, number }) = (waits.iter().map(ticket).collect::<Vec<_>>(), ticket(&signal));
        if state.queues[queue.index()].submitted + 1 != number {
            let next = state.queues[queue.index()].submitted + 1;
            state
                .findings
                .push(format!("{signal:?} is signalled, and {next} is next"));
            return;
        }
        // Not behind the queue's own past: that takes a wait.
        state.accept(queue, &waits, ops, false);
    }
}

impl RawVulkan for Sim {
    fn handles(&self) -> Handles {
        Handles {
            get_instance_proc_addr: no_functions,
            instance: 1,
            physical_device: 1,
            device: 1,
            queue: 1,
            queue_family: 0,
            api_version: 0,
            max_range: 1 << 27,
        }
    }

    fn buffer(&self, slab: SlabId) -> Result<u64, Refusal> {
        Ok(slab.0)
    }

    unsafe fn with_queue(
        &self,
        waits: &[Ticket],
        work: &mut dyn FnMut(&QueueTurn<'_>) -> bool,
    ) -> Result<Option<Ticket>, Refusal> {
        // Turns are one after the other, and nothing else is submitted to the queue meanwhile: tests of turns have one thread.
        self.state().refused("with_queue")?;
        let queue = Queue::COMPUTE;
        let last = self.submitted(queue);
        let mut waits: Vec<_> = latest_of_others(queue, waits).into_iter().map(value).collect();
        if last > 0 {
            waits.push(value(Ticket { queue, number: last }));
        }
        let next = Ticket {
            queue,
            number: last + 1,
        };
        let submitted = work(&QueueTurn {
            queue: 1,
            queue_family: 0,
            waits: &waits,
            signal: value(next),
        });
        let number = self.submitted(queue);
        if number != last + u64::from(submitted) {
            self.state()
                .findings
                .push(format!("{submitted} is said of a turn, and the queue is at {number}"));
        }
        Ok(submitted.then_some(next))
    }
}
