//! A queue of [`Backend`](crate::backend::Backend): its timeline, its command buffers, and the real queue that does its work.
//!
//! The value of the timeline is the number of the last ticket that is done. Several of these share a real queue where the device has
//! no more. Tickets are given under the lock of the commands, so that numbers reach the real queue in their order; that lock is taken
//! before the real queue's, and that before the lock of an engine whose queue it is; none is held while anybody waits.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;

use ash::vk::Handle;
use ash::{Device, vk};
use smallvec::SmallVec;

use super::record::{self, Behind, Buffers};
use super::timeline::{self, Timelines};
use crate::backend::health::Health;
use crate::backend::raw::{QueueLock, QueueTurn, SemaphoreValue, latest_of_others};
use crate::backend::{OWN_QUEUES, Op, Queue, Refusal, Ticket};
use crate::sync::global::{AtomicU64, Mutex, MutexGuard, Ordering, lock};

/// A queue of the driver, which one thread may use at a time.
pub(super) struct Real {
    queue: Mutex<vk::Queue>,
    /// Of somebody else who uses it, too.
    theirs: Option<AssertUnwindSafe<Box<dyn QueueLock>>>,
}

/// A queue that is this thread's alone.
struct Held<'a> {
    /// Given back behind `theirs`.
    queue: MutexGuard<'a, vk::Queue>,
    theirs: Option<&'a dyn QueueLock>,
}

impl Real {
    pub(super) fn new(queue: vk::Queue, theirs: Option<Box<dyn QueueLock>>) -> Self {
        Self {
            queue: Mutex::new(queue),
            theirs: theirs.map(AssertUnwindSafe),
        }
    }

    fn hold(&self) -> Held<'_> {
        let queue = lock(&self.queue);
        let theirs = self.theirs.as_ref().map(|theirs| &***theirs);
        if let Some(theirs) = theirs {
            theirs.lock();
        }
        Held { queue, theirs }
    }

    /// Its handle, not to be used without [`hold`](Self::hold).
    fn handle(&self) -> vk::Queue {
        *lock(&self.queue)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(theirs) = self.theirs {
            theirs.unlock();
        }
    }
}

/// Queues of the device, by number, and what is needed to use them.
pub(super) struct Lines {
    pub(super) device: Device,
    pub(super) timelines: Timelines,
    pub(super) reals: Vec<Real>,
    pub(super) lines: [Line; OWN_QUEUES.len()],
}

pub(super) struct Line {
    /// Which of the real queues does its work.
    real: usize,
    timeline: vk::Semaphore,
    /// How far somebody has seen it.
    seen: AtomicU64,
    commands: Mutex<Commands>,
}

struct Commands {
    /// Tickets given.
    submitted: u64,
    pool: vk::CommandPool,
    free: Vec<vk::CommandBuffer>,
    flying: VecDeque<(u64, vk::CommandBuffer)>,
}

impl Line {
    /// # Errors
    /// What the driver said; nothing is left then.
    ///
    /// # Safety
    /// The device lives, was made with timelines, and has queues of this family.
    pub(super) unsafe fn new(device: &Device, family: u32, real: usize) -> Result<Self, vk::Result> {
        let info = vk::CommandPoolCreateInfo::default()
            .queue_family_index(family)
            .flags(vk::CommandPoolCreateFlags::RESET_COMMAND_BUFFER | vk::CommandPoolCreateFlags::TRANSIENT);
        // SAFETY: forwarded contract; if the timeline cannot be made, nobody has the pool.
        let (pool, timeline) = unsafe {
            let pool = device.create_command_pool(&info, None)?;
            let timeline = timeline::create(device).inspect_err(|_| device.destroy_command_pool(pool, None))?;
            (pool, timeline)
        };
        Ok(Self {
            real,
            timeline,
            seen: AtomicU64::new(0),
            commands: Mutex::new(Commands {
                submitted: 0,
                pool,
                free: Vec::new(),
                flying: VecDeque::new(),
            }),
        })
    }

    /// Takes back what [`new`](Self::new) made.
    ///
    /// # Safety
    /// It is of `device`, nothing that was submitted to it is under way, and nobody uses it any more.
    pub(super) unsafe fn destroy(&self, device: &Device) {
        let pool = lock(&self.commands).pool;
        // SAFETY: forwarded contract: no work uses either.
        unsafe {
            device.destroy_semaphore(self.timeline, None);
            device.destroy_command_pool(pool, None);
        }
    }
}

impl Commands {
    /// A command buffer that is not in flight; `done`: how far the queue is.
    fn take(
        &mut self,
        device: &Device,
        done: impl FnOnce() -> Result<u64, Refusal>,
        health: &Health,
    ) -> Result<vk::CommandBuffer, Refusal> {
        if self.free.is_empty() && !self.flying.is_empty() {
            let done = done()?;
            let landed = self.flying.partition_point(|&(number, _)| number <= done);
            self.free.extend(self.flying.drain(..landed).map(|(_, buffer)| buffer));
        }
        if let Some(buffer) = self.free.pop() {
            return Ok(buffer);
        }
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(self.pool)
            .level(vk::CommandBufferLevel::PRIMARY)
            .command_buffer_count(1);
        // SAFETY: the pool lives as long as this, and `&mut self` says that nobody else uses it.
        let made = unsafe { device.allocate_command_buffers(&info) };
        let made = made.map_err(|code| health.refusal("vkAllocateCommandBuffers", code))?;
        made.first().copied().ok_or(Refusal::NoMemory)
    }
}

impl Lines {
    /// Waits for all that was submitted. A device that is lost has nothing to wait for.
    pub(super) fn finish(&self) {
        for line in &self.lines {
            let submitted = lock(&line.commands).submitted;
            // SAFETY: the timeline and its device live as long as this.
            let _ = unsafe { self.timelines.wait(line.timeline, submitted) };
        }
    }

    /// Destroys timelines and command buffers.
    ///
    /// # Safety
    /// As [`Line::destroy`].
    pub(super) unsafe fn destroy(&self) {
        // SAFETY: forwarded contract.
        self.lines.iter().for_each(|line| unsafe { line.destroy(&self.device) });
    }

    fn line(&self, queue: Queue) -> &Line {
        &self.lines[queue.index()]
    }

    /// The real queue of [`Queue::COMPUTE`], not to be used outside [`turn`](Self::turn).
    pub(super) fn handle(&self) -> vk::Queue {
        self.reals[self.line(Queue::COMPUTE).real].handle()
    }

    /// How far a queue is.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    pub(super) fn done(&self, queue: Queue, health: &Health) -> Result<u64, Refusal> {
        const CALL: &str = "vkGetSemaphoreCounterValue";
        let line = self.line(queue);
        // SAFETY: the timeline and its device live as long as this.
        let value = unsafe { self.timelines.value(line.timeline) }.map_err(|code| health.refusal(CALL, code))?;
        // Some drivers raise it to the end when the device is lost, so that nobody waits for ever.
        if value == u64::MAX {
            return Err(health.lost_by(CALL));
        }
        // Release, and Acquire in `wait`: who learns of it from here has seen what the driver made visible to this thread.
        Ok(line.seen.fetch_max(value, Ordering::AcqRel).max(value))
    }

    /// Waits for a ticket.
    ///
    /// # Errors
    /// [`Refusal::Lost`].
    pub(super) fn wait(&self, ticket: Ticket, health: &Health) -> Result<(), Refusal> {
        let line = self.line(ticket.queue);
        if line.seen.load(Ordering::Acquire) >= ticket.number {
            return Ok(());
        }
        // SAFETY: as in `done`.
        let waited = unsafe { self.timelines.wait(line.timeline, ticket.number) };
        waited.map_err(|code| health.refusal("vkWaitSemaphores", code))?;
        // Also tells of a lost device, for which drivers end all waits.
        self.done(ticket.queue, health).map(|_| ())
    }

    /// Hands work to a queue.
    ///
    /// # Errors
    /// What the driver said; nothing was submitted then.
    ///
    /// # Safety
    /// As [`Backend::submit`](crate::backend::Backend::submit); `buffers` are those of `ops`.
    pub(super) unsafe fn submit(
        &self,
        queue: Queue,
        waits: &[Ticket],
        ops: &[Op],
        buffers: &[Buffers],
        health: &Health,
    ) -> Result<Ticket, Refusal> {
        let line = self.line(queue);
        let mut commands = lock(&line.commands);
        let buffer = commands.take(&self.device, || self.done(queue, health), health)?;
        // SAFETY: the command buffer is of this line's pool, which the lock guards, and not in flight; the rest is forwarded.
        let recorded = unsafe { record::record(&self.device, buffer, Behind::of(queue), ops, buffers) };
        let number = commands.submitted + 1;
        let submitted = recorded
            .map_err(|code| health.refusal("vkEndCommandBuffer", code))
            .and_then(|()| self.hand_over(queue, waits, number, buffer, health));
        match submitted {
            Ok(()) => {
                commands.submitted = number;
                commands.flying.push_back((number, buffer));
                Ok(Ticket { queue, number })
            }
            Err(refusal) => {
                commands.free.push(buffer);
                Err(refusal)
            }
        }
    }

    /// Hands `work` the real queue of [`Queue::COMPUTE`], and the next number of that queue, which is taken where `work` says that it
    /// has submitted. If it panics, it has not, and the locks are as they were.
    ///
    /// # Safety
    /// As [`RawVulkan::with_queue`](crate::backend::raw::RawVulkan::with_queue).
    pub(super) unsafe fn turn(
        &self,
        queue_family: u32,
        waits: &[Ticket],
        work: &mut dyn FnMut(&QueueTurn<'_>) -> bool,
    ) -> Option<Ticket> {
        let queue = Queue::COMPUTE;
        let line = self.line(queue);
        let mut commands = lock(&line.commands);
        let number = commands.submitted + 1;
        let mut waits = latest_of_others(queue, waits);
        // Theirs need not begin with a barrier, as ours does: the semaphore orders it behind this queue, too.
        if commands.submitted > 0 {
            let number = commands.submitted;
            waits.push(Ticket { queue, number });
        }
        let value = |ticket: &Ticket| SemaphoreValue {
            semaphore: self.line(ticket.queue).timeline.as_raw(),
            value: ticket.number,
        };
        let ticket = Ticket { queue, number };
        let waits: SmallVec<[_; OWN_QUEUES.len()]> = waits.iter().map(value).collect();
        let real = self.reals[line.real].hold();
        let submitted = work(&QueueTurn {
            queue: real.queue.as_raw(),
            queue_family,
            waits: &waits,
            signal: value(&ticket),
        });
        submitted.then(|| {
            commands.submitted = number;
            ticket
        })
    }

    fn hand_over(
        &self,
        queue: Queue,
        waits: &[Ticket],
        number: u64,
        buffer: vk::CommandBuffer,
        health: &Health,
    ) -> Result<(), Refusal> {
        // The barrier at the beginning orders this queue.
        let timeline = |ticket: Ticket| (self.line(ticket.queue).timeline, ticket.number);
        let (waited, values): (SmallVec<[_; 3]>, SmallVec<[u64; 3]>) =
            latest_of_others(queue, waits).into_iter().map(timeline).unzip();
        // All, not transfers alone: the barrier of a submission without pieces hands on what it waited for, too.
        let stages = [vk::PipelineStageFlags::ALL_COMMANDS; OWN_QUEUES.len()];
        let line = self.line(queue);
        let (signalled, signal_values, buffers) = ([line.timeline], [number], [buffer]);
        let mut numbers = vk::TimelineSemaphoreSubmitInfo::default()
            .wait_semaphore_values(&values)
            .signal_semaphore_values(&signal_values);
        let info = vk::SubmitInfo::default()
            .wait_semaphores(&waited)
            .wait_dst_stage_mask(&stages[..waited.len()])
            .command_buffers(&buffers)
            .signal_semaphores(&signalled)
            .push_next(&mut numbers);
        let real = self.reals[line.real].hold();
        // SAFETY: the lock makes this the only use of the queue. The commands are recorded and not in flight. The numbers of a
        // timeline rise, since they are given under the lock of its commands, which the caller holds. Tickets that are waited for
        // were submitted, so that no wait stands before its signal.
        let submitted = unsafe { self.device.queue_submit(*real.queue, &[info], vk::Fence::null()) };
        submitted.map_err(|code| health.refusal("vkQueueSubmit", code))
    }
}
