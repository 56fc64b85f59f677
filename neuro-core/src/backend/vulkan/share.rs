//! Memory that goes from device to device by file descriptor (VK_KHR_external_memory_fd): between processes, or to another interface of
//! the same card.
//!
//! Whoever imports makes the same buffer on the same kind and length of memory, or the driver may not take it. So what both have to
//! know is little, and the same everywhere: one dedicated piece of memory, of the first kind that is the device's own; one buffer on all
//! of it, for the uses that all buffers have.
//!
//! Absent on purpose: handing the buffer over from queue to queue (`VK_QUEUE_FAMILY_EXTERNAL`). It would be recorded on both sides, by
//! everybody, and for buffers drivers do nothing then. Other handle types.

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;

use ash::{Device, Instance, khr, vk};

use super::buffer::USAGE;
use super::discover::Found;
use super::slabs::{Memory, Slabs, is_not_there};
use crate::backend::health::Health;
use crate::backend::host::os;
use crate::backend::{Refusal, Slab, SlabId, SlabKind, no_sharing};
use crate::sync::global::lock;

const FD: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::OPAQUE_FD;

/// The functions for that, of a device that was made with the extension.
pub(super) struct Sharer {
    functions: khr::external_memory_fd::Device,
    types: vk::PhysicalDeviceMemoryProperties,
}

impl Sharer {
    /// `None` for a device that cannot.
    pub(super) fn new(instance: &Instance, device: &Device, found: &Found) -> Option<Self> {
        if !found.has_memory_fds {
            return None;
        }
        let buffer = vk::PhysicalDeviceExternalBufferInfo::default()
            .usage(USAGE)
            .handle_type(FD);
        let mut answer = vk::ExternalBufferProperties::default();
        // SAFETY: the device is one that this instance listed, and has the extension, so Vulkan 1.1; the answer is the bindings' own.
        unsafe { instance.get_physical_device_external_buffer_properties(found.physical, &buffer, &mut answer) };
        let can = answer.external_memory_properties.external_memory_features;
        let both = vk::ExternalMemoryFeatureFlags::EXPORTABLE | vk::ExternalMemoryFeatureFlags::IMPORTABLE;
        can.contains(both).then(|| Self {
            functions: khr::external_memory_fd::Device::new(instance, device),
            // SAFETY: as above.
            types: unsafe { instance.get_physical_device_memory_properties(found.physical) },
        })
    }

    /// The kind of memory for a buffer that allows the kinds `allowed`, and whether the host reaches it without flushing and at once.
    fn kind_of(&self, allowed: u32) -> Option<(u32, bool)> {
        let kinds = self.types.memory_types_as_slice().iter().zip(0u32..);
        let (kind, number) = kinds
            .filter(|(_, number)| allowed >> number & 1 == 1)
            .min_by_key(|(kind, _)| !kind.property_flags.contains(vk::MemoryPropertyFlags::DEVICE_LOCAL))?;
        let reached = vk::MemoryPropertyFlags::HOST_VISIBLE
            | vk::MemoryPropertyFlags::HOST_COHERENT
            | vk::MemoryPropertyFlags::HOST_CACHED;
        Some((number, kind.property_flags.contains(reached)))
    }
}

fn refused(call: &'static str, meaning: String) -> Refusal {
    Refusal::Call { call, code: 0, meaning }
}

impl Slabs {
    /// As [`allocate`](Self::allocate), for slabs of [`SlabKind::Exported`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn allocate_exported(&self, bytes: u64, health: &Health) -> Result<Slab, Refusal> {
        let sharer = self.sharer.as_ref().ok_or_else(|| no_sharing("allocate"))?;
        let whole = self.memory_of(bytes, health)?;
        if !self.has_room_for_one() {
            return Err(Refusal::NoMemory);
        }
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(FD);
        let slab = self.make(whole, Some(&mut external), SlabKind::Exported, health, |buffer| {
            // SAFETY: nothing is imported; the buffer was just made.
            unsafe { self.back_shared(sharer, buffer, whole, None, health) }
        })?;
        Ok(Slab { bytes, ..slab })
    }

    /// How many bytes the memory of an exported buffer of `bytes` bytes has. A buffer of so many has as many.
    fn memory_of(&self, bytes: u64, health: &Health) -> Result<u64, Refusal> {
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(FD);
        let buffer = self.create_buffer(bytes, Some(&mut external), health)?;
        // SAFETY: the buffer is of this device.
        let whole = unsafe { self.device().get_buffer_memory_requirements(buffer) }.size;
        // SAFETY: nobody but this function has it.
        unsafe { self.device().destroy_buffer(buffer, None) };
        if whole > self.facts().max_slab_bytes.min(self.max_memory_allocation_size) {
            return Err(Refusal::NoMemory);
        }
        Ok(whole)
    }

    /// Puts memory of its own behind a buffer of `bytes` bytes: what is behind `import`, else new memory for others to import.
    ///
    /// # Safety
    /// As [`import_fd`](Self::import_fd); the buffer is of this device, can be shared in this way, and has no memory.
    unsafe fn back_shared(
        &self,
        sharer: &Sharer,
        buffer: vk::Buffer,
        bytes: u64,
        import: Option<BorrowedFd<'_>>,
        health: &Health,
    ) -> Result<Memory, Refusal> {
        let device = self.device();
        // SAFETY: the buffer is of this device.
        let needs = unsafe { device.get_buffer_memory_requirements(buffer) };
        let kind = sharer.kind_of(needs.memory_type_bits);
        let Some((kind, is_reached)) = kind.filter(|_| needs.size == bytes) else {
            return Err(refused(
                "vkGetBufferMemoryRequirements",
                format!(
                    "a shared buffer of {bytes} B wants {} B of memory, and both have to be one",
                    needs.size
                ),
            ));
        };
        let mut dedicated = vk::MemoryDedicatedAllocateInfo::default().buffer(buffer);
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(bytes)
            .memory_type_index(kind)
            .push_next(&mut dedicated);
        let memory = match import {
            // SAFETY: the buffer needs so many bytes of that kind; the rest is forwarded.
            Some(fd) => unsafe { self.import_memory(info, fd, health) },
            None => {
                let mut export = vk::ExportMemoryAllocateInfo::default().handle_types(FD);
                // SAFETY: as above.
                let memory = unsafe { device.allocate_memory(&info.push_next(&mut export), None) };
                memory.map_err(|code| health.refusal("vkAllocateMemory", code))
            }
        }?;
        // SAFETY: as above, and nobody has used either.
        let memory = unsafe { self.bind(buffer, memory, health) }?;
        let mut host = None;
        if is_reached {
            // SAFETY: the host can see memory of that kind, and it is not mapped.
            match unsafe { device.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()) } {
                Ok(address) => host = NonNull::new(address.cast()),
                Err(code) => {
                    // SAFETY: nobody but this function has it; its buffer is destroyed next, unused.
                    unsafe { device.free_memory(memory, None) };
                    return Err(health.refusal("vkMapMemory", code));
                }
            }
        }
        Ok(Memory::Own {
            memory,
            host,
            is_exported: import.is_none(),
        })
    }

    /// # Safety
    /// `info` describes memory that a device of the same identity has exported as `fd`, if the driver finds such behind it.
    unsafe fn import_memory(
        &self,
        info: vk::MemoryAllocateInfo<'_>,
        fd: BorrowedFd<'_>,
        health: &Health,
    ) -> Result<vk::DeviceMemory, Refusal> {
        // The driver keeps what it imports, and only that.
        let copy = fd.try_clone_to_owned().map_err(|error| Refusal::Call {
            call: "dup",
            code: error.raw_os_error().unwrap_or_default().into(),
            meaning: error.to_string(),
        })?;
        let copy = copy.into_raw_fd();
        let mut import = vk::ImportMemoryFdInfoKHR::default().handle_type(FD).fd(copy);
        // SAFETY: by contract.
        let memory = unsafe { self.device().allocate_memory(&info.push_next(&mut import), None) };
        memory.map_err(|code| {
            // Some drivers close what they refuse, too (Mesa's software device does).
            // SAFETY: the copy is nobody else's.
            unsafe { os::close_if_still(copy, fd) };
            health.refusal("vkAllocateMemory", code)
        })
    }

    /// As [`Backend::export`](crate::backend::Backend::export).
    ///
    /// # Errors
    /// As there.
    pub(super) fn export(&self, slab: SlabId, health: &Health) -> Result<(OwnedFd, u64), Refusal> {
        const CALL: &str = "vkGetMemoryFdKHR";
        let sharer = self.sharer.as_ref().ok_or_else(|| no_sharing("export"))?;
        // Held during the call, so that the slab stays; the driver only makes a descriptor.
        let table = lock(&self.table);
        let held = table.held.get(&slab).ok_or_else(|| is_not_there(slab))?;
        let &Memory::Own {
            memory,
            is_exported: true,
            ..
        } = &held.memory
        else {
            return Err(refused(CALL, "this memory was not made to be exported".to_owned()));
        };
        let info = vk::MemoryGetFdInfoKHR::default().memory(memory).handle_type(FD);
        // SAFETY: the memory is of this device, and was made to be exported in this way.
        let fd = unsafe { sharer.functions.get_memory_fd(&info) };
        let fd = fd.map_err(|code| health.refusal(CALL, code))?;
        // SAFETY: the driver has just made it, for us to close.
        Ok((unsafe { OwnedFd::from_raw_fd(fd) }, held.bytes))
    }

    /// As [`Backend::import_fd`](crate::backend::Backend::import_fd).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn import_fd(&self, fd: BorrowedFd<'_>, bytes: u64, health: &Health) -> Result<Slab, Refusal> {
        let sharer = self.sharer.as_ref().ok_or_else(|| no_sharing("import_fd"))?;
        if bytes == 0 || bytes > self.facts().max_slab_bytes {
            let most = self.facts().max_slab_bytes;
            return Err(refused(
                "import_fd",
                format!("no exported memory has {bytes} B; it has 1 to {most} B"),
            ));
        }
        if !self.has_room_for_one() {
            return Err(Refusal::NoMemory);
        }
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(FD);
        self.make(bytes, Some(&mut external), SlabKind::Exported, health, |buffer| {
            // SAFETY: forwarded contract; the buffer was just made.
            unsafe { self.back_shared(sharer, buffer, bytes, Some(fd), health) }
        })
    }
}
