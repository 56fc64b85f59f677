//! Making a pool: its options.

use std::ffi::c_void;
use std::time::Duration;

use neuro_core::{Device, MemoryPool, PoolStats};

use crate::device::neuro_device_t;
use crate::guard;
use crate::pool::neuro_pool_t;
use crate::stats::neuro_pool_stats_t;
use crate::status::{Failure, Result, neuro_status_t};
use crate::structs::{self, SizedStruct};

/// Flag of `neuro_pool_options_t`: memory is touched when the pool takes it from the system, so that its first use does not
/// fault. Costs the time then, and the memory whether or not it is used.
pub const NEURO_POOL_PREFAULT: u64 = 1;
/// Flag of `neuro_pool_options_t`: debug mode. Each block is followed by a red zone of 64 bytes at least, and freed ones are
/// filled with poison and wait in a quarantine. A write past the end or after the free is found: by `neuro_pool_free`, by
/// `neuro_pool_check`, and when the block leaves the quarantine or its tensor is released (a line on standard error). Slower;
/// red zones count against the limit. In a program built with AddressSanitizer every pool shows its blocks to it without this
/// flag, and reads are found too.
///
/// In a pool of a device each block becomes an allocation of the driver's own instead, of the bytes asked for, and goes back to it when the work
/// on it is done: so that tools which watch the driver see what is wrong. The variable `NEURO_DEVICE_DEBUG=1` makes all pools of devices so.
pub const NEURO_POOL_DEBUG: u64 = 2;
/// Flag of `neuro_pool_options_t`: cached memory stays until `neuro_pool_trim`; none goes back to the system by itself.
pub const NEURO_POOL_NO_DECAY: u64 = 4;
/// Flag of `neuro_pool_options_t`: devices may use the pool's memory where it lies. A tensor of it goes to a device that shares the
/// host's memory without a copy, and to others by a copy of the device's own. Where that cannot be, copies are as from any pool, and
/// `neuro_pool_get_gpu_support` says why. Where there is a CUDA device, blocks of the pool lie in page-locked memory, each in what was locked by
/// one call: `pinned_bytes` of its figures. Memory that devices have reached stays with the pool until it is trimmed or gone.
pub const NEURO_POOL_GPU_SUPPORT: u64 = 8;
/// Flag of `neuro_pool_options_t`, for a pool of a device: other processes and interfaces can import its memory
/// (`neuro_tensor_export_fd`). A device that cannot is reported by the first allocation, as `NEURO_UNAVAILABLE`.
pub const NEURO_POOL_EXPORT: u64 = 16;
/// Flag of `neuro_pool_options_t`, for a pool of a device: its memory grows in one range of addresses, so that what was short blocks
/// serves a long one later. It takes a CUDA device with virtual memory management; another one is reported by the first allocation, as
/// `NEURO_UNAVAILABLE`. Memory comes in whole pieces, and can be up to one (2 MiB, or 32 MiB in a pool of 1 GiB or more) above the limit of
/// the blocks. Not with `NEURO_POOL_EXPORT`.
pub const NEURO_POOL_EXPANDABLE: u64 = 32;

const FLAGS: u64 = NEURO_POOL_PREFAULT
    | NEURO_POOL_DEBUG
    | NEURO_POOL_NO_DECAY
    | NEURO_POOL_GPU_SUPPORT
    | NEURO_POOL_EXPORT
    | NEURO_POOL_EXPANDABLE;
/// Those that pools of devices know.
const DEVICE_FLAGS: u64 = NEURO_POOL_DEBUG | NEURO_POOL_EXPORT | NEURO_POOL_EXPANDABLE;

/// Told that the bytes in a pool's blocks rose above its soft limit: the pool's figures, and the context it was made with.
///
/// Called on whichever thread allocates, in the middle of its call but with no lock held: it may free, trim, allocate from
/// and ask any pool. Several threads may be in it at once. `stats` is gone when it returns. It returns: no `longjmp`, and
/// no C++ exception.
pub type neuro_soft_limit_callback_t =
    Option<unsafe extern "C" fn(context: *mut c_void, stats: *const neuro_pool_stats_t)>;

/// How to make a pool. Set it to zeros, then `struct_size`, then what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct neuro_pool_options_t {
    /// `sizeof(neuro_pool_options_t)`.
    pub struct_size: usize,
    /// Bytes that the pool's blocks may take together. 0: no limit; with a `device` that is not the cpu, its memory.
    pub limit_bytes: usize,
    /// Bytes to which blocks are aligned: a power of two up to 2 MiB. 0: 64, which is also the least.
    pub alignment: usize,
    /// `NEURO_POOL_` flags, or-ed. 0: none.
    pub flags: u64,
    /// Milliseconds that cached memory may stay unused before it goes back to the system by itself. 0: 1000. What a steady
    /// program uses again and again stays.
    pub decay_milliseconds: u64,
    /// Bytes of cached memory that never go back by themselves.
    pub keep_bytes: usize,
    /// Bytes in blocks above which `soft_limit_callback` is called: once until they have been at or below it again. What
    /// threads serve from caches of their own is noticed when it comes to 64 KiB a thread. 0: no soft limit. It needs the
    /// callback, and the callback needs it.
    pub soft_limit_bytes: usize,
    /// What is called then. NULL: nothing.
    pub soft_limit_callback: neuro_soft_limit_callback_t,
    /// Handed to `soft_limit_callback`; must be good for it as long as the pool has a handle or a block.
    pub soft_limit_context: *mut c_void,
    /// Where its memory lies. All zeros: the cpu. With another device `limit_bytes` and one of the flags `NEURO_POOL_EXPORT` and
    /// `NEURO_POOL_EXPANDABLE` are the only other options that may be set, and a `limit_bytes` of 0 without a flag gives the device's
    /// default pool (`neuro_pool_of_device`).
    pub device: neuro_device_t,
}

// SAFETY: repr(C), integers and nullable pointers of the same size (u64 and a 64-bit usize; two i32 together), `struct_size`
// first.
unsafe impl SizedStruct for neuro_pool_options_t {}

/// New pool. NULL options: no limit, blocks aligned to 64 bytes, cached memory goes back after a second. An alignment that
/// cannot be met is reported by the first allocation. A device that is not there is `NEURO_UNAVAILABLE`. Release `*out` once.
///
/// # Safety
/// `options` is NULL or readable for its `struct_size`; any thread may call its `soft_limit_callback` with its
/// `soft_limit_context` as long as the pool has a handle or a block; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_pool_create(
    options: *const neuro_pool_options_t,
    out: *mut *mut neuro_pool_t,
) -> neuro_status_t {
    const OP: &str = "neuro_pool_create";
    let make = || {
        // SAFETY: as this function's condition says.
        let options = unsafe { structs::read(OP, options) }?;
        // SAFETY: as this function's condition says.
        unsafe { pool(OP, &options) }
    };
    // SAFETY: as this function's condition says.
    unsafe { guard::give_handle(OP, out, make) }
}

/// # Safety
/// Any thread may call the callback of `options` with its context as long as the pool has a handle or a block.
unsafe fn pool(op: &'static str, options: &neuro_pool_options_t) -> Result<MemoryPool> {
    let device = options.device.to_core(op)?;
    if device != Device::Cpu {
        return device_pool(op, options, device);
    }
    let unknown = options.flags & !FLAGS;
    if unknown != 0 {
        return Err(Failure::argument(
            op,
            format_args!(
                "unknown flags {unknown:#x}; known are NEURO_POOL_PREFAULT (1), NEURO_POOL_DEBUG (2), NEURO_POOL_NO_DECAY (4), \
                 NEURO_POOL_GPU_SUPPORT (8), NEURO_POOL_EXPORT (16), NEURO_POOL_EXPANDABLE (32)"
            ),
        ));
    }
    if options.flags & NEURO_POOL_EXPORT != 0 {
        return Err(Failure::argument(
            op,
            "NEURO_POOL_EXPORT is set, and a pool of the cpu has nothing to export; set device to a Vulkan device",
        ));
    }
    if options.flags & NEURO_POOL_EXPANDABLE != 0 {
        return Err(Failure::argument(
            op,
            "NEURO_POOL_EXPANDABLE is set, and a pool of the cpu grows in place anyway; set device to a CUDA device, or leave the flag out",
        ));
    }
    let decay = match (options.flags & NEURO_POOL_NO_DECAY != 0, options.decay_milliseconds) {
        (true, 0) => Some(None),
        (true, time) => {
            return Err(Failure::argument(
                op,
                format_args!("NEURO_POOL_NO_DECAY and a decay of {time} ms at once; give one of them"),
            ));
        }
        (false, 0) => None,
        (false, time) => Some(Some(Duration::from_millis(time))),
    };
    let soft = match (options.soft_limit_bytes, options.soft_limit_callback) {
        (0, None) => None,
        (bytes, Some(call)) if bytes != 0 => Some((bytes, call)),
        (0, Some(_)) => return Err(Failure::argument(op, "soft_limit_callback without soft_limit_bytes")),
        (bytes, _) => {
            return Err(Failure::argument(
                op,
                format_args!("soft_limit_bytes {bytes} without soft_limit_callback"),
            ));
        }
    };
    let mut pool = match options.limit_bytes {
        0 => MemoryPool::unlimited(),
        limit => MemoryPool::new(limit),
    }
    .with_prefault(options.flags & NEURO_POOL_PREFAULT != 0)
    .with_keep(options.keep_bytes)
    .with_gpu_support(options.flags & NEURO_POOL_GPU_SUPPORT != 0);
    if options.alignment != 0 {
        pool = pool.with_alignment(options.alignment);
    }
    if let Some(decay) = decay {
        pool = pool.with_decay(decay);
    }
    if options.flags & NEURO_POOL_DEBUG != 0 {
        pool = pool.with_debug(true);
    }
    if let Some((bytes, call)) = soft {
        let context = options.soft_limit_context;
        let callback = Callback { call, context };
        pool = pool.with_soft_limit(bytes, move |stats| callback.run(stats));
    }
    Ok(pool)
}

/// A pool of another device than the cpu.
fn device_pool(op: &'static str, options: &neuro_pool_options_t, device: Device) -> Result<MemoryPool> {
    let set = [
        ("alignment", options.alignment != 0),
        ("flags", options.flags & !DEVICE_FLAGS != 0),
        ("decay_milliseconds", options.decay_milliseconds != 0),
        ("keep_bytes", options.keep_bytes != 0),
        ("soft_limit_bytes", options.soft_limit_bytes != 0),
        ("soft_limit_callback", options.soft_limit_callback.is_some()),
        ("soft_limit_context", !options.soft_limit_context.is_null()),
    ];
    if let Some((name, _)) = set.into_iter().find(|&(_, set)| set) {
        return Err(Failure::argument(
            op,
            format_args!(
                "{name} is set, and a pool of {device} has no option but limit_bytes, and NEURO_POOL_DEBUG, NEURO_POOL_EXPORT or NEURO_POOL_EXPANDABLE in flags"
            ),
        ));
    }
    const APART: u64 = NEURO_POOL_EXPORT | NEURO_POOL_EXPANDABLE;
    if options.flags & APART == APART {
        return Err(Failure::argument(
            op,
            "NEURO_POOL_EXPORT and NEURO_POOL_EXPANDABLE at once, and memory that grows in place cannot be exported; make two pools",
        ));
    }
    Ok(match options.limit_bytes {
        0 if options.flags != 0 => {
            // The default pool's memory is for nobody else, and in slabs.
            let limit = MemoryPool::of_device(device)?.limit().unwrap_or(usize::MAX);
            MemoryPool::new_gpu(device, limit)?
        }
        0 => return Ok(MemoryPool::of_device(device)?),
        limit => MemoryPool::new_gpu(device, limit)?,
    }
    .with_export(options.flags & NEURO_POOL_EXPORT != 0)
    .with_expandable(options.flags & NEURO_POOL_EXPANDABLE != 0)
    .with_debug(options.flags & NEURO_POOL_DEBUG != 0))
}

/// What C wants to have called.
struct Callback {
    call: unsafe extern "C" fn(*mut c_void, *const neuro_pool_stats_t),
    context: *mut c_void,
}

// SAFETY: any thread may call it with its context, by the condition of `neuro_pool_create`.
unsafe impl Send for Callback {}
// SAFETY: as above; several may at once.
unsafe impl Sync for Callback {}

impl Callback {
    fn run(&self, stats: &PoolStats) {
        let stats = neuro_pool_stats_t::from(*stats);
        // SAFETY: the caller of `neuro_pool_create` vouches for both as long as the pool has a handle or a block, and it
        // has one while a request to it runs; `stats` is readable until the call returns.
        unsafe { (self.call)(self.context, &stats) };
    }
}
