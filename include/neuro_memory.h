/* neuro_memory.h: pooled, aligned, reference-counted memory for ML code.
 *
 * Generated from neuro-capi/src by `NM_BLESS=1 cargo test -p neuro-capi --test header`: do not edit.
 *
 * Rules of this interface:
 * - A call that can fail returns a neuro_status_t: NEURO_OK, which is 0, or why it failed. neuro_last_error() says it in
 *   words, for each thread its own. Getters return a value; where they cannot, they return 0, NULL or false and set the
 *   error that neuro_last_status() and neuro_last_error() give.
 * - What a call makes stands last in its arguments and is NULL, or 0, after a failure.
 * - A handle from a call with an `out` is a reference of the caller's own, to be released once; release(NULL) does
 *   nothing. What a `_get_` gives is borrowed: it lives as long as the handle that was asked.
 * - A NULL pool is the default pool wherever one is taken, but for retain and release.
 * - Any thread may use any handle; a thread that keeps one keeps a reference. A handle is not an address: one that was
 *   released, or never was one, is told from a live one and refused.
 * - What this library cannot check is the caller's to keep: pointers point to what they are said to point to; no thread
 *   gives away the last reference to a handle while another uses it; nobody else uses elements while a call writes them.
 *   "Caller:" names what more a call needs.
 */

#ifndef NEURO_MEMORY_H
#define NEURO_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct DLManagedTensor;
struct DLManagedTensorVersioned;

#define NEURO_VERSION_MAJOR 0
#define NEURO_VERSION_MINOR 1
#define NEURO_VERSION_PATCH 0
#define NEURO_VERSION "0.1.0"

// The number of the binary interface. A program that was compiled against another number must not run with this library.
#define NEURO_ABI_VERSION 0

// One byte, 0 or 1.
#define NEURO_DTYPE_BOOL 1

// Unsigned 8-bit.
#define NEURO_DTYPE_UINT8 2

// Unsigned 16-bit.
#define NEURO_DTYPE_UINT16 3

// Unsigned 32-bit.
#define NEURO_DTYPE_UINT32 4

// Unsigned 64-bit.
#define NEURO_DTYPE_UINT64 5

// Signed 8-bit.
#define NEURO_DTYPE_INT8 6

// Signed 16-bit.
#define NEURO_DTYPE_INT16 7

// Signed 32-bit.
#define NEURO_DTYPE_INT32 8

// Signed 64-bit.
#define NEURO_DTYPE_INT64 9

// IEEE 754 binary16.
#define NEURO_DTYPE_FLOAT16 10

// The upper half of a binary32.
#define NEURO_DTYPE_BFLOAT16 11

// IEEE 754 binary32: `float`.
#define NEURO_DTYPE_FLOAT32 12

// IEEE 754 binary64: `double`.
#define NEURO_DTYPE_FLOAT64 13

// Two `float`: real, imaginary.
#define NEURO_DTYPE_COMPLEX64 14

// Two `double`: real, imaginary.
#define NEURO_DTYPE_COMPLEX128 15

// The host's memory. Its `id` is 0.
#define NEURO_DEVICE_CPU 1

// A CUDA device. Its `id` is the ordinal.
#define NEURO_DEVICE_CUDA 2

// A Vulkan device. Its `id` is the ordinal.
#define NEURO_DEVICE_VULKAN 7

// Flag of `neuro_pool_options_t`: memory is touched when the pool takes it from the system, so that its first use does not
// fault. Costs the time then, and the memory whether or not it is used.
#define NEURO_POOL_PREFAULT 1

// Flag of `neuro_pool_options_t`: debug mode. Each block is followed by a red zone of 64 bytes at least, and freed ones are
// filled with poison and wait in a quarantine. A write past the end or after the free is found: by `neuro_pool_free`, by
// `neuro_pool_check`, and when the block leaves the quarantine or its tensor is released (a line on standard error). Slower;
// red zones count against the limit. In a program built with AddressSanitizer every pool shows its blocks to it without this
// flag, and reads are found too.
//
// In a pool of a device each block becomes an allocation of the driver's own instead, of the bytes asked for, and goes back to it when the work
// on it is done: so that tools which watch the driver see what is wrong. The variable `NEURO_DEVICE_DEBUG=1` makes all pools of devices so.
#define NEURO_POOL_DEBUG 2

// Flag of `neuro_pool_options_t`: cached memory stays until `neuro_pool_trim`; none goes back to the system by itself.
#define NEURO_POOL_NO_DECAY 4

// Flag of `neuro_pool_options_t`: devices may use the pool's memory where it lies. A tensor of it goes to a device that shares the
// host's memory without a copy, and to others by a copy of the device's own. Where that cannot be, copies are as from any pool, and
// `neuro_pool_get_gpu_support` says why. Where there is a CUDA device, blocks of the pool lie in page-locked memory, each in what was locked by
// one call: `pinned_bytes` of its figures. Memory that devices have reached stays with the pool until it is trimmed or gone.
#define NEURO_POOL_GPU_SUPPORT 8

// Flag of `neuro_pool_options_t`, for a pool of a device: other processes and interfaces can import its memory
// (`neuro_tensor_export_fd`). A device that cannot is reported by the first allocation, as `NEURO_UNAVAILABLE`.
#define NEURO_POOL_EXPORT 16

// Flag of `neuro_pool_options_t`, for a pool of a device: its memory grows in one range of addresses, so that what was short blocks
// serves a long one later. It takes a CUDA device with virtual memory management; another one is reported by the first allocation, as
// `NEURO_UNAVAILABLE`. Memory comes in whole pieces, and can be up to one (2 MiB, or 32 MiB in a pool of 1 GiB or more) above the limit of
// the blocks. Not with `NEURO_POOL_EXPORT`.
#define NEURO_POOL_EXPANDABLE 32

// Flag of `neuro_tensor_options_t`: all elements are 0. Without it their values are undefined.
#define NEURO_TENSOR_ZEROED 1

// The descriptor is opaque: `VK_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD_BIT`, of one dedicated allocation with one buffer on all of it.
#define NEURO_HANDLE_OPAQUE_FD 1

// Work reads a tensor, and leaves it as it is.
#define NEURO_ACCESS_READ 1

// Work writes a tensor, and may read it, too.
#define NEURO_ACCESS_WRITE 2

// `tensor`, for a pointer.
#define NEURO_CUDA_ARGUMENT_TENSOR 1

// `integer`, as one with a sign.
#define NEURO_CUDA_ARGUMENT_INT 2

// `integer`, as one without: of a `uint64_t` the same bits.
#define NEURO_CUDA_ARGUMENT_UINT 3

// `real`.
#define NEURO_CUDA_ARGUMENT_FLOAT 4

// `real` and `imaginary`.
#define NEURO_CUDA_ARGUMENT_COMPLEX 5

// A failed allocation is NULL: for an allocator of a `torch.cuda.MemPool`, whose caller looks, and asks again when it has freed what it had cached.
#define NEURO_TORCH_RETURN_NULL 0

// A failed allocation throws `std::runtime_error` with the words of `neuro_last_error()`: for the allocator of the whole process, whose caller
// does not look. Where the process has no C++ it is NULL, with a line on standard error. With this `neuro_torch_refuse_graph` has to be registered, too:
// nothing asks then whether a stream is being captured.
#define NEURO_TORCH_THROW 1

// A pool of a CUDA device as the allocator of somebody else, who has addresses and streams of its own. Memory is handed out in the order of
// streams: what is freed on one may at once be handed to an allocation on it, and to one on another stream only behind its work. Any thread may use it.
typedef struct neuro_cuda_hook_t neuro_cuda_hook_t;

// A kernel that a CUDA device has. It keeps what it was loaded from; with the last kernel of that it is unloaded, when all launches
// are done. Any thread may use it.
typedef struct neuro_cuda_kernel_t neuro_cuda_kernel_t;

// A stream of the caller's, as this library knows it. What was submitted to it through this, or said to be, is known: memory which it
// uses is handed out again behind it, and work elsewhere waits for it, on the device and not on the host. Any thread may use it.
typedef struct neuro_cuda_stream_t neuro_cuda_stream_t;

// A pool of memory. Any thread may use it. Its memory lives until its last handle is released and its last block is freed.
typedef struct neuro_pool_t neuro_pool_t;

// What a safetensors file holds: named tensors, and texts beside them.
typedef struct neuro_safetensors_t neuro_safetensors_t;

// Counts of one pool from one moment on. Any thread may use it. It holds its pool: the pool lives until the scope is ended.
typedef struct neuro_scope_t neuro_scope_t;

// A tensor: shape, strides and dtype over storage that views and other tensors may share. Any thread may use it; each
// holds a reference of its own.
typedef struct neuro_tensor_t neuro_tensor_t;

// A tensor on its way. It has what it needs: the tensor it is made from may be released at once, and so may the transfer, which
// then goes on to its end. Any thread may use it; each holds a reference of its own.
typedef struct neuro_transfer_t neuro_transfer_t;

// What a call came to: `NEURO_OK`, or why it failed. `neuro_last_error()` has the words.
typedef int32_t neuro_status_t;

// A device: the numbers are those of DLPack. All zeros mean the cpu too, so that a struct set to zeros does.
typedef struct {
    // `NEURO_DEVICE_…`.
    int32_t type;
    // Which of them, counted from 0.
    int32_t id;
} neuro_device_t;

// A device that was found, and what its driver says of it. Set `struct_size` before the call. Texts are UTF-8, end in NUL, and
// are cut off where they are longer.
typedef struct {
    // `sizeof(neuro_device_info_t)`, set by the caller.
    size_t struct_size;
    // What it is called here.
    neuro_device_t device;
    // The driver's name for it.
    char name[256];
    // `"discrete"`, `"integrated"`, `"virtual"`, `"software"` or `"other"`.
    char kind[16];
    // The driver's name and version.
    char driver[256];
    // Version of the interface.
    char api[64];
    // Why it cannot be used. Empty: it can.
    char unusable[256];
    // The same in every interface that shows the device.
    uint8_t uuid[16];
    // Bytes of its own memory.
    uint64_t memory_bytes;
    // Bytes of it that this process can expect to get, at this moment. 0: the driver does not say.
    uint64_t budget_bytes;
    // Bytes of it that this process has. 0 too where the driver does not say.
    uint64_t used_bytes;
    // Longest piece of memory that it gives, in bytes.
    uint64_t max_allocation_bytes;
    // How many pieces it gives at once.
    uint64_t max_allocations;
    // How many bytes of a buffer a kernel sees at once.
    uint64_t max_kernel_bytes;
    // What host memory begins on that it can use where it lies, in bytes. 0: it cannot.
    uint64_t host_import_alignment;
} neuro_device_info_t;

// What a pool holds, all of one moment. Set `struct_size` before the call.
//
// `requested_bytes <= live_bytes <= committed_bytes <= reserved_bytes`: bytes asked for, bytes that blocks occupy (whole
// granules of 64), bytes that may be resident, and address space, which costs nothing. A leak shows as live bytes, a cache
// as `cached_bytes`.
typedef struct {
    // `sizeof(neuro_pool_stats_t)`, set by the caller.
    size_t struct_size;
    // Bytes that live blocks may take together. 0: no limit.
    size_t limit_bytes;
    // Bytes to which blocks are aligned.
    size_t alignment;
    // Bytes in live blocks now.
    size_t live_bytes;
    // The most bytes that were in live blocks at one time: exact while one thread allocates, at most 64 KiB too high for
    // each other thread that does.
    size_t peak_bytes;
    // Bytes of address space held.
    size_t reserved_bytes;
    // Bytes of it that may take up memory.
    size_t committed_bytes;
    // Bytes of the pool's own records.
    size_t side_bytes;
    // Live blocks now.
    size_t live_blocks;
    // The most blocks that were live at one time.
    size_t peak_blocks;
    // Blocks handed out since the beginning.
    uint64_t total_allocations;
    // Regions of address space.
    size_t regions;
    // Free runs, in all regions together.
    size_t free_runs;
    // Bytes of the largest free run.
    size_t largest_free_bytes;
    // Bytes asked for, of live blocks.
    size_t requested_bytes;
    // The most bytes asked for at one time.
    size_t peak_requested_bytes;
    // Bytes ever asked for.
    uint64_t total_requested_bytes;
    // Bytes of all blocks ever handed out.
    uint64_t total_bytes;
    // The most bytes of address space held at one time.
    size_t peak_reserved_bytes;
    // Bytes of address space ever taken.
    uint64_t total_reserved_bytes;
    // The most bytes committed at one time.
    size_t peak_committed_bytes;
    // Bytes ever committed: much more than the peak means that memory goes to and fro.
    uint64_t total_committed_bytes;
    // Committed bytes in no block: what `neuro_pool_trim` can give back, rounded to steps of 2 MiB.
    size_t cached_bytes;
    // Bytes in free runs below the highest block: holes.
    size_t hole_bytes;
    // Bytes of the largest hole.
    size_t largest_hole_bytes;
    // How much of the holes a single block cannot use, in percent: 0 where they are one piece or none.
    size_t fragmentation_percent;
    // Threads that have a cache of the pool.
    size_t caches;
    // Blocks that wait in such caches.
    size_t cache_blocks;
    // Bytes of those blocks.
    size_t cache_bytes;
    // Bytes kept for small blocks outside the caches.
    size_t slab_free_bytes;
    // Bytes that are locked in memory because devices reach them there, of a pool with `NEURO_POOL_GPU_SUPPORT`: counted in steps of
    // 2 MiB.
    size_t pinned_bytes;
} neuro_pool_stats_t;

// Told that the bytes in a pool's blocks rose above its soft limit: the pool's figures, and the context it was made with.
//
// Called on whichever thread allocates, in the middle of its call but with no lock held: it may free, trim, allocate from
// and ask any pool. Several threads may be in it at once. `stats` is gone when it returns. It returns: no `longjmp`, and
// no C++ exception.
typedef void (*neuro_soft_limit_callback_t)(void *context, const neuro_pool_stats_t *stats);

// How to make a pool. Set it to zeros, then `struct_size`, then what differs.
typedef struct {
    // `sizeof(neuro_pool_options_t)`.
    size_t struct_size;
    // Bytes that the pool's blocks may take together. 0: no limit; with a `device` that is not the cpu, its memory.
    size_t limit_bytes;
    // Bytes to which blocks are aligned: a power of two up to 2 MiB. 0: 64, which is also the least.
    size_t alignment;
    // `NEURO_POOL_` flags, or-ed. 0: none.
    uint64_t flags;
    // Milliseconds that cached memory may stay unused before it goes back to the system by itself. 0: 1000. What a steady
    // program uses again and again stays.
    uint64_t decay_milliseconds;
    // Bytes of cached memory that never go back by themselves.
    size_t keep_bytes;
    // Bytes in blocks above which `soft_limit_callback` is called: once until they have been at or below it again. What
    // threads serve from caches of their own is noticed when it comes to 64 KiB a thread. 0: no soft limit. It needs the
    // callback, and the callback needs it.
    size_t soft_limit_bytes;
    // What is called then. NULL: nothing.
    neuro_soft_limit_callback_t soft_limit_callback;
    // Handed to `soft_limit_callback`; must be good for it as long as the pool has a handle or a block.
    void *soft_limit_context;
    // Where its memory lies. All zeros: the cpu. With another device `limit_bytes` and one of the flags `NEURO_POOL_EXPORT` and
    // `NEURO_POOL_EXPANDABLE` are the only other options that may be set, and a `limit_bytes` of 0 without a flag gives the device's
    // default pool (`neuro_pool_of_device`).
    neuro_device_t device;
} neuro_pool_options_t;

// One count.
typedef struct {
    // What there is now, what was there before included.
    size_t current;
    // The most there was at one time since the scope began or was reset.
    size_t peak;
    // All that was added since then.
    uint64_t total;
} neuro_usage_t;

// What a scope counted. Set `struct_size` before the call.
typedef struct {
    // `sizeof(neuro_counters_t)`, set by the caller.
    size_t struct_size;
    // Bytes as asked for.
    neuro_usage_t requested;
    // Bytes that blocks occupy.
    neuro_usage_t allocated;
    // Blocks; their total is the number of allocations.
    neuro_usage_t blocks;
} neuro_counters_t;

// How to make a tensor. Set it to zeros, then `struct_size`, then what differs.
typedef struct {
    // `sizeof(neuro_tensor_options_t)`.
    size_t struct_size;
    // Where its memory comes from. NULL: the default pool.
    neuro_pool_t *pool;
    // Bytes to which its data is aligned: a power of two up to 2 MiB. 0: as the pool is.
    size_t alignment;
    // `NEURO_TENSOR_ZEROED`, or 0.
    uint64_t flags;
} neuro_tensor_options_t;

// Told what became of a transfer: `NEURO_OK` and a tensor, which is a reference of the callback's own, to be released once; or why
// it failed, and NULL, and `neuro_last_error()` says it in words until the callback's next failing call.
//
// Called on the thread that brings the tensor, which brings other transfers too: be quick. Or, if the transfer is over already, at
// once on the thread that asks. No lock is held: it may call anything but a wait for a transfer that is not over. It returns: no
// `longjmp`, and no C++ exception.
typedef void (*neuro_transfer_callback_t)(void *context, neuro_status_t status, neuro_tensor_t *tensor);

// The memory that a tensor of a device lies in, and where. All of it but `fd` can be sent as it is; that goes as `SCM_RIGHTS`.
typedef struct {
    // `sizeof(neuro_exported_memory_t)`.
    size_t struct_size;
    // The memory, which stays as long as somebody has it, by a descriptor or imported. To be closed by whoever has it; -1: none.
    int32_t fd;
    // `NEURO_HANDLE_OPAQUE_FD`.
    uint32_t handle_type;
    // Bytes of all of it.
    uint64_t allocation_bytes;
    // Bytes from its start to the first element.
    uint64_t offset;
    // Bytes of all elements, which lie side by side.
    uint64_t bytes;
    // The device that it is of (`deviceUUID`): only the same can import it.
    uint8_t device_uuid[16];
    // Its driver (`driverUUID`), which has to be the same, too.
    uint8_t driver_uuid[16];
} neuro_exported_memory_t;

// `PFN_vkGetInstanceProcAddr`: cast it to that, or from it. `instance` is a `VkInstance`.
typedef void (*(*neuro_vulkan_get_instance_proc_addr_t)(void *instance, const char *name))(void);

// What Vulkan calls a device that is open. Handles are numbers here: cast them, as in
// `(VkDevice)(uintptr_t)handles.device`. They stay valid until the process ends.
typedef struct {
    // `sizeof(neuro_vulkan_handles_t)`.
    size_t struct_size;
    // All functions of Vulkan, by name: nothing has to be linked.
    neuro_vulkan_get_instance_proc_addr_t get_instance_proc_addr;
    // `VkInstance`.
    uint64_t instance;
    // `VkPhysicalDevice`.
    uint64_t physical_device;
    // `VkDevice`.
    uint64_t device;
    // `VkQueue` that kernels run on. Only used inside `neuro_vulkan_with_queue`.
    uint64_t queue;
    // Family of that queue.
    uint32_t queue_family;
    // The version whose functions can be called, packed as `VK_MAKE_API_VERSION` does.
    uint32_t api_version;
    // `maxStorageBufferRange`: how many bytes of a buffer a shader sees through one binding.
    uint64_t max_range;
} neuro_vulkan_handles_t;

// Where a tensor lies.
typedef struct {
    // `sizeof(neuro_vulkan_buffer_t)`.
    size_t struct_size;
    // `VkBuffer`, which others share: a storage buffer, and source and target of copies. Valid as long as a tensor shares the
    // storage, and work is under way that was handed over with it by `neuro_vulkan_with_queue`.
    uint64_t buffer;
    // Bytes from its start to the first element. For a whole tensor, not a view of a part, a multiple of what offsets of
    // bindings have to be multiples of on this device (`minStorageBufferOffsetAlignment`).
    uint64_t offset;
    // Bytes from there to the end of the last element.
    uint64_t bytes;
    // How many bytes a shader sees through one binding. Where `bytes` is more, bind one range after the other. Never bind
    // `VK_WHOLE_SIZE`: the buffer is longer than the tensor.
    uint64_t max_range;
} neuro_vulkan_buffer_t;

// A timeline semaphore, and a value of it.
typedef struct {
    // `VkSemaphore`.
    uint64_t semaphore;
    // What it counts up to.
    uint64_t value;
} neuro_vulkan_semaphore_value_t;

// The queue of a device, which nobody else uses meanwhile, and how one submission to it is ordered.
typedef struct {
    // Bytes of this struct, as the library knows it.
    size_t struct_size;
    // `VkQueue`.
    uint64_t queue;
    // Its family.
    uint32_t queue_family;
    // How many `waits` there are: at most 4.
    uint32_t wait_count;
    // What the submission has to wait for.
    const neuro_vulkan_semaphore_value_t *waits;
    // What it has to signal.
    neuro_vulkan_semaphore_value_t signal;
} neuro_vulkan_turn_t;

// Submits, once, to `turn->queue`, and returns 0 (`VK_SUCCESS`); or submits nothing, and returns another `VkResult`.
//
// It calls nothing of this library, and returns: no `longjmp`, and no C++ exception. `turn` is gone then.
typedef int32_t (*neuro_vulkan_work_t)(void *context, const neuro_vulkan_turn_t *turn);

// Called with `lock_context`; see `neuro_vulkan_adopt_t`. It returns: no `longjmp`, and no C++ exception.
typedef void (*neuro_vulkan_lock_t)(void *context);

// An instance, a device and a queue of the caller. Set it to zeros, then `struct_size`, then the rest.
typedef struct {
    // `sizeof(neuro_vulkan_adopt_t)`.
    size_t struct_size;
    // The functions of that instance.
    neuro_vulkan_get_instance_proc_addr_t get_instance_proc_addr;
    // `VkInstance`.
    uint64_t instance;
    // `VkPhysicalDevice`, of that instance.
    uint64_t physical_device;
    // `VkDevice`, of that physical device, created with the feature `timelineSemaphore`.
    uint64_t device;
    // `VkQueue`, of that device: all work is submitted to it.
    uint64_t queue;
    // Its family, which can do compute.
    uint32_t queue_family;
    // `apiVersion` that the instance was created with: 1.2, or 1.1 where `VK_KHR_timeline_semaphore` is enabled.
    uint32_t api_version;
    // Takes the queue from whoever else uses it, and waits for that; called from any thread. NULL where nobody else does.
    neuro_vulkan_lock_t lock;
    // Gives it back. Both or none.
    neuro_vulkan_lock_t unlock;
    // Handed to both.
    void *lock_context;
} neuro_vulkan_adopt_t;

// What CUDA calls a device that is open. It stays valid until the process ends.
typedef struct {
    // `sizeof(neuro_cuda_handles_t)`.
    size_t struct_size;
    // `CUcontext`: the device's primary context, in which the CUDA runtime and what is built on it work, too.
    void *context;
    // `CUstream` that kernels run on. It does not wait for the default stream, nor that for it.
    void *compute;
    // `CUstream` for copies from the host.
    void *upload;
    // `CUstream` for copies to the host.
    void *download;
    // `CUdevice`.
    int32_t device;
    // Compute capability: 9 of 9.0.
    uint32_t capability_major;
    // 0 of 9.0.
    uint32_t capability_minor;
    // Version of the driver's interface, as 13000 for 13.0.
    uint32_t driver_version;
} neuro_cuda_handles_t;

// Submits to `cu_stream`, a `CUstream`, and returns 0 (`CUDA_SUCCESS`); or submits nothing, and returns another `CUresult`.
//
// It calls nothing of this library, and returns: no `longjmp`, and no C++ exception.
typedef int32_t (*neuro_cuda_work_t)(void *context, void *cu_stream);

// How CUDA C is compiled. Set it to zeros, then `struct_size`, then what differs.
typedef struct {
    // `sizeof(neuro_cuda_compile_options_t)`.
    size_t struct_size;
    // What the source is called in messages. NULL: `kernel.cu`.
    const char *source_name;
    // Options of NVRTC, as `"--use_fast_math"` or `"-DN=4"`. An architecture that is named so is the one that is taken; else it is the
    // device's.
    const char *const *options;
    // How many.
    size_t option_count;
    // Instances of templates that the compiler makes, as `"scale<float>"`, and kernels that are not `extern "C"`: only these are found
    // by such names.
    const char *const *instances;
    // How many.
    size_t instance_count;
    // The kernel's parameters, as `neuro_cuda_kernel_load` takes them. NULL: they are found in the source.
    const char *parameters;
} neuro_cuda_compile_options_t;

// How many blocks of how many threads run a kernel. Set it to zeros, then `struct_size`, then the rest.
typedef struct {
    // `sizeof(neuro_cuda_grid_t)`.
    size_t struct_size;
    // Blocks along x, y and z. 0 along y or z counts as 1.
    uint32_t blocks[3];
    // Threads of a block along x, y and z. 0 along y or z counts as 1.
    uint32_t threads[3];
    // Bytes of shared memory of a block, beside what the kernel declares. Devices have 48 KiB at
    // least, the kernel's own included, and some have more.
    uint64_t shared_bytes;
} neuro_cuda_grid_t;

// An argument of a kernel: what `kind` says, the other fields are not looked at. As in
// `{.kind = NEURO_CUDA_ARGUMENT_FLOAT, .real = 0.5}`.
typedef struct {
    // `NEURO_CUDA_ARGUMENT_…`.
    uint32_t kind;
    // 0.
    uint32_t reserved;
    // A tensor.
    const neuro_tensor_t *tensor;
    // An integer, or 0 or 1 for `bool`.
    int64_t integer;
    // A number, or the real part of one.
    double real;
    // The imaginary part.
    double imaginary;
} neuro_cuda_argument_t;

// Any function of this header: cast it to its own type before calling it.
typedef void (*neuro_function_t)(void);

// All went well.
#define NEURO_OK 0

// An argument that can never be right: NULL where a pointer is needed, a handle that is not live, a bad option.
#define NEURO_INVALID_ARGUMENT 1

// A pool's limit is reached, its free space is in pieces, or the system gave no more.
#define NEURO_OUT_OF_MEMORY 2

// An unknown dtype code or name, or another dtype than the tensor has.
#define NEURO_BAD_DTYPE 3

// A negative or overflowing shape, or shapes that do not go together.
#define NEURO_BAD_SHAPE 4

// An index, a range or an axis outside the tensor.
#define NEURO_OUT_OF_RANGE 5

// A write to memory that may only be read.
#define NEURO_READ_ONLY 6

// A view with gaps where contiguous memory is needed.
#define NEURO_NOT_CONTIGUOUS 7

// Memory that somebody else can change.
#define NEURO_SHARED 8

// A device, a driver or a function that is not there.
#define NEURO_UNAVAILABLE 9

// A free or a release of what is not live. Nothing was changed.
#define NEURO_INVALID_FREE 10

// Memory that cannot be exchanged with another library.
#define NEURO_EXCHANGE 11

// A file that could not be read or written.
#define NEURO_IO 12

// A file whose contents are not what they claim.
#define NEURO_FORMAT 13

// Something this version cannot do.
#define NEURO_UNSUPPORTED 14

// A bug of this library, caught at its border. Please report the message.
#define NEURO_PANIC 15

// A pool in debug mode found memory written that nobody may write.
#define NEURO_CORRUPTED 16

// A device that is gone for good, and what was on it too: its driver gave it up, or this process is a forked child, which has
// no devices.
#define NEURO_DEVICE_LOST 17

// A device's driver refused a call.
#define NEURO_DRIVER 18

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Why the last failing call of this thread failed, in words. Never NULL; empty where none failed. Valid until the next
// failing call of this thread, its next `neuro_clear_error`, or its end.
const char *neuro_last_error(void);

// The status of the last failing call of this thread; `NEURO_OK` where none failed. For the getters, which return values
// and no status.
neuro_status_t neuro_last_status(void);

// Forgets the last error of this thread. What `neuro_last_error` gave before is not valid any more.
void neuro_clear_error(void);

// The name of a status code, as in this header. Static; `"unknown status"` for other numbers.
const char *neuro_status_name(neuro_status_t status);

// The version of the library that runs, as `"0.1.0"`; `NEURO_VERSION_MAJOR` and so on are those of the header. Static.
const char *neuro_version(void);

// `NEURO_ABI_VERSION` of the library that runs.
uint32_t neuro_abi_version(void);

// Bytes of one element. 0 for an unknown code, which sets the error.
size_t neuro_dtype_size(uint32_t dtype);

// The name that NumPy, PyTorch and JAX use, as `"float32"`. Static. NULL for an unknown code, which sets the error.
const char *neuro_dtype_name(uint32_t dtype);

// The code of the dtype called `name`. `*out` is 0 where none is.
//
// Caller: `name` is NULL or a string; `out` is NULL or writable.
neuro_status_t neuro_dtype_from_name(const char *name, uint32_t *out);

// The device called `name`: `"cpu"`, `"cuda:0"`, `"vulkan:0"`; no number means 0. Whether it is there, is not asked. `*out`
// is zeros after a failure.
//
// Caller: `name` is NULL or a string; `out` is NULL or writable.
neuro_status_t neuro_device_from_name(const char *name,
                                      neuro_device_t *out);

// Writes the name of `device`, as `"vulkan:0"`, and a NUL to the `size` bytes at `buffer`, cut off where it is longer, and
// gives the bytes that all of it has, without the NUL: a `buffer` of 32 holds every name. NULL with a `size` of 0 only asks for
// that number. 0 and an empty string for numbers that name no device, which sets the error.
//
// Caller: `buffer` is NULL or writable for `size`.
size_t neuro_device_name(neuro_device_t device,
                         char *buffer,
                         size_t size);

// Number of devices beside the cpu, those that cannot be used included. Loads the drivers, the first time; the order does not
// change while the process runs. 0 where there is none: `neuro_device_get_missing` has the words.
size_t neuro_device_get_count(void);

// Gives all devices back before the process ends, for good: waits until they are idle, frees their memory, and lets the drivers go.
// Nobody has to: a process may end with whatever it has on devices. From then on what needs a device is `NEURO_DEVICE_LOST` or
// `NEURO_UNAVAILABLE`, transfers under way fail, and tensors that are left can be released. Memory into which a mapped tensor looks
// stays. Any thread may call it, but none that has a turn on a device's queue; a second call does nothing.
neuro_status_t neuro_shutdown(void);

// Device `index`, counted from 0: what it is, as of now. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
// An index beyond the last is `NEURO_OUT_OF_RANGE`.
neuro_status_t neuro_device_get_info(size_t index,
                                     neuro_device_info_t *out);

// Writes why there is no device of `type` (`NEURO_DEVICE_…`) and how to get one to the `size` bytes at `buffer`, as
// `neuro_device_name` does. 0 and an empty string where there is one. NULL with a `size` of 0 only asks for the length. An
// unknown type gives 0 too, and sets the error.
//
// Caller: `buffer` is NULL or writable for `size`.
size_t neuro_device_get_missing(int32_t type,
                                char *buffer,
                                size_t size);

// New pool. NULL options: no limit, blocks aligned to 64 bytes, cached memory goes back after a second. An alignment that
// cannot be met is reported by the first allocation. A device that is not there is `NEURO_UNAVAILABLE`. Release `*out` once.
//
// Caller: `options` is NULL or readable for its `struct_size`; any thread may call its `soft_limit_callback` with its
// `soft_limit_context` as long as the pool has a handle or a block; `out` is NULL or writable.
neuro_status_t neuro_pool_create(const neuro_pool_options_t *options,
                                 neuro_pool_t **out);

// The default pool, which is used wherever a NULL pool is given. The handle is a reference of the caller's own: release
// it once.
neuro_status_t neuro_pool_default(neuro_pool_t **out);

// The default pool of `device`: its limit is the device's memory. For the cpu it is that of `neuro_pool_default`. A device that
// is not there is `NEURO_UNAVAILABLE`, with what was looked for. Release `*out` once.
neuro_status_t neuro_pool_of_device(neuro_device_t device,
                                    neuro_pool_t **out);

// Where the memory of `pool` (NULL: the default pool) lies. Zeros where the handle is not live, which sets the error.
neuro_device_t neuro_pool_get_device(const neuro_pool_t *pool);

// Writes the names of the devices that reach the memory of `pool` (NULL: the default pool) where it lies, as
// `"vulkan:0, vulkan:1"`, to the `size` bytes at `buffer`, as `neuro_device_name` does; see `NEURO_POOL_GPU_SUPPORT`. Loads the
// drivers, the first time. 0 and an empty string where none does: the error is `NEURO_UNAVAILABLE` then, and says why.
//
// Caller: `buffer` is NULL or writable for `size`.
size_t neuro_pool_get_gpu_support(const neuro_pool_t *pool,
                                  char *buffer,
                                  size_t size);

// One more reference to `pool`, to be released once.
neuro_status_t neuro_pool_retain(neuro_pool_t *pool);

// One reference to `pool` less. Its blocks and tensors live on. NULL does nothing; a release after the last one is
// `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_pool_release(neuro_pool_t *pool);

// A block of at least `bytes` bytes, contents undefined, from `pool` (NULL: the default pool), aligned to `alignment`
// bytes (0: as the pool is). 0 bytes give a block of its own too. Free it with `neuro_pool_free`. A pool of another device than
// the cpu gives tensors only, since its memory has no address here: `NEURO_UNAVAILABLE`.
neuro_status_t neuro_pool_allocate(neuro_pool_t *pool,
                                   size_t bytes,
                                   size_t alignment,
                                   void **out);

// As `neuro_pool_allocate`; the block is all zeros.
//
// Caller: As `neuro_pool_allocate`.
neuro_status_t neuro_pool_allocate_zeroed(neuro_pool_t *pool, size_t bytes, size_t alignment, void **out);

// A block of the same pool with at least `bytes` bytes and the contents of `block`, which is used up; in place where it
// can be. Not for the data of a tensor. On failure `*out` is NULL and `block` is as it was: do not let `out` point to the only copy of `block`.
//
// Caller: Nobody uses `block` meanwhile, or after success, and it is not the data of a tensor; `out` is NULL or writable.
neuro_status_t neuro_pool_reallocate(void *block,
                                     size_t bytes,
                                     size_t alignment,
                                     void **out);

// Gives `block` back to the pool it came from, whichever that is. NULL does nothing. What is not the start of a live
// block is `NEURO_INVALID_FREE` and does nothing; `NEURO_CORRUPTED`, from a pool in debug mode, says that the block was
// written behind its end, and frees it all the same. The data of a tensor lies in a block too, which goes back with the tensor:
// never free it here.
//
// Caller: Nobody uses `block` any more, and it is not the data of a tensor.
neuro_status_t neuro_pool_free(void *block);

// Looks at the red zones and the poison of a pool that was made with `NEURO_POOL_DEBUG`: `NEURO_CORRUPTED` if memory was
// written that nobody may write; `neuro_last_error()` names the blocks and the bytes. A write that was found and told is
// found again as long as it can be seen. A pool without debug mode is `NEURO_OK`.
neuro_status_t neuro_pool_check(neuro_pool_t *pool);

// Has the `n`-th allocation from now in `pool` (NULL: the default pool) refused with `NEURO_OUT_OF_MEMORY`, the next being the
// first: for tests of what a program does then. It happens once. 0 takes an order back; a new one replaces it. Until it
// has happened, all threads' requests take the pool's lock.
neuro_status_t neuro_pool_fail_nth(neuro_pool_t *pool,
                                   uint64_t n);

// Gives unused memory of `pool` (NULL: the default pool) back to the system, all but `keep_bytes`. `*given_back`, if not
// NULL, becomes the number of bytes.
//
// Caller: `given_back` is NULL or writable.
neuro_status_t neuro_pool_trim(neuro_pool_t *pool,
                               size_t keep_bytes,
                               size_t *given_back);

// `neuro_pool_trim` on every pool of the process: each keeps up to `keep_bytes` of its own. `*given_back`, if not NULL,
// becomes the number of bytes of all of them.
//
// Caller: `given_back` is NULL or writable.
neuro_status_t neuro_trim(size_t keep_bytes, size_t *given_back);

// What `pool` (NULL: the default pool) holds. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
neuro_status_t neuro_pool_get_stats(const neuro_pool_t *pool, neuro_pool_stats_t *out);

// What all pools of the process hold together. Its limit is 0. Set `out->struct_size` first.
neuro_status_t neuro_get_stats(neuro_pool_stats_t *out);

// Lets the peaks of `pool` (NULL: the default pool) begin again at what there is now. To measure a part of a program without
// disturbing others who do, use `neuro_pool_scope_begin`.
neuro_status_t neuro_pool_reset_peak(neuro_pool_t *pool);

// Begins to count what `pool` (NULL: the default pool) hands out and takes back: current values are the pool's, peaks begin at
// them, totals at 0. Exact, from all threads; while a scope lasts, every request takes the pool's lock. Any number at once,
// each for itself. End `*out` once.
neuro_status_t neuro_pool_scope_begin(neuro_pool_t *pool,
                                      neuro_scope_t **out);

// What `scope` has counted so far. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
neuro_status_t neuro_scope_get(const neuro_scope_t *scope, neuro_counters_t *out);

// Lets the peaks of `scope` begin again at what is live now, and its totals at 0.
neuro_status_t neuro_scope_reset(neuro_scope_t *scope);

// Ends `scope`. NULL does nothing; a scope that was ended before is `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_scope_end(neuro_scope_t *scope);

// New tensor, values undefined, in `pool` (NULL: the default pool). `shape` has `ndim` lengths of 0 or more and is not
// kept. Release `*out` once.
//
// Caller: `shape` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_empty(neuro_pool_t *pool,
                                  uint32_t dtype,
                                  size_t ndim,
                                  const int64_t *shape,
                                  neuro_tensor_t **out);

// As `neuro_tensor_empty`; all elements are 0.
//
// Caller: As `neuro_tensor_empty`.
neuro_status_t neuro_tensor_zeros(neuro_pool_t *pool,
                                  uint32_t dtype,
                                  size_t ndim,
                                  const int64_t *shape,
                                  neuro_tensor_t **out);

// New tensor as `options` say (NULL: as `neuro_tensor_empty` in the default pool). Release `*out` once.
//
// Caller: `options` is NULL or readable for its `struct_size`, and its pool, where live, is not released meanwhile; `shape` is
// readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_create(const neuro_tensor_options_t *options,
                                   uint32_t dtype,
                                   size_t ndim,
                                   const int64_t *shape,
                                   neuro_tensor_t **out);

// One more reference to `tensor`, to be released once.
neuro_status_t neuro_tensor_retain(neuro_tensor_t *tensor);

// One reference to `tensor` less; with the last one its storage goes back, unless a view or an export still shares it.
// NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_tensor_release(neuro_tensor_t *tensor);

// References to this handle: 1 when new, one more for each `neuro_tensor_retain`. 0 where it is not live, which sets the
// error.
size_t neuro_tensor_refcount(const neuro_tensor_t *tensor);

// Tensors, views and exports, of this and other languages, that share the storage, this tensor included. 0 where the
// handle is not live, which sets the error.
size_t neuro_tensor_use_count(const neuro_tensor_t *tensor);

// Number of dimensions. 0 where the handle is not live, which sets the error.
size_t neuro_tensor_get_ndim(const neuro_tensor_t *tensor);

// Lengths of the dimensions: `ndim` numbers that live as long as `tensor`. NULL where the handle is not live, which sets
// the error.
const int64_t *neuro_tensor_get_shape(const neuro_tensor_t *tensor);

// Distances between neighbours along each dimension, in elements: `ndim` numbers that live as long as `tensor`. NULL where
// the handle is not live, which sets the error.
const int64_t *neuro_tensor_get_strides(const neuro_tensor_t *tensor);

// Type of the elements: `NEURO_DTYPE_…`. 0 where the handle is not live, which sets the error.
uint32_t neuro_tensor_get_dtype(const neuro_tensor_t *tensor);

// Where its storage lies. Zeros where the handle is not live, which sets the error.
neuro_device_t neuro_tensor_get_device(const neuro_tensor_t *tensor);

// Number of elements. 0 where the handle is not live, which sets the error.
size_t neuro_tensor_get_numel(const neuro_tensor_t *tensor);

// Bytes of all elements, laid side by side. 0 where the handle is not live, which sets the error.
size_t neuro_tensor_get_nbytes(const neuro_tensor_t *tensor);

// The largest power of two, up to 2 MiB, that divides the address of the first element; on another device than the cpu, its
// place in the piece of memory that the driver gave. 0 where the handle is not live, which sets the error.
size_t neuro_tensor_get_alignment(const neuro_tensor_t *tensor);

// Whether the elements lie side by side in C order. False where the handle is not live, which sets the error.
bool neuro_tensor_is_contiguous(const neuro_tensor_t *tensor);

// Whether writing is forbidden, as for files that are mapped. False where the handle is not live, which sets the error.
bool neuro_tensor_is_readonly(const neuro_tensor_t *tensor);

// Address of the first element, for reading and writing, as long as a tensor shares the storage. Elements lie as the
// strides say. NULL for a read-only tensor, for one that is not on the cpu (`neuro_tensor_to_device` makes a copy there), and
// where the handle is not live, which sets the error.
void *neuro_tensor_get_data(neuro_tensor_t *tensor);

// As `neuro_tensor_get_data`, for reading; read-only tensors have it too.
const void *neuro_tensor_get_const_data(const neuro_tensor_t *tensor);

// Address of the element at `index`, which has one number for each dimension, for reading and writing. `ndim` is
// `neuro_tensor_get_ndim(tensor)`.
//
// Caller: `index` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_at(neuro_tensor_t *tensor, size_t ndim, const int64_t *index, void **out);

// As `neuro_tensor_at`, for reading; read-only tensors have it too.
//
// Caller: As `neuro_tensor_at`.
neuro_status_t neuro_tensor_const_at(const neuro_tensor_t *tensor, size_t ndim, const int64_t *index, const void **out);

// Indices `start`, `start + step` and so on of `axis`, up to but not including `end`: a view, which shares storage. `start` and
// `end` lie in 0 to the length of the axis; for a negative `step`, one lower. Release `*out` once.
neuro_status_t neuro_tensor_slice(const neuro_tensor_t *tensor,
                                  size_t axis,
                                  int64_t start,
                                  int64_t end,
                                  int64_t step,
                                  neuro_tensor_t **out);

// Index `index` of `axis`, without that axis: a view, which shares storage. Release `*out` once.
neuro_status_t neuro_tensor_select(const neuro_tensor_t *tensor, size_t axis, int64_t index, neuro_tensor_t **out);

// The same elements in C order under another shape: a view where strides can say it, else a copy in the default pool.
// Release `*out` once.
//
// Caller: `shape` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_reshape(const neuro_tensor_t *tensor,
                                    size_t ndim,
                                    const int64_t *shape,
                                    neuro_tensor_t **out);

// The axes in reverse order: a view, which shares storage. Release `*out` once.
neuro_status_t neuro_tensor_transpose(const neuro_tensor_t *tensor, neuro_tensor_t **out);

// Dimension `i` of the view is dimension `axes[i]` of `tensor`; shares storage. `axes` names each of the `ndim` dimensions
// once; `ndim` is `neuro_tensor_get_ndim(tensor)`. Release `*out` once.
//
// Caller: `axes` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_permute(const neuro_tensor_t *tensor,
                                    size_t ndim,
                                    const size_t *axes,
                                    neuro_tensor_t **out);

// A tensor with the same elements side by side in C order: `tensor`'s own storage where they lie so already, else a copy
// in the default pool. Release `*out` once.
//
// Caller: A live `tensor` is not released meanwhile, and nobody writes its elements; `out` is NULL or writable.
neuro_status_t neuro_tensor_contiguous(const neuro_tensor_t *tensor,
                                       neuro_tensor_t **out);

// `tensor` on `device`: one that shares its storage where it lies there already, else a contiguous copy in the device's default
// pool. To the cpu, the elements have arrived when the call returns; to another device the copy may still be under way, and what
// is done with `*out` there is ordered behind it. A contiguous tensor of a pool with `NEURO_POOL_GPU_SUPPORT` and a device that
// shares the host's memory need no copy, there or back: both tensors are the same bytes then, and who writes them on one side keeps
// other users of the other away. `neuro_tensor_to_pool` copies in any case. A device that is not there is `NEURO_UNAVAILABLE`.
// Release `*out` once.
//
// Caller: A live `tensor` is not released meanwhile, and nobody writes its elements; `out` is NULL or writable.
neuro_status_t neuro_tensor_to_device(const neuro_tensor_t *tensor,
                                      neuro_device_t device,
                                      neuro_tensor_t **out);

// A contiguous, writable copy in `pool` (NULL: the default pool), on whatever device that is. Within one device, the device
// copies; a view with gaps, and what goes from one device to another, passes through the cpu. Release `*out` once.
//
// Caller: Live handles are not released meanwhile, and nobody writes the elements; `out` is NULL or writable.
neuro_status_t neuro_tensor_to_pool(const neuro_tensor_t *tensor,
                                    neuro_pool_t *pool,
                                    neuro_tensor_t **out);

// A contiguous, writable copy in `pool` (NULL: the default pool). From another device to the cpu only `neuro_tensor_to_pool` and
// `neuro_tensor_to_device` copy. Release `*out` once.
//
// Caller: Live handles are not released meanwhile, and nobody writes the elements; `out` is NULL or writable.
neuro_status_t neuro_tensor_copy(const neuro_tensor_t *tensor,
                                 neuro_pool_t *pool,
                                 neuro_tensor_t **out);

// Copies the elements of `source`, which has the same shape and dtype, to `tensor`. They may overlap.
//
// Caller: nobody else uses the elements of `tensor` or writes those of `source`.
neuro_status_t neuro_tensor_copy_from(neuro_tensor_t *tensor, const neuro_tensor_t *source);

// Copies `bytes` bytes, the elements in C order, from `source` to `tensor`; `bytes` is `neuro_tensor_get_nbytes(tensor)`. The
// tensor is on the cpu: what is on another device is not written from here.
//
// Caller: `source` is readable for `bytes` and no
// part of `tensor`.
neuro_status_t neuro_tensor_copy_from_bytes(neuro_tensor_t *tensor,
                                            const void *source,
                                            size_t bytes);

// Copies the elements of `tensor`, in C order, to the `bytes` bytes at `destination`; `bytes` is
// `neuro_tensor_get_nbytes(tensor)`. From another device than the cpu they come by way of a copy in the default pool.
//
// Caller: A live `tensor` is not released meanwhile, and nobody writes its elements; `destination` is writable for `bytes` and no
// part of `tensor`.
neuro_status_t neuro_tensor_copy_to_bytes(const neuro_tensor_t *tensor,
                                          void *destination,
                                          size_t bytes);

// Sets every element to `value`, rounded where the dtype is floating or complex. What an integer dtype or bool cannot hold
// exactly is `NEURO_INVALID_ARGUMENT`: a fraction, infinity, NaN, a number outside its range.
neuro_status_t neuro_tensor_fill_f64(neuro_tensor_t *tensor,
                                     double value);

// Sets every element to `value`. What the tensor's dtype cannot hold is `NEURO_INVALID_ARGUMENT`.
neuro_status_t neuro_tensor_fill_i64(neuro_tensor_t *tensor, int64_t value);

// As `neuro_tensor_to_device`, while the caller goes on. What is known at once is said at once: a device that is not there, no
// memory; the rest by `neuro_transfer_wait`. Release `*out` once.
//
// Caller: nobody writes its elements until the transfer is over; `out` is NULL or writable.
neuro_status_t neuro_tensor_to_device_async(const neuro_tensor_t *tensor,
                                            neuro_device_t device,
                                            neuro_transfer_t **out);

// As `neuro_tensor_to_pool`, while the caller goes on. Release `*out` once.
//
// Caller: nobody writes the elements until the transfer is over; `out` is NULL or writable.
neuro_status_t neuro_tensor_to_pool_async(const neuro_tensor_t *tensor,
                                          neuro_pool_t *pool,
                                          neuro_transfer_t **out);

// Waits until the tensor is there, and gives a reference to it, to be released once: as often as asked, on any thread. What went
// wrong on the way is told each time.
neuro_status_t neuro_transfer_wait(const neuro_transfer_t *transfer,
                                   neuro_tensor_t **out);

// Whether the transfer is over, well or not: `neuro_transfer_wait` would not wait.
neuro_status_t neuro_transfer_is_done(const neuro_transfer_t *transfer, bool *out);

// Has `callback` called once with `context` and what became of the transfer, now or when it is over, whether or not the handle is
// released before. Any number of callbacks can be asked for. In a child of `fork` none is called.
//
// Caller: any thread may call `callback` with `context` until it has been called.
neuro_status_t neuro_transfer_then(const neuro_transfer_t *transfer,
                                   neuro_transfer_callback_t callback,
                                   void *context);

// One more reference to `transfer`, to be released once.
neuro_status_t neuro_transfer_retain(neuro_transfer_t *transfer);

// One reference to `transfer` less. With the last one nobody waits for it any more: it goes on to its end, and calls whom it was
// asked to. NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_transfer_release(neuro_transfer_t *transfer);

// Waits until all work that was submitted on the storage of `tensor` is done. On the cpu there is none.
neuro_status_t neuro_tensor_synchronize(const neuro_tensor_t *tensor);

// A tensor of the cpu over the same bytes, for memory of a device that the processor reaches; it waits until work on them is done.
// For a tensor of the cpu that is another handle of it. Where the processor does not reach the memory, as on most graphics cards,
// it is `NEURO_UNAVAILABLE`: copy it with `neuro_tensor_to_device`. Release `*out` once.
//
// Caller: who writes on one side keeps other users of the other away, and reads what work of
// the device wrote after `neuro_tensor_synchronize`; `out` is NULL or writable.
neuro_status_t neuro_tensor_map(const neuro_tensor_t *tensor,
                                neuro_tensor_t **out);

// `tensor` for a consumer that knows the structure from before DLPack 1.0. It shares the storage and keeps it alive. Give
// `*out` to one consumer, or call its deleter once. A read-only tensor is `NEURO_EXCHANGE`: the old structure cannot say
// that.
//
// Of a tensor on a Vulkan device the structure says so (kDLVulkan), and its data pointer is no address and no handle: only this
// copy of the library can take it, with `neuro_tensor_from_dlpack`. For others copy the tensor to the cpu first.
//
// Memory of a CUDA device is for a consumer on the legacy default stream: see `neuro_tensor_to_dlpack_on`.
neuro_status_t neuro_tensor_to_dlpack(const neuro_tensor_t *tensor,
                                      struct DLManagedTensor **out);

// As `neuro_tensor_to_dlpack`, in the structure of DLPack 1.x; its flags say whether the tensor is read-only.
neuro_status_t neuro_tensor_to_dlpack_versioned(const neuro_tensor_t *tensor, struct DLManagedTensorVersioned **out);

// As `neuro_tensor_to_dlpack`, for a consumer that uses memory of a CUDA device on `cu_stream`, a `CUstream` (NULL: the legacy default
// stream, as there). The stream is behind what was done with the tensor so far; until the deleter is called, what is done with it here is
// behind what the stream has by then, and the stream's later work behind that; the memory is handed out again behind the stream's work.
// Nobody waits on the host. Without a meaning for memory of other devices.
//
// Caller: `cu_stream` is of the primary context of the tensor's device, and
// stays until the deleter was called.
neuro_status_t neuro_tensor_to_dlpack_on(const neuro_tensor_t *tensor,
                                         void *cu_stream,
                                         struct DLManagedTensor **out);

// As `neuro_tensor_to_dlpack_on`, in the structure of DLPack 1.x.
//
// Caller: As `neuro_tensor_to_dlpack_on`.
neuro_status_t neuro_tensor_to_dlpack_versioned_on(const neuro_tensor_t *tensor,
                                                   void *cu_stream,
                                                   struct DLManagedTensorVersioned **out);

// A tensor over the memory of `managed`, which is taken over on success only: its deleter is called, on any thread, when
// the last tensor that shares the memory is released. What cannot be taken (a device other than the CPU or one of CUDA's, an
// impossible shape, strides that leave the address space) is `NEURO_EXCHANGE` and stays the caller's. Release `*out` once.
//
// Memory of a CUDA device holds what it should behind what the legacy default stream has by now. While it is here, what is done with it is
// behind what that stream has by then, and the stream's later work behind that; the deleter is called when the work here is done.
//
// Memory of a Vulkan device is taken where this copy of the library exported it; then the deleter is called at once, as it is for
// memory of a CUDA device that comes home.
//
// Caller: `managed` is NULL or a structure as DLPack defines it that no one took over before: a second import of the same one
// cannot be told from a first. Its data is readable and writable until the deleter is called; `out` is NULL or writable.
neuro_status_t neuro_tensor_from_dlpack(struct DLManagedTensor *managed,
                                        neuro_tensor_t **out);

// As `neuro_tensor_from_dlpack`, for the structure of DLPack 1.x. The tensor is read-only where its flags say so.
//
// Caller: As `neuro_tensor_from_dlpack`; data that is marked read-only need not be writable.
neuro_status_t neuro_tensor_from_dlpack_versioned(struct DLManagedTensorVersioned *managed, neuro_tensor_t **out);

// As `neuro_tensor_from_dlpack`, of memory that holds what it should behind what `cu_stream` has by now, a `CUstream` of the device's primary
// context (NULL: the legacy default stream). Without a meaning for memory of other devices.
//
// Caller: As `neuro_tensor_from_dlpack`; `cu_stream` is such a stream.
neuro_status_t neuro_tensor_from_dlpack_on(struct DLManagedTensor *managed,
                                           void *cu_stream,
                                           neuro_tensor_t **out);

// As `neuro_tensor_from_dlpack_on`, for the structure of DLPack 1.x.
//
// Caller: As `neuro_tensor_from_dlpack_versioned` and `neuro_tensor_from_dlpack_on`.
neuro_status_t neuro_tensor_from_dlpack_versioned_on(struct DLManagedTensorVersioned *managed,
                                                     void *cu_stream,
                                                     neuro_tensor_t **out);

// Reads all tensors of the file at `path` into `pool` (NULL: the default pool). Release `*out` once.
//
// Caller: `path` is NULL or a string; a live `pool` is not released meanwhile; `out` is NULL or writable.
neuro_status_t neuro_safetensors_load(const char *path, neuro_pool_t *pool, neuro_safetensors_t **out);

// Maps the file at `path`: its tensors are read-only and lie in the file's pages, with no copy. Nobody may shorten or
// overwrite the file while a tensor of it lives. Release `*out` once.
//
// Caller: `path` is NULL or a string; `out` is NULL or writable.
neuro_status_t neuro_safetensors_map(const char *path, neuro_safetensors_t **out);

// One more reference to `file`, to be released once.
neuro_status_t neuro_safetensors_retain(neuro_safetensors_t *file);

// One reference to `file` less. With the last one its tensors are released too; those that were retained live on. NULL
// does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_safetensors_release(neuro_safetensors_t *file);

// Number of tensors. 0 where the handle is not live, which sets the error.
size_t neuro_safetensors_get_count(const neuro_safetensors_t *file);

// Name of tensor `index`, counted from 0 in the order of the file; lives as long as `file`. NULL past the last, and where
// the handle is not live, which sets the error.
const char *neuro_safetensors_get_name(const neuro_safetensors_t *file,
                                       size_t index);

// The text that the writer of the file put beside the tensors under `key`; lives as long as `file`. NULL where there is
// none, which is no error, and where the handle is not live or `key` is NULL, which sets the error.
//
// Caller: `key` is NULL or a string.
const char *neuro_safetensors_get_metadata(const neuro_safetensors_t *file, const char *key);

// The tensor called `name`, borrowed: it lives as long as `file`. Keep it longer with `neuro_tensor_retain`, and release
// only what was retained. An unknown name is `NEURO_OUT_OF_RANGE`.
//
// Caller: `name` is NULL or a string; `out` is NULL or writable.
neuro_status_t neuro_safetensors_get_tensor(const neuro_safetensors_t *file,
                                            const char *name,
                                            neuro_tensor_t **out);

// As `neuro_safetensors_get_tensor`, by its place in the order of the file.
neuro_status_t neuro_safetensors_get_tensor_at(const neuro_safetensors_t *file, size_t index, neuro_tensor_t **out);

// Writes `count` tensors under their names. A file that stands at `path` is replaced as a whole: whoever has it mapped
// keeps the old one, and on failure it stays.
//
// Caller: `path` is NULL or a string; `names` and `tensors` are readable for `count`; each name is NULL or a string; live tensors
// are not released meanwhile, and nobody writes their elements.
neuro_status_t neuro_safetensors_save(const char *path,
                                      const char *const *names,
                                      neuro_tensor_t *const *tensors,
                                      size_t count);

// The memory that `tensor` lies in, for another process to import: a contiguous tensor of a pool that was made with
// `NEURO_POOL_EXPORT`. `out->fd` is the caller's, to be closed once. After a failure it is -1, and all else but `struct_size` zeros.
//
// Waits until what was submitted on the tensor is done. From then on both sides use the same bytes, and nothing orders them but they:
// who has written them waits until that is done, and tells the other. Keep the tensor as long as the other side uses it: its block is
// used again when it is released. Whoever imports one tensor reaches all that lies in the same piece of memory.
neuro_status_t neuro_tensor_export_fd(const neuro_tensor_t *tensor,
                                      neuro_exported_memory_t *out);

// New tensor on `device` in memory that was exported, by this process or another. `memory->fd` stays the caller's, and can be closed.
// Release `*out` once; the memory goes back with the last tensor on it, if nobody else has it.
//
// Memory of another device or driver, and a tensor that does not lie within it, is `NEURO_INVALID_ARGUMENT`; a descriptor of something
// else `NEURO_DRIVER`, as far as the driver can tell; a device that cannot import `NEURO_UNAVAILABLE`.
//
// Caller: `memory` is NULL or readable for its `struct_size`; its `fd`, if it is memory of the device, was exported by this library, and has
// `allocation_bytes` bytes; the elements are values of `dtype` before anybody reads them; while work that uses them is under way on
// one side, the other does not write them; `shape` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_tensor_import_fd(neuro_device_t device,
                                      const neuro_exported_memory_t *memory,
                                      uint32_t dtype,
                                      size_t ndim,
                                      const int64_t *shape,
                                      neuro_tensor_t **out);

// What Vulkan calls `device`, which is opened if it was not. All of `*out` but its `struct_size` is zeros after a failure.
//
// The device has timeline semaphores, and no other feature or extension that has to be asked for: who needs one opens a
// device himself and hands it over to `neuro_vulkan_adopt`.
neuro_status_t neuro_vulkan_get_handles(neuro_device_t device,
                                        neuro_vulkan_handles_t *out);

// The buffer that a tensor on a Vulkan device lies in, and where. All of `*out` but its `struct_size` is zeros after a failure.
neuro_status_t neuro_vulkan_get_buffer(const neuro_tensor_t *tensor,
                                       neuro_vulkan_buffer_t *out);

// Has `work` submit commands that use `count` tensors, in order with all else that is done with them, before and after.
// `access` says of each what is done with it: `NEURO_ACCESS_…`. Nobody waits: what was submitted is under way when this
// returns. Where `work` returns something else than 0, that is `NEURO_DRIVER`, and the message names it.
//
// The tensors are held while `work` runs, so it only submits; record before. Where it returns 0, it has made one submission
// to `turn->queue` that
// - waits for all of `turn->waits` before anything in it touches the tensors, and signals `turn->signal` when it is done;
// - touches only bytes of elements of the tensors, and writes only those named with `NEURO_ACCESS_WRITE`;
// - ends with a barrier that makes its writes visible to the host, to `VK_PIPELINE_STAGE_HOST_BIT` and
//   `VK_ACCESS_HOST_READ_BIT`: tensors may lie in memory that the host reads where it is.
//
// Caller: Live tensors are not released meanwhile, and no other thread copies one to the host while this hands over work that writes
// it; `tensors` and `access` are readable for `count`; `work` does as said.
neuro_status_t neuro_vulkan_with_queue(const neuro_tensor_t *const *tensors,
                                       const uint32_t *access,
                                       size_t count,
                                       neuro_vulkan_work_t work,
                                       void *context);

// Takes up an instance, a device and a queue of the caller: pools and tensors on `*out` are made of its memory, and their
// work goes to its queue. The first is called `vulkan:1000`; a device that is handed over again has the name that it has.
// `*out` is zeros after a failure.
//
// Caller: `theirs` is NULL or readable for its `struct_size`, and the handles are what their fields say. Instance, device, queue and
// `lock_context` stay until the process ends. Whoever else uses the queue holds `lock` meanwhile, and calls nothing of this
// library then; without `lock` nobody else uses it, but in `neuro_vulkan_with_queue`. `out` is NULL or writable.
neuro_status_t neuro_vulkan_adopt(const neuro_vulkan_adopt_t *theirs,
                                  neuro_device_t *out);

// What CUDA calls `device`, which is opened if it was not. All of `*out` but its `struct_size` is zeros after a failure.
neuro_status_t neuro_cuda_get_handles(neuro_device_t device,
                                      neuro_cuda_handles_t *out);

// `CUdeviceptr` of the first element of a tensor on a CUDA device. It is good as long as a tensor shares the storage, and for work that
// was handed over with the tensor by `neuro_cuda_stream_submit`. `*out` is 0 after a failure.
neuro_status_t neuro_cuda_get_pointer(const neuro_tensor_t *tensor,
                                      uint64_t *out);

// Takes up `cu_stream`, a `CUstream` of the device's primary context, in which the CUDA runtime makes its own, too; NULL is the legacy
// default stream. Handles of one `CUstream` are the same stream here; at most five different ones are open on a device at a time.
// Release `*out` once.
//
// Caller: It is such a stream, and stays until the last handle of it is released; `out` is NULL or writable.
neuro_status_t neuro_cuda_stream_open(neuro_device_t device,
                                      void *cu_stream,
                                      neuro_cuda_stream_t **out);

// One more reference to `stream`, to be released once.
neuro_status_t neuro_cuda_stream_retain(neuro_cuda_stream_t *stream);

// One reference to `stream` less. With the last one the library lets the `CUstream` go, which stays its owner's: what is on it goes on.
// NULL does nothing; a release after the last one is `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_cuda_stream_release(neuro_cuda_stream_t *stream);

// Has all that is submitted to the stream from now on wait, on the device, for what was submitted on `tensor`: for its writes where
// `access` is `NEURO_ACCESS_READ`, for its reads too where it is `NEURO_ACCESS_WRITE`. What then uses the tensor is told by
// `neuro_cuda_stream_record`; `neuro_cuda_stream_submit` does both.
neuro_status_t neuro_cuda_stream_wait_for(const neuro_cuda_stream_t *stream,
                                          const neuro_tensor_t *tensor,
                                          uint32_t access);

// The same for a tensor on its way to the stream's device: waits here until its copy was submitted, and on the device until it is there.
neuro_status_t neuro_cuda_stream_wait_for_transfer(const neuro_cuda_stream_t *stream,
                                                   const neuro_transfer_t *transfer);

// Says that what was submitted to the stream up to now uses `tensor`, and how: `NEURO_ACCESS_…`. Its memory is handed out again behind
// that, and what is done with it elsewhere waits.
neuro_status_t neuro_cuda_stream_record(const neuro_cuda_stream_t *stream,
                                        const neuro_tensor_t *tensor,
                                        uint32_t access);

// New tensor, values undefined, in `pool`, one of the stream's device (NULL: its default pool), to be used on this stream first: it may
// be memory that work of this stream uses still, which that work needs no wait for. `shape` has `ndim` lengths of 0 or more and is not
// kept. Release `*out` once.
//
// Caller: `shape` is readable for `ndim`; `out` is NULL or writable.
neuro_status_t neuro_cuda_stream_empty(const neuro_cuda_stream_t *stream,
                                       neuro_pool_t *pool,
                                       uint32_t dtype,
                                       size_t ndim,
                                       const int64_t *shape,
                                       neuro_tensor_t **out);

// Has `work` submit to the stream, behind what else uses the `count` tensors; what uses them next is behind it. `access` says of each
// what is done with it: `NEURO_ACCESS_…`. Nobody waits: what was submitted is under way when this returns. Where `work` returns
// something else than 0, that is `NEURO_DRIVER`, and the message names it.
//
// The tensors are held while `work` runs, so it only submits. Where it returns 0, all that it has submitted is on the stream it was
// given, and touches only bytes of elements of the tensors, writing only those named with `NEURO_ACCESS_WRITE`. Their pointers, from
// `neuro_cuda_get_pointer`, are asked for before.
//
// Caller: Live handles are not released meanwhile, and no other thread copies one of the tensors to the host while this hands over work that
// writes it; `tensors` and `access` are readable for `count`; `work` does as said.
neuro_status_t neuro_cuda_stream_submit(const neuro_cuda_stream_t *stream,
                                        const neuro_tensor_t *const *tensors,
                                        const uint32_t *access,
                                        size_t count,
                                        neuro_cuda_work_t work,
                                        void *context);

// Compiles CUDA C for `device` with NVRTC, loads it there, and finds the kernel called `name`. Where the source is wrong, that is
// `NEURO_INVALID_ARGUMENT`, and the message has what the compiler said; where there is no NVRTC, `NEURO_UNAVAILABLE`, and the message has
// where it was looked for. `options` may be NULL. Release `*out` once.
//
// Caller: `source` and `name` are NULL or strings; `options` is NULL or readable for its `struct_size`, its texts are NULL or strings, its arrays
// readable for their counts; `out` is NULL or writable.
neuro_status_t neuro_cuda_kernel_compile(neuro_device_t device,
                                         const char *source,
                                         const char *name,
                                         const neuro_cuda_compile_options_t *options,
                                         neuro_cuda_kernel_t **out);

// Loads the PTX, or the binary of `nvcc -cubin` or `-fatbin`, that the `image_bytes` at `image` are, and finds the kernel called `name` in
// it. `parameters` are what its declaration has between the parentheses, as `"const float *x, float *y, int n"`: pointers that are not
// `const` are written through. Release `*out` once.
//
// Caller: `image` is NULL or readable for `image_bytes`, and whole: the driver reads a binary to the end that stands in it; `name` and
// `parameters` are NULL or strings; `out` is NULL or writable.
neuro_status_t neuro_cuda_kernel_load(neuro_device_t device,
                                      const void *image,
                                      size_t image_bytes,
                                      const char *name,
                                      const char *parameters,
                                      neuro_cuda_kernel_t **out);

// Another kernel of what `kernel` was compiled or loaded from. NULL `parameters`: they are found in the source, if that was compiled
// here. A name that is not there is `NEURO_DRIVER`. Release `*out` once.
//
// Caller: `name` and `parameters` are NULL or strings; `out` is NULL or writable.
neuro_status_t neuro_cuda_kernel_find(const neuro_cuda_kernel_t *kernel,
                                      const char *name,
                                      const char *parameters,
                                      neuro_cuda_kernel_t **out);

// One more reference to `kernel`, to be released once.
neuro_status_t neuro_cuda_kernel_retain(neuro_cuda_kernel_t *kernel);

// One reference to `kernel` less. Launches that are under way go on. NULL does nothing; a release after the last one is
// `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_cuda_kernel_release(neuro_cuda_kernel_t *kernel);

// Writes the kernel's name and parameters, as `"scale(float* x, float by)"`, to the `size` bytes at `buffer`, as `neuro_device_name` does. 0
// and an empty string after a failure.
//
// Caller: `buffer` is NULL or writable for `size`.
size_t neuro_cuda_kernel_get_signature(const neuro_cuda_kernel_t *kernel,
                                       char *buffer,
                                       size_t size);

// Writes what the compiler remarked, warnings above all, to the `size` bytes at `buffer`, as `neuro_device_name` does. 0 and an empty
// string where there is nothing, and after a failure, which sets the error.
//
// Caller: `buffer` is NULL or writable for `size`.
size_t neuro_cuda_kernel_get_log(const neuro_cuda_kernel_t *kernel,
                                 char *buffer,
                                 size_t size);

// Has NVRTC be looked for in one more place: a file, or the folder that it is in. No effect on one that is in use already.
//
// Caller: `path` is NULL or a string.
neuro_status_t neuro_cuda_add_nvrtc_path(const char *path);

// Blocks of `threads` threads, of which there are at least `elements`: the kernel leaves out those that are too many. For no elements it
// is one block. Set `out->struct_size` first; the rest of `*out` is 0 after a failure.
neuro_status_t neuro_cuda_grid_for_elements(size_t elements,
                                            uint32_t threads,
                                            neuro_cuda_grid_t *out);

// Runs the kernel on its device, in order with all else that is done with the tensors, before and after; on `stream`, or on the library's
// own where that is NULL. Nobody waits: it is under way when this returns, and the tensors may be released.
//
// A tensor goes to a pointer: it lies on the kernel's device, has the pointer's type, is contiguous, and not read-only where the pointer
// is not `const`. A number becomes one of the parameter's type: floats are rounded to the nearest, and nothing else may be lost. The
// message names the parameter that an argument does not go with, and nothing is under way then.
//
// Caller: `grid` is NULL or readable for its `struct_size`; `arguments` is readable for `count`. The
// parameters that were given or found are the kernel's own; run so, it reads and writes only elements of the tensors and memory of its
// own, writes none through a pointer that is `const`, and no `bool` but 0 and 1, and it ends. No other thread copies to the host a tensor
// that it writes while this hands it over.
neuro_status_t neuro_cuda_kernel_launch(const neuro_cuda_kernel_t *kernel,
                                        const neuro_cuda_stream_t *stream,
                                        const neuro_cuda_grid_t *grid,
                                        const neuro_cuda_argument_t *arguments,
                                        size_t count);

// A hook of `pool`, which is of a CUDA device. Release `*out` once; its blocks first.
neuro_status_t neuro_cuda_hook_create(neuro_pool_t *pool, neuro_cuda_hook_t **out);

// One more reference to `hook`, to be released once.
neuro_status_t neuro_cuda_hook_retain(neuro_cuda_hook_t *hook);

// One reference to `hook` less. With the last one its blocks that were not freed are freed. NULL does nothing; a release after the last one is
// `NEURO_INVALID_FREE` and does nothing.
neuro_status_t neuro_cuda_hook_release(neuro_cuda_hook_t *hook);

// Memory of at least `bytes` bytes, aligned to 256, to be used on `cu_stream` from now on: its `CUdeviceptr`. 0 bytes are 0, of which nothing
// has to be freed. `NEURO_DRIVER` where the stream is none of the device, or is captured into a graph.
//
// Caller: `cu_stream` is a `CUstream` of the device's primary context, or NULL for the legacy default stream, and stays until what was allocated,
// freed or recorded on it is freed and `neuro_cuda_hook_forget_stream` was called; a live `hook` is not released meanwhile; `out` is
// NULL or writable.
neuro_status_t neuro_cuda_hook_allocate(neuro_cuda_hook_t *hook,
                                        size_t bytes,
                                        void *cu_stream,
                                        uint64_t *out);

// Gives a block back, behind all that `cu_stream` has by now, and all that streams have by now on which it was recorded. 0 does nothing. What is no
// live block of this hook is `NEURO_INVALID_FREE`, and changes nothing.
//
// Caller: `cu_stream` is as in `neuro_cuda_hook_allocate`, and the one that the block was allocated on, or is ordered behind what uses the block; no
// work is submitted on the block from now on; a live `hook` is not released meanwhile.
neuro_status_t neuro_cuda_hook_free(neuro_cuda_hook_t *hook,
                                    uint64_t address,
                                    void *cu_stream);

// Says that a block is used on `cu_stream`, too: it is handed out again behind all that this stream has when the block is freed.
//
// Caller: `cu_stream` is as in `neuro_cuda_hook_allocate`; a live `hook` is not released meanwhile.
neuro_status_t neuro_cuda_hook_record_stream(neuro_cuda_hook_t *hook,
                                             uint64_t address,
                                             void *cu_stream);

// Lets go of a stream that its owner is about to destroy. What was allocated on it is freed before.
//
// Caller: A live `hook` is not released meanwhile.
neuro_status_t neuro_cuda_hook_forget_stream(neuro_cuda_hook_t *hook, void *cu_stream);

// Frees of this process, through hooks of any kind, that were refused since they named no live block.
uint64_t neuro_cuda_hook_get_refused_frees(void);

// What CuPy's `CFunctionAllocator` takes as `malloc`; `hook`, a `neuro_cuda_hook_t *`, is its `param`. CuPy does not say on which stream it uses the memory, so
// it is good on the legacy default stream and on those that wait for it, which are ordered behind what used it before all together; not on streams
// that were made to be non-blocking. `nm.hooks.cupy` heeds streams. NULL where there is no memory, with a line on standard error: CuPy does not look.
//
// Caller: A live `hook` is not released meanwhile.
void *neuro_cupy_malloc(void *hook,
                        size_t bytes,
                        int32_t device);

// What CuPy's `CFunctionAllocator` takes as `free`. What is no live block is refused, with a line on standard error.
//
// Caller: No work is submitted on the block from now on; a live `hook` is not released meanwhile.
void neuro_cupy_free(void *hook, void *pointer, int32_t device);

// Binds one of sixteen numbers to `pool`, which is of a CUDA device, so that the functions of that number allocate from it: `neuro_torch_alloc_0` of 0.
// A pool that is bound already for the same kind of failure (`NEURO_TORCH_…`) gets its number again. `NEURO_UNAVAILABLE` where all are
// bound. `*out` is 0 after a failure. Give the number back once, with `neuro_torch_unbind`.
neuro_status_t neuro_torch_bind(neuro_pool_t *pool,
                                uint32_t on_failure,
                                uint32_t *out);

// Gives a number back. It stays bound as long as a block lives that was allocated through it. `NEURO_INVALID_FREE` for one that is not bound.
neuro_status_t neuro_torch_unbind(uint32_t slot);

// For torch's `set_begin_allocate_to_pool`: throws, since blocks of a graph are used whenever the graph runs, and not only in the order of streams.
void neuro_torch_refuse_graph(void);

// The function of this header called `name`, as `"neuro_pool_create"`; NULL and an error where there is none.
//
// In a C extension of Python, `PyCapsule_Import("neuro_memory._C_API", 0)` gives the address of this function itself.
//
// Caller: `name` is NULL or ends in NUL.
neuro_function_t neuro_find_function(const char *name);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* NEURO_MEMORY_H */

// What PyTorch's CUDAPluggableAllocator takes, sixteen of each: those of number N allocate from the pool that `neuro_torch_bind` gave N for.
// alloc: NULL for 0 bytes; what a failure is, was said to `neuro_torch_bind`. `device` is the number of the pool's device.
// free: of whatever address; one that is no live block is refused, with a line on standard error. Size and device are not looked at.
// record_stream (for set_record_stream_fn): the block is used on that stream, too, until it is freed. A failure throws where that was asked
// for, and is a line on standard error else; the memory is never handed out again then.
// empty_cache (for set_reset_fn): waits for the streams that it knows, and gives unused memory of the pool back to the device.
// Caller: a stream is a cudaStream_t of the device's primary context, or NULL, and stays until what was allocated on it is freed and the number is bound
// no more, as those do that PyTorch makes itself.
#ifdef __cplusplus
extern "C" {
#endif

void *neuro_torch_alloc_0(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_0(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_0(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_0(void);
void *neuro_torch_alloc_1(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_1(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_1(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_1(void);
void *neuro_torch_alloc_2(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_2(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_2(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_2(void);
void *neuro_torch_alloc_3(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_3(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_3(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_3(void);
void *neuro_torch_alloc_4(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_4(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_4(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_4(void);
void *neuro_torch_alloc_5(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_5(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_5(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_5(void);
void *neuro_torch_alloc_6(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_6(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_6(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_6(void);
void *neuro_torch_alloc_7(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_7(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_7(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_7(void);
void *neuro_torch_alloc_8(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_8(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_8(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_8(void);
void *neuro_torch_alloc_9(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_9(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_9(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_9(void);
void *neuro_torch_alloc_10(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_10(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_10(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_10(void);
void *neuro_torch_alloc_11(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_11(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_11(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_11(void);
void *neuro_torch_alloc_12(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_12(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_12(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_12(void);
void *neuro_torch_alloc_13(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_13(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_13(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_13(void);
void *neuro_torch_alloc_14(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_14(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_14(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_14(void);
void *neuro_torch_alloc_15(size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_free_15(void *pointer, size_t bytes, int32_t device, void *cu_stream);
void neuro_torch_record_stream_15(void *pointer, void *cu_stream);
void neuro_torch_empty_cache_15(void);

#ifdef __cplusplus
}  // extern "C"
#endif
