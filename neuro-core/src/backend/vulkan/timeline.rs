//! Timeline semaphores: a number that a queue raises when work is done, and that the host and other queues wait for.
//!
//! They are part of Vulkan 1.2 and an extension before that, and the functions have other names there.

use ash::{Device, Instance, khr, vk};

use crate::backend::life;

/// Nanoseconds after which a wait looks whether the process is ending.
const SLICE: u64 = 50_000_000;

/// The functions of a device that read and wait for timelines.
pub(super) enum Timelines {
    Core(Box<Device>),
    Extension(khr::timeline_semaphore::Device),
}

impl Timelines {
    /// `core`: the device has Vulkan 1.2; else it was made with the extension.
    pub(super) fn new(instance: &Instance, device: &Device, core: bool) -> Self {
        if core {
            Timelines::Core(Box::new(device.clone()))
        } else {
            Timelines::Extension(khr::timeline_semaphore::Device::new(instance, device))
        }
    }

    /// How far a timeline is.
    ///
    /// # Safety
    /// The semaphore is a timeline of this device, and both live.
    pub(super) unsafe fn value(&self, semaphore: vk::Semaphore) -> Result<u64, vk::Result> {
        // SAFETY: forwarded contract; the functions were loaded for this device.
        unsafe {
            match self {
                Timelines::Core(device) => device.get_semaphore_counter_value(semaphore),
                Timelines::Extension(device) => device.get_semaphore_counter_value(semaphore),
            }
        }
    }

    /// Waits, as long as it takes, until a timeline is at `value`.
    ///
    /// # Safety
    /// As [`value`](Self::value).
    pub(super) unsafe fn wait(&self, semaphore: vk::Semaphore, value: u64) -> Result<(), vk::Result> {
        let (semaphores, values) = ([semaphore], [value]);
        let info = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
        loop {
            // SAFETY: forwarded contract; the description lives until the call returns.
            let waited = unsafe {
                match self {
                    Timelines::Core(device) => device.wait_semaphores(&info, SLICE),
                    Timelines::Extension(device) => device.wait_semaphores(&info, SLICE),
                }
            };
            if waited != Err(vk::Result::TIMEOUT) {
                return waited;
            }
            // The end of the process waits for this thread.
            if life::is_ending() {
                return Err(vk::Result::ERROR_DEVICE_LOST);
            }
        }
    }
}

/// A new timeline, at 0.
///
/// # Errors
/// What the driver said.
///
/// # Safety
/// The device lives and was made with timelines.
pub(super) unsafe fn create(device: &Device) -> Result<vk::Semaphore, vk::Result> {
    let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
    let info = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
    // SAFETY: forwarded contract; the description lives until the call returns.
    unsafe { device.create_semaphore(&info, None) }
}
