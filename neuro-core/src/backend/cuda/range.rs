//! Slabs that grow where they are: addresses of the driver's, and memory mapped into them piece by piece.
//!
//! Invariants:
//! - R1: the pieces of a range are all as long, lie one behind the other from its beginning, and are mapped as a whole each: the driver
//!   unmaps a piece as a whole, or not at all.
//! - R2: the one reference to a piece's memory is its mapping. The handle is let go as soon as that is there, so that unmapping gives the
//!   memory back and there are no handles to keep.
//!
//! Absent on purpose: memory for other processes, and access for other devices.

use super::driver::{AccessDesc, Address, AllocationProp, Code, DeviceNumber, Driver, Location};
use super::refuse::SUCCESS;
use super::{CudaDevice, Shared};
use crate::backend::range::Ranges;
use crate::backend::{Refusal, Slab, SlabId};

/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const ON_DEVICE: u32 = 1;
/// `CU_MEM_ALLOCATION_TYPE_PINNED`.
const PINNED: u32 = 1;
/// `CU_MEM_ALLOC_GRANULARITY_RECOMMENDED`: never below the least that can be, and what the driver maps with the largest pages.
const RECOMMENDED: u32 = 1;
/// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE`.
const READ_WRITE: u32 = 3;
/// Ranges begin on a multiple of this at least: no block wants more.
const LEAST_ALIGNMENT: u64 = 2 << 20;
/// Blocks begin on multiples of this within their slab.
const UNIT: u64 = 256;

/// The pieces of a range (R1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Bytes of each.
    pub(super) piece: u64,
    /// Bytes of all.
    pub(super) mapped: u64,
}

/// The calls that it takes: a driver has all of them, or no ranges.
struct Calls {
    reserve: unsafe extern "C" fn(*mut Address, usize, usize, Address, u64) -> Code,
    free: unsafe extern "C" fn(Address, usize) -> Code,
    create: unsafe extern "C" fn(*mut u64, usize, *const AllocationProp, u64) -> Code,
    release: unsafe extern "C" fn(u64) -> Code,
    map: unsafe extern "C" fn(Address, usize, usize, u64, u64) -> Code,
    unmap: unsafe extern "C" fn(Address, usize) -> Code,
    access: unsafe extern "C" fn(Address, usize, *const AccessDesc, usize) -> Code,
}

impl Calls {
    fn of(driver: &Driver) -> Option<Self> {
        Some(Self {
            reserve: driver.range_reserve?,
            free: driver.range_free?,
            create: driver.piece_create?,
            release: driver.piece_release?,
            map: driver.piece_map?,
            unmap: driver.piece_unmap?,
            access: driver.piece_access?,
        })
    }
}

fn location(device: DeviceNumber) -> Location {
    Location {
        kind: ON_DEVICE,
        id: device,
    }
}

/// Memory of the device, for nobody else.
fn properties(device: DeviceNumber) -> AllocationProp {
    AllocationProp {
        kind: PINNED,
        handle_types: 0,
        location: location(device),
        win32_metadata: 0,
        flags: [0; 8],
    }
}

/// What pieces of the device's memory are multiples of; `None`: the driver lacks a call, or says nothing that can be used.
pub(super) fn granularity(driver: &Driver, device: DeviceNumber) -> Option<u64> {
    Calls::of(driver)?;
    let mut bytes = 0;
    // SAFETY: there is room for the answer, and the properties are read only.
    let code = unsafe { (driver.granularity?)(&mut bytes, &properties(device), RECOMMENDED) };
    let bytes = bytes as u64;
    (code == SUCCESS && bytes > 0 && bytes.is_multiple_of(UNIT)).then_some(bytes)
}

/// Unmaps the pieces of a range and lets its addresses go. What the driver said last.
///
/// # Safety
/// As [`Backend::free`](crate::backend::Backend::free), of the range at `start`; the context is current.
pub(super) unsafe fn give_back(driver: &Driver, start: Address, bytes: u64, pieces: Pieces) -> Code {
    let Some(calls) = Calls::of(driver) else {
        return SUCCESS; // then nobody could have made one
    };
    // SAFETY: forwarded contract. Where a piece cannot be unmapped, the driver keeps the addresses, too.
    unsafe {
        calls.unmap_down_to(start, pieces, 0);
        (calls.free)(start, bytes as usize)
    }
}

impl Calls {
    /// Makes and maps one piece.
    ///
    /// # Errors
    /// What the driver said; nothing is left then.
    fn add(&self, shared: &Shared, device: DeviceNumber, at: Address, bytes: usize) -> Result<(), Refusal> {
        let mut memory = 0;
        // SAFETY: there is room for the answer, and the properties are read only.
        let code = unsafe { (self.create)(&mut memory, bytes, &properties(device), 0) };
        shared.answer("cuMemCreate", code)?;
        // SAFETY: addresses of a range that have no memory, as many as the memory that was just made has bytes.
        let mapped = unsafe { (self.map)(at, bytes, 0, memory, 0) };
        // SAFETY: made above. While it is mapped the memory stays (R2), else it goes.
        let released = unsafe { (self.release)(memory) };
        shared.answer("cuMemMap", mapped)?;
        shared.answer("cuMemRelease", released).inspect_err(|_| {
            // SAFETY: mapped above, and nobody has been told of it.
            unsafe { (self.unmap)(at, bytes) };
        })
    }

    /// Unmaps pieces from the last on until `to` bytes are mapped, or the driver refuses: the bytes that are mapped then.
    ///
    /// # Safety
    /// The pieces are those of the range at `start`, and no work that is not done uses bytes from `to` on.
    unsafe fn unmap_down_to(&self, start: Address, pieces: Pieces, to: u64) -> u64 {
        let Pieces { piece, mut mapped } = pieces;
        while mapped > to {
            // SAFETY: forwarded contract; one piece, as it was mapped (R1).
            if unsafe { (self.unmap)(start + mapped - piece, piece as usize) } != SUCCESS {
                break;
            }
            mapped -= piece;
        }
        mapped
    }

    /// Maps pieces until `to` bytes have memory that the device may read and write.
    ///
    /// # Errors
    /// What the driver said; no more is mapped then than was.
    fn map_up_to(
        &self,
        shared: &Shared,
        device: DeviceNumber,
        start: Address,
        had: Pieces,
        to: u64,
    ) -> Result<(), Refusal> {
        let mut has = had;
        let mut map = || {
            while has.mapped < to {
                self.add(shared, device, start + has.mapped, has.piece as usize)?;
                has.mapped += has.piece;
            }
            let access = AccessDesc {
                location: location(device),
                flags: READ_WRITE,
            };
            // SAFETY: the pieces that were just mapped, as a whole; one description.
            let code = unsafe { (self.access)(start + had.mapped, (to - had.mapped) as usize, &access, 1) };
            shared.answer("cuMemSetAccess", code)
        };
        let result = map();
        if result.is_err() {
            // SAFETY: pieces that were just mapped, which nobody has been told of.
            unsafe { self.unmap_down_to(start, has, had.mapped) };
        }
        result
    }
}

impl CudaDevice {
    fn range_calls(&self) -> Result<Calls, Refusal> {
        Calls::of(self.shared.driver).ok_or_else(|| self.shared.lacks("cuMemMap"))
    }
}

impl Ranges for CudaDevice {
    fn granularity(&self) -> u64 {
        self.granularity.unwrap_or(LEAST_ALIGNMENT)
    }

    fn reserve(&self, bytes: u64, piece: u64) -> Result<Slab, Refusal> {
        debug_assert!(piece.is_multiple_of(self.granularity()) && bytes.is_multiple_of(piece));
        if bytes > self.facts.memory_bytes.next_multiple_of(piece) {
            return Err(Refusal::NoMemory);
        }
        let _inside = self.shared.health.check()?;
        let _current = self.shared.make_current()?;
        let (length, mut address) = (bytes as usize, 0);
        let alignment = LEAST_ALIGNMENT.max(self.granularity()).next_power_of_two() as usize;
        // SAFETY: there is room for the answer; the driver chooses where.
        let code = unsafe { (self.range_calls()?.reserve)(&mut address, length, alignment, 0, 0) };
        self.shared.answer("cuMemAddressReserve", code)?;
        Ok(self.slabs.enter_range(address, length, piece))
    }

    fn extend(&self, slab: SlabId, to: u64) -> Result<(), Refusal> {
        let _inside = self.shared.health.check()?;
        let _current = self.shared.make_current()?;
        let pieces = self.slabs.pieces_of(slab);
        debug_assert!(pieces.is_some_and(|pieces| to.is_multiple_of(pieces.piece) && to > pieces.mapped));
        let Some(pieces) = pieces else {
            return Err(Refusal::NoMemory);
        };
        self.range_calls()?
            .map_up_to(&self.shared, self.number, slab.0, pieces, to)?;
        self.slabs.note_mapped(slab, to);
        Ok(())
    }

    unsafe fn shorten(&self, slab: SlabId, to: u64) -> u64 {
        let Some(pieces) = self.slabs.pieces_of(slab) else {
            return 0; // it went with the device
        };
        debug_assert!(to.is_multiple_of(pieces.piece) && to <= pieces.mapped);
        let mut left = pieces.mapped;
        // A lost device takes nothing back, and the process that ends takes all.
        if let Ok(_inside) = self.shared.health.check()
            && let Ok(_current) = self.shared.make_current()
            && let Ok(calls) = self.range_calls()
        {
            // SAFETY: forwarded contract.
            left = unsafe { calls.unmap_down_to(slab.0, pieces, to) };
            self.slabs.note_mapped(slab, left);
        }
        left
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
