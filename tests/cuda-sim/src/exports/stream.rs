//! Streams.

use std::ffi::{c_int, c_uint, c_void};

use races::Clock;

use crate::codes::{Answer, Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY};
use crate::gate::{Locked, give, in_context};
use crate::handle::{Handle, Kind, handle};
use crate::stream::{Action, HostFunction};

/// # Safety
/// `stream` is null or has room for a handle.
unsafe fn create(call: &'static str, stream: *mut Handle, flags: c_uint) -> Code {
    in_context(call, |world, device| {
        if flags > 1 || stream.is_null() {
            return Err(INVALID_VALUE);
        }
        let number = world.add_stream(device, flags);
        let answer = world.streams.handle(number);
        // SAFETY: forwarded contract.
        unsafe { give(stream, answer) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamCreate(stream: *mut Handle, flags: c_uint) -> Code {
    // SAFETY: the caller's contract.
    unsafe { create("cuStreamCreate", stream, flags) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamCreateWithPriority(stream: *mut Handle, flags: c_uint, _: c_int) -> Code {
    // SAFETY: the caller's contract.
    unsafe { create("cuStreamCreateWithPriority", stream, flags) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamDestroy_v2(stream: Handle) -> Code {
    in_context("cuStreamDestroy_v2", |world, device| {
        if stream <= 2 {
            return world.wrong("cuStreamDestroy is given a default stream".to_owned(), INVALID_HANDLE);
        }
        let number = world.stream("cuStreamDestroy", device, stream)?;
        if let Some(state) = world.streams.get_mut(number) {
            state.destroyed = true;
        }
        world.remove_if_over(number);
        Ok(())
    })
}

/// How much was submitted to a stream, and the clock behind that.
fn end_of(world: &Locked<'_>, number: u32) -> Answer<(u64, Clock)> {
    let stream = world.streams.get(number).ok_or(INVALID_HANDLE)?;
    Ok((stream.submitted, stream.clock.clone()))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamSynchronize(stream: Handle) -> Code {
    in_context("cuStreamSynchronize", |world, device| {
        let number = world.stream("cuStreamSynchronize", device, stream)?;
        let (end, clock) = end_of(world, number)?;
        world.run_until("cuStreamSynchronize", number, end)?;
        world.host_sees(&clock);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamIsCapturing(stream: Handle, status: *mut c_uint) -> Code {
    const CALL: &str = "cuStreamIsCapturing";
    in_context(CALL, |world, device| {
        let number = world.stream(CALL, device, stream)?;
        let captured = world.streams.get(number).is_some_and(|stream| stream.captured);
        // SAFETY: the caller's contract.
        unsafe { give(status, c_uint::from(captured)) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamQuery(stream: Handle) -> Code {
    in_context("cuStreamQuery", |world, device| {
        let number = world.stream("cuStreamQuery", device, stream)?;
        let (end, clock) = end_of(world, number)?;
        world.ask(number, end)?;
        world.host_sees(&clock);
        Ok(())
    })
}

impl Locked<'_> {
    /// Whether a piece of work is done; who asks lets a little be done.
    ///
    /// # Errors
    /// `NOT_READY`.
    pub(super) fn ask(&mut self, stream: u32, number: u64) -> Answer {
        // It may be done already, and the first who asks sees that or not.
        let steps = self.random.next(3);
        for _ in 0..=steps {
            if self.is_over(stream, number) {
                return Ok(());
            }
            self.step();
        }
        self.faults.lost.map_or(Err(NOT_READY), Err)
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamWaitEvent(stream: Handle, event: Handle, _: c_uint) -> Code {
    const CALL: &str = "cuStreamWaitEvent";
    in_context(CALL, |world, device| {
        let stream = world.stream(CALL, device, stream)?;
        let event = world.event(CALL, event)?;
        // An event that was never recorded is no wait.
        if let Some(moment) = world.moment(event) {
            let wait = (moment.stream, moment.number, &moment.clock);
            world.submit(CALL, stream, Some(wait), Action::Wait);
            world.now_and_then();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuStreamGetCtx(stream: Handle, context: *mut Handle) -> Code {
    in_context("cuStreamGetCtx", |world, device| {
        let number = world.stream("cuStreamGetCtx", device, stream)?;
        let owner = world.streams.get(number).map_or(device, |state| state.device);
        // SAFETY: the caller's contract.
        unsafe { give(context, handle(Kind::Context, world.world, owner)) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuLaunchHostFunc(
    stream: Handle,
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> Code {
    const CALL: &str = "cuLaunchHostFunc";
    in_context(CALL, |world, device| {
        let function = function.ok_or(INVALID_VALUE)?;
        let stream = world.stream(CALL, device, stream)?;
        let argument = argument.expose_provenance();
        world.submit(CALL, stream, None, Action::Host(HostFunction { function, argument }));
        world.now_and_then();
        Ok(())
    })
}
