//! Events.

use std::ffi::c_uint;

use crate::codes::{Code, INVALID_HANDLE, INVALID_VALUE, NOT_READY};
use crate::event::{EventState, Moment, WITHOUT_TIMES};
use crate::gate::{give, in_context};
use crate::handle::Handle;
use crate::stream::Action;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventCreate(event: *mut Handle, flags: c_uint) -> Code {
    in_context("cuEventCreate", |world, device| {
        // Blocking waits, no times, for other processes (which takes no times).
        if flags & !7 != 0 || flags & 6 == 4 || event.is_null() {
            return Err(INVALID_VALUE);
        }
        let number = world.events.add(EventState {
            device,
            flags,
            moment: None,
            at: None,
        });
        let answer = world.events.handle(number);
        // SAFETY: the caller's contract.
        unsafe { give(event, answer) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventDestroy_v2(event: Handle) -> Code {
    in_context("cuEventDestroy_v2", |world, _| {
        let number = world.event("cuEventDestroy", event)?;
        world.events.remove(number);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventRecord(event: Handle, stream: Handle) -> Code {
    const CALL: &str = "cuEventRecord";
    in_context(CALL, |world, device| {
        let number = world.event(CALL, event)?;
        let stream = world.stream(CALL, device, stream)?;
        let owner = world.streams.get(stream).map_or(device, |stream| stream.device);
        let made = world.events.get(number).map_or(device, |event| event.device);
        if owner != made {
            let words = format!("{CALL}: event {number} is of device {made}, and stream {stream} of device {owner}");
            return world.wrong(words, INVALID_HANDLE);
        }
        world.own_stream(CALL, device, stream);
        if world.streams.get(stream).is_some_and(|stream| stream.captured) {
            world.finding(format!(
                "{CALL}: stream {stream} is being captured, and the event becomes a part of the graph"
            ));
        }
        let (at, clock) = world.submit(CALL, stream, None, Action::Mark(number));
        if let Some(state) = world.events.get_mut(number) {
            state.at = None;
            state.moment = Some(Moment {
                stream,
                number: at.count,
                clock,
            });
        }
        world.now_and_then();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventQuery(event: Handle) -> Code {
    in_context("cuEventQuery", |world, _| {
        let number = world.event("cuEventQuery", event)?;
        let Some(moment) = world.moment(number) else {
            return Ok(());
        };
        world.ask(moment.stream, moment.number)?;
        world.host_sees(&moment.clock);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventSynchronize(event: Handle) -> Code {
    in_context("cuEventSynchronize", |world, _| {
        let number = world.event("cuEventSynchronize", event)?;
        let Some(moment) = world.moment(number) else {
            return Ok(());
        };
        world.run_until("cuEventSynchronize", moment.stream, moment.number)?;
        world.host_sees(&moment.clock);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, from: Handle, to: Handle) -> Code {
    in_context("cuEventElapsedTime", |world, _| {
        let mut times = [0; 2];
        for (event, time) in [from, to].into_iter().zip(&mut times) {
            let number = world.event("cuEventElapsedTime", event)?;
            let Some(state) = world.events.get(number) else {
                return Err(INVALID_HANDLE);
            };
            if state.flags & WITHOUT_TIMES != 0 || state.moment.is_none() {
                return Err(INVALID_HANDLE);
            }
            *time = state.at.ok_or(NOT_READY)?;
        }
        // A piece of work takes a microsecond here.
        let took = (times[1] as f32 - times[0] as f32) / 1000.0;
        // SAFETY: the caller's contract.
        unsafe { give(milliseconds, took) }
    })
}
