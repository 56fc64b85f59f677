//! What there is: the devices of this machine, for whoever wants to know before he chooses.

use crate::device::Device;

/// A device that was found, and what its driver says of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What it is called here.
    pub device: Device,
    /// The driver's name for it.
    pub name: String,
    /// "discrete", "integrated", "virtual", "software" or "other".
    pub kind: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// Version of the interface.
    pub api: String,
    /// The same in every interface that shows the device.
    pub uuid: [u8; 16],
    /// Its memory, piece by piece.
    pub heaps: Vec<HeapInfo>,
    /// Longest piece of memory that it gives, in bytes.
    pub max_allocation_bytes: u64,
    /// How many pieces it gives at once.
    pub max_allocations: u64,
    /// How many bytes of a buffer a kernel sees at once.
    pub max_kernel_bytes: u64,
    /// What host memory begins on that it can use where it lies, in bytes; `None` if it cannot.
    pub host_import_alignment: Option<u64>,
    /// Why it cannot be used, if it cannot.
    pub unusable: Option<String>,
}

/// A piece of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapInfo {
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is the device's own, or the host's that it reaches.
    pub device_local: bool,
    /// Bytes that this process can expect to get, and those it has, where the driver says so.
    pub budget: Option<(u64, u64)>,
}

/// What [`devices`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Discovery {
    /// The devices beside the CPU, in the order of their ordinals.
    pub devices: Vec<DeviceInfo>,
    /// What was looked for and is not there, by its name, and how to get it.
    pub missing: Vec<(&'static str, String)>,
}

/// The devices of this machine, beside the CPU. Loads the drivers, the first time.
///
/// # Examples
/// ```
/// let found = neuro_core::devices();
/// for device in &found.devices {
///     println!("{}: {}", device.device, device.name);
/// }
/// for (what, why) in &found.missing {
///     println!("no {what}: {why}");
/// }
/// ```
pub fn devices() -> Discovery {
    let mut found = Discovery::default();
    #[cfg(feature = "cuda")]
    match super::cuda::devices() {
        Ok(all) => found.devices.extend(all),
        Err(why) => found.missing.push(("cuda", why)),
    }
    #[cfg(not(feature = "cuda"))]
    found
        .missing
        .push(("cuda", "the library was built without it".to_owned()));
    #[cfg(feature = "vulkan")]
    match super::vulkan::devices() {
        Ok(all) if all.is_empty() => found.missing.push((
            "vulkan",
            "the Vulkan loader has drivers, and none of them shows a device; install the driver of your graphics card, or a \
             software device (Debian, Ubuntu: apt install mesa-vulkan-drivers)"
                .to_owned(),
        )),
        Ok(all) => {
            let infos = all
                .into_iter()
                .zip(0..)
                .map(|(device, ordinal)| device.into_info(ordinal));
            found.devices.extend(infos);
        }
        Err(why) => found.missing.push(("vulkan", why)),
    }
    #[cfg(not(feature = "vulkan"))]
    found
        .missing
        .push(("vulkan", "the library was built without it".to_owned()));
    found
}
