//! Functions by name, for a caller that does not link the library: a C extension of Python, through the capsule
//! `neuro_memory._C_API`.

use std::ffi::c_char;

use crate::contents::*;
use crate::cuda::*;
use crate::cuda_hook::*;
use crate::cuda_kernel::*;
use crate::cuda_launch::*;
use crate::device::*;
use crate::discovery::*;
use crate::dlpack::*;
use crate::dtype::*;
use crate::facts::*;
use crate::guard;
use crate::options::*;
use crate::pool::*;
use crate::safetensors::*;
use crate::scope::*;
use crate::share::*;
use crate::stats::*;
use crate::status::*;
use crate::tensor::*;
use crate::torch_hook::*;
use crate::transfer::*;
use crate::version::*;
use crate::view::*;
use crate::vulkan::*;

/// Any function of this header: cast it to its own type before calling it.
pub type neuro_function_t = Option<unsafe extern "C" fn()>;

/// The function of this header called `name`, as `"neuro_pool_create"`; NULL and an error where there is none.
///
/// In a C extension of Python, `PyCapsule_Import("neuro_memory._C_API", 0)` gives the address of this function itself.
///
/// # Safety
/// `name` is NULL or ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_find_function(name: *const c_char) -> neuro_function_t {
    const OP: &str = "neuro_find_function";
    guard::value(None, || {
        // SAFETY: the caller's promise.
        let name = unsafe { guard::text(OP, "name", name)? };
        match FUNCTIONS.binary_search_by_key(&name, |function| function.0) {
            // SAFETY: a function pointer of one type as one of another: of the same size, and not called as this one.
            Ok(at) => Ok(Some(unsafe {
                std::mem::transmute::<*const (), unsafe extern "C" fn()>(FUNCTIONS[at].1.0)
            })),
            Err(_) => Err(Failure::argument(
                OP,
                format_args!(
                    "no function is called {name:?} in version {}",
                    env!("CARGO_PKG_VERSION")
                ),
            )),
        }
    })
}

/// The address of a function.
struct Address(*const ());

// SAFETY: code is the same for all threads and never changes.
unsafe impl Sync for Address {}

macro_rules! functions {
    ($($name:ident)*) => { &[$((stringify!($name), Address($name as *const ()))),*] };
}

/// By name, in order.
static FUNCTIONS: &[(&str, Address)] = functions! {
    neuro_abi_version
    neuro_clear_error
    neuro_cuda_add_nvrtc_path
    neuro_cuda_get_handles
    neuro_cuda_get_pointer
    neuro_cuda_grid_for_elements
    neuro_cuda_hook_allocate
    neuro_cuda_hook_create
    neuro_cuda_hook_forget_stream
    neuro_cuda_hook_free
    neuro_cuda_hook_get_refused_frees
    neuro_cuda_hook_record_stream
    neuro_cuda_hook_release
    neuro_cuda_hook_retain
    neuro_cuda_kernel_compile
    neuro_cuda_kernel_find
    neuro_cuda_kernel_get_log
    neuro_cuda_kernel_get_signature
    neuro_cuda_kernel_launch
    neuro_cuda_kernel_load
    neuro_cuda_kernel_release
    neuro_cuda_kernel_retain
    neuro_cuda_stream_empty
    neuro_cuda_stream_open
    neuro_cuda_stream_record
    neuro_cuda_stream_release
    neuro_cuda_stream_retain
    neuro_cuda_stream_submit
    neuro_cuda_stream_wait_for
    neuro_cuda_stream_wait_for_transfer
    neuro_cupy_free
    neuro_cupy_malloc
    neuro_device_from_name
    neuro_device_get_count
    neuro_device_get_info
    neuro_device_get_missing
    neuro_device_name
    neuro_dtype_from_name
    neuro_dtype_name
    neuro_dtype_size
    neuro_find_function
    neuro_get_stats
    neuro_last_error
    neuro_last_status
    neuro_pool_allocate
    neuro_pool_allocate_zeroed
    neuro_pool_check
    neuro_pool_create
    neuro_pool_default
    neuro_pool_fail_nth
    neuro_pool_free
    neuro_pool_get_device
    neuro_pool_get_gpu_support
    neuro_pool_get_stats
    neuro_pool_of_device
    neuro_pool_reallocate
    neuro_pool_release
    neuro_pool_reset_peak
    neuro_pool_retain
    neuro_pool_scope_begin
    neuro_pool_trim
    neuro_safetensors_get_count
    neuro_safetensors_get_metadata
    neuro_safetensors_get_name
    neuro_safetensors_get_tensor
    neuro_safetensors_get_tensor_at
    neuro_safetensors_load
    neuro_safetensors_map
    neuro_safetensors_release
    neuro_safetensors_retain
    neuro_safetensors_save
    neuro_scope_end
    neuro_scope_get
    neuro_scope_reset
    neuro_shutdown
    neuro_status_name
    neuro_tensor_at
    neuro_tensor_const_at
    neuro_tensor_contiguous
    neuro_tensor_copy
    neuro_tensor_copy_from
    neuro_tensor_copy_from_bytes
    neuro_tensor_copy_to_bytes
    neuro_tensor_create
    neuro_tensor_empty
    neuro_tensor_export_fd
    neuro_tensor_fill_f64
    neuro_tensor_fill_i64
    neuro_tensor_from_dlpack
    neuro_tensor_from_dlpack_on
    neuro_tensor_from_dlpack_versioned
    neuro_tensor_from_dlpack_versioned_on
    neuro_tensor_get_alignment
    neuro_tensor_get_const_data
    neuro_tensor_get_data
    neuro_tensor_get_device
    neuro_tensor_get_dtype
    neuro_tensor_get_nbytes
    neuro_tensor_get_ndim
    neuro_tensor_get_numel
    neuro_tensor_get_shape
    neuro_tensor_get_strides
    neuro_tensor_import_fd
    neuro_tensor_is_contiguous
    neuro_tensor_is_readonly
    neuro_tensor_map
    neuro_tensor_permute
    neuro_tensor_refcount
    neuro_tensor_release
    neuro_tensor_reshape
    neuro_tensor_retain
    neuro_tensor_select
    neuro_tensor_slice
    neuro_tensor_synchronize
    neuro_tensor_to_device
    neuro_tensor_to_device_async
    neuro_tensor_to_dlpack
    neuro_tensor_to_dlpack_on
    neuro_tensor_to_dlpack_versioned
    neuro_tensor_to_dlpack_versioned_on
    neuro_tensor_to_pool
    neuro_tensor_to_pool_async
    neuro_tensor_transpose
    neuro_tensor_use_count
    neuro_tensor_zeros
    neuro_torch_alloc_0
    neuro_torch_alloc_1
    neuro_torch_alloc_10
    neuro_torch_alloc_11
    neuro_torch_alloc_12
    neuro_torch_alloc_13
    neuro_torch_alloc_14
    neuro_torch_alloc_15
    neuro_torch_alloc_2
    neuro_torch_alloc_3
    neuro_torch_alloc_4
    neuro_torch_alloc_5
    neuro_torch_alloc_6
    neuro_torch_alloc_7
    neuro_torch_alloc_8
    neuro_torch_alloc_9
    neuro_torch_bind
    neuro_torch_empty_cache_0
    neuro_torch_empty_cache_1
    neuro_torch_empty_cache_10
    neuro_torch_empty_cache_11
    neuro_torch_empty_cache_12
    neuro_torch_empty_cache_13
    neuro_torch_empty_cache_14
    neuro_torch_empty_cache_15
    neuro_torch_empty_cache_2
    neuro_torch_empty_cache_3
    neuro_torch_empty_cache_4
    neuro_torch_empty_cache_5
    neuro_torch_empty_cache_6
    neuro_torch_empty_cache_7
    neuro_torch_empty_cache_8
    neuro_torch_empty_cache_9
    neuro_torch_free_0
    neuro_torch_free_1
    neuro_torch_free_10
    neuro_torch_free_11
    neuro_torch_free_12
    neuro_torch_free_13
    neuro_torch_free_14
    neuro_torch_free_15
    neuro_torch_free_2
    neuro_torch_free_3
    neuro_torch_free_4
    neuro_torch_free_5
    neuro_torch_free_6
    neuro_torch_free_7
    neuro_torch_free_8
    neuro_torch_free_9
    neuro_torch_record_stream_0
    neuro_torch_record_stream_1
    neuro_torch_record_stream_10
    neuro_torch_record_stream_11
    neuro_torch_record_stream_12
    neuro_torch_record_stream_13
    neuro_torch_record_stream_14
    neuro_torch_record_stream_15
    neuro_torch_record_stream_2
    neuro_torch_record_stream_3
    neuro_torch_record_stream_4
    neuro_torch_record_stream_5
    neuro_torch_record_stream_6
    neuro_torch_record_stream_7
    neuro_torch_record_stream_8
    neuro_torch_record_stream_9
    neuro_torch_refuse_graph
    neuro_torch_unbind
    neuro_transfer_is_done
    neuro_transfer_release
    neuro_transfer_retain
    neuro_transfer_then
    neuro_transfer_wait
    neuro_trim
    neuro_version
    neuro_vulkan_adopt
    neuro_vulkan_get_buffer
    neuro_vulkan_get_handles
    neuro_vulkan_with_queue
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_header_is_found_by_its_name() {
        let header = include_str!("../../include/neuro_memory.h");
        let comment = |line: &str| {
            ["//", "/*", "*"]
                .iter()
                .any(|start| line.trim_start().starts_with(start))
        };
        let code = header.lines().filter(|line| !comment(line));
        let declared: Vec<&str> = code
            .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '(')))
            .filter_map(|word| {
                word.strip_suffix('(')
                    .or_else(|| word.split_once('(').map(|(name, _)| name))
            })
            .filter(|name| name.starts_with("neuro_"))
            .collect();
        assert!(declared.len() > 60);
        for name in &declared {
            let text = std::ffi::CString::new(*name).unwrap();
            // SAFETY: ends in NUL.
            assert!(unsafe { neuro_find_function(text.as_ptr()) }.is_some(), "{name}");
        }
        assert_eq!(FUNCTIONS.len(), declared.len());
    }

    #[test]
    fn what_is_found_can_be_called_and_what_is_not_there_is_null() {
        // SAFETY: ends in NUL.
        let found = unsafe { neuro_find_function(c"neuro_abi_version".as_ptr()) }.unwrap();
        // SAFETY: the type of the function of that name.
        let version = unsafe { std::mem::transmute::<unsafe extern "C" fn(), extern "C" fn() -> u32>(found) };
        assert_eq!(version(), NEURO_ABI_VERSION);
        for name in [c"", c"neuro_", c"malloc"] {
            // SAFETY: ends in NUL.
            assert!(unsafe { neuro_find_function(name.as_ptr()) }.is_none());
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { neuro_find_function(std::ptr::null()) }.is_none());
    }
}
