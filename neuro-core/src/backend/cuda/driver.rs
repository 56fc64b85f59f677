//! The calls of the CUDA driver that are used, as a table of addresses.
//!
//! Handles are numbers here and codes are raw: a newer driver may return codes that no list has. What an older driver lacks of the
//! optional calls costs the feature that needs them and nothing else, so each is asked for by the feature ([`Driver::registers`] and
//! the like) before it is called.
//!
//! Source: the driver interface as documented by NVIDIA, versions 11.0 to 13.0. Names end in `_v2` where the plain name is an older
//! call with narrower types.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `CUresult`.
pub(crate) type Code = u32;
/// `CUdevice`.
pub(super) type DeviceNumber = c_int;
/// `CUcontext`, `CUstream`, `CUevent`, `CUmodule`, `CUfunction`: addresses that only the driver follows.
pub(crate) type Handle = usize;
/// `CUdeviceptr`.
pub(crate) type Address = u64;
/// `CUmemGenericAllocationHandle`.
pub(super) type MemoryHandle = u64;

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    /// `CU_MEM_LOCATION_TYPE_DEVICE` is 1.
    pub(super) kind: c_uint,
    pub(super) id: c_int,
}

/// `CUmemAllocationProp`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct AllocationProp {
    /// `CU_MEM_ALLOCATION_TYPE_PINNED` is 1.
    pub(super) kind: c_uint,
    /// `CU_MEM_HANDLE_TYPE_NONE` is 0.
    pub(super) handle_types: c_uint,
    pub(super) location: Location,
    pub(super) win32_metadata: usize,
    /// Compression, GPUDirect, usage, and 4 bytes for later.
    pub(super) flags: [u8; 8],
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct AccessDesc {
    pub(super) location: Location,
    /// `CU_MEM_ACCESS_FLAGS_PROT_READWRITE` is 3.
    pub(super) flags: c_uint,
}

/// Makes the table: calls that every driver must have, and those that it may lack.
macro_rules! driver {
    (required { $($name:ident = $symbol:literal: fn($($argument:ty),*);)* } optional { $($may:ident = $may_symbol:literal: fn($($may_argument:ty),*);)* }) => {
        /// Addresses of calls. All of them may be called from any thread as long as the library is open, which it is for good.
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct Driver {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) -> Code,)*
            $(pub(super) $may: Option<unsafe extern "C" fn($($may_argument),*) -> Code>,)*
        }

        impl Driver {
            /// The table, of what `address_of` says for each name.
            ///
            /// # Errors
            /// The name of a call that is needed and is not there.
            ///
            /// # Safety
            /// What `address_of` gives for a name is the call of that name, and stays.
            pub(crate) unsafe fn of(mut address_of: impl FnMut(&str) -> Option<std::ptr::NonNull<c_void>>) -> Result<Self, &'static str> {
                $(
                    let $name = address_of($symbol).ok_or($symbol)?;
                    // SAFETY: by contract the address of a function of this type.
                    let $name = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> Code>($name.as_ptr()) };
                )*
                $(
                    let $may = address_of($may_symbol).map(|address| {
                        // SAFETY: as above.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($may_argument),*) -> Code>(address.as_ptr()) }
                    });
                )*
                Ok(Self { $($name,)* $($may,)* })
            }
        }

        /// The names of all calls, those that must be there first.
        #[cfg(all(test, not(loom)))]
        pub(super) const NAMES: (&[&str], &[&str]) = (&[$($symbol),*], &[$($may_symbol),*]);
    };
}

driver! {
    required {
        init = "cuInit": fn(c_uint);
        driver_version = "cuDriverGetVersion": fn(*mut c_int);
        device_count = "cuDeviceGetCount": fn(*mut c_int);
        device_get = "cuDeviceGet": fn(*mut DeviceNumber, c_int);
        device_name = "cuDeviceGetName": fn(*mut c_char, c_int, DeviceNumber);
        device_memory = "cuDeviceTotalMem_v2": fn(*mut usize, DeviceNumber);
        device_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_uint, DeviceNumber);
        context_retain = "cuDevicePrimaryCtxRetain": fn(*mut Handle, DeviceNumber);
        context_release = "cuDevicePrimaryCtxRelease_v2": fn(DeviceNumber);
        context_push = "cuCtxPushCurrent_v2": fn(Handle);
        context_pop = "cuCtxPopCurrent_v2": fn(*mut Handle);
        context_synchronize = "cuCtxSynchronize": fn();
        memory_info = "cuMemGetInfo_v2": fn(*mut usize, *mut usize);
        memory_alloc = "cuMemAlloc_v2": fn(*mut Address, usize);
        memory_free = "cuMemFree_v2": fn(Address);
        host_alloc = "cuMemHostAlloc": fn(*mut *mut c_void, usize, c_uint);
        host_free = "cuMemFreeHost": fn(*mut c_void);
        copy = "cuMemcpyAsync": fn(Address, Address, usize, Handle);
        fill_u32 = "cuMemsetD32Async": fn(Address, c_uint, usize, Handle);
        stream_create = "cuStreamCreate": fn(*mut Handle, c_uint);
        stream_destroy = "cuStreamDestroy_v2": fn(Handle);
        stream_synchronize = "cuStreamSynchronize": fn(Handle);
        stream_wait = "cuStreamWaitEvent": fn(Handle, Handle, c_uint);
        event_create = "cuEventCreate": fn(*mut Handle, c_uint);
        event_destroy = "cuEventDestroy_v2": fn(Handle);
        event_record = "cuEventRecord": fn(Handle, Handle);
        event_query = "cuEventQuery": fn(Handle);
        event_synchronize = "cuEventSynchronize": fn(Handle);
    }
    optional {
        error_name = "cuGetErrorName": fn(Code, *mut *const c_char);
        error_string = "cuGetErrorString": fn(Code, *mut *const c_char);
        device_uuid = "cuDeviceGetUuid_v2": fn(*mut [u8; 16], DeviceNumber);
        host_register = "cuMemHostRegister_v2": fn(*mut c_void, usize, c_uint);
        host_unregister = "cuMemHostUnregister": fn(*mut c_void);
        peer_can_access = "cuDeviceCanAccessPeer": fn(*mut c_int, DeviceNumber, DeviceNumber);
        peer_enable = "cuCtxEnablePeerAccess": fn(Handle, c_uint);
        peer_copy = "cuMemcpyPeerAsync": fn(Address, Handle, Address, Handle, usize, Handle);
        pointer_attribute = "cuPointerGetAttribute": fn(*mut c_void, c_uint, Address);
        stream_context = "cuStreamGetCtx": fn(Handle, *mut Handle);
        stream_is_capturing = "cuStreamIsCapturing": fn(Handle, *mut c_uint);
        range_reserve = "cuMemAddressReserve": fn(*mut Address, usize, usize, Address, u64);
        range_free = "cuMemAddressFree": fn(Address, usize);
        granularity = "cuMemGetAllocationGranularity": fn(*mut usize, *const AllocationProp, c_uint);
        piece_create = "cuMemCreate": fn(*mut MemoryHandle, usize, *const AllocationProp, u64);
        piece_release = "cuMemRelease": fn(MemoryHandle);
        piece_map = "cuMemMap": fn(Address, usize, usize, MemoryHandle, u64);
        piece_unmap = "cuMemUnmap": fn(Address, usize);
        piece_access = "cuMemSetAccess": fn(Address, usize, *const AccessDesc, usize);
        module_load = "cuModuleLoadDataEx": fn(*mut Handle, *const c_void, c_uint, *const c_uint, *mut *mut c_void);
        module_unload = "cuModuleUnload": fn(Handle);
        module_function = "cuModuleGetFunction": fn(*mut Handle, Handle, *const c_char);
        function_attribute = "cuFuncSetAttribute": fn(Handle, c_int, c_int);
        launch = "cuLaunchKernel": fn(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *const *mut c_void, *const *mut c_void);
    }
}
