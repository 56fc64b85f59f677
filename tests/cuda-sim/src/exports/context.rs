//! Contexts: the one of each device.

use std::ffi::{c_int, c_uint};

use crate::codes::{
    Code, DEINITIALIZED, INVALID_CONTEXT, INVALID_VALUE, PEER_ACCESS_ALREADY_ENABLED, PEER_ACCESS_UNSUPPORTED, SUCCESS,
};
use crate::gate::{DEVICES_OF_A_WORLD, alive, current, give, in_context, in_world, on_device, stack, with_context};
use crate::handle::{Handle, Kind, handle, parts};
use crate::life;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) -> Code {
    on_device("cuDevicePrimaryCtxRetain", device, |world, ordinal| {
        // SAFETY: the caller's contract.
        unsafe { give(context, handle(Kind::Context, world.world, ordinal)) }?;
        world.devices[ordinal as usize].retained += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> Code {
    on_device("cuDevicePrimaryCtxRelease_v2", device, |world, ordinal| {
        let retained = &mut world.devices[ordinal as usize].retained;
        if *retained == 0 {
            let words = format!("cuDevicePrimaryCtxRelease: nobody retains the context of device {ordinal}");
            return world.wrong(words, INVALID_CONTEXT);
        }
        *retained -= 1;
        if *retained == 0 {
            world.run_device("cuDevicePrimaryCtxRelease", ordinal)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxPushCurrent_v2(context: Handle) -> Code {
    with_context("cuCtxPushCurrent_v2", context, |world, device| {
        stack(|stack| stack.push(context));
        *world.pushed.entry(device).or_insert(0) += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxPopCurrent_v2(context: *mut Handle) -> Code {
    let top = current();
    if top == 0 {
        // Nothing was pushed, or what `cuCtxSetCurrent` has emptied.
        return in_context("cuCtxPopCurrent_v2", |_, _| Err(INVALID_CONTEXT));
    }
    // Whatever becomes of its world, it is taken off.
    let code = with_context("cuCtxPopCurrent_v2", top, |world, device| {
        *world.pushed.entry(device).or_insert(0) -= 1;
        Ok(())
    });
    if code == SUCCESS {
        stack(|stack| stack.pop());
        // SAFETY: the caller's contract; who gives null does not want to know.
        let _ = unsafe { give(context, top) };
    }
    code
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxGetCurrent(context: *mut Handle) -> Code {
    if life::has_exited() {
        return DEINITIALIZED;
    }
    // SAFETY: the caller's contract.
    in_world("cuCtxGetCurrent", |_| unsafe { give(context, current()) })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxSetCurrent(context: Handle) -> Code {
    let replace = || {
        stack(|stack| {
            stack.pop();
            if context != 0 {
                stack.push(context);
            }
        })
    };
    if context == 0 {
        return match alive("cuCtxSetCurrent") {
            Ok(()) => {
                replace();
                SUCCESS
            }
            Err(code) => code,
        };
    }
    with_context("cuCtxSetCurrent", context, |_, _| {
        replace();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxGetDevice(device: *mut c_int) -> Code {
    in_context("cuCtxGetDevice", |world, ordinal| {
        let first = (world.world * DEVICES_OF_A_WORLD) as c_int;
        // SAFETY: the caller's contract.
        unsafe { give(device, first + ordinal as c_int) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxSynchronize() -> Code {
    in_context("cuCtxSynchronize", |world, device| {
        let streams = world.streams.iter().filter(|(_, stream)| stream.device == device);
        let mut clocks: Vec<_> = streams.map(|(_, stream)| stream.clock.clone()).collect();
        world.run_device("cuCtxSynchronize", device)?;
        clocks.extend(world.devices.get(device as usize).map(|device| device.gone.clone()));
        clocks.iter().for_each(|clock| world.host_sees(clock));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxEnablePeerAccess(peer: Handle, flags: c_uint) -> Code {
    in_context("cuCtxEnablePeerAccess", |world, device| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        let other = parts(peer, Kind::Context)
            .filter(|(number, _)| *number == world.world)
            .map(|(_, other)| other);
        let other = other.filter(|&other| {
            world
                .devices
                .get(other as usize)
                .is_some_and(|device| device.retained > 0)
        });
        let Some(other) = other else {
            return world.wrong(
                format!("cuCtxEnablePeerAccess is given {peer:#x}, which is no context"),
                INVALID_CONTEXT,
            );
        };
        if other == device || !world.peers {
            return Err(PEER_ACCESS_UNSUPPORTED);
        }
        let new = world.devices[device as usize].peers.insert(other);
        if new { Ok(()) } else { Err(PEER_ACCESS_ALREADY_ENABLED) }
    })
}

/// Streams have no priorities here.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Code {
    // Whoever gives null does not want to know.
    in_context("cuCtxGetStreamPriorityRange", |_, _| {
        // SAFETY: the caller's contract.
        let _ = unsafe { (give(least, 0), give(greatest, 0)) };
        Ok(())
    })
}
