//! Memory of devices, and what a pointer points to.

use std::ffi::{c_int, c_uint, c_void};

use crate::codes::{Answer, Code, INVALID_VALUE, OUT_OF_MEMORY};
use crate::gate::{DEVICES_OF_A_WORLD, Locked, give, in_context};
use crate::handle::{Kind as HandleKind, handle};
use crate::space::{Found, Kind, Piece};

/// To which a device's allocations are aligned.
const ALIGNMENT: u64 = 512;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Code {
    in_context("cuMemGetInfo_v2", |world, device| {
        let device = &world.devices[device as usize];
        let (left, all) = (device.memory.saturating_sub(device.used), device.memory);
        // SAFETY: the caller's contract.
        unsafe { give(free, left as usize).and(give(total, all as usize)) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> Code {
    in_context("cuMemAlloc_v2", |world, device| {
        let bytes = bytes as u64;
        if bytes == 0 || address.is_null() {
            return Err(INVALID_VALUE);
        }
        let of = &world.devices[device as usize];
        if bytes > of.memory.saturating_sub(of.used) {
            return Err(OUT_OF_MEMORY);
        }
        let number = world.world;
        let place = world
            .space
            .place(number, device, bytes, ALIGNMENT)
            .ok_or(OUT_OF_MEMORY)?;
        world.devices[device as usize].used += bytes;
        let piece = world.space.add(Piece::new(Kind::Device(device), bytes, place));
        world.space.map(place, piece, 0);
        world.space.taken.insert(place, place + bytes);
        // SAFETY: the caller's contract.
        unsafe { give(address, place) }
    })
}

impl Locked<'_> {
    /// A piece is given back that is seen at `address`: nothing that the host does not know to be done may use it. The device comes to
    /// its end first, as the driver's does, and the host knows nothing of that.
    ///
    /// # Errors
    /// `INVALID_VALUE` where there is none of that kind, which is a finding.
    pub(super) fn give_back(
        &mut self,
        call: &'static str,
        address: u64,
        wrong: Code,
        is: impl Fn(Kind) -> bool,
    ) -> Answer<Piece> {
        let found = self.space.map_at(address).filter(|(_, piece)| is(piece.kind));
        let Some((number, piece)) = found else {
            let there = self.space.nothing_at(address);
            return self.wrong(format!("{call} is given {address:#x}: {there}"), wrong);
        };
        let (words, kind, unfinished) = (piece.words(), piece.kind, piece.unfinished(&self.host));
        if let Some(event) = unfinished {
            let event = self.event_words(event);
            self.finding(format!(
                "{call}: {words} is freed, and the host does not know that {event} is done"
            ));
        }
        let devices = match kind.device() {
            Some(device) => device..device + 1,
            None => 0..self.devices.len() as u32,
        };
        for device in devices {
            self.run_device(call, device)?;
        }
        // Another thread may have given it back while a function of the host ran.
        let Some(gone) = self.space.pieces.remove(&number) else {
            return self.wrong(format!("{call}: {words} is freed twice"), wrong);
        };
        self.space.maps.remove(&address);
        self.space.taken.remove(&address);
        self.space.remember_gone(address, gone.bytes, words);
        Ok(gone)
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemFree_v2(address: u64) -> Code {
    in_context("cuMemFree_v2", |world, _| {
        if address == 0 {
            return Ok(());
        }
        let gone = world.give_back("cuMemFree", address, INVALID_VALUE, |kind| {
            matches!(kind, Kind::Device(_))
        })?;
        if let Some(device) = gone.kind.device() {
            world.devices[device as usize].used -= gone.bytes;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuPointerGetAttribute(data: *mut c_void, attribute: c_uint, address: u64) -> Code {
    in_context("cuPointerGetAttribute", |world, current| {
        let Found::Known(parts) = world.space.find(address, 1) else {
            return Err(INVALID_VALUE);
        };
        let part = parts.first().ok_or(INVALID_VALUE)?;
        let owner = part.kind.device().unwrap_or(current);
        let (start, end) = world
            .space
            .maps
            .range(..=address)
            .next_back()
            .map_or((0, 0), |(&start, map)| (start, map.end));
        let host = part.kind.is_host();
        // SAFETY: the caller's contract: there is room for the type that the attribute has.
        unsafe {
            match attribute {
                // Context, kind of memory (1: host, 2: device), address for the device and for the host.
                1 => give(data.cast(), handle(HandleKind::Context, world.world, owner)),
                2 => give(data.cast::<c_uint>(), if host { 1 } else { 2 }),
                3 => give(data.cast(), address),
                4 if host => give(data.cast(), address),
                // A number that no other piece has, managed, device, start and bytes of the range, mapped.
                7 => give(data.cast(), u64::from(part.piece)),
                8 => give(data.cast::<c_uint>(), 0),
                9 => give(
                    data.cast::<c_int>(),
                    (world.world * DEVICES_OF_A_WORLD + owner) as c_int,
                ),
                11 => give(data.cast(), start),
                12 => give(data.cast(), (end - start) as usize),
                13 => give(data.cast::<c_uint>(), 1),
                _ => Err(INVALID_VALUE),
            }
        }
    })
}
