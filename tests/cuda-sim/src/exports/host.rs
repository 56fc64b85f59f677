//! Page-locked memory of the host: the driver's own, and what was registered.

use std::ffi::{c_uint, c_void};

use crate::codes::{
    Answer, Code, HOST_MEMORY_ALREADY_REGISTERED, HOST_MEMORY_NOT_REGISTERED, INVALID_VALUE, OUT_OF_MEMORY,
};
use crate::contents::FRESH;
use crate::gate::{Locked, give, in_context};
use crate::protect::{self, table};
use crate::space::{Found, Kind, Piece};
use crate::world;

/// `CU_MEMHOSTREGISTER_READ_ONLY`: such memory may lie in pages that cannot be made writable again.
const READ_ONLY: c_uint = 8;

/// Up to here fresh memory is marked; beyond, that would be slow.
const MARKED: usize = 1 << 20;

impl Locked<'_> {
    fn add_host(&mut self, kind: Kind, address: u64, bytes: u64, guard: bool) {
        let number = self.world;
        let mut piece = Piece::new(kind, bytes, address);
        if guard && world::can_protect() {
            piece.region = table::add_region(&(address..address + bytes), number, table::Kind::Pinned);
            piece.guarded = piece.region.is_some();
        }
        let piece = self.space.add(piece);
        self.space.map(address, piece, 0);
        self.calls.pin(bytes);
    }

    fn remove_host(&mut self, call: &'static str, address: u64, wrong: Code, kind: Kind) -> Answer {
        let gone = self.give_back(call, address, wrong, |other| other == kind)?;
        self.calls.pinned_bytes -= gone.bytes;
        let bytes = gone.address..gone.address + gone.bytes;
        self.let_host_go(&bytes);
        if kind == Kind::Host {
            let world = self.world;
            self.space.close(gone, world);
        }
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint) -> Code {
    in_context("cuMemHostAlloc", |world, _| {
        if bytes == 0 || flags & !7 != 0 || address.is_null() {
            return Err(INVALID_VALUE);
        }
        let room = (bytes as u64)
            .checked_next_multiple_of(protect::page())
            .ok_or(OUT_OF_MEMORY)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping wherever there is room.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                room as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(OUT_OF_MEMORY);
        }
        if bytes <= MARKED {
            // SAFETY: just mapped, and nobody else has it.
            unsafe { start.cast::<u8>().write_bytes(FRESH, bytes) };
        }
        world.add_host(Kind::Host, start.expose_provenance() as u64, bytes as u64, true);
        // SAFETY: the caller's contract.
        unsafe { give(address, start) }
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemFreeHost(address: *mut c_void) -> Code {
    in_context("cuMemFreeHost", |world, _| {
        world.remove_host("cuMemFreeHost", address.addr() as u64, INVALID_VALUE, Kind::Host)
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostRegister_v2(address: *mut c_void, bytes: usize, flags: c_uint) -> Code {
    in_context("cuMemHostRegister_v2", |world, _| {
        let (start, bytes) = (address.expose_provenance() as u64, bytes as u64);
        let end = start.checked_add(bytes).ok_or(INVALID_VALUE)?;
        if start == 0 || bytes == 0 || flags & !15 != 0 {
            return Err(INVALID_VALUE);
        }
        let page = protect::page();
        if !start.is_multiple_of(page) || !bytes.is_multiple_of(page) {
            let words = format!("cuMemHostRegister: {bytes} B from {start:#x} on are not whole pages");
            return world.wrong(words, INVALID_VALUE);
        }
        let before = world.space.maps.range(..end).next_back();
        if before.is_some_and(|(_, map)| map.end > start) {
            return Err(HOST_MEMORY_ALREADY_REGISTERED);
        }
        if let Found::Wrong(words) = world.space.find(start, bytes) {
            return world.wrong(format!("cuMemHostRegister: {words}"), INVALID_VALUE);
        }
        let mut byte = [0];
        if [start, end - 1]
            .into_iter()
            .any(|at| !crate::contents::host_read(at, &mut byte))
        {
            let words = format!("cuMemHostRegister: there are no {bytes} B at {start:#x}");
            return world.wrong(words, INVALID_VALUE);
        }
        world.add_host(Kind::Registered, start, bytes, flags & READ_ONLY == 0);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostUnregister(address: *mut c_void) -> Code {
    in_context("cuMemHostUnregister", |world, _| {
        world.remove_host(
            "cuMemHostUnregister",
            address.addr() as u64,
            HOST_MEMORY_NOT_REGISTERED,
            Kind::Registered,
        )
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemHostGetDevicePointer_v2(
    address: *mut u64,
    host: *mut c_void,
    flags: c_uint,
) -> Code {
    in_context("cuMemHostGetDevicePointer_v2", |world, _| {
        let at = host.addr() as u64;
        match world.space.find(at, 1) {
            Found::Known(parts) if flags == 0 && parts.iter().all(|part| part.kind.is_host()) => {
                // SAFETY: the caller's contract.
                unsafe { give(address, at) }
            }
            _ => Err(INVALID_VALUE),
        }
    })
}
