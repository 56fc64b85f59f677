//! The buffer that a slab is.

use ash::vk;

use super::slabs::{Held, Memory, Slabs};
use crate::backend::health::Health;
use crate::backend::{Refusal, Slab, SlabKind};

/// What buffers are for.
pub(super) const USAGE: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw()
        | vk::BufferUsageFlags::STORAGE_BUFFER.as_raw(),
);

impl Slabs {
    /// A slab: a buffer of `bytes` bytes, behind which `back` puts memory.
    pub(super) fn make(
        &self,
        bytes: u64,
        external: Option<&mut vk::ExternalMemoryBufferCreateInfo<'_>>,
        kind: SlabKind,
        health: &Health,
        back: impl FnOnce(vk::Buffer) -> Result<Memory, Refusal>,
    ) -> Result<Slab, Refusal> {
        let buffer = self.create_buffer(bytes, external, health)?;
        match back(buffer) {
            Ok(memory) => Ok(self.enter(Held { buffer, bytes, memory }, kind)),
            Err(refusal) => {
                // SAFETY: nobody but this function has it.
                unsafe { self.device().destroy_buffer(buffer, None) };
                Err(refusal)
            }
        }
    }

    /// A buffer without memory, of `bytes` bytes, for copies and kernels of all queues that are used.
    pub(super) fn create_buffer(
        &self,
        bytes: u64,
        external: Option<&mut vk::ExternalMemoryBufferCreateInfo<'_>>,
        health: &Health,
    ) -> Result<vk::Buffer, Refusal> {
        let mode = match self.families.len() {
            0 | 1 => vk::SharingMode::EXCLUSIVE,
            _ => vk::SharingMode::CONCURRENT,
        };
        let mut info = vk::BufferCreateInfo::default()
            .size(bytes)
            .usage(USAGE)
            .sharing_mode(mode)
            .queue_family_indices(&self.families);
        if let Some(external) = external {
            info = info.push_next(external);
        }
        // SAFETY: the device lives; the length is no more than it allows; the families are different ones of the device.
        let buffer = unsafe { self.device().create_buffer(&info, None) };
        buffer.map_err(|code| health.refusal("vkCreateBuffer", code))
    }
}
