//! Devices that the program opened itself: pools and tensors on them, beside its own work on the same queue.

use std::sync::Arc;

use ash::vk::Handle;
use ash::{Entry, Instance, vk};

use super::raw::{back, double, doubler, numbers, times};
use super::{Watched, watched};
use crate::backend::raw::RawVulkan;
use crate::backend::vulkan::{VulkanDevice, validation};
use crate::backend::{Backend, contract};
use crate::sync::global::{AtomicBool, AtomicUsize, Ordering};
use crate::vulkan::{self, Adopt, GetInstanceProcAddr, QueueLock};
use crate::{Device, Error, MemoryPool};

/// What a program has that opened a device itself. It stays until the process ends.
pub(super) struct Own {
    entry: Entry,
    instance: Instance,
    physical: vk::PhysicalDevice,
    family: u32,
    device: ash::Device,
    queue: vk::Queue,
}

/// A device that has what is needed, for this version of Vulkan.
fn open(api: u32) -> Own {
    open_with(api, &[])
}

/// The same with more extensions.
pub(super) fn open_with(api: u32, more: &[&std::ffi::CStr]) -> Own {
    let program = vk::ApplicationInfo::default().api_version(api);
    let info = vk::InstanceCreateInfo::default().application_info(&program);
    // SAFETY: descriptions live in this function, and handles until the process ends.
    unsafe {
        let entry = Entry::load_from("libvulkan.so.1").unwrap();
        let instance = validation::create_instance(&entry, info).unwrap();
        let physical = instance.enumerate_physical_devices().unwrap()[0];
        let families = instance.get_physical_device_queue_family_properties(physical);
        let computes = |family: &vk::QueueFamilyProperties| family.queue_flags.contains(vk::QueueFlags::COMPUTE);
        let family = families.iter().position(computes).unwrap() as u32;
        let queues = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(family)
            .queue_priorities(&[1.0])];
        let mut extensions: Vec<_> = more.iter().map(|name| name.as_ptr()).collect();
        if api < vk::API_VERSION_1_2 {
            extensions.push(ash::khr::timeline_semaphore::NAME.as_ptr());
        }
        let mut timelines = vk::PhysicalDeviceTimelineSemaphoreFeatures::default().timeline_semaphore(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .push_next(&mut timelines);
        let device = instance.create_device(physical, &info, None).unwrap();
        let queue = device.get_device_queue(family, 0);
        Own {
            entry,
            instance,
            physical,
            family,
            device,
            queue,
        }
    }
}

impl Own {
    pub(super) fn to_adopt(&self, api_version: u32, lock: Option<Box<dyn QueueLock>>) -> Adopt {
        Adopt {
            // SAFETY: two names for the type of one function.
            get_instance_proc_addr: unsafe {
                std::mem::transmute::<vk::PFN_vkGetInstanceProcAddr, GetInstanceProcAddr>(
                    self.entry.static_fn().get_instance_proc_addr,
                )
            },
            instance: self.instance.handle().as_raw(),
            physical_device: self.physical.as_raw(),
            device: self.device.handle().as_raw(),
            queue: self.queue.as_raw(),
            queue_family: self.family,
            api_version,
            lock,
        }
    }
}

/// Hands a device over, or finds out why not.
pub(super) fn adopt(what: Adopt) -> Result<Device, Error> {
    // SAFETY: the handles stay, and are what they are called, or wrong in a way that is looked for.
    unsafe { vulkan::adopt(what) }
}

/// An engine's own lock, which says whether two had it.
#[derive(Default)]
struct Spin {
    held: AtomicBool,
    taken: AtomicUsize,
}

impl QueueLock for Arc<Spin> {
    fn lock(&self) {
        while self.held.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn unlock(&self) {
        self.held.store(false, Ordering::Release);
    }
}

/// The layer finds two threads that use a queue at once.
#[test]
fn a_device_of_the_program_is_shared_with_it() {
    watched(|_| {
        let (own, spin) = (open(vk::API_VERSION_1_2), Arc::new(Spin::default()));
        let device = adopt(own.to_adopt(vk::API_VERSION_1_2, Some(Box::new(Arc::clone(&spin))))).unwrap();
        assert!(matches!(device, Device::Vulkan(1000..)), "{device}");
        assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        let handles = vulkan::handles(device).unwrap();
        let own_handles = [
            own.instance.handle().as_raw(),
            own.device.handle().as_raw(),
            own.queue.as_raw(),
        ];
        assert_eq!([handles.instance, handles.device, handles.queue], own_handles);
        assert_eq!(handles.api_version, vk::API_VERSION_1_2);
        // Handed over again it has the same name, also without the lock; with another queue it is refused.
        assert_eq!(adopt(own.to_adopt(vk::API_VERSION_1_2, None)).unwrap(), device);
        let mut other = own.to_adopt(vk::API_VERSION_1_2, None);
        other.queue += 8;
        let text = adopt(other).unwrap_err().to_string();
        assert!(text.contains("is known already"), "{text}");

        let before = spin.taken.load(Ordering::Relaxed);
        let pool = MemoryPool::new_gpu(device, 8 << 20).unwrap();
        let (host, plain) = numbers(10_000, 2.0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let engine = scope.spawn(|| {
                let mut frames = 0;
                while !done.load(Ordering::Relaxed) || frames == 0 {
                    spin.lock();
                    // SAFETY: this thread has the queue; an empty submission uses nothing.
                    unsafe { own.device.queue_submit(own.queue, &[], vk::Fence::null()) }.unwrap();
                    spin.unlock();
                    frames += 1;
                    std::thread::yield_now();
                }
            });
            let doubler = doubler(device);
            for _ in 0..20 {
                let tensor = host.to_pool(&pool).unwrap();
                double(&doubler, &tensor);
                let copy = tensor.to_pool(&pool).unwrap();
                double(&doubler, &copy);
                assert_eq!(back(&copy), times(&plain, 4.0));
            }
            done.store(true, Ordering::Relaxed);
            engine.join().unwrap();
        });
        assert!(spin.taken.load(Ordering::Relaxed) > before + 60);
        let elsewhere = MemoryPool::new_gpu(Device::Vulkan(0), 1 << 20).unwrap();
        let moved = host.to_pool(&pool).unwrap().to_pool(&elsewhere).unwrap();
        assert_eq!((moved.device(), back(&moved)), (Device::Vulkan(0), plain));
    });
}

/// The contract of all backends, also where timelines are an extension.
#[test]
fn a_device_of_the_program_keeps_the_rules() {
    watched(|_| {
        for api in [vk::API_VERSION_1_1, vk::API_VERSION_1_3] {
            let Ok(Device::Vulkan(ordinal)) = adopt(open(api).to_adopt(api, None)) else {
                panic!("version {api:#x} was not adopted")
            };
            let device: &dyn Backend = VulkanDevice::open(ordinal).unwrap();
            contract::b1_work_of_a_queue_is_done_in_order(device);
            contract::b2_waits_order_queues(device);
            contract::b3_done_never_goes_back(device);
            contract::b4_what_work_wrote_is_seen(device);
            contract::b5_what_the_host_wrote_is_seen(device);
            contract::b7_slabs_are_apart_and_can_be_freed(device);
            contract::b9_from_many_threads(device);
        }
    });
}

#[test]
fn what_cannot_be_adopted_is_told_why() {
    let Some(Watched(listed)) = Watched::get() else { return };
    let own = open(vk::API_VERSION_1_2);
    let refused = |change: &dyn Fn(&mut Adopt), part: &str| {
        let mut what = own.to_adopt(vk::API_VERSION_1_2, None);
        change(&mut what);
        let error = adopt(what).unwrap_err();
        assert!(
            matches!(error, Error::InvalidArgument { .. }) && error.to_string().contains(part),
            "{error}"
        );
    };
    refused(&|what| what.instance = 0, "instance is 0");
    refused(&|what| what.physical_device = 0, "physical_device is 0");
    refused(&|what| what.device = 0, "device is 0");
    refused(&|what| what.queue = 0, "queue is 0");
    refused(&|what| what.queue_family = 77, "queue_family 77");
    refused(&|what| what.api_version = vk::API_VERSION_1_0, "Vulkan 1.1 at least");
    refused(
        &|what| what.physical_device = listed.handles().physical_device,
        "is none of the",
    );
    // A version that the instance speaks, and a device that was not made with the extension that this version needs.
    let error = adopt(own.to_adopt(vk::API_VERSION_1_1, None)).map(|device| device.to_string());
    assert!(matches!(&error, Err(Error::Unavailable { .. })), "{error:?}");
    // Functions that are not there.
    unsafe extern "system" fn nothing(
        _: *mut std::ffi::c_void,
        _: *const std::ffi::c_char,
    ) -> Option<unsafe extern "system" fn()> {
        None
    }
    let mut what = own.to_adopt(vk::API_VERSION_1_2, None);
    what.get_instance_proc_addr = nothing;
    let text = adopt(what).unwrap_err().to_string();
    assert!(
        text.contains("vkGetDeviceProcAddr is not among the functions"),
        "{text}"
    );
    let text = MemoryPool::new_gpu(Device::Vulkan(u32::MAX), 1 << 20)
        .unwrap_err()
        .to_string();
    assert!(text.contains("from 1000 on"), "{text}");
}
