//! Devices that others opened: an engine's own instance, device and queue. They are taken as they are; nothing of them is destroyed.

use std::ffi::CStr;

use ash::vk::Handle;
use ash::{Device, Instance, StaticFn, vk};

use super::discover::look_at;
use super::{OPEN, VulkanDevice, loader, open};
use crate::backend::life;
use crate::backend::raw::{Adopt, GetInstanceProcAddr, NotAdopted};
use crate::sync::global::lock;

/// Number of the first one. No machine lists so many.
pub(super) const FIRST: u32 = 1000;

/// Functions of an instance that are called here and by the crate that holds memory.
const OF_INSTANCE: [&CStr; 10] = [
    c"vkGetDeviceProcAddr",
    c"vkEnumeratePhysicalDevices",
    c"vkEnumerateDeviceExtensionProperties",
    c"vkGetPhysicalDeviceProperties",
    c"vkGetPhysicalDeviceProperties2",
    c"vkGetPhysicalDeviceExternalBufferProperties",
    c"vkGetPhysicalDeviceFeatures2",
    c"vkGetPhysicalDeviceMemoryProperties",
    c"vkGetPhysicalDeviceMemoryProperties2",
    c"vkGetPhysicalDeviceQueueFamilyProperties",
];

/// The same of a device, timelines left out.
const OF_DEVICE: [&CStr; 19] = [
    c"vkAllocateCommandBuffers",
    c"vkAllocateMemory",
    c"vkBeginCommandBuffer",
    c"vkBindBufferMemory",
    c"vkCmdCopyBuffer",
    c"vkCmdFillBuffer",
    c"vkCmdPipelineBarrier",
    c"vkCreateBuffer",
    c"vkCreateCommandPool",
    c"vkCreateSemaphore",
    c"vkDestroyBuffer",
    c"vkDestroyCommandPool",
    c"vkDestroySemaphore",
    c"vkEndCommandBuffer",
    c"vkFreeMemory",
    c"vkGetBufferMemoryRequirements",
    c"vkMapMemory",
    c"vkQueueSubmit",
    c"vkUnmapMemory",
];

/// As [`crate::backend::adopt`]. Takes up each device once: whoever hands it over again is told the number that it has.
pub(crate) unsafe fn adopt(theirs: Adopt) -> Result<u32, NotAdopted> {
    let _inside = life::enter().map_err(NotAdopted::Lacks)?;
    let mut open = lock(&OPEN);
    // One that this library opened, too.
    if let Some((&ordinal, known)) = open.iter().find(|(_, known)| known.handles.device == theirs.device) {
        let queue = known.handles.queue;
        return if queue == theirs.queue {
            Ok(ordinal)
        } else {
            Err(NotAdopted::Argument(format!(
                "queue {:#x}: the device is known already, with queue {queue:#x}, and works on that one",
                theirs.queue
            )))
        };
    }
    let ordinal = open
        .last_key_value()
        .map_or(FIRST, |(&last, _)| FIRST.max(last.saturating_add(1)));
    // SAFETY: forwarded contract.
    let device = unsafe { take(theirs) }?;
    life::watch_for_the_end();
    open.insert(ordinal, Box::leak(Box::new(device)));
    Ok(ordinal)
}

/// # Safety
/// As [`adopt`].
unsafe fn take(theirs: Adopt) -> Result<VulkanDevice, NotAdopted> {
    let argument = |what: String| Err(NotAdopted::Argument(what));
    if theirs.api_version < vk::API_VERSION_1_1 {
        return argument(format!(
            "api_version {:#x}: the instance has to be created for Vulkan 1.1 at least ({:#x}), with timeline semaphores",
            theirs.api_version,
            vk::API_VERSION_1_1
        ));
    }
    let functions = StaticFn {
        // SAFETY: as in `raw::handles`, the other way round.
        get_instance_proc_addr: unsafe {
            std::mem::transmute::<GetInstanceProcAddr, vk::PFN_vkGetInstanceProcAddr>(theirs.get_instance_proc_addr)
        },
    };
    let instance = vk::Instance::from_raw(theirs.instance);
    // SAFETY: the function is Vulkan's and the instance lives, by contract; the names end in zero.
    let missing = |name: &&&CStr| unsafe { (functions.get_instance_proc_addr)(instance, name.as_ptr()) }.is_none();
    if let Some(name) = OF_INSTANCE.iter().find(missing) {
        return Err(lacks(name, "the instance"));
    }
    // SAFETY: as above.
    let instance = unsafe { Instance::load(&functions, instance) };
    let physical = vk::PhysicalDevice::from_raw(theirs.physical_device);
    // SAFETY: the instance lives, and the list is the bindings' own.
    let listed = unsafe { instance.enumerate_physical_devices() }.unwrap_or_default();
    if !listed.contains(&physical) {
        return argument(format!(
            "physical_device {:#x} is none of the {} that the instance lists",
            theirs.physical_device,
            listed.len()
        ));
    }
    // SAFETY: of the instance, as was just seen.
    let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
    match families.get(theirs.queue_family as usize) {
        None => {
            return argument(format!(
                "queue_family {}: the device has {} families, counted from 0",
                theirs.queue_family,
                families.len()
            ));
        }
        // Those can copy, too.
        Some(family) if family.queue_flags.contains(vk::QueueFlags::COMPUTE) => {}
        Some(family) => {
            return argument(format!(
                "queue_family {} can do {:?}, and COMPUTE is needed",
                theirs.queue_family, family.queue_flags
            ));
        }
    }
    let mut found = look_at(&instance, physical, theirs.api_version);
    if let Some(why) = &found.unusable {
        return Err(NotAdopted::Lacks(format!("{}: {why}", found.name)));
    }
    let device = vk::Device::from_raw(theirs.device);
    let timeline = if open::is_core(&found) {
        [c"vkGetSemaphoreCounterValue", c"vkWaitSemaphores"]
    } else {
        [c"vkGetSemaphoreCounterValueKHR", c"vkWaitSemaphoresKHR"]
    };
    // SAFETY: the device lives, by contract; the names end in zero.
    let missing = |name: &&&CStr| unsafe { instance.get_device_proc_addr(device, name.as_ptr()) }.is_none();
    if let Some(name) = OF_DEVICE.iter().chain(&timeline).find(missing) {
        return Err(lacks(name, "the device"));
    }
    // Whether the engine has switched the extensions on, of which the device's list says only that it could.
    if missing(&&c"vkGetMemoryHostPointerPropertiesEXT") {
        found.min_imported_host_pointer_alignment = None;
    }
    found.has_memory_fds &= !missing(&&c"vkGetMemoryFdKHR");
    // SAFETY: as above.
    let device = unsafe { Device::load(instance.fp_v1_0(), device) };
    let (family, queue) = (theirs.queue_family, vk::Queue::from_raw(theirs.queue));
    // SAFETY: forwarded contract.
    let opened = unsafe { open::join(&instance, &device, &found, family, queue, theirs.lock) }
        .map_err(|why| NotAdopted::Lacks(format!("{}: {why}", found.name)))?;
    let api_version = loader::VERSION.min(found.api.packed());
    Ok(VulkanDevice {
        is_adopted: true,
        ..VulkanDevice::of(&functions, &instance, found, opened, api_version)
    })
}

fn lacks(name: &CStr, what: &str) -> NotAdopted {
    NotAdopted::Lacks(format!(
        "{} is not among the functions of {what}; create it for Vulkan 1.2, or for 1.1 with VK_KHR_timeline_semaphore, and its \
         feature timelineSemaphore",
        name.to_string_lossy()
    ))
}
