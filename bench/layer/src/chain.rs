//! How the loader calls a layer, and where its calls go on (`vk_layer.h`, which is not part of Vulkan's registry).
//!
//! Instances, physical devices and queues begin with the address of what the loader calls them by; so do devices. That address is
//! the key of a [`Next`]: what stands behind this layer.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use ash::vk::{self, Handle};

use crate::apart::Shown;
use crate::calls;

type GetPhysicalDeviceProcAddr = vk::PFN_vkGetInstanceProcAddr;

#[repr(C)]
struct InstanceLink {
    next: *mut InstanceLink,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_physical_device_proc_addr: Option<GetPhysicalDeviceProcAddr>,
}

#[repr(C)]
struct DeviceLink {
    next: *mut DeviceLink,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
}

/// What a loader chains to the description of an instance or device; `link` where `function` is [`LINK`].
#[repr(C)]
struct CreateInfo<Link> {
    kind: vk::StructureType,
    next: *const c_void,
    function: i32,
    link: *mut Link,
}

const LINK: i32 = 0;

/// What the loader and the layer agree about.
#[repr(C)]
pub struct Negotiation {
    kind: i32,
    next: *mut c_void,
    version: u32,
    get_instance_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
    get_device_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
    get_physical_device_proc_addr: Option<GetPhysicalDeviceProcAddr>,
}

const INTERFACE: u32 = 2;

/// What stands behind this layer.
#[derive(Clone)]
pub(crate) enum Next {
    Instance {
        handle: vk::Instance,
        get: vk::PFN_vkGetInstanceProcAddr,
        /// Asked for at once: later the loader answers with the front of the whole chain, which this layer is part of.
        memory: Memory,
    },
    Device {
        handle: vk::Device,
        get: vk::PFN_vkGetDeviceProcAddr,
        shown: Box<Shown>,
    },
}

/// Calls about a device's memory.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) properties: Option<vk::PFN_vkGetPhysicalDeviceMemoryProperties>,
    pub(crate) properties_2: Option<vk::PFN_vkGetPhysicalDeviceMemoryProperties2>,
}

static NEXT: LazyLock<Mutex<HashMap<usize, Next>>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, HashMap<usize, Next>> {
    NEXT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Safety
/// A live instance, physical device or device.
unsafe fn key(handle: impl Handle) -> usize {
    // SAFETY: says the loader's contract with layers: such a handle is the address of an object that begins with its key.
    unsafe { *(handle.as_raw() as *const usize) }
}

impl Next {
    /// # Safety
    /// As [`key`].
    pub(crate) unsafe fn of(handle: impl Handle) -> Option<Self> {
        // SAFETY: forwarded contract.
        table().get(&unsafe { key(handle) }).cloned()
    }

    /// The call `name` behind this layer.
    ///
    /// # Safety
    /// `Call` is the type of that call, and what it is of lives.
    pub(crate) unsafe fn call<Call: Copy>(&self, name: &CStr) -> Option<Call> {
        assert_eq!(size_of::<Call>(), size_of::<usize>(), "a pointer to a function");
        // SAFETY: forwarded contract: the pointer is of a function of this type.
        unsafe {
            let found = match *self {
                Next::Instance { handle, get, .. } => get(handle, name.as_ptr()),
                Next::Device { handle, get, .. } => get(handle, name.as_ptr()),
            };
            found.map(|found| std::mem::transmute_copy(&found))
        }
    }
}

/// The loader's own part of a chain.
///
/// # Safety
/// `chain` is a chain of descriptions that live, as Vulkan has them.
unsafe fn link_of<Link>(mut chain: *const c_void, kind: vk::StructureType) -> Option<*mut CreateInfo<Link>> {
    while !chain.is_null() {
        // SAFETY: every description begins like this one; `kind` says that it is one.
        unsafe {
            let info = chain.cast::<CreateInfo<Link>>();
            if (*info).kind == kind && (*info).function == LINK {
                return Some(info.cast_mut());
            }
            chain = (*info).next;
        }
    }
    None
}

/// # Safety
/// Called by the loader, as it calls layers.
unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    // SAFETY: forwarded contract. The link is taken out of the chain's front, as each layer does; the pointer that is asked for
    // has the type of its call.
    unsafe {
        let Some(link) = link_of::<InstanceLink>((*info).p_next, vk::StructureType::LOADER_INSTANCE_CREATE_INFO) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let get = (*(*link).link).get_instance_proc_addr;
        (*link).link = (*(*link).link).next;
        let Some(create) = get(vk::Instance::null(), c"vkCreateInstance".as_ptr()) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let create: vk::PFN_vkCreateInstance = std::mem::transmute(create);
        let made = create(info, callbacks, instance);
        if made == vk::Result::SUCCESS {
            let handle = *instance;
            let memory = Memory {
                properties: std::mem::transmute::<
                    vk::PFN_vkVoidFunction,
                    Option<vk::PFN_vkGetPhysicalDeviceMemoryProperties>,
                >(get(handle, c"vkGetPhysicalDeviceMemoryProperties".as_ptr())),
                properties_2: std::mem::transmute::<
                    vk::PFN_vkVoidFunction,
                    Option<vk::PFN_vkGetPhysicalDeviceMemoryProperties2>,
                >(get(handle, c"vkGetPhysicalDeviceMemoryProperties2".as_ptr())),
            };
            table().insert(key(handle), Next::Instance { handle, get, memory });
        }
        made
    }
}

/// # Safety
/// As [`create_instance`].
unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    // SAFETY: as in `create_instance`.
    unsafe {
        let found = link_of::<DeviceLink>((*info).p_next, vk::StructureType::LOADER_DEVICE_CREATE_INFO);
        let (Some(link), Some(instance)) = (found, Next::of(physical)) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let (of_instances, get) = (
            (*(*link).link).get_instance_proc_addr,
            (*(*link).link).get_device_proc_addr,
        );
        (*link).link = (*(*link).link).next;
        let Next::Instance { handle, memory, .. } = instance else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let Some(create) = of_instances(handle, c"vkCreateDevice".as_ptr()) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let create: vk::PFN_vkCreateDevice = std::mem::transmute(create);
        let made = create(physical, info, callbacks, device);
        if made == vk::Result::SUCCESS {
            let handle = *device;
            let shown = Box::new(calls::shown(memory, physical));
            table().insert(key(handle), Next::Device { handle, get, shown });
        }
        made
    }
}

/// # Safety
/// As [`create_instance`].
unsafe extern "system" fn get_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: forwarded contract: a name that ends with a zero; each pointer is one to a function, whose type the name tells.
    unsafe {
        let ours: *const () = match CStr::from_ptr(name).to_bytes() {
            b"vkGetInstanceProcAddr" => get_instance_proc_addr as *const (),
            b"vkCreateInstance" => create_instance as *const (),
            b"vkCreateDevice" => create_device as *const (),
            other => match calls::of_instance(other) {
                Some(call) => call,
                None if instance == vk::Instance::null() => return None,
                None => return Next::of(instance)?.call(CStr::from_ptr(name)),
            },
        };
        std::mem::transmute::<*const (), vk::PFN_vkVoidFunction>(ours)
    }
}

/// # Safety
/// As [`create_instance`].
pub(crate) unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: as in `get_instance_proc_addr`.
    unsafe {
        let next = Next::of(device)?.call(CStr::from_ptr(name))?;
        // What is not behind this layer is not in front of it.
        let ours = calls::of_device(CStr::from_ptr(name).to_bytes());
        match ours {
            Some(call) => std::mem::transmute::<*const (), vk::PFN_vkVoidFunction>(call),
            None => Some(next),
        }
    }
}

/// Where the loader begins.
///
/// # Safety
/// Called by the loader, with a description of its own.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(negotiation: *mut Negotiation) -> vk::Result {
    // SAFETY: forwarded contract.
    let negotiation = unsafe { &mut *negotiation };
    if negotiation.version < INTERFACE {
        return vk::Result::ERROR_INITIALIZATION_FAILED;
    }
    negotiation.version = INTERFACE;
    negotiation.get_instance_proc_addr = Some(get_instance_proc_addr);
    negotiation.get_device_proc_addr = Some(get_device_proc_addr);
    negotiation.get_physical_device_proc_addr = None;
    vk::Result::SUCCESS
}
