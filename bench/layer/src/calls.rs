//! The calls that the layer stands in.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{LazyLock, Mutex, PoisonError};

use ash::vk;

use crate::apart::Shown;
use crate::chain::{Memory, Next, get_device_proc_addr};

static APART: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("NEURO_BENCH_APART").is_some_and(|value| value == "1"));

static CALLS: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
    let path = std::env::var_os("NEURO_BENCH_CALLS")?;
    let file = OpenOptions::new().create(true).append(true).open(path);
    Some(Mutex::new(file.expect("the list of calls can be written")))
});

/// Writes a line down.
fn note(line: &str) {
    if let Some(file) = CALLS.as_ref() {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())
            .expect("the list of calls can be written");
    }
}

/// Ours of an instance, by name.
pub(crate) fn of_instance(name: &[u8]) -> Option<*const ()> {
    Some(match name {
        b"vkGetDeviceProcAddr" => get_device_proc_addr as *const (),
        b"vkGetPhysicalDeviceMemoryProperties" => memory_properties as *const (),
        b"vkGetPhysicalDeviceMemoryProperties2" | b"vkGetPhysicalDeviceMemoryProperties2KHR" => {
            memory_properties_2 as *const ()
        }
        other => return of_device(other),
    })
}

/// Ours of a device, by name.
pub(crate) fn of_device(name: &[u8]) -> Option<*const ()> {
    Some(match name {
        b"vkGetDeviceProcAddr" => get_device_proc_addr as *const (),
        b"vkAllocateMemory" => allocate_memory as *const (),
        b"vkFreeMemory" => free_memory as *const (),
        b"vkGetBufferMemoryRequirements" => buffer_requirements as *const (),
        b"vkGetBufferMemoryRequirements2" | b"vkGetBufferMemoryRequirements2KHR" => buffer_requirements_2 as *const (),
        b"vkGetMemoryHostPointerPropertiesEXT" => host_pointer_properties as *const (),
        _ => return None,
    })
}

/// What is shown of a device's memory.
///
/// # Safety
/// `calls` are those of the instance behind the layer, and `physical` is a device of it.
pub(crate) unsafe fn shown(calls: Memory, physical: vk::PhysicalDevice) -> Shown {
    let mut memory = vk::PhysicalDeviceMemoryProperties::default();
    if let Some(call) = calls.properties {
        // SAFETY: forwarded contract.
        unsafe { call(physical, &mut memory) };
    }
    Shown::of(&memory, *APART)
}

/// # Safety
/// As Vulkan has it; so do all that follow.
unsafe extern "system" fn memory_properties(
    physical: vk::PhysicalDevice,
    memory: *mut vk::PhysicalDeviceMemoryProperties,
) {
    // SAFETY: forwarded contract.
    unsafe {
        if let Some(Next::Instance { memory: calls, .. }) = Next::of(physical) {
            *memory = shown(calls, physical).memory;
        }
    }
}

unsafe extern "system" fn memory_properties_2(
    physical: vk::PhysicalDevice,
    memory: *mut vk::PhysicalDeviceMemoryProperties2<'_>,
) {
    // SAFETY: forwarded contract; the chain is one of descriptions that live, each of which says what it is.
    unsafe {
        let Some(Next::Instance { memory: calls, .. }) = Next::of(physical) else {
            return;
        };
        let Some(call) = calls.properties_2 else { return };
        call(physical, memory);
        let real = (*memory).memory_properties;
        (*memory).memory_properties = Shown::of(&real, *APART).memory;
        let heaps = real.memory_heap_count as usize;
        if (*memory).memory_properties.memory_heap_count as usize == heaps {
            return;
        }
        let mut chain: *mut c_void = (*memory).p_next;
        while !chain.is_null() {
            let head = chain.cast::<vk::BaseOutStructure<'_>>();
            if (*head).s_type == vk::StructureType::PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT {
                let budget = &mut *chain.cast::<vk::PhysicalDeviceMemoryBudgetPropertiesEXT<'_>>();
                budget.heap_budget.copy_within(..heaps, heaps);
                budget.heap_usage.copy_within(..heaps, heaps);
            }
            chain = (*head).p_next.cast();
        }
    }
}

unsafe extern "system" fn allocate_memory(
    device: vk::Device,
    info: *const vk::MemoryAllocateInfo<'_>,
    callbacks: *const vk::AllocationCallbacks<'_>,
    memory: *mut vk::DeviceMemory,
) -> vk::Result {
    // SAFETY: forwarded contract; the kind is the driver's that the shown one stands for.
    unsafe {
        let Some(next @ Next::Device { .. }) = Next::of(device) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let Some(call) = next.call::<vk::PFN_vkAllocateMemory>(c"vkAllocateMemory") else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let mut info = *info;
        if let Next::Device { shown, .. } = &next {
            info.memory_type_index = shown.real(info.memory_type_index);
        }
        note(&format!("allocate {}\n", info.allocation_size));
        call(device, &info, callbacks, memory)
    }
}

unsafe extern "system" fn free_memory(
    device: vk::Device,
    memory: vk::DeviceMemory,
    callbacks: *const vk::AllocationCallbacks<'_>,
) {
    // SAFETY: forwarded contract.
    unsafe {
        if let Some(call) = Next::of(device).and_then(|next| next.call::<vk::PFN_vkFreeMemory>(c"vkFreeMemory")) {
            note("free\n");
            call(device, memory, callbacks);
        }
    }
}

unsafe extern "system" fn buffer_requirements(
    device: vk::Device,
    buffer: vk::Buffer,
    requirements: *mut vk::MemoryRequirements,
) {
    // SAFETY: forwarded contract.
    unsafe {
        let Some(next) = Next::of(device) else { return };
        let call = next.call::<vk::PFN_vkGetBufferMemoryRequirements>(c"vkGetBufferMemoryRequirements");
        if let (Some(call), Next::Device { shown, .. }) = (call, &next) {
            call(device, buffer, requirements);
            (*requirements).memory_type_bits = shown.bits((*requirements).memory_type_bits);
        }
    }
}

unsafe extern "system" fn buffer_requirements_2(
    device: vk::Device,
    info: *const vk::BufferMemoryRequirementsInfo2<'_>,
    requirements: *mut vk::MemoryRequirements2<'_>,
) {
    // SAFETY: forwarded contract.
    unsafe {
        let Some(next) = Next::of(device) else { return };
        let call = next.call::<vk::PFN_vkGetBufferMemoryRequirements2>(c"vkGetBufferMemoryRequirements2");
        if let (Some(call), Next::Device { shown, .. }) = (call, &next) {
            call(device, info, requirements);
            let bits = &mut (*requirements).memory_requirements.memory_type_bits;
            *bits = shown.bits(*bits);
        }
    }
}

unsafe extern "system" fn host_pointer_properties(
    device: vk::Device,
    kind: vk::ExternalMemoryHandleTypeFlags,
    pointer: *const c_void,
    properties: *mut vk::MemoryHostPointerPropertiesEXT<'_>,
) -> vk::Result {
    // SAFETY: forwarded contract.
    unsafe {
        let Some(next) = Next::of(device) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let call = next.call::<vk::PFN_vkGetMemoryHostPointerPropertiesEXT>(c"vkGetMemoryHostPointerPropertiesEXT");
        let (Some(call), Next::Device { shown, .. }) = (call, &next) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let result = call(device, kind, pointer, properties);
        (*properties).memory_type_bits = shown.host_bits((*properties).memory_type_bits);
        result
    }
}
