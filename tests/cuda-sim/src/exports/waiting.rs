//! Calls without a stream: on the legacy default stream, and the host waits for the copies.

use std::ffi::{c_uchar, c_uint, c_void};

use super::copy::{
    cuMemcpyDtoDAsync_v2, cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2, cuMemsetD8Async, cuMemsetD32Async,
};
use super::stream::cuStreamSynchronize;
use crate::codes::{Code, SUCCESS};
use crate::handle::Handle;

const LEGACY: Handle = 1;

fn wait_after(submitted: Code) -> Code {
    if submitted != SUCCESS {
        return submitted;
    }
    // SAFETY: that stream is always there.
    unsafe { cuStreamSynchronize(LEGACY) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> Code {
    // SAFETY: the caller's contract.
    wait_after(unsafe { cuMemcpyHtoDAsync_v2(to, from, bytes, LEGACY) })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> Code {
    // SAFETY: the caller's contract.
    wait_after(unsafe { cuMemcpyDtoHAsync_v2(to, from, bytes, LEGACY) })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> Code {
    // SAFETY: the caller's contract.
    unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, LEGACY) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemsetD8_v2(address: u64, value: c_uchar, count: usize) -> Code {
    // SAFETY: the caller's contract.
    unsafe { cuMemsetD8Async(address, value, count, LEGACY) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuMemsetD32_v2(address: u64, value: c_uint, count: usize) -> Code {
    // SAFETY: the caller's contract.
    unsafe { cuMemsetD32Async(address, value, count, LEGACY) }
}
