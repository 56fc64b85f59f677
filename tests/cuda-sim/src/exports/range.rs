//! Ranges of addresses, and physical memory that is mapped into them.

use std::ffi::{c_int, c_uint};

use crate::codes::{Answer, Code, INVALID_DEVICE, INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY};
use crate::gate::{DEVICES_OF_A_WORLD, Locked, give, in_context, on_device};
use crate::handle::{self, handle};
use crate::space::{Kind, Piece};

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    kind: c_uint,
    id: c_int,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocationProp {
    kind: c_uint,
    handle_types: c_uint,
    location: Location,
    win32_metadata: usize,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessDesc {
    location: Location,
    flags: c_uint,
}

/// Of which all sizes and addresses here are multiples.
const GRANULARITY: u64 = 2 << 20;
/// Whose arena ranges come from: no device's.
const RANGES: u32 = u32::MAX;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: c_uint = 3;

fn are_whole(numbers: &[u64]) -> bool {
    numbers.iter().all(|number| number.is_multiple_of(GRANULARITY))
}

impl Locked<'_> {
    /// The device of this world that a location names.
    fn device_of(&self, location: Location) -> Answer<u32> {
        let id = u32::try_from(location.id).map_err(|_| INVALID_DEVICE)?;
        let (world, device) = (id / DEVICES_OF_A_WORLD, id % DEVICES_OF_A_WORLD);
        let there = location.kind == 1 && world == self.world && (device as usize) < self.devices.len();
        there.then_some(device).ok_or(INVALID_DEVICE)
    }

    /// The piece that a handle of `cuMemCreate` stands for.
    fn piece_of(&mut self, call: &str, memory: u64) -> Answer<u32> {
        let found = handle::parts(memory as usize, handle::Kind::Piece).filter(|(world, _)| *world == self.world);
        let held = |number: &u32| self.space.pieces.get(number).is_some_and(|piece| piece.held);
        match found.map(|(_, number)| number).filter(held) {
            Some(number) => Ok(number),
            None => self.wrong(
                format!("{call} is given {memory:#x}, which is no memory, or was released"),
                INVALID_VALUE,
            ),
        }
    }

    /// Physical memory that nobody holds and nothing shows goes.
    fn remove_if_unused(&mut self, call: &str, number: u32) {
        let Some(piece) = self
            .space
            .pieces
            .get(&number)
            .filter(|piece| !piece.held && piece.mapped == 0)
        else {
            return;
        };
        let (words, unfinished, bytes, device) = (
            piece.words(),
            piece.unfinished(&self.host),
            piece.bytes,
            piece.kind.device(),
        );
        if let Some(event) = unfinished {
            let event = self.event_words(event);
            self.finding(format!(
                "{call}: {words} is freed, and the host does not know that {event} is done"
            ));
        }
        self.space.pieces.remove(&number);
        if let Some(device) = device {
            self.devices[device as usize].used -= bytes;
        }
    }

    /// The maps that `address..address + bytes` consists of, without a gap.
    ///
    /// # Errors
    /// `INVALID_VALUE`, which is a finding, where it is not so.
    fn maps_of(&mut self, call: &str, address: u64, bytes: u64) -> Answer<Vec<u64>> {
        let end = address.saturating_add(bytes);
        let (mut at, mut starts) = (address, Vec::new());
        while at < end {
            match self
                .space
                .maps
                .get(&at)
                .filter(|map| matches!(map.kind, Kind::Piece(_)) && map.end <= end)
            {
                Some(map) => {
                    starts.push(at);
                    at = map.end;
                }
                None => {
                    let words = format!(
                        "{call}: {bytes} B from {address:#x} on are not whole mappings: {}",
                        self.space.nothing_at(at)
                    );
                    return self.wrong(words, INVALID_VALUE);
                }
            }
        }
        Ok(starts)
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemAddressReserve(
    address: *mut u64,
    bytes: usize,
    alignment: usize,
    _: u64,
    flags: u64,
) -> Code {
    in_context("cuMemAddressReserve", |world, _| {
        let (bytes, alignment) = (bytes as u64, (alignment as u64).max(GRANULARITY));
        if bytes == 0 || !are_whole(&[bytes]) || !alignment.is_power_of_two() || flags != 0 {
            return Err(INVALID_VALUE);
        }
        let number = world.world;
        let place = world
            .space
            .place(number, RANGES, bytes, alignment)
            .ok_or(OUT_OF_MEMORY)?;
        world.space.ranges.insert(place, bytes);
        world.space.taken.insert(place, place + bytes);
        // SAFETY: the caller's contract.
        unsafe { give(address, place) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemAddressFree(address: u64, bytes: usize) -> Code {
    const CALL: &str = "cuMemAddressFree";
    in_context(CALL, |world, _| {
        let bytes = bytes as u64;
        if world.space.ranges.get(&address) != Some(&bytes) {
            return world.wrong(
                format!("{CALL}: {bytes} B at {address:#x} are no range that was reserved"),
                INVALID_VALUE,
            );
        }
        if world.space.maps.range(address..address + bytes).next().is_some() {
            return world.wrong(
                format!("{CALL}: memory is still mapped into the range at {address:#x}"),
                INVALID_VALUE,
            );
        }
        world.space.ranges.remove(&address);
        world.space.taken.remove(&address);
        world.space.remember_gone(
            address,
            bytes,
            format!("a range of addresses ({address:#x}, {bytes} B)"),
        );
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemGetAllocationGranularity(
    bytes: *mut usize,
    prop: *const AllocationProp,
    option: c_uint,
) -> Code {
    if prop.is_null() || option > 1 {
        return INVALID_VALUE;
    }
    // SAFETY: the caller's contract, and not null.
    let prop = unsafe { *prop };
    on_device("cuMemGetAllocationGranularity", prop.location.id, |world, _| {
        world.device_of(prop.location)?;
        // SAFETY: the caller's contract.
        unsafe { give(bytes, GRANULARITY as usize) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemCreate(
    memory: *mut u64,
    bytes: usize,
    prop: *const AllocationProp,
    flags: u64,
) -> Code {
    in_context("cuMemCreate", |world, _| {
        let bytes = bytes as u64;
        if prop.is_null() || memory.is_null() || bytes == 0 || !are_whole(&[bytes]) || flags != 0 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the caller's contract, and not null.
        let prop = unsafe { *prop };
        if prop.kind != 1 {
            return Err(INVALID_VALUE);
        }
        if prop.handle_types != 0 {
            return Err(NOT_SUPPORTED);
        }
        let device = world.device_of(prop.location)?;
        let of = &mut world.devices[device as usize];
        if bytes > of.memory.saturating_sub(of.used) {
            return Err(OUT_OF_MEMORY);
        }
        of.used += bytes;
        let piece = world.space.add(Piece::new(Kind::Piece(device), bytes, 0));
        // SAFETY: the caller's contract.
        unsafe { give(memory, handle(handle::Kind::Piece, world.world, piece) as u64) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemRelease(memory: u64) -> Code {
    in_context("cuMemRelease", |world, _| {
        let number = world.piece_of("cuMemRelease", memory)?;
        if let Some(piece) = world.space.pieces.get_mut(&number) {
            piece.held = false;
        }
        world.remove_if_unused("cuMemRelease", number);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemMap(address: u64, bytes: usize, offset: usize, memory: u64, flags: u64) -> Code {
    const CALL: &str = "cuMemMap";
    in_context(CALL, |world, _| {
        let number = world.piece_of(CALL, memory)?;
        let bytes = bytes as u64;
        let end = address.checked_add(bytes).ok_or(INVALID_VALUE)?;
        let whole = world
            .space
            .pieces
            .get(&number)
            .is_some_and(|piece| piece.bytes == bytes);
        if offset != 0 || flags != 0 || !are_whole(&[address]) || !whole {
            return world.wrong(
                format!("{CALL}: {bytes} B at {address:#x}, which is not all of the memory"),
                INVALID_VALUE,
            );
        }
        let range = world.space.ranges.range(..=address).next_back();
        if range.is_none_or(|(start, len)| start + len < end) {
            return world.wrong(
                format!("{CALL}: {bytes} B at {address:#x} lie in no range that was reserved"),
                INVALID_VALUE,
            );
        }
        if world
            .space
            .maps
            .range(..end)
            .next_back()
            .is_some_and(|(_, map)| map.end > address)
        {
            return world.wrong(
                format!("{CALL}: something is mapped in {bytes} B at {address:#x} already"),
                INVALID_VALUE,
            );
        }
        world.space.map(address, number, 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemUnmap(address: u64, bytes: usize) -> Code {
    const CALL: &str = "cuMemUnmap";
    in_context(CALL, |world, _| {
        let bytes = bytes as u64;
        for start in world.maps_of(CALL, address, bytes)? {
            let Some(map) = world.space.maps.remove(&start) else {
                continue;
            };
            let piece = world.space.pieces.get_mut(&map.piece);
            let Some(piece) = piece else { continue };
            piece.mapped -= 1;
            let words = piece.words();
            let unfinished = world
                .space
                .pieces
                .get(&map.piece)
                .and_then(|piece| piece.unfinished(&world.host));
            if let Some(event) = unfinished {
                let event = world.event_words(event);
                world.finding(format!(
                    "{CALL}: {words} is unmapped, and the host does not know that {event} is done"
                ));
            }
            world.space.remember_gone(
                start,
                map.end - start,
                format!("{words}, which was mapped at {start:#x}"),
            );
            world.remove_if_unused(CALL, map.piece);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemSetAccess(
    address: u64,
    bytes: usize,
    list: *const AccessDesc,
    count: usize,
) -> Code {
    const CALL: &str = "cuMemSetAccess";
    in_context(CALL, |world, _| {
        if list.is_null() || count == 0 {
            return Err(INVALID_VALUE);
        }
        let starts = world.maps_of(CALL, address, bytes as u64)?;
        for place in 0..count {
            // SAFETY: the caller's contract: so many are there.
            let AccessDesc { location, flags } = unsafe { *list.add(place) };
            let device = world.device_of(location)?;
            let others = starts.iter().any(|start| {
                world
                    .space
                    .maps
                    .get(start)
                    .is_some_and(|map| map.kind.device() != Some(device))
            });
            if others && !world.peers {
                return Err(INVALID_DEVICE);
            }
            for start in &starts {
                if let Some(map) = world.space.maps.get_mut(start) {
                    map.access &= !(1 << device);
                    map.access |= u32::from(flags == READ_WRITE) << device;
                }
            }
        }
        Ok(())
    })
}
