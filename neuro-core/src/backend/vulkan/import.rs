//! Memory of the host that a device uses where it lies (VK_EXT_external_memory_host): each such range is a slab, one buffer on memory
//! of its own.

use std::ptr::NonNull;

use ash::{Device, Instance, ext, vk};

use super::discover::Found;
use super::slabs::{Memory, Slabs};
use crate::backend::health::Health;
use crate::backend::{Refusal, Slab, SlabKind};

const HOST: vk::ExternalMemoryHandleTypeFlags = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;

/// The functions that import, of a device that was made with the extension.
pub(super) struct Importer {
    functions: ext::external_memory_host::Device,
    types: vk::PhysicalDeviceMemoryProperties,
}

impl Importer {
    /// `None` for a device that cannot.
    pub(super) fn new(instance: &Instance, device: &Device, found: &Found) -> Option<Self> {
        found.min_imported_host_pointer_alignment?;
        Some(Self {
            functions: ext::external_memory_host::Device::new(instance, device),
            // SAFETY: the device is one that this instance listed; both live for good.
            types: unsafe { instance.get_physical_device_memory_properties(found.physical) },
        })
    }

    /// The kind of memory that `memory` can be for a buffer that allows the kinds `allowed`. What the processor writes is to be seen
    /// without flushing.
    ///
    /// # Safety
    /// `memory` is readable.
    unsafe fn kind_of(&self, device: &Device, memory: NonNull<u8>, allowed: u32) -> Result<Option<u32>, vk::Result> {
        let mut answer = vk::MemoryHostPointerPropertiesEXT::default();
        let ask = self.functions.fp().get_memory_host_pointer_properties_ext;
        // SAFETY: the function was loaded for this device; the answer is the bindings' own.
        unsafe { ask(device.handle(), HOST, memory.as_ptr().cast(), &raw mut answer) }.result()?;
        let both = allowed & answer.memory_type_bits;
        let kinds = self.types.memory_types_as_slice().iter().zip(0u32..);
        let coherent = kinds.filter(|(kind, number)| {
            both >> number & 1 == 1 && kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_COHERENT)
        });
        let cached_first =
            |(kind, _): &(&vk::MemoryType, u32)| !kind.property_flags.contains(vk::MemoryPropertyFlags::HOST_CACHED);
        Ok(coherent.min_by_key(cached_first).map(|(_, number)| number))
    }
}

impl Slabs {
    /// As [`Backend::import_host`](crate::backend::Backend::import_host).
    ///
    /// # Errors
    /// What the driver said.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn import(&self, memory: NonNull<u8>, bytes: u64, health: &Health) -> Result<Slab, Refusal> {
        let cannot = |meaning: &str| Refusal::Call {
            call: "vkAllocateMemory",
            code: 0,
            meaning: meaning.to_owned(),
        };
        let Some(importer) = &self.importer else {
            return Err(cannot("the driver cannot use host memory where it lies"));
        };
        debug_assert!(
            self.facts()
                .import_alignment
                .is_some_and(|align| bytes.is_multiple_of(align))
        );
        if bytes > self.facts().max_slab_bytes || !self.has_room_for_one() {
            return Err(Refusal::NoMemory);
        }
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(HOST);
        self.make(bytes, Some(&mut external), SlabKind::Device, health, |buffer| {
            // SAFETY: the buffer was just made; the rest is forwarded.
            let device_memory = unsafe { self.back_with(importer, buffer, memory, bytes, health) }?;
            Ok(Memory::Own {
                memory: device_memory,
                host: Some(memory),
                is_exported: false,
            })
        })
    }

    /// # Safety
    /// As [`import`](Self::import); the buffer is of this device and has no memory.
    unsafe fn back_with(
        &self,
        importer: &Importer,
        buffer: vk::Buffer,
        memory: NonNull<u8>,
        bytes: u64,
        health: &Health,
    ) -> Result<vk::DeviceMemory, Refusal> {
        let device = self.device();
        // SAFETY: the buffer is of this device.
        let needs = unsafe { device.get_buffer_memory_requirements(buffer) };
        // SAFETY: forwarded contract.
        let kind = unsafe { importer.kind_of(device, memory, needs.memory_type_bits) };
        let kind = kind.map_err(|code| health.refusal("vkGetMemoryHostPointerPropertiesEXT", code))?;
        let Some(kind) = kind.filter(|_| needs.size <= bytes) else {
            return Err(Refusal::Call {
                call: "vkGetMemoryHostPointerPropertiesEXT",
                code: 0,
                meaning: "no kind of the device's memory can be this host memory and hold a buffer".to_owned(),
            });
        };
        let mut import = vk::ImportMemoryHostPointerInfoEXT::default()
            .handle_type(HOST)
            .host_pointer(memory.as_ptr().cast());
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(bytes)
            .memory_type_index(kind)
            .push_next(&mut import);
        // SAFETY: the address and the length are multiples of what the device wants, and the memory stays mapped, says the contract.
        let device_memory = unsafe { device.allocate_memory(&info, None) };
        let device_memory = device_memory.map_err(|code| health.refusal("vkAllocateMemory", code))?;
        // SAFETY: both are of this device; the buffer has no memory yet, and needs no more.
        unsafe { self.bind(buffer, device_memory, health) }
    }

    /// Puts the start of memory behind a buffer; memory that cannot be is given back.
    ///
    /// # Safety
    /// Both are of this device, and nobody else has the memory. The buffer has none yet, and needs no more than that.
    pub(super) unsafe fn bind(
        &self,
        buffer: vk::Buffer,
        memory: vk::DeviceMemory,
        health: &Health,
    ) -> Result<vk::DeviceMemory, Refusal> {
        // SAFETY: by contract.
        let bound = unsafe { self.device().bind_buffer_memory(buffer, memory, 0) };
        bound.map(|()| memory).map_err(|code| {
            // SAFETY: by contract.
            unsafe { self.device().free_memory(memory, None) };
            health.refusal("vkBindBufferMemory", code)
        })
    }
}
