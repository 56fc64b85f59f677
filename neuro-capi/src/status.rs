//! Status codes, and the last error of each thread.
//!
//! Codes are only ever added; a number keeps its meaning for good.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use neuro_core::Error;

/// What a call came to: `NEURO_OK`, or why it failed. `neuro_last_error()` has the words.
pub type neuro_status_t = i32;

/// All went well.
pub const NEURO_OK: neuro_status_t = 0;
/// An argument that can never be right: NULL where a pointer is needed, a handle that is not live, a bad option.
pub const NEURO_INVALID_ARGUMENT: neuro_status_t = 1;
/// A pool's limit is reached, its free space is in pieces, or the system gave no more.
pub const NEURO_OUT_OF_MEMORY: neuro_status_t = 2;
/// An unknown dtype code or name, or another dtype than the tensor has.
pub const NEURO_BAD_DTYPE: neuro_status_t = 3;
/// A negative or overflowing shape, or shapes that do not go together.
pub const NEURO_BAD_SHAPE: neuro_status_t = 4;
/// An index, a range or an axis outside the tensor.
pub const NEURO_OUT_OF_RANGE: neuro_status_t = 5;
/// A write to memory that may only be read.
pub const NEURO_READ_ONLY: neuro_status_t = 6;
/// A view with gaps where contiguous memory is needed.
pub const NEURO_NOT_CONTIGUOUS: neuro_status_t = 7;
/// Memory that somebody else can change.
pub const NEURO_SHARED: neuro_status_t = 8;
/// A device, a driver or a function that is not there.
pub const NEURO_UNAVAILABLE: neuro_status_t = 9;
/// A free or a release of what is not live. Nothing was changed.
pub const NEURO_INVALID_FREE: neuro_status_t = 10;
/// Memory that cannot be exchanged with another library.
pub const NEURO_EXCHANGE: neuro_status_t = 11;
/// A file that could not be read or written.
pub const NEURO_IO: neuro_status_t = 12;
/// A file whose contents are not what they claim.
pub const NEURO_FORMAT: neuro_status_t = 13;
/// Something this version cannot do.
pub const NEURO_UNSUPPORTED: neuro_status_t = 14;
/// A bug of this library, caught at its border. Please report the message.
pub const NEURO_PANIC: neuro_status_t = 15;
/// A pool in debug mode found memory written that nobody may write.
pub const NEURO_CORRUPTED: neuro_status_t = 16;
/// A device that is gone for good, and what was on it too: its driver gave it up, or this process is a forked child, which has
/// no devices.
pub const NEURO_DEVICE_LOST: neuro_status_t = 17;
/// A device's driver refused a call.
pub const NEURO_DRIVER: neuro_status_t = 18;

/// Names of the codes, each with its NUL, by code.
const NAMES: [&CStr; 19] = [
    c"NEURO_OK",
    c"NEURO_INVALID_ARGUMENT",
    c"NEURO_OUT_OF_MEMORY",
    c"NEURO_BAD_DTYPE",
    c"NEURO_BAD_SHAPE",
    c"NEURO_OUT_OF_RANGE",
    c"NEURO_READ_ONLY",
    c"NEURO_NOT_CONTIGUOUS",
    c"NEURO_SHARED",
    c"NEURO_UNAVAILABLE",
    c"NEURO_INVALID_FREE",
    c"NEURO_EXCHANGE",
    c"NEURO_IO",
    c"NEURO_FORMAT",
    c"NEURO_UNSUPPORTED",
    c"NEURO_PANIC",
    c"NEURO_CORRUPTED",
    c"NEURO_DEVICE_LOST",
    c"NEURO_DRIVER",
];

thread_local! {
    static LAST: RefCell<(neuro_status_t, CString)> = RefCell::new((NEURO_OK, CString::default()));
}

/// Why a call failed: an error of the core, or of this border.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Its code, never [`NEURO_OK`].
    pub(crate) status: neuro_status_t,
    /// What `neuro_last_error` will say.
    pub(crate) message: String,
}

/// What the body of a function returns.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// An argument that `op` cannot take.
    pub(crate) fn argument(op: &str, what: impl std::fmt::Display) -> Self {
        Self::new(NEURO_INVALID_ARGUMENT, format!("{op}: {what}"))
    }

    /// A failure of this border, where no variant of the core's error fits.
    pub(crate) fn new(status: neuro_status_t, message: String) -> Self {
        Self { status, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(code(&error), error.to_string())
    }
}

/// The code for an error of the core.
fn code(error: &Error) -> neuro_status_t {
    match error {
        Error::InvalidArgument { .. } | Error::UnknownDevice { .. } => NEURO_INVALID_ARGUMENT,
        Error::OutOfMemory { .. } => NEURO_OUT_OF_MEMORY,
        Error::UnknownDType { .. } | Error::DTypeMismatch { .. } => NEURO_BAD_DTYPE,
        Error::SizeOverflow { .. } | Error::ShapeMismatch { .. } => NEURO_BAD_SHAPE,
        Error::OutOfRange { .. } => NEURO_OUT_OF_RANGE,
        Error::ReadOnly { .. } => NEURO_READ_ONLY,
        Error::NotContiguous { .. } => NEURO_NOT_CONTIGUOUS,
        Error::Shared { .. } => NEURO_SHARED,
        Error::Unavailable { .. } => NEURO_UNAVAILABLE,
        Error::InvalidFree { .. } => NEURO_INVALID_FREE,
        Error::Exchange { .. } => NEURO_EXCHANGE,
        Error::Io { .. } => NEURO_IO,
        Error::Format { .. } => NEURO_FORMAT,
        Error::Corrupted { .. } => NEURO_CORRUPTED,
        Error::DeviceLost { .. } => NEURO_DEVICE_LOST,
        Error::Driver { .. } => NEURO_DRIVER,
        Error::KernelArgument { why, .. } => code(why),
        // The core may gain variants before this file learns of them.
        _ => NEURO_UNSUPPORTED,
    }
}

/// Writes down why a call of this thread failed.
pub(crate) fn remember(failure: Failure) {
    // A message is built from paths and names, so it could hold a NUL; C would read it up to there.
    let message = CString::new(failure.message.replace('\0', "\\0")).unwrap_or_default();
    // Nothing to tell where the thread is past its thread-local storage: the status itself still goes back.
    let _ = LAST.try_with(|last| last.replace((failure.status, message)));
}

/// Why the last failing call of this thread failed, in words. Never NULL; empty where none failed. Valid until the next
/// failing call of this thread, its next `neuro_clear_error`, or its end.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().1.as_ptr()).unwrap_or(c"".as_ptr())
}

/// The status of the last failing call of this thread; `NEURO_OK` where none failed. For the getters, which return values
/// and no status.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_last_status() -> neuro_status_t {
    LAST.try_with(|last| last.borrow().0).unwrap_or(NEURO_OK)
}

/// Forgets the last error of this thread. What `neuro_last_error` gave before is not valid any more.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_clear_error() {
    let _ = LAST.try_with(|last| last.replace((NEURO_OK, CString::default())));
}

/// The name of a status code, as in this header. Static; `"unknown status"` for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_status_name(status: neuro_status_t) -> *const c_char {
    usize::try_from(status)
        .ok()
        .and_then(|index| NAMES.get(index))
        .map_or(c"unknown status".as_ptr(), |name| name.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pointer: *const c_char) -> String {
        // SAFETY: the functions above return strings that end in NUL and live until the next failing call.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn each_thread_has_its_own_error() {
        remember(Failure::new(NEURO_IO, "here".to_owned()));
        std::thread::spawn(|| {
            assert_eq!(
                (neuro_last_status(), text(neuro_last_error())),
                (NEURO_OK, String::new())
            );
            remember(Failure::new(NEURO_FORMAT, "there".to_owned()));
        })
        .join()
        .unwrap();
        assert_eq!(
            (neuro_last_status(), text(neuro_last_error())),
            (NEURO_IO, "here".to_owned())
        );
        neuro_clear_error();
        assert_eq!(
            (neuro_last_status(), text(neuro_last_error())),
            (NEURO_OK, String::new())
        );
    }

    #[test]
    fn a_nul_does_not_cut_the_message() {
        remember(Failure::new(NEURO_IO, "a\0b".to_owned()));
        assert_eq!(text(neuro_last_error()), "a\\0b");
    }

    #[test]
    fn an_argument_of_a_kernel_has_the_code_of_what_is_wrong_with_it() {
        let error = Error::KernelArgument {
            kernel: "add".to_owned(),
            position: 2,
            parameter: "float* y".to_owned(),
            why: Box::new(Error::ReadOnly { op: "launch" }),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.status, NEURO_READ_ONLY);
        assert_eq!(
            failure.message,
            "kernel add: argument 2 (float* y): launch: the tensor is read-only; copy it first"
        );
    }

    #[test]
    fn codes_have_names() {
        assert_eq!(text(neuro_status_name(NEURO_OK)), "NEURO_OK");
        assert_eq!(text(neuro_status_name(NEURO_FORMAT)), "NEURO_FORMAT");
        assert_eq!(text(neuro_status_name(NEURO_PANIC)), "NEURO_PANIC");
        assert_eq!(text(neuro_status_name(NEURO_CORRUPTED)), "NEURO_CORRUPTED");
        assert_eq!(text(neuro_status_name(NEURO_DEVICE_LOST)), "NEURO_DEVICE_LOST");
        assert_eq!(text(neuro_status_name(NEURO_DRIVER)), "NEURO_DRIVER");
        assert_eq!(text(neuro_status_name(19)), "unknown status");
        assert_eq!(text(neuro_status_name(-1)), "unknown status");
    }
}
