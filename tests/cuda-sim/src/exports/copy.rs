//! Copies and fills.

use std::ffi::{c_uchar, c_uint, c_void};

use crate::check::{Copy, Fill};
use crate::codes::{Answer, Code, INVALID_CONTEXT};
use crate::gate::{Locked, in_context};
use crate::handle::{Handle, Kind, parts};

/// Each end as its address, and whether the call says that it is a device's.
fn copy(
    call: &'static str,
    (to, to_known): (u64, bool),
    (from, from_known): (u64, bool),
    bytes: usize,
    stream: Handle,
) -> Code {
    let copy = Copy {
        to,
        from,
        bytes: bytes as u64,
        to_known,
        from_known,
    };
    in_context(call, |world, device| {
        let stream = world.stream(call, device, stream)?;
        world.own_stream(call, device, stream);
        world.copy(call, device, stream, copy)
    })
}

impl Locked<'_> {
    /// The current context ought to be that of the stream; whether it is.
    pub(super) fn own_stream(&mut self, call: &str, device: u32, stream: u32) -> bool {
        let owner = self.streams.get(stream).map_or(device, |stream| stream.device);
        if owner != device {
            let words =
                format!("{call}: the context of device {device} is current, and stream {stream} is of device {owner}");
            self.finding(words);
        }
        owner == device
    }

    fn is_context_of(&mut self, call: &str, context: Handle) -> Answer {
        let known = parts(context, Kind::Context).filter(|(world, _)| *world == self.world);
        let live = known
            .and_then(|(_, device)| self.devices.get(device as usize))
            .is_some_and(|device| device.retained > 0);
        if live {
            return Ok(());
        }
        self.wrong(
            format!("{call} is given {context:#x}, which is no context"),
            INVALID_CONTEXT,
        )
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) -> Code {
    copy("cuMemcpyAsync", (to, false), (from, false), bytes, stream)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const c_void,
    bytes: usize,
    stream: Handle,
) -> Code {
    copy(
        "cuMemcpyHtoDAsync_v2",
        (to, true),
        (from.expose_provenance() as u64, false),
        bytes,
        stream,
    )
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> Code {
    copy(
        "cuMemcpyDtoHAsync_v2",
        (to.expose_provenance() as u64, false),
        (from, true),
        bytes,
        stream,
    )
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) -> Code {
    copy("cuMemcpyDtoDAsync_v2", (to, true), (from, true), bytes, stream)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyPeerAsync(
    to: u64,
    to_context: Handle,
    from: u64,
    from_context: Handle,
    bytes: usize,
    stream: Handle,
) -> Code {
    const CALL: &str = "cuMemcpyPeerAsync";
    in_context(CALL, |world, device| {
        let stream = world.stream(CALL, device, stream)?;
        world.own_stream(CALL, device, stream);
        world.is_context_of(CALL, to_context)?;
        world.is_context_of(CALL, from_context)?;
        let (bytes, to_known, from_known) = (bytes as u64, true, true);
        world.copy(
            CALL,
            device,
            stream,
            Copy {
                to,
                from,
                bytes,
                to_known,
                from_known,
            },
        )
    })
}

fn fill(call: &'static str, stream: Handle, fill: Fill) -> Code {
    in_context(call, |world, device| {
        let stream = world.stream(call, device, stream)?;
        world.own_stream(call, device, stream);
        world.fill(call, device, stream, fill)
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemsetD8Async(address: u64, value: c_uchar, count: usize, stream: Handle) -> Code {
    let (value, count, width) = (u32::from(value), count as u64, 1);
    fill(
        "cuMemsetD8Async",
        stream,
        Fill {
            address,
            value,
            count,
            width,
        },
    )
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemsetD32Async(address: u64, value: c_uint, count: usize, stream: Handle) -> Code {
    let (count, width) = (count as u64, 4);
    fill(
        "cuMemsetD32Async",
        stream,
        Fill {
            address,
            value,
            count,
            width,
        },
    )
}
