//! The calls, as C has them.
//!
//! Every one of them is `unsafe` in the same way: addresses that are answered through are null or have room for the answer, and those
//! that are read have what the driver's documentation says. "The caller's contract" below is that. Everything else may be wrong: it
//! is what this library is there to find.

#![allow(non_snake_case, reason = "the driver's names")]

mod context;
mod control;
mod copy;
mod event;
mod host;
mod memory;
mod module;
mod named;
mod range;
mod start;
mod stream;
mod waiting;

use std::ffi::c_void;
use std::ptr::NonNull;

macro_rules! table {
    ($($module:ident: $($name:ident)*;)*) => {
        /// The address of a call, by the name that the driver's library exports.
        #[must_use]
        pub fn address_of(name: &str) -> Option<NonNull<c_void>> {
            let address = match name {
                $($(stringify!($name) => $module::$name as *mut c_void,)*)*
                _ => return None,
            };
            NonNull::new(address)
        }

        /// The names of all calls.
        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$($(stringify!($name)),*),*];
    };
}

table! {
    named: cuGetProcAddress_v2;
    start: cuInit cuDriverGetVersion cuGetExportTable cuGetErrorName cuGetErrorString cuDeviceGetCount cuDeviceGet cuDeviceGetName
        cuDeviceTotalMem_v2 cuDeviceGetAttribute cuDeviceGetUuid_v2 cuDeviceCanAccessPeer;
    context: cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuCtxPushCurrent_v2 cuCtxPopCurrent_v2 cuCtxGetCurrent
        cuCtxSetCurrent cuCtxGetDevice cuCtxSynchronize cuCtxEnablePeerAccess
        cuCtxGetStreamPriorityRange;
    memory: cuMemGetInfo_v2 cuMemAlloc_v2 cuMemFree_v2 cuPointerGetAttribute;
    host: cuMemHostAlloc cuMemFreeHost cuMemHostRegister_v2 cuMemHostUnregister cuMemHostGetDevicePointer_v2;
    copy: cuMemcpyAsync cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyPeerAsync cuMemsetD8Async
        cuMemsetD32Async;
    stream: cuStreamCreate cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamSynchronize cuStreamQuery cuStreamWaitEvent
        cuStreamGetCtx cuStreamIsCapturing cuLaunchHostFunc;
    waiting: cuMemcpyHtoD_v2 cuMemcpyDtoH_v2 cuMemcpyDtoD_v2 cuMemsetD8_v2 cuMemsetD32_v2;
    event: cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventQuery cuEventSynchronize cuEventElapsedTime;
    range: cuMemAddressReserve cuMemAddressFree cuMemGetAllocationGranularity cuMemCreate cuMemRelease cuMemMap cuMemUnmap
        cuMemSetAccess;
    module: cuModuleLoadDataEx cuModuleUnload cuModuleGetFunction cuFuncSetAttribute cuLaunchKernel;
}
