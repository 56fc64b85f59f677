//! Which version this is.

use std::ffi::{CStr, c_char};

/// The number of the binary interface. A program that was compiled against another number must not run with this library.
pub const NEURO_ABI_VERSION: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no NUL in it"),
};

/// The version of the library that runs, as `"0.1.0"`; `NEURO_VERSION_MAJOR` and so on are those of the header. Static.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_version() -> *const c_char {
    VERSION.as_ptr()
}

/// `NEURO_ABI_VERSION` of the library that runs.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_abi_version() -> u32 {
    NEURO_ABI_VERSION
}
