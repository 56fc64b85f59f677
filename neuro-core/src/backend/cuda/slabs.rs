//! Memory: of the device, also in ranges that grow (`range.rs`), of the host that the driver gave (page-locked), and of the host that was
//! page-locked where it lay.
//!
//! With unified addresses a slab is its address, for the device as for the host: so [`SlabId`] is that address, and nothing has to be
//! looked up to use one. The table is for giving back, and for borders:
//!
//! Invariant A1: a copy that the driver is given lies in one page-locked range, or in none. So one that crosses a border between two is cut
//! there. Memory that was page-locked where it lay is so for all devices, whichever of them did it: those borders are the process's.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::NonNull;

use super::Shared;
use super::driver::Address;
use super::range::{self, Pieces};
use crate::backend::{Facts, Refusal, Slab, SlabId, SlabKind, Span, no_sharing};
use crate::sync::global::{Mutex, lock};

/// `CU_MEMHOSTALLOC_PORTABLE` and `CU_MEMHOSTREGISTER_PORTABLE`: page-locked for every device.
const PORTABLE: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Device,
    Host,
    Registered,
    /// Addresses, with memory in pieces.
    Range(Pieces),
}

#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    kind: Kind,
}

/// Where ranges end that were page-locked where they lay, by any device.
static LOCKED: Mutex<BTreeMap<Address, Address>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default)]
pub(super) struct Slabs(Mutex<BTreeMap<SlabId, Held>>);

/// `CUdeviceptr` of a span.
pub(super) fn address(span: Span) -> Address {
    span.slab.0 + span.offset
}

impl Slabs {
    /// As [`Backend::allocate`](crate::backend::Backend::allocate). The context is current.
    ///
    /// # Errors
    /// As there.
    pub(super) fn allocate(&self, shared: &Shared, facts: &Facts, bytes: u64, kind: SlabKind) -> Result<Slab, Refusal> {
        if bytes > facts.max_slab_bytes {
            return Err(Refusal::NoMemory);
        }
        let bytes = usize::try_from(bytes).map_err(|_| Refusal::NoMemory)?;
        match kind {
            SlabKind::Exported => Err(no_sharing("allocate")),
            SlabKind::Device => {
                let mut address = 0;
                // SAFETY: there is room for the answer, and the context is current.
                let code = unsafe { (shared.driver.memory_alloc)(&mut address, bytes) };
                shared.answer("cuMemAlloc", code)?;
                Ok(self.enter(address, bytes, Kind::Device, None))
            }
            SlabKind::Upload | SlabKind::Readback => {
                let mut address = std::ptr::null_mut();
                // Never write-combined: the processor would read that very slowly.
                // SAFETY: as above.
                let code = unsafe { (shared.driver.host_alloc)(&mut address, bytes, PORTABLE) };
                shared.answer("cuMemHostAlloc", code)?;
                let host = NonNull::new(address.cast()).ok_or(Refusal::NoMemory)?;
                Ok(self.enter(host.addr().get() as u64, bytes, Kind::Host, Some(host)))
            }
        }
    }

    /// As [`Backend::import_host`](crate::backend::Backend::import_host). The context is current.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn register(&self, shared: &Shared, memory: NonNull<u8>, bytes: u64) -> Result<Slab, Refusal> {
        const CALL: &str = "cuMemHostRegister";
        let Some(register) = shared.driver.host_register else {
            return Err(shared.lacks(CALL));
        };
        if shared.driver.host_unregister.is_none() {
            return Err(shared.lacks("cuMemHostUnregister")); // it could never be given back
        }
        let bytes = usize::try_from(bytes).map_err(|_| Refusal::NoMemory)?;
        // SAFETY: forwarded contract: the bytes stay as they are mapped until `free`; the context is current.
        let code = unsafe { register(memory.as_ptr().cast::<c_void>(), bytes, PORTABLE) };
        shared.answer(CALL, code)?;
        let start = memory.addr().get() as u64;
        lock(&LOCKED).insert(start, start + bytes as u64);
        Ok(self.enter(start, bytes, Kind::Registered, Some(memory)))
    }

    /// Enters addresses that have no memory yet.
    pub(super) fn enter_range(&self, address: Address, bytes: usize, piece: u64) -> Slab {
        let pieces = Pieces { piece, mapped: 0 };
        self.enter(address, bytes, Kind::Range(pieces), None)
    }

    /// The pieces of a range; `None`: it is none.
    pub(super) fn pieces_of(&self, slab: SlabId) -> Option<Pieces> {
        match lock(&self.0).get(&slab)?.kind {
            Kind::Range(pieces) => Some(pieces),
            _ => None,
        }
    }

    /// From now on so many bytes of a range have memory.
    pub(super) fn note_mapped(&self, slab: SlabId, bytes: u64) {
        if let Some(Held {
            kind: Kind::Range(pieces),
            ..
        }) = lock(&self.0).get_mut(&slab)
        {
            pieces.mapped = bytes;
        }
    }

    fn enter(&self, address: Address, bytes: usize, kind: Kind, host: Option<NonNull<u8>>) -> Slab {
        let (id, bytes) = (SlabId(address), bytes as u64);
        let was = lock(&self.0).insert(id, Held { bytes, kind });
        debug_assert!(was.is_none(), "two slabs at {address:#x}");
        Slab { id, bytes, host }
    }

    /// Gives a slab back. The context is current.
    ///
    /// # Safety
    /// As [`Backend::free`](crate::backend::Backend::free).
    pub(super) unsafe fn free(&self, shared: &Shared, slab: SlabId) {
        let held = lock(&self.0).remove(&slab);
        debug_assert!(held.is_some(), "{slab:?} is not there");
        if let Some(held) = held {
            // SAFETY: forwarded contract.
            unsafe { give_back(shared, slab, held) };
        }
    }

    /// Gives all slabs back but those of `keep`; whether one of them is left.
    ///
    /// # Safety
    /// As [`free`](Self::free), of all but those.
    pub(super) unsafe fn free_all(&self, shared: &Shared, keep: &[SlabId]) -> bool {
        let mut table = lock(&self.0);
        table.retain(|&slab, &mut held| {
            let stays = keep.contains(&slab);
            if !stays {
                // SAFETY: forwarded contract.
                unsafe { give_back(shared, slab, held) };
            }
            stays
        });
        !table.is_empty()
    }

    /// Whether it is memory that the device gave in one piece.
    pub(super) fn is_allocated(&self, slab: SlabId) -> bool {
        lock(&self.0).get(&slab).is_some_and(|held| held.kind == Kind::Device)
    }

    /// Bytes of the device's own memory that the process has here.
    pub(super) fn device_bytes(&self) -> u64 {
        let table = lock(&self.0);
        let own = table.values().map(|held| match held.kind {
            Kind::Device => held.bytes,
            Kind::Range(pieces) => pieces.mapped,
            Kind::Host | Kind::Registered => 0,
        });
        own.sum()
    }

    /// Cuts a copy where one of its ends crosses into another range (A1), and hands on each piece: where it goes, where it comes from,
    /// and its bytes.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub(super) fn pieces(
        &self,
        to: Address,
        from: Address,
        bytes: u64,
        mut each: impl FnMut(Address, Address, usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes {
            let room = {
                let (table, locked) = (lock(&self.0), lock(&LOCKED));
                let left = |at| left_of(&table, at).min(left_of_locked(&locked, at));
                left(to + at).min(left(from + at)).min(bytes - at)
            };
            each(to + at, from + at, room as usize)?;
            at += room;
        }
        Ok(())
    }
}

/// How many bytes from `address` on lie in the same slab; all, where it lies in none.
fn left_of(table: &BTreeMap<SlabId, Held>, address: Address) -> u64 {
    let slab = table.range(..=SlabId(address)).next_back();
    let end = slab.map_or(0, |(slab, held)| slab.0 + held.bytes);
    if end > address { end - address } else { u64::MAX }
}

/// The same of what is page-locked where it lies.
fn left_of_locked(locked: &BTreeMap<Address, Address>, address: Address) -> u64 {
    let end = locked.range(..=address).next_back().map_or(0, |(_, &end)| end);
    if end > address { end - address } else { u64::MAX }
}

/// # Safety
/// As [`Backend::free`](crate::backend::Backend::free); the context is current.
unsafe fn give_back(shared: &Shared, slab: SlabId, held: Held) {
    let driver = shared.driver;
    if held.kind == Kind::Registered {
        lock(&LOCKED).remove(&slab.0);
    }
    let host = std::ptr::with_exposed_provenance_mut::<c_void>(slab.0 as usize);
    // SAFETY: the driver gave or locked it here, and nobody uses it any more. What it says is nobody's business: a lost device takes
    // nothing back, and there is nothing that could be done about it.
    unsafe {
        let _ = match held.kind {
            Kind::Device => (driver.memory_free)(slab.0),
            Kind::Host => (driver.host_free)(host),
            Kind::Registered => driver.host_unregister.map_or(0, |unregister| unregister(host)),
            Kind::Range(pieces) => range::give_back(driver, slab.0, held.bytes, pieces),
        };
    }
}
