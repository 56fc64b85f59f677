//! Which devices there are, and what each can do. The order is that of the ordinals in `Device::Vulkan(n)`.
//!
//! Facts of drivers older than a fact are 0 or absent, and said so at the field.

use std::cmp::Reverse;
use std::ffi::CStr;

use ash::{Instance, ext, khr, vk};

use super::loader;
use crate::backend::info::{DeviceInfo, HeapInfo};
use crate::backend::life;
use crate::device::Device;

/// What kind of device it is; the order in which they are listed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    /// With memory of its own.
    Discrete,
    /// In the processor, with the processor's memory.
    Integrated,
    /// A share of a device, given to a virtual machine.
    Virtual,
    /// A program on the processor.
    Software,
    /// What the driver has no word for.
    Other,
}

impl Kind {
    fn of(kind: vk::PhysicalDeviceType) -> Self {
        match kind {
            vk::PhysicalDeviceType::DISCRETE_GPU => Kind::Discrete,
            vk::PhysicalDeviceType::INTEGRATED_GPU => Kind::Integrated,
            vk::PhysicalDeviceType::VIRTUAL_GPU => Kind::Virtual,
            vk::PhysicalDeviceType::CPU => Kind::Software,
            _ => Kind::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Discrete => "discrete",
            Kind::Integrated => "integrated",
            Kind::Virtual => "virtual",
            Kind::Software => "software",
            Kind::Other => "other",
        }
    }
}

/// Memory of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemoryHeap {
    pub(crate) bytes: u64,
    /// Whether it is the device's own.
    pub(crate) device_local: bool,
    /// What this process may take of it and what it has taken, in bytes, at this moment; from VK_EXT_memory_budget.
    pub(crate) budget: Option<(u64, u64)>,
}

/// A version of Vulkan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    fn of(packed: u32) -> Self {
        Self(
            vk::api_version_major(packed),
            vk::api_version_minor(packed),
            vk::api_version_patch(packed),
        )
    }

    pub(super) fn packed(self) -> u32 {
        vk::make_api_version(0, self.0, self.1, self.2)
    }
}

/// A device that was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(super) physical: vk::PhysicalDevice,
    pub(crate) name: String,
    /// The driver's name and its own words about its version.
    pub(crate) driver: String,
    pub(crate) driver_version: String,
    pub(crate) api: Version,
    pub(crate) kind: Kind,
    pub(crate) uuid: [u8; 16],
    pub(super) driver_uuid: [u8; 16],
    pub(crate) heaps: Vec<MemoryHeap>,
    /// Longest piece of memory.
    pub(crate) max_memory_allocation_size: u64,
    /// Longest buffer; the driver says so since Vulkan 1.3, before it is as long as memory.
    pub(crate) max_buffer_size: u64,
    /// How much of a buffer a kernel sees at once.
    pub(crate) max_storage_buffer_range: u64,
    /// How many pieces of memory there can be at once.
    pub(crate) max_memory_allocation_count: u64,
    /// What imported host memory begins on; absent where none can be imported.
    pub(crate) min_imported_host_pointer_alignment: Option<u64>,
    /// Whether it has file descriptors for memory.
    pub(super) has_memory_fds: bool,
    /// What offsets of storage buffers are multiples of.
    pub(crate) min_storage_buffer_offset_alignment: u64,
    /// Why it cannot be used, if it cannot.
    pub(crate) unusable: Option<String>,
}

/// All devices, in an order that stays the same while the process runs.
///
/// # Errors
/// No loader, or no driver: what was looked for and what to do.
pub(crate) fn devices() -> Result<Vec<Found>, String> {
    let _inside = life::enter()?;
    let vulkan = loader::vulkan()?;
    let mut found: Vec<Found> = vulkan
        .physical
        .iter()
        .map(|&physical| look_at(&vulkan.instance, physical, u32::MAX))
        .collect();
    // Stable, so equals stay in the driver's order; what can be used keeps its ordinal whatever else is installed.
    found.sort_by_key(|device| (device.unusable.is_some(), device.kind));
    Ok(found)
}

/// Extensions of a device, by name.
struct Extensions(Vec<vk::ExtensionProperties>);

impl Extensions {
    fn has(&self, name: &CStr) -> bool {
        self.0
            .iter()
            .any(|extension| extension.extension_name_as_c_str() == Ok(name))
    }
}

fn text(words: Result<&CStr, std::ffi::FromBytesUntilNulError>) -> String {
    words.map_or_else(|_| "?".to_owned(), |words| words.to_string_lossy().into_owned())
}

/// What a device can do that is asked for no more than version `most` of Vulkan.
pub(super) fn look_at(instance: &Instance, physical: vk::PhysicalDevice, most: u32) -> Found {
    // SAFETY: here and below, `physical` is of `instance`, which lives for good; the answers are the bindings' own.
    let plain = unsafe { instance.get_physical_device_properties(physical) };
    // SAFETY: as above. A driver that cannot say what it has is taken to have nothing.
    let extensions =
        Extensions(unsafe { instance.enumerate_device_extension_properties(physical) }.unwrap_or_default());
    let api = plain.api_version.min(most);
    let since = |version: u32, name: &CStr| api >= version || extensions.has(name);

    let mut ids = vk::PhysicalDeviceIDProperties::default();
    let mut maintenance = vk::PhysicalDeviceMaintenance3Properties::default();
    let mut driver = vk::PhysicalDeviceDriverProperties::default();
    let mut buffers = vk::PhysicalDeviceMaintenance4Properties::default();
    let mut import = vk::PhysicalDeviceExternalMemoryHostPropertiesEXT::default();
    let mut timeline = vk::PhysicalDeviceTimelineSemaphoreFeatures::default();
    let has_timeline = since(vk::API_VERSION_1_2, khr::timeline_semaphore::NAME);
    let can_import = extensions.has(ext::external_memory_host::NAME);
    // Devices of Vulkan 1.0 have no calls that take more than the plain description.
    if api >= vk::API_VERSION_1_1 {
        let mut all = vk::PhysicalDeviceProperties2::default()
            .push_next(&mut ids)
            .push_next(&mut maintenance);
        if since(vk::API_VERSION_1_2, khr::driver_properties::NAME) {
            all = all.push_next(&mut driver);
        }
        if since(vk::API_VERSION_1_3, khr::maintenance4::NAME) {
            all = all.push_next(&mut buffers);
        }
        if can_import {
            all = all.push_next(&mut import);
        }
        // SAFETY: as above; each structure of the chain is one that the device knows, and lives in this function.
        unsafe { instance.get_physical_device_properties2(physical, &mut all) };
        if has_timeline {
            let mut features = vk::PhysicalDeviceFeatures2::default().push_next(&mut timeline);
            // SAFETY: as above.
            unsafe { instance.get_physical_device_features2(physical, &mut features) };
        }
    }
    let usable = timeline.timeline_semaphore == vk::TRUE;
    let (packed, api) = (api, Version::of(api));
    let or_endless = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes };
    Found {
        physical,
        name: text(plain.device_name_as_c_str()),
        driver: text(driver.driver_name_as_c_str()),
        driver_version: match text(driver.driver_info_as_c_str()) {
            words if words.is_empty() => format!("{:#x}", plain.driver_version),
            words => words,
        },
        api,
        kind: Kind::of(plain.device_type),
        uuid: ids.device_uuid,
        driver_uuid: ids.driver_uuid,
        heaps: heaps(
            instance,
            physical,
            packed >= vk::API_VERSION_1_1 && extensions.has(ext::memory_budget::NAME),
        ),
        max_memory_allocation_size: or_endless(maintenance.max_memory_allocation_size),
        max_buffer_size: or_endless(buffers.max_buffer_size),
        max_storage_buffer_range: plain.limits.max_storage_buffer_range.into(),
        max_memory_allocation_count: plain.limits.max_memory_allocation_count.into(),
        min_imported_host_pointer_alignment: can_import.then_some(import.min_imported_host_pointer_alignment),
        has_memory_fds: extensions.has(khr::external_memory_fd::NAME),
        min_storage_buffer_offset_alignment: plain.limits.min_storage_buffer_offset_alignment,
        unusable: (!usable).then(|| {
            let Version(major, minor, patch) = api;
            format!(
                "its driver has no timeline semaphores (Vulkan 1.2, or VK_KHR_timeline_semaphore); it speaks Vulkan \
                 {major}.{minor}.{patch}: a newer driver may have them"
            )
        }),
    }
}

/// The device's memory at this moment. `has_budget`: it knows VK_EXT_memory_budget, which need not be switched on to be asked.
pub(super) fn heaps(instance: &Instance, physical: vk::PhysicalDevice, has_budget: bool) -> Vec<MemoryHeap> {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let memory = if has_budget {
        let mut all = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
        // SAFETY: `physical` is of `instance`; the device knows the structure that is chained, which lives in this function.
        unsafe { instance.get_physical_device_memory_properties2(physical, &mut all) };
        all.memory_properties
    } else {
        // SAFETY: as above.
        unsafe { instance.get_physical_device_memory_properties(physical) }
    };
    let figures = budget.heap_budget.iter().zip(&budget.heap_usage);
    memory
        .memory_heaps_as_slice()
        .iter()
        .zip(figures)
        .map(|(heap, (&budget, &usage))| MemoryHeap {
            bytes: heap.size,
            device_local: heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL),
            budget: has_budget.then_some((budget, usage)),
        })
        .collect()
}

/// The heap that tensors lie in: the largest of the device's own.
pub(super) fn own_heap(heaps: &[MemoryHeap]) -> Option<&MemoryHeap> {
    heaps.iter().min_by_key(|heap| Reverse((heap.device_local, heap.bytes)))
}

impl Found {
    /// Bytes of the longest slab, and the name of the limit that makes it so.
    pub(super) fn longest_slab(&self) -> (u64, &'static str) {
        let limits = [
            (self.max_memory_allocation_size, "maxMemoryAllocationSize"),
            (self.max_buffer_size, "maxBufferSize"),
            (
                own_heap(&self.heaps).map_or(0, |heap| heap.bytes),
                "the size of its memory heap",
            ),
        ];
        let (longest, name) = limits.into_iter().min_by_key(|(bytes, _)| *bytes).unwrap_or_default();
        (longest - longest % 4, name)
    }

    /// Bytes of the device's own memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        let own = self.heaps.iter().filter(|heap| heap.device_local);
        own.map(|heap| heap.bytes).sum()
    }

    pub(in crate::backend) fn into_info(self, ordinal: u32) -> DeviceInfo {
        let Version(major, minor, patch) = self.api;
        let heaps = self.heaps.into_iter().map(|heap| HeapInfo {
            bytes: heap.bytes,
            device_local: heap.device_local,
            budget: heap.budget,
        });
        DeviceInfo {
            device: Device::Vulkan(ordinal),
            name: self.name,
            kind: self.kind.name(),
            driver: format!("{} {}", self.driver, self.driver_version).trim().to_owned(),
            api: format!("Vulkan {major}.{minor}.{patch}"),
            uuid: self.uuid,
            heaps: heaps.collect(),
            max_allocation_bytes: self.max_memory_allocation_size,
            max_allocations: self.max_memory_allocation_count,
            max_kernel_bytes: self.max_storage_buffer_range,
            host_import_alignment: self.min_imported_host_pointer_alignment,
            unusable: self.unusable,
        }
    }
}
