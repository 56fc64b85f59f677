//! Calls by the names that the driver documents, for programs that ask for them one by one.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use super::address_of;
use crate::codes::{Code, INVALID_VALUE, SUCCESS};
use crate::gate::give;

/// `CU_GET_PROC_ADDRESS_SUCCESS` and `CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND`.
const FOUND: c_int = 0;
const NOT_THERE: c_int = 1;

/// The newest of that name; of what version it is asked for makes no difference, as there is one of each.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn cuGetProcAddress_v2(
    name: *const c_char,
    address: *mut *mut c_void,
    _: c_int,
    _: u64,
    status: *mut c_int,
) -> Code {
    if name.is_null() || address.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: the caller's contract.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let found = address_of(&format!("{name}_v2")).or_else(|| address_of(&name));
    // SAFETY: the caller's contract; who gives null does not want to know how it went.
    unsafe {
        let _ = give(address, found.map_or(std::ptr::null_mut(), NonNull::as_ptr));
        let _ = give(status, if found.is_some() { FOUND } else { NOT_THERE });
    }
    SUCCESS
}
