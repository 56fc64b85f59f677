//! Vulkan's own names for what tensors lie in: for shaders of the caller on tensors of a pool, and for a device of the caller.

use std::ffi::{c_char, c_void};
use std::ptr;

use neuro_core::Error;
use neuro_core::vulkan::{self, Adopt, GetInstanceProcAddr, QueueLock, QueueTurn};

use crate::access;
use crate::device::neuro_device_t;
use crate::guard;
use crate::status::{Failure, neuro_status_t};
use crate::structs::{self, SizedStruct};
use crate::tensor::neuro_tensor_t;

/// `PFN_vkGetInstanceProcAddr`: cast it to that, or from it. `instance` is a `VkInstance`.
pub type neuro_vulkan_get_instance_proc_addr_t =
    Option<unsafe extern "C" fn(instance: *mut c_void, name: *const c_char) -> Option<unsafe extern "C" fn()>>;

/// What Vulkan calls a device that is open. Handles are numbers here: cast them, as in
/// `(VkDevice)(uintptr_t)handles.device`. They stay valid until the process ends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_vulkan_handles_t {
    /// `sizeof(neuro_vulkan_handles_t)`.
    pub struct_size: usize,
    /// All functions of Vulkan, by name: nothing has to be linked.
    pub get_instance_proc_addr: neuro_vulkan_get_instance_proc_addr_t,
    /// `VkInstance`.
    pub instance: u64,
    /// `VkPhysicalDevice`.
    pub physical_device: u64,
    /// `VkDevice`.
    pub device: u64,
    /// `VkQueue` that kernels run on. Only used inside `neuro_vulkan_with_queue`.
    pub queue: u64,
    /// Family of that queue.
    pub queue_family: u32,
    /// The version whose functions can be called, packed as `VK_MAKE_API_VERSION` does.
    pub api_version: u32,
    /// `maxStorageBufferRange`: how many bytes of a buffer a shader sees through one binding.
    pub max_range: u64,
}

// SAFETY: repr(C), integers and a nullable pointer without padding, `struct_size` first.
unsafe impl SizedStruct for neuro_vulkan_handles_t {}

/// Where a tensor lies.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_vulkan_buffer_t {
    /// `sizeof(neuro_vulkan_buffer_t)`.
    pub struct_size: usize,
    /// `VkBuffer`, which others share: a storage buffer, and source and target of copies. Valid as long as a tensor shares the
    /// storage, and work is under way that was handed over with it by `neuro_vulkan_with_queue`.
    pub buffer: u64,
    /// Bytes from its start to the first element. For a whole tensor, not a view of a part, a multiple of what offsets of
    /// bindings have to be multiples of on this device (`minStorageBufferOffsetAlignment`).
    pub offset: u64,
    /// Bytes from there to the end of the last element.
    pub bytes: u64,
    /// How many bytes a shader sees through one binding. Where `bytes` is more, bind one range after the other. Never bind
    /// `VK_WHOLE_SIZE`: the buffer is longer than the tensor.
    pub max_range: u64,
}

// SAFETY: repr(C), integers of 64 bits, `struct_size` first.
unsafe impl SizedStruct for neuro_vulkan_buffer_t {}

/// A timeline semaphore, and a value of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_vulkan_semaphore_value_t {
    /// `VkSemaphore`.
    pub semaphore: u64,
    /// What it counts up to.
    pub value: u64,
}

/// The queue of a device, which nobody else uses meanwhile, and how one submission to it is ordered.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_vulkan_turn_t {
    /// Bytes of this struct, as the library knows it.
    pub struct_size: usize,
    /// `VkQueue`.
    pub queue: u64,
    /// Its family.
    pub queue_family: u32,
    /// How many `waits` there are: at most 4.
    pub wait_count: u32,
    /// What the submission has to wait for.
    pub waits: *const neuro_vulkan_semaphore_value_t,
    /// What it has to signal.
    pub signal: neuro_vulkan_semaphore_value_t,
}

/// Submits, once, to `turn->queue`, and returns 0 (`VK_SUCCESS`); or submits nothing, and returns another `VkResult`.
///
/// It calls nothing of this library, and returns: no `longjmp`, and no C++ exception. `turn` is gone then.
pub type neuro_vulkan_work_t =
    Option<unsafe extern "C" fn(context: *mut c_void, turn: *const neuro_vulkan_turn_t) -> i32>;

/// Called with `lock_context`; see `neuro_vulkan_adopt_t`. It returns: no `longjmp`, and no C++ exception.
pub type neuro_vulkan_lock_t = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// An instance, a device and a queue of the caller. Set it to zeros, then `struct_size`, then the rest.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_vulkan_adopt_t {
    /// `sizeof(neuro_vulkan_adopt_t)`.
    pub struct_size: usize,
    /// The functions of that instance.
    pub get_instance_proc_addr: neuro_vulkan_get_instance_proc_addr_t,
    /// `VkInstance`.
    pub instance: u64,
    /// `VkPhysicalDevice`, of that instance.
    pub physical_device: u64,
    /// `VkDevice`, of that physical device, created with the feature `timelineSemaphore`.
    pub device: u64,
    /// `VkQueue`, of that device: all work is submitted to it.
    pub queue: u64,
    /// Its family, which can do compute.
    pub queue_family: u32,
    /// `apiVersion` that the instance was created with: 1.2, or 1.1 where `VK_KHR_timeline_semaphore` is enabled.
    pub api_version: u32,
    /// Takes the queue from whoever else uses it, and waits for that; called from any thread. NULL where nobody else does.
    pub lock: neuro_vulkan_lock_t,
    /// Gives it back. Both or none.
    pub unlock: neuro_vulkan_lock_t,
    /// Handed to both.
    pub lock_context: *mut c_void,
}

// SAFETY: repr(C), integers and nullable pointers without padding, `struct_size` first.
unsafe impl SizedStruct for neuro_vulkan_adopt_t {}

/// What Vulkan calls `device`, which is opened if it was not. All of `*out` but its `struct_size` is zeros after a failure.
///
/// The device has timeline semaphores, and no other feature or extension that has to be asked for: who needs one opens a
/// device himself and hands it over to `neuro_vulkan_adopt`.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_vulkan_get_handles(
    device: neuro_device_t,
    out: *mut neuro_vulkan_handles_t,
) -> neuro_status_t {
    const OP: &str = "neuro_vulkan_get_handles";
    let ask = || {
        let handles = vulkan::handles(device.to_core(OP)?)?;
        let get = handles.get_instance_proc_addr;
        Ok(neuro_vulkan_handles_t {
            struct_size: size_of::<neuro_vulkan_handles_t>(),
            // SAFETY: the calling conventions "system" and "C" are one but on 32-bit Windows, for which this is not built.
            get_instance_proc_addr: unsafe {
                std::mem::transmute::<GetInstanceProcAddr, neuro_vulkan_get_instance_proc_addr_t>(get)
            },
            instance: handles.instance,
            physical_device: handles.physical_device,
            device: handles.device,
            queue: handles.queue,
            queue_family: handles.queue_family,
            api_version: handles.api_version,
            max_range: handles.max_range,
        })
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_struct(OP, out, ask) }
}

/// The buffer that a tensor on a Vulkan device lies in, and where. All of `*out` but its `struct_size` is zeros after a failure.
///
/// # Safety
/// A live `tensor` is not released meanwhile; `out` is NULL or writable for its `struct_size`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_vulkan_get_buffer(
    tensor: *const neuro_tensor_t,
    out: *mut neuro_vulkan_buffer_t,
) -> neuro_status_t {
    const OP: &str = "neuro_vulkan_get_buffer";
    let ask = || {
        // SAFETY: forwarded condition.
        let view = vulkan::buffer(unsafe { guard::live(OP, tensor) }?)?;
        Ok(neuro_vulkan_buffer_t {
            struct_size: size_of::<neuro_vulkan_buffer_t>(),
            buffer: view.buffer,
            offset: view.offset,
            bytes: view.bytes,
            max_range: view.max_range,
        })
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give_struct(OP, out, ask) }
}

/// Has `work` submit commands that use `count` tensors, in order with all else that is done with them, before and after.
/// `access` says of each what is done with it: `NEURO_ACCESS_…`. Nobody waits: what was submitted is under way when this
/// returns. Where `work` returns something else than 0, that is `NEURO_DRIVER`, and the message names it.
///
/// The tensors are held while `work` runs, so it only submits; record before. Where it returns 0, it has made one submission
/// to `turn->queue` that
/// - waits for all of `turn->waits` before anything in it touches the tensors, and signals `turn->signal` when it is done;
/// - touches only bytes of elements of the tensors, and writes only those named with `NEURO_ACCESS_WRITE`;
/// - ends with a barrier that makes its writes visible to the host, to `VK_PIPELINE_STAGE_HOST_BIT` and
///   `VK_ACCESS_HOST_READ_BIT`: tensors may lie in memory that the host reads where it is.
///
/// # Safety
/// Live tensors are not released meanwhile, and no other thread copies one to the host while this hands over work that writes
/// it; `tensors` and `access` are readable for `count`; `work` does as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_vulkan_with_queue(
    tensors: *const *const neuro_tensor_t,
    access: *const u32,
    count: usize,
    work: neuro_vulkan_work_t,
    context: *mut c_void,
) -> neuro_status_t {
    const OP: &str = "neuro_vulkan_with_queue";
    guard::status(|| {
        // SAFETY: forwarded condition.
        let named = unsafe { access::named(OP, tensors, access, count) }?;
        let Some(work) = work else {
            return Err(Failure::argument(OP, "work is NULL"));
        };
        let device = named.first().map(|(tensor, _)| tensor.device()).unwrap_or_default();
        let submit = |turn: &QueueTurn<'_>| {
            // SAFETY: the caller vouches for it; what it is given lives until it returns.
            match unsafe { call(work, context, turn) } {
                0 => Ok(()),
                code => Err(Failure::from(Error::Driver {
                    device,
                    call: "the work of neuro_vulkan_with_queue",
                    code: code.into(),
                    meaning: result_name(code).to_owned(),
                })),
            }
        };
        // SAFETY: the caller's work does as `with_queue` asks: the texts say the same.
        unsafe { vulkan::with_queue(&named, submit) }
    })
}

/// # Safety
/// `work` can be called with `context`.
unsafe fn call(
    work: unsafe extern "C" fn(*mut c_void, *const neuro_vulkan_turn_t) -> i32,
    context: *mut c_void,
    turn: &QueueTurn<'_>,
) -> i32 {
    let value = |of: &vulkan::SemaphoreValue| neuro_vulkan_semaphore_value_t {
        semaphore: of.semaphore,
        value: of.value,
    };
    let waits: Vec<_> = turn.waits.iter().map(value).collect();
    let turn = neuro_vulkan_turn_t {
        struct_size: size_of::<neuro_vulkan_turn_t>(),
        queue: turn.queue,
        queue_family: turn.queue_family,
        wait_count: waits.len() as u32,
        waits: if waits.is_empty() { ptr::null() } else { waits.as_ptr() },
        signal: value(&turn.signal),
    };
    // SAFETY: forwarded contract.
    unsafe { work(context, &turn) }
}

/// What Vulkan calls a result.
fn result_name(code: i32) -> &'static str {
    match code {
        1 => "VK_NOT_READY",
        2 => "VK_TIMEOUT",
        -1 => "VK_ERROR_OUT_OF_HOST_MEMORY",
        -2 => "VK_ERROR_OUT_OF_DEVICE_MEMORY",
        -3 => "VK_ERROR_INITIALIZATION_FAILED",
        -4 => "VK_ERROR_DEVICE_LOST",
        -5 => "VK_ERROR_MEMORY_MAP_FAILED",
        -7 => "VK_ERROR_EXTENSION_NOT_PRESENT",
        -8 => "VK_ERROR_FEATURE_NOT_PRESENT",
        -10 => "VK_ERROR_TOO_MANY_OBJECTS",
        -12 => "VK_ERROR_FRAGMENTED_POOL",
        -13 => "VK_ERROR_UNKNOWN",
        -1_000_069_000 => "VK_ERROR_OUT_OF_POOL_MEMORY",
        _ => "a VkResult, or a number of the caller's own",
    }
}

/// Takes up an instance, a device and a queue of the caller: pools and tensors on `*out` are made of its memory, and their
/// work goes to its queue. The first is called `vulkan:1000`; a device that is handed over again has the name that it has.
/// `*out` is zeros after a failure.
///
/// # Safety
/// `theirs` is NULL or readable for its `struct_size`, and the handles are what their fields say. Instance, device, queue and
/// `lock_context` stay until the process ends. Whoever else uses the queue holds `lock` meanwhile, and calls nothing of this
/// library then; without `lock` nobody else uses it, but in `neuro_vulkan_with_queue`. `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_vulkan_adopt(
    theirs: *const neuro_vulkan_adopt_t,
    out: *mut neuro_device_t,
) -> neuro_status_t {
    const OP: &str = "neuro_vulkan_adopt";
    let take = || {
        if theirs.is_null() {
            return Err(Failure::argument(OP, "theirs is NULL"));
        }
        // SAFETY: forwarded condition.
        let theirs = unsafe { structs::read(OP, theirs) }?;
        let Some(get) = theirs.get_instance_proc_addr else {
            return Err(Failure::argument(OP, "get_instance_proc_addr is NULL"));
        };
        let lock: Option<Box<dyn QueueLock>> = match (theirs.lock, theirs.unlock) {
            (None, None) => None,
            (Some(lock), Some(unlock)) => Some(Box::new(Lock {
                lock,
                unlock,
                context: theirs.lock_context,
            })),
            _ => {
                return Err(Failure::argument(
                    OP,
                    "one of lock and unlock is NULL; give both or none",
                ));
            }
        };
        let adopt = Adopt {
            // SAFETY: as in `neuro_vulkan_get_handles`, the other way round.
            get_instance_proc_addr: unsafe {
                std::mem::transmute::<
                    unsafe extern "C" fn(*mut c_void, *const c_char) -> Option<unsafe extern "C" fn()>,
                    GetInstanceProcAddr,
                >(get)
            },
            instance: theirs.instance,
            physical_device: theirs.physical_device,
            device: theirs.device,
            queue: theirs.queue,
            queue_family: theirs.queue_family,
            api_version: theirs.api_version,
            lock,
        };
        // SAFETY: forwarded condition.
        neuro_device_t::of(OP, unsafe { vulkan::adopt(adopt) }?)
    };
    // SAFETY: forwarded condition.
    unsafe { guard::give(OP, out, neuro_device_t::NONE, take) }
}

/// The caller's lock.
struct Lock {
    lock: unsafe extern "C" fn(*mut c_void),
    unlock: unsafe extern "C" fn(*mut c_void),
    context: *mut c_void,
}

// SAFETY: any thread may call both with the context, by the condition of `neuro_vulkan_adopt`.
unsafe impl Send for Lock {}
// SAFETY: as above; that is what a lock is for.
unsafe impl Sync for Lock {}

impl QueueLock for Lock {
    fn lock(&self) {
        // SAFETY: the caller of `neuro_vulkan_adopt` vouches for it until the process ends.
        unsafe { (self.lock)(self.context) };
    }

    fn unlock(&self) {
        // SAFETY: as above.
        unsafe { (self.unlock)(self.context) };
    }
}
