//! Shared libraries that are opened when they are asked for, so that a machine without them still runs what was built with them.
//!
//! Invariant L1: a library that was opened stays until the process ends. What it gave away stays valid.

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// An open library.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library(NonNull<c_void>);

// SAFETY: a handle may be used from any thread, and is never closed (L1).
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// Who finds the names of a library that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Names {
    /// Who asks this handle.
    Own,
    /// Libraries that are opened later, too.
    Everybodys,
}

impl Library {
    /// Opens a library: by its path, or by a name that the loader looks for.
    ///
    /// # Errors
    /// What the loader said.
    ///
    /// # Safety
    /// What the library does when it is loaded is harmless to this process.
    pub(crate) unsafe fn open(name: &Path, names: Names) -> Result<Self, String> {
        let name =
            CString::new(name.as_os_str().as_bytes()).map_err(|_| "the name has a zero byte in it".to_owned())?;
        let scope = match names {
            Names::Own => libc::RTLD_LOCAL,
            Names::Everybodys => libc::RTLD_GLOBAL,
        };
        // SAFETY: the name ends with a zero byte; the rest is by contract.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | scope) };
        NonNull::new(handle).map(Self).ok_or_else(why)
    }

    /// The address of something that it exports.
    pub(crate) fn address_of(self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is open (L1), and the name ends with a zero byte.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

/// What the loader said of this thread's last call that failed.
fn why() -> String {
    // SAFETY: no argument; what it returns stays until the next call of the loader by this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: not null, and the loader ends it with a zero byte.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The file that `address` was loaded from.
pub(crate) fn file_of(address: NonNull<c_void>) -> Option<PathBuf> {
    // SAFETY: addresses and a pointer to a name, for which zero is a value.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: any address may be asked about, and `info` is there to be written.
    let found: c_int = unsafe { libc::dladdr(address.as_ptr(), &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: where it is found the name is not null, and ends with a zero byte.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(std::ffi::OsString::from_vec(name.to_bytes().to_vec())))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_opens_and_names_its_file() {
        // SAFETY: the C library, which the process has already.
        let library = unsafe { Library::open(Path::new("libc.so.6"), Names::Own) }.unwrap();
        let address = library.address_of(c"malloc").unwrap();
        assert!(file_of(address).unwrap().to_string_lossy().contains("libc"));
        assert!(library.address_of(c"no such call").is_none());
    }

    #[test]
    fn what_is_not_there_is_named() {
        for name in ["libnothing-of-this-name.so.7", "/nowhere/libnothing.so"] {
            // SAFETY: nothing is loaded.
            let error = unsafe { Library::open(Path::new(name), Names::Everybodys) }.unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        // SAFETY: as above.
        assert!(unsafe { Library::open(Path::new("lib\0c.so.6"), Names::Own) }.is_err());
    }
}
