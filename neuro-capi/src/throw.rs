//! A C++ exception, for callers in C++ that look for nothing else.
//!
//! Nothing of C++ is linked: the run-time library that the process has is found when an exception is thrown. Where there is none, there is no C++ to
//! catch it either.

use std::ffi::{CStr, c_char, c_void};

type Allocate = unsafe extern "C-unwind" fn(usize) -> *mut c_void;
type Construct = unsafe extern "C-unwind" fn(*mut c_void, *const c_char);
type Throw = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *mut c_void) -> !;

/// `std::runtime_error` has a table and a string that counts its users: 16 bytes, in both libraries that there are.
const BYTES: usize = 64;

/// The run-time library of C++.
struct Cpp {
    allocate: Allocate,
    construct: Construct,
    destroy: *mut c_void,
    kind: *mut c_void,
    throw: Throw,
}

impl Cpp {
    /// The one of this process, if it has one.
    fn find() -> Option<Self> {
        // By name among those that are loaded, since Python loads extensions so that names of theirs are found by nobody else.
        let loaded = [c"libstdc++.so.6", c"libc++.so.1"].map(|name| {
            // SAFETY: ends in NUL; nothing is loaded.
            unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) }
        });
        let handles = loaded.into_iter().filter(|handle| !handle.is_null());
        let find = |handle| {
            Self::of(|name| {
                // SAFETY: an open handle, or the process itself; the name ends in NUL.
                let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
                (!address.is_null()).then_some(address)
            })
        };
        handles.chain([libc::RTLD_DEFAULT]).find_map(find)
    }

    fn of(address_of: impl Fn(&CStr) -> Option<*mut c_void>) -> Option<Self> {
        let (allocate, construct) = (
            address_of(c"__cxa_allocate_exception")?,
            address_of(c"_ZNSt13runtime_errorC1EPKc")?,
        );
        let throw = address_of(c"__cxa_throw")?;
        // SAFETY: the functions of these names have these types, by the C++ ABI of this platform.
        unsafe {
            Some(Self {
                allocate: std::mem::transmute::<*mut c_void, Allocate>(allocate),
                construct: std::mem::transmute::<*mut c_void, Construct>(construct),
                destroy: address_of(c"_ZNSt13runtime_errorD1Ev")?,
                kind: address_of(c"_ZTISt13runtime_error")?,
                throw: std::mem::transmute::<*mut c_void, Throw>(throw),
            })
        }
    }
}

/// Throws `std::runtime_error` with these words. Returns where this process has no C++.
///
/// No frame between this and the caller in C++ forbids it: those are of the ABI "C-unwind", or Rust's own.
pub(crate) fn throw(words: &CStr) {
    let Some(cpp) = Cpp::find() else { return };
    // SAFETY: room for the object; its constructor copies the words; its type and its destructor are those of that constructor.
    unsafe {
        let error = (cpp.allocate)(BYTES);
        (cpp.construct)(error, words.as_ptr());
        (cpp.throw)(error, cpp.kind, cpp.destroy)
    }
}
