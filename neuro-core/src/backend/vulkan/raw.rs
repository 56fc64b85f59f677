//! What the device shows to others who speak Vulkan.

use ash::vk::Handle;
use ash::{Instance, StaticFn, vk};

use super::VulkanDevice;
use super::discover::Found;
use super::open::Opened;
use crate::backend::raw::{GetInstanceProcAddr, Handles, QueueTurn, RawVulkan};
use crate::backend::{Refusal, SlabId, Ticket};

/// What Vulkan calls the device that was opened.
pub(super) fn handles(
    functions: &StaticFn,
    instance: &Instance,
    found: &Found,
    opened: &Opened,
    api_version: u32,
) -> Handles {
    let get = functions.get_instance_proc_addr;
    Handles {
        // SAFETY: the types differ in what they call `VkInstance` only: a pointer, here and in the bindings, where it is the one
        // field of a transparent struct. So it is called in the same way.
        get_instance_proc_addr: unsafe {
            std::mem::transmute::<vk::PFN_vkGetInstanceProcAddr, GetInstanceProcAddr>(get)
        },
        instance: instance.handle().as_raw(),
        physical_device: found.physical.as_raw(),
        device: opened.lines.device.handle().as_raw(),
        queue: opened.lines.handle().as_raw(),
        queue_family: opened.family,
        api_version,
        max_range: found.max_storage_buffer_range,
    }
}

impl RawVulkan for VulkanDevice {
    fn handles(&self) -> Handles {
        self.handles
    }

    fn buffer(&self, slab: SlabId) -> Result<u64, Refusal> {
        let _inside = self.health.check()?;
        self.slabs.buffer(slab).map(Handle::as_raw)
    }

    unsafe fn with_queue(
        &self,
        waits: &[Ticket],
        work: &mut dyn FnMut(&QueueTurn<'_>) -> bool,
    ) -> Result<Option<Ticket>, Refusal> {
        let _inside = self.health.check()?;
        // SAFETY: forwarded contract.
        Ok(unsafe { self.lines.turn(self.handles.queue_family, waits, work) })
    }
}
