//! The memories of a thread. Shared, local and parameter memory have addresses from 0 of their own, and windows in the
//! generic address space; initialised data of the module has only its window. All other generic addresses are global.

use super::Memory;
use super::code::Space;

const SHARED: u64 = 0xf1 << 56;
const LOCAL: u64 = 0xf2 << 56;
const PARAM: u64 = 0xf3 << 56;
/// Where initialised data of the module begins.
pub(super) const DATA: u64 = 0xf4 << 56;
const WINDOW: u64 = 0xff << 56;

/// What is added to an address in `space` to get the generic one.
pub(super) fn window(space: Space) -> u64 {
    match space {
        Space::Generic | Space::Global => 0,
        Space::Shared => SHARED,
        Space::Local => LOCAL,
        Space::Param => PARAM,
    }
}

/// The memories that the threads of a block share.
pub(super) struct Spaces<'a> {
    pub(super) shared: Vec<u8>,
    pub(super) params: &'a [u8],
    pub(super) data: &'a [u8],
    pub(super) global: &'a mut dyn Memory,
}

impl Spaces<'_> {
    /// Refuses an address that is no multiple of `bytes`.
    pub(super) fn aligned(address: u64, bytes: u32) -> Result<(), String> {
        if address.is_multiple_of(u64::from(bytes)) {
            return Ok(());
        }
        Err(format!(
            "misaligned address: {address:#x} is no multiple of {bytes} bytes"
        ))
    }

    /// The `bytes` bytes at `address`, extended with zeros.
    pub(super) fn load(&mut self, local: &[u8], space: Space, address: u64, bytes: u32) -> Result<u64, String> {
        let (memory, offset): (&[u8], u64) = match (space, address & WINDOW) {
            (Space::Shared, _) | (Space::Generic, SHARED) => (&self.shared, within(address, SHARED)),
            (Space::Local, _) | (Space::Generic, LOCAL) => (local, within(address, LOCAL)),
            (Space::Param, _) | (Space::Generic, PARAM) => (self.params, within(address, PARAM)),
            (_, DATA) => (self.data, within(address, DATA)),
            _ => return self.global.load(address, bytes),
        };
        let range = range(memory.len(), offset, bytes).ok_or_else(|| outside(space, address, bytes, memory.len()))?;
        let mut value = [0; 8];
        value[..bytes as usize].copy_from_slice(&memory[range]);
        Ok(u64::from_le_bytes(value))
    }

    /// Puts the low `bytes` bytes of `value` to `address`.
    pub(super) fn store(
        &mut self,
        local: &mut [u8],
        space: Space,
        address: u64,
        bytes: u32,
        value: u64,
    ) -> Result<(), String> {
        let (memory, offset): (&mut [u8], u64) = match (space, address & WINDOW) {
            (Space::Shared, _) | (Space::Generic, SHARED) => (&mut self.shared, within(address, SHARED)),
            (Space::Local, _) | (Space::Generic, LOCAL) => (local, within(address, LOCAL)),
            (Space::Param, _) | (Space::Generic, PARAM) => return Err("parameters cannot be written".into()),
            (_, DATA) => return Err("stores to variables of the module are not supported".into()),
            _ => return self.global.store(address, bytes, value),
        };
        let range = range(memory.len(), offset, bytes).ok_or_else(|| outside(space, address, bytes, memory.len()))?;
        memory[range].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
        Ok(())
    }
}

/// The offset of an address that may be one of the window at `base`, or of the space itself.
fn within(address: u64, base: u64) -> u64 {
    if address & WINDOW == base {
        address - base
    } else {
        address
    }
}

fn range(length: usize, offset: u64, bytes: u32) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(bytes as usize)?;
    (end <= length).then_some(start..end)
}

fn outside(space: Space, address: u64, bytes: u32, length: usize) -> String {
    format!("{bytes} bytes at {address:#x} ({space:?}) are outside of the {length} bytes that there are")
}
