//! Opening a device: which of its queues do what, and what is made once.

use ash::{Device, Instance, ext, khr, vk};
use std::collections::BTreeMap;

use super::discover::{Found, Version};
use super::queue::{Line, Lines, Real};
use super::slabs::Slabs;
use super::timeline::Timelines;
use crate::backend::raw::QueueLock;
use crate::backend::{OWN_QUEUES, Queue};

/// A real queue: its family, and its number there.
type Place = (u32, u32);

/// What is made of a device.
pub(super) struct Opened {
    pub(super) lines: Lines,
    pub(super) slabs: Slabs,
    /// Of the queue that kernels run on.
    pub(super) family: u32,
}

/// Which real queue does the work of each queue: kernels on the first family that can, copies on families that can do nothing else
/// (engines of their own, which work beside the kernels), else on the same queue as the kernels. `None`: it has no such queue.
fn places(families: &[vk::QueueFamilyProperties]) -> Option<[Place; OWN_QUEUES.len()]> {
    let numbered = || (0u32..).zip(families).filter(|(_, family)| family.queue_count > 0);
    let (compute, _) = numbered().find(|(_, family)| family.queue_flags.contains(vk::QueueFlags::COMPUTE))?;
    // Families for video can copy, too, and are not made for it.
    let plain = vk::QueueFlags::TRANSFER | vk::QueueFlags::SPARSE_BINDING | vk::QueueFlags::PROTECTED;
    let mut engines = numbered()
        .filter(|(_, family)| {
            family.queue_flags.contains(vk::QueueFlags::TRANSFER) && plain.contains(family.queue_flags)
        })
        .flat_map(|(number, family)| (0..family.queue_count).map(move |place| (number, place)));
    let compute = (compute, 0);
    let upload = engines.next().unwrap_or(compute);
    let download = engines.next().unwrap_or(upload);
    Some([compute, upload, download])
}

/// Makes the device, its queues, and what holds its memory.
///
/// # Errors
/// What the driver said, in words; nothing is left then.
pub(super) fn open(instance: &Instance, found: &Found) -> Result<Opened, String> {
    // SAFETY: the device is one that this instance listed; it lives for good.
    let families = unsafe { instance.get_physical_device_queue_family_properties(found.physical) };
    let places = places(&families).ok_or("it has no queue that computes")?;
    let device = create(instance, found, &places).map_err(|code| format!("vkCreateDevice: {code}"))?;
    let parts = Slabs::new(instance, &device, found, places.map(|(family, _)| family).into()).and_then(|slabs| {
        let real = |&(family, number): &Place| {
            // SAFETY: the device was made with these queues.
            Real::new(unsafe { device.get_device_queue(family, number) }, None)
        };
        let lines =
            lines(instance, &device, found, &places, real).map_err(|code| format!("a queue of the device: {code}"))?;
        Ok(Opened {
            lines,
            slabs,
            family: places[Queue::COMPUTE.index()].0,
        })
    });
    if parts.is_err() {
        // SAFETY: what was made of it is gone: `lines` leaves nothing, and there is no slab.
        unsafe { device.destroy_device(None) };
    }
    parts
}

/// Puts lines and memory on a device and the one queue that somebody else made.
///
/// # Errors
/// As [`open`]; the device is left as it was.
///
/// # Safety
/// The device and its queue are as [`adopt`](crate::backend::adopt) asks: they have timelines, and stay.
pub(super) unsafe fn join(
    instance: &Instance,
    device: &Device,
    found: &Found,
    family: u32,
    queue: vk::Queue,
    theirs: Option<Box<dyn QueueLock>>,
) -> Result<Opened, String> {
    let slabs = Slabs::new(instance, device, found, vec![family])?;
    let mut theirs = Some(theirs);
    let real = |_: &Place| Real::new(queue, theirs.take().flatten());
    let lines = lines(instance, device, found, &[(family, 0); OWN_QUEUES.len()], real)
        .map_err(|code| format!("a timeline semaphore or a command pool: {code}"))?;
    Ok(Opened { lines, slabs, family })
}

pub(super) fn is_core(found: &Found) -> bool {
    found.api >= Version(1, 2, 0)
}

fn create(instance: &Instance, found: &Found, places: &[Place]) -> Result<Device, vk::Result> {
    // How many queues of each family.
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for &(family, number) in places {
        let count = counts.entry(family).or_default();
        *count = (*count).max(number as usize + 1);
    }
    let priorities = [1.0; OWN_QUEUES.len()];
    let queues: Vec<_> = counts
        .iter()
        .map(|(&family, &count)| {
            vk::DeviceQueueCreateInfo::default()
                .queue_family_index(family)
                .queue_priorities(&priorities[..count.min(OWN_QUEUES.len())])
        })
        .collect();
    let mut extensions = Vec::new();
    if !is_core(found) {
        extensions.push(khr::timeline_semaphore::NAME.as_ptr());
    }
    if found.min_imported_host_pointer_alignment.is_some() {
        extensions.push(ext::external_memory_host::NAME.as_ptr());
    }
    if found.has_memory_fds {
        extensions.push(khr::external_memory_fd::NAME.as_ptr());
    }
    let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
    let info = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_extension_names(&extensions)
        .push_next(&mut timelines);
    // SAFETY: the families have as many queues; the device has timelines, in its core or as the extension, or `found` would say
    // that it cannot be used. The description lives until the call returns.
    unsafe { instance.create_device(found.physical, &info, None) }
}

fn lines(
    instance: &Instance,
    device: &Device,
    found: &Found,
    places: &[Place; OWN_QUEUES.len()],
    real: impl FnMut(&Place) -> Real,
) -> Result<Lines, vk::Result> {
    let mut different: Vec<Place> = places.to_vec();
    different.dedup(); // equal ones are neighbours: see `places`
    let mut made: Vec<Line> = Vec::new();
    for place in places {
        let real = different.iter().position(|other| other == place).unwrap_or(0);
        // SAFETY: the device was just made with timelines, and with queues of these families.
        match unsafe { Line::new(device, place.0, real) } {
            Ok(line) => made.push(line),
            Err(code) => {
                // SAFETY: of this device, and never used.
                made.iter().for_each(|line| unsafe { line.destroy(device) });
                return Err(code);
            }
        }
    }
    let reals = different.iter().map(real).collect();
    let lines = made.try_into().map_err(|_: Vec<Line>| vk::Result::ERROR_UNKNOWN)?;
    Ok(Lines {
        device: device.clone(),
        timelines: Timelines::new(instance, device, is_core(found)),
        reals,
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(flags: vk::QueueFlags, count: u32) -> vk::QueueFamilyProperties {
        vk::QueueFamilyProperties::default()
            .queue_flags(flags)
            .queue_count(count)
    }

    #[test]
    fn copies_have_engines_of_their_own_where_there_are_some() {
        let all = vk::QueueFlags::GRAPHICS | vk::QueueFlags::COMPUTE | vk::QueueFlags::TRANSFER;
        let (compute, transfer) = (
            vk::QueueFlags::COMPUTE | vk::QueueFlags::TRANSFER,
            vk::QueueFlags::TRANSFER,
        );
        let video = vk::QueueFlags::VIDEO_DECODE_KHR | transfer;
        assert_eq!(places(&[family(all, 1)]), Some([(0, 0); 3]), "one queue for all");
        let many = [
            family(all, 16),
            family(video, 1),
            family(transfer, 2),
            family(compute, 8),
        ];
        assert_eq!(places(&many), Some([(0, 0), (2, 0), (2, 1)]));
        let one_engine = [family(transfer, 1), family(compute, 1)];
        assert_eq!(places(&one_engine), Some([(1, 0), (0, 0), (0, 0)]));
        let two_families = [family(compute, 1), family(transfer, 1), family(transfer, 1)];
        assert_eq!(places(&two_families), Some([(0, 0), (1, 0), (2, 0)]));
        assert_eq!(places(&[family(transfer, 1), family(all, 0)]), None);
    }
}
