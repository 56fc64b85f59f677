//! What every call does first: is the process alive, which world is it about, does it fail.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use crate::codes::{
    Answer, Code, DEINITIALIZED, INVALID_CONTEXT, INVALID_DEVICE, LAUNCH_FAILED, NOT_INITIALIZED, NOT_PERMITTED,
    SUCCESS,
};
use crate::handle::{Handle, Kind, parts};
use crate::registry;
use crate::state::State;
use crate::world::Inner;
use crate::{life, protect};

/// `CUdevice`: the world's number and the device's own.
pub(crate) const DEVICES_OF_A_WORLD: u32 = 16;

thread_local! {
    /// Contexts that were pushed on this thread.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The thread's contexts, for a moment.
pub(crate) fn stack<T>(work: impl FnOnce(&mut Vec<Handle>) -> T) -> T {
    STACK.with_borrow_mut(work)
}

pub(crate) fn current() -> Handle {
    stack(|stack| stack.last().copied().unwrap_or(0))
}

/// A world under its lock.
pub(crate) struct Locked<'a> {
    world: &'a Arc<Inner>,
    state: Option<MutexGuard<'a, State>>,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state.as_ref().expect("the lock is held")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("the lock is held")
    }
}

impl<'a> Locked<'a> {
    pub(crate) fn new(world: &'a Arc<Inner>) -> Self {
        Self {
            world,
            state: Some(world.lock()),
        }
    }

    /// Goes on until piece `number` of `stream` is done.
    ///
    /// # Errors
    /// `LAUNCH_FAILED`, which is a finding, where nothing can go on; what the device is lost with.
    pub(crate) fn run_until(&mut self, call: &str, stream: u32, number: u64) -> Answer {
        let mut since = Instant::now();
        while !self.is_over(stream, number) {
            if let Some(code) = self.faults.lost {
                return Err(code);
            }
            if self.step() {
                since = Instant::now();
                continue;
            }
            let patience = self.world.patience();
            if self.running == 0 || since.elapsed() >= patience {
                let words =
                    format!("{call}: stream {stream} can never reach #{number}: what it waits for does not end");
                return self.wrong(words, LAUNCH_FAILED);
            }
            self.state = self.state.take().map(|state| self.world.wait(state, patience));
        }
        // What is lost is not over, although its streams are empty.
        self.faults.lost.map_or(Ok(()), Err)
    }

    /// Goes on until all that the streams of `device` have by now is done.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until).
    pub(crate) fn run_device(&mut self, call: &str, device: u32) -> Answer {
        self.calls.device_syncs += 1;
        let streams = self.streams.iter().filter(|(_, stream)| stream.device == device);
        let ends: Vec<(u32, u64)> = streams.map(|(number, stream)| (number, stream.submitted)).collect();
        ends.into_iter()
            .try_for_each(|(stream, number)| self.run_until(call, stream, number))
    }

    /// Goes on until nothing is left to do, as far as that goes.
    pub(crate) fn run_all(&mut self) {
        let streams: Vec<(u32, u64)> = self
            .streams
            .iter()
            .map(|(number, stream)| (number, stream.submitted))
            .collect();
        for (stream, number) in streams {
            if self.run_until("at the end", stream, number).is_err() {
                return;
            }
        }
    }
}

fn code(answer: Answer) -> Code {
    answer.err().unwrap_or(SUCCESS)
}

/// Whether the driver is there at all.
pub(crate) fn alive(call: &str) -> Answer {
    if life::has_exited() {
        return Err(DEINITIALIZED);
    }
    if life::is_forked() {
        if call != "cuInit" {
            life::forked_call(call);
        }
        return Err(NOT_INITIALIZED);
    }
    if !protect::host_function_clock().is_null() {
        let world = registry::here();
        world
            .lock()
            .finding(format!("{call} is called by a function that a stream runs on the host"));
        return Err(NOT_PERMITTED);
    }
    Ok(())
}

/// Counts a call, and has it fail if that was planned.
fn enter(state: &mut State, call: &'static str) -> Answer {
    *state.calls.counts.entry(call).or_insert(0) += 1;
    state.faults.strike(call).map_or(Ok(()), Err)
}

/// A call about the world of this thread.
pub(crate) fn in_world(call: &'static str, work: impl FnOnce(&mut Locked<'_>) -> Answer) -> Code {
    code(alive(call).and_then(|()| {
        let world = registry::here();
        let mut locked = Locked::new(&world);
        enter(&mut locked, call)?;
        if !locked.initialised && call != "cuInit" && call != "cuDriverGetVersion" {
            return Err(NOT_INITIALIZED);
        }
        work(&mut locked)
    }))
}

/// A call about a device; `work` is given its number within its world.
pub(crate) fn on_device(call: &'static str, device: i32, work: impl FnOnce(&mut Locked<'_>, u32) -> Answer) -> Code {
    code(alive(call).and_then(|()| {
        let device = u32::try_from(device).map_err(|_| INVALID_DEVICE)?;
        let world = registry::find(device / DEVICES_OF_A_WORLD).ok_or(INVALID_DEVICE)?;
        let mut locked = Locked::new(&world);
        enter(&mut locked, call)?;
        if !locked.initialised {
            return Err(NOT_INITIALIZED);
        }
        let ordinal = device % DEVICES_OF_A_WORLD;
        if ordinal as usize >= locked.devices.len() {
            return locked.wrong(
                format!("{call} is given device {ordinal}, which is not there"),
                INVALID_DEVICE,
            );
        }
        work(&mut locked, ordinal)
    }))
}

/// A call with a context that is given; `work` is given the number of its device.
pub(crate) fn with_context(
    call: &'static str,
    context: Handle,
    work: impl FnOnce(&mut Locked<'_>, u32) -> Answer,
) -> Code {
    code(alive(call).and_then(|()| {
        let known = parts(context, Kind::Context).and_then(|(world, device)| Some((registry::find(world)?, device)));
        let Some((world, device)) = known else {
            let world = registry::here();
            let mut locked = Locked::new(&world);
            enter(&mut locked, call)?;
            let what = if context == 0 {
                "without a current context".to_owned()
            } else {
                format!("with context {context:#x}, which is none")
            };
            return locked.wrong(format!("{call} is called {what}"), INVALID_CONTEXT);
        };
        let mut locked = Locked::new(&world);
        enter(&mut locked, call)?;
        if locked
            .devices
            .get(device as usize)
            .is_none_or(|device| device.retained == 0)
        {
            let words = format!("{call} is called with the context of device {device}, which nobody retains");
            return locked.wrong(words, INVALID_CONTEXT);
        }
        work(&mut locked, device)
    }))
}

/// A call with the current context.
pub(crate) fn in_context(call: &'static str, work: impl FnOnce(&mut Locked<'_>, u32) -> Answer) -> Code {
    with_context(call, current(), work)
}

/// Answers through a pointer.
///
/// # Errors
/// `INVALID_VALUE` for a null pointer.
///
/// # Safety
/// `out` is null, or there is room for a value.
pub(crate) unsafe fn give<T>(out: *mut T, value: T) -> Answer {
    if out.is_null() {
        return Err(crate::codes::INVALID_VALUE);
    }
    // SAFETY: not null, so there is room; it need not be aligned here.
    unsafe { out.write_unaligned(value) };
    Ok(())
}
