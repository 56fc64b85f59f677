//! A Vulkan device for what is not ours: the same that neuro-core opens under this ordinal, opened once more. Nothing of it is
//! destroyed: the process ends with it.

use std::sync::{Mutex, PoisonError};

use ash::{Device, Entry, Instance, vk};
use bench_worker::Result;

pub struct Gpu {
    pub instance: Instance,
    pub physical: vk::PhysicalDevice,
    pub device: Device,
    /// Of copies: a family that does nothing else, where there is one.
    pub family: u32,
    pub queue: vk::Queue,
    pub memory: vk::PhysicalDeviceMemoryProperties,
    /// Owns the library.
    _entry: Entry,
}

impl Gpu {
    /// The device, opened on first use: a process has one.
    ///
    /// # Errors
    /// What is not there.
    pub fn open(device: neuro_core::Device) -> Result<&'static Self> {
        static OPEN: Mutex<Option<&'static Gpu>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = *open {
            return Ok(gpu);
        }
        Ok(*open.insert(Self::make(device)?))
    }

    fn make(device: neuro_core::Device) -> Result<&'static Self> {
        let found = neuro_core::devices().devices;
        let wanted = found.iter().find(|info| info.device == device);
        let uuid = wanted.ok_or_else(|| format!("there is no {device}"))?.uuid;
        // SAFETY: the loader is one that neuro-core has opened in this process, too.
        let entry = unsafe { Entry::load()? };
        let program = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&program);
        // SAFETY: here and below: what is described lives until the call returns, and what was made is never destroyed.
        let instance = unsafe { entry.create_instance(&info, None)? };
        // SAFETY: as above.
        let all = unsafe { instance.enumerate_physical_devices()? };
        let same = |&physical: &vk::PhysicalDevice| {
            let mut ids = vk::PhysicalDeviceIDProperties::default();
            let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut ids);
            // SAFETY: as above; devices are of Vulkan 1.1 at least, or neuro-core's ids would not be theirs.
            unsafe { instance.get_physical_device_properties2(physical, &mut all) };
            ids.device_uuid == uuid
        };
        let physical = all
            .into_iter()
            .find(same)
            .ok_or("the driver lists the device no more")?;
        // SAFETY: as above.
        let families = unsafe { instance.get_physical_device_queue_family_properties(physical) };
        let (graphics, compute) = (vk::QueueFlags::GRAPHICS, vk::QueueFlags::COMPUTE);
        let is_engine = |family: &&vk::QueueFamilyProperties| {
            family.queue_flags.contains(vk::QueueFlags::TRANSFER) && !family.queue_flags.intersects(graphics | compute)
        };
        let engine = families.iter().position(|family| is_engine(&family));
        let any = families
            .iter()
            .position(|family| family.queue_flags.intersects(graphics | compute));
        let family = engine.or(any).ok_or("it has no queue that copies")? as u32;
        let priorities = [1.0];
        let queues = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(family)
            .queue_priorities(&priorities)];
        let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .push_next(&mut timelines);
        // SAFETY: as above; neuro-core uses no device without timelines.
        let device = unsafe { instance.create_device(physical, &info, None)? };
        // SAFETY: the device was made with this queue.
        let queue = unsafe { device.get_device_queue(family, 0) };
        // SAFETY: as above.
        let memory = unsafe { instance.get_physical_device_memory_properties(physical) };
        Ok(Box::leak(Box::new(Self {
            instance,
            physical,
            device,
            family,
            queue,
            memory,
            _entry: entry,
        })))
    }

    /// Whether the host reaches the device's own memory.
    pub fn is_shared(&self) -> bool {
        let both = vk::MemoryPropertyFlags::DEVICE_LOCAL | vk::MemoryPropertyFlags::HOST_VISIBLE;
        let mut own = self.memory.memory_types_as_slice().iter();
        own.any(|kind| kind.property_flags.contains(both))
    }

    /// A buffer for copies, without memory.
    ///
    /// # Errors
    /// What the driver said.
    pub fn buffer(&self, bytes: u64) -> Result<vk::Buffer> {
        let info = vk::BufferCreateInfo::default()
            .size(bytes)
            .usage(vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST)
            .sharing_mode(vk::SharingMode::EXCLUSIVE);
        // SAFETY: the device lives for good.
        Ok(unsafe { self.device.create_buffer(&info, None)? })
    }

    /// A buffer with memory of its own: of the first kind that has all of `flags`, and none of `not` if there is such a kind.
    ///
    /// # Errors
    /// What the driver said, or that it has no such memory.
    pub fn backed(
        &self,
        bytes: u64,
        flags: vk::MemoryPropertyFlags,
        not: vk::MemoryPropertyFlags,
    ) -> Result<(vk::Buffer, vk::DeviceMemory)> {
        let buffer = self.buffer(bytes)?;
        // SAFETY: the buffer is of this device.
        let needs = unsafe { self.device.get_buffer_memory_requirements(buffer) };
        let kinds = || {
            let numbered = (0u32..).zip(self.memory.memory_types_as_slice());
            numbered.filter(|&(number, kind)| {
                needs.memory_type_bits >> number & 1 == 1 && kind.property_flags.contains(flags)
            })
        };
        let best = kinds().find(|(_, kind)| !kind.property_flags.intersects(not));
        let (kind, _) = best.or_else(|| kinds().next()).ok_or("it has no such memory")?;
        let info = vk::MemoryAllocateInfo::default()
            .allocation_size(needs.size)
            .memory_type_index(kind);
        // SAFETY: the kind is one of this device that the buffer can have; it has no memory yet.
        unsafe {
            let memory = self.device.allocate_memory(&info, None)?;
            self.device.bind_buffer_memory(buffer, memory, 0)?;
            Ok((buffer, memory))
        }
    }

    /// A pool of command buffers for the queue.
    ///
    /// # Errors
    /// What the driver said.
    pub fn commands(&self, count: u32) -> Result<Vec<vk::CommandBuffer>> {
        let info = vk::CommandPoolCreateInfo::default().queue_family_index(self.family);
        // SAFETY: the device has queues of this family.
        let pool = unsafe { self.device.create_command_pool(&info, None)? };
        let info = vk::CommandBufferAllocateInfo::default()
            .command_pool(pool)
            .command_buffer_count(count);
        // SAFETY: the pool is nobody else's.
        Ok(unsafe { self.device.allocate_command_buffers(&info)? })
    }
}
