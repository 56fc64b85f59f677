//! The Vulkan library, opened at run time, and the one instance of the process.
//!
//! Nothing is linked: a program that holds this starts where there is no Vulkan, and is told what is missing when it asks for a
//! device. What was made stays until the process ends (`mod.rs`, invariant 1).

use ash::vk::Handle;
use ash::{Entry, Instance, vk};

use crate::backend::life;
use crate::sync::global::OnceLock;

/// What the loader is called.
const LIBRARY: &str = "libvulkan.so.1";
/// Where drivers are listed, and how to get one.
pub(super) const ADVICE: &str = "install the driver of your graphics card, or a software device \
     (Debian, Ubuntu: apt install libvulkan1 mesa-vulkan-drivers)";

/// The newest version of Vulkan whose functions are called where a device has it.
pub(super) const VERSION: u32 = vk::API_VERSION_1_3;

/// Vulkan, ready to be asked.
pub(super) struct Vulkan {
    pub(super) instance: Instance,
    /// Owns the library: while this lives, every function of it can be called.
    pub(super) entry: Entry,
    /// In the driver's order, asked once: a device's number is its place in a list that is sorted from this.
    pub(super) physical: Vec<vk::PhysicalDevice>,
}

static VULKAN: OnceLock<Result<Vulkan, String>> = OnceLock::new();

/// Opens the library on first use.
///
/// # Errors
/// What was looked for, what was there, what to do; and why a process may not have it ([`life::enter`]).
pub(super) fn vulkan() -> Result<&'static Vulkan, String> {
    let _inside = life::enter()?;
    VULKAN.get_or_init(|| load(LIBRARY)).as_ref().map_err(Clone::clone)
}

/// The library's own instance, if there is one.
pub(super) fn instance() -> Option<u64> {
    let vulkan = VULKAN.get()?.as_ref().ok()?;
    Some(vulkan.instance.handle().as_raw())
}

/// Destroys the instance, if there is one.
///
/// # Safety
/// Nobody uses it, or anything of it, any more.
pub(super) unsafe fn close() {
    if let Some(Ok(vulkan)) = VULKAN.get() {
        // SAFETY: forwarded contract.
        unsafe { vulkan.instance.destroy_instance(None) };
    }
}

fn load(library: &str) -> Result<Vulkan, String> {
    // SAFETY: the loader's and the drivers' constructors are made to run in any program. The entry is kept for good (or dropped
    // here, with nothing made of it).
    let entry = unsafe { Entry::load_from(library) }
        .map_err(|error| format!("looked for the Vulkan loader, {library}: {error}; {ADVICE}"))?;
    // SAFETY: the call takes nothing.
    let version = unsafe { entry.try_enumerate_instance_version() };
    if !matches!(version, Ok(Some(version)) if version >= vk::API_VERSION_1_1) {
        return Err(format!(
            "the Vulkan loader {library} speaks Vulkan 1.0, and 1.1 is needed; {ADVICE}"
        ));
    }
    let instance = create(&entry).map_err(|code| match code {
        vk::Result::ERROR_INCOMPATIBLE_DRIVER => format!(
            "the Vulkan loader {library} is there, and found no driver (an ICD: a .json file in /usr/share/vulkan/icd.d, \
             /etc/vulkan/icd.d, or named by VK_DRIVER_FILES); {ADVICE}"
        ),
        code => format!("vkCreateInstance: {code}; {ADVICE}"),
    })?;
    // SAFETY: the instance lives, and the list is the bindings' own.
    let physical = unsafe { instance.enumerate_physical_devices() };
    life::watch_for_the_end();
    let physical = match physical {
        Ok(physical) => physical,
        Err(code) => {
            // SAFETY: nothing was made of the instance, and nobody else has it.
            unsafe { instance.destroy_instance(None) };
            return Err(format!("vkEnumeratePhysicalDevices: {code}; {ADVICE}"));
        }
    };
    Ok(Vulkan {
        instance,
        entry,
        physical,
    })
}

fn create(entry: &Entry) -> Result<Instance, vk::Result> {
    let program = vk::ApplicationInfo::default()
        .engine_name(c"neuro-memory")
        .api_version(VERSION);
    let info = vk::InstanceCreateInfo::default().application_info(&program);
    #[cfg(all(test, not(loom)))]
    return super::validation::create_instance(entry, info);
    // SAFETY: the description and what it points to live until the call returns; no allocator of ours is passed.
    #[cfg(not(all(test, not(loom))))]
    unsafe {
        entry.create_instance(&info, None)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_missing_loader_is_named_with_what_to_do() {
        let Err(words) = load("libvulkan-that-is-not-there.so.1") else {
            panic!("there is no such library")
        };
        for part in [
            "libvulkan-that-is-not-there.so.1",
            "apt install libvulkan1 mesa-vulkan-drivers",
        ] {
            assert!(words.contains(part), "{words}");
        }
    }
}
