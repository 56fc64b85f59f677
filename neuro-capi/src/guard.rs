//! The way in and out of every function of the interface: panics, NULL, handles, arrays, strings.
//!
//! Invariants: C1, C2 and C3 of the crate are kept here and nowhere else.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use neuro_core::shape::MAX_NDIM;

use crate::handles::Table;
use crate::status::{
    Failure, NEURO_BAD_SHAPE, NEURO_INVALID_FREE, NEURO_OK, NEURO_OUT_OF_MEMORY, NEURO_OUT_OF_RANGE, NEURO_PANIC,
    Result, neuro_last_error, neuro_status_t, remember,
};
use crate::structs::{self, SizedStruct};

/// A kind of handle: the type C sees, and the table of what it stands for.
pub(crate) trait Handle: Sized + Send + Sync + 'static {
    /// The opaque C type.
    type Opaque;
    /// Its name, for messages.
    const NAME: &'static str;
    /// All of them.
    fn table() -> &'static Table<Self>;
}

/// Runs `body`; an error or a panic becomes a status and the thread's last error.
pub(crate) fn status(body: impl FnOnce() -> Result<()>) -> neuro_status_t {
    match caught(body) {
        Ok(()) => NEURO_OK,
        Err(status) => status,
    }
}

/// Runs `body` for a function that returns a value; after an error or a panic the value is `neutral`.
pub(crate) fn value<R>(neutral: R, body: impl FnOnce() -> Result<R>) -> R {
    caught(body).unwrap_or(neutral)
}

/// Runs `body` and gives what it returns to `*out`, which is `neutral` before and stays so on failure.
///
/// # Safety
/// `out` is NULL or writable.
pub(crate) unsafe fn give<R>(
    op: &'static str,
    out: *mut R,
    neutral: R,
    body: impl FnOnce() -> Result<R>,
) -> neuro_status_t {
    if out.is_null() {
        return status(|| Err(null(op, "out")));
    }
    // SAFETY: not NULL, and then writable by this function's condition.
    unsafe { out.write(neutral) };
    status(|| {
        let value = body()?;
        // SAFETY: as above.
        unsafe { out.write(value) };
        Ok(())
    })
}

/// As [`give`], for a struct that begins with its size: all of `*out` but that is 0 before, and stays so on failure.
///
/// # Safety
/// `out` is NULL or writable for its `struct_size`.
pub(crate) unsafe fn give_struct<T: SizedStruct>(
    op: &'static str,
    out: *mut T,
    body: impl FnOnce() -> Result<T>,
) -> neuro_status_t {
    status(|| {
        if out.is_null() {
            return Err(null(op, "out"));
        }
        // SAFETY: not NULL; writable for its `struct_size` by this function's condition.
        unsafe {
            structs::write(op, out, &structs::zeroed())?;
            structs::write(op, out, &body()?)
        }
    })
}

/// Writes the text that `body` makes, and a NUL, to the `size` bytes at `buffer`, cut off before the character that does not fit,
/// and gives the bytes that all of it has without the NUL. After an error or a panic that is 0, and the text is empty.
///
/// # Safety
/// `buffer` is NULL or writable for `size`.
pub(crate) unsafe fn give_text(
    op: &'static str,
    buffer: *mut c_char,
    size: usize,
    body: impl FnOnce() -> Result<String>,
) -> usize {
    value(0, || {
        if size == 0 {
            return Ok(body()?.len());
        }
        if buffer.is_null() {
            return Err(null(op, "buffer"));
        }
        // SAFETY: not NULL, and then writable for `size`, which is 1 at least.
        unsafe { buffer.write(0) };
        let text = body()?;
        let fits = fitting(&text, size - 1);
        // SAFETY: `fits < size`, so `buffer` is writable for `fits` bytes and the NUL; the text is Rust's own.
        unsafe {
            ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, fits);
            buffer.add(fits).write(0);
        }
        Ok(text.len())
    })
}

/// As [`give`], for a function that makes a new handle with one reference.
///
/// # Safety
/// `out` is NULL or writable.
pub(crate) unsafe fn give_handle<T: Handle>(
    op: &'static str,
    out: *mut *mut T::Opaque,
    body: impl FnOnce() -> Result<T>,
) -> neuro_status_t {
    // SAFETY: forwarded condition.
    unsafe { give(op, out, ptr::null_mut(), || new_handle(op, body)) }
}

/// A handle, with one reference, for what `make` makes; `make` is not called where no handle can be had.
pub(crate) fn new_handle<T: Handle>(op: &'static str, make: impl FnOnce() -> Result<T>) -> Result<*mut T::Opaque> {
    let full = || {
        let message = format!("{op}: no more handles of {} can be made; release some first", T::NAME);
        Failure::new(NEURO_OUT_OF_MEMORY, message)
    };
    T::table().insert(make, full).map(ptr::without_provenance_mut)
}

/// What `handle` stands for.
///
/// # Safety
/// Where `handle` is live, a reference to it is held for all of `'a`.
pub(crate) unsafe fn live<'a, T: Handle>(op: &'static str, handle: *const T::Opaque) -> Result<&'a T> {
    // SAFETY: forwarded condition.
    unsafe { T::table().get(handle.addr()) }.map_err(|_| not_live::<T>(op, handle))
}

/// References to `handle`.
pub(crate) fn count<T: Handle>(op: &'static str, handle: *const T::Opaque) -> Result<usize> {
    let count = T::table().count(handle.addr()).map_err(|_| not_live::<T>(op, handle))?;
    Ok(count as usize)
}

/// The body of every `_retain`.
pub(crate) fn retain<T: Handle>(op: &'static str, handle: *mut T::Opaque) -> neuro_status_t {
    status(|| T::table().retain(handle.addr()).map_err(|_| not_live::<T>(op, handle)))
}

/// The body of every `_release`: NULL is fine, and what is not live is an error that changes nothing.
pub(crate) fn release<T: Handle>(op: &'static str, handle: *mut T::Opaque) -> neuro_status_t {
    if handle.is_null() {
        return NEURO_OK;
    }
    status(|| match T::table().release(handle.addr()) {
        // The value, if it comes back, is dropped here: outside the table.
        Ok(_) => Ok(()),
        Err(_) => Err(Failure {
            status: NEURO_INVALID_FREE,
            ..not_live::<T>(op, handle)
        }),
    })
}

/// `length` elements at `first`; no elements need no array.
///
/// # Safety
/// `first` is NULL, or readable for `length` elements that nobody writes during `'a`.
pub(crate) unsafe fn array<'a, T>(
    op: &'static str,
    name: &'static str,
    first: *const T,
    length: usize,
) -> Result<&'a [T]> {
    if length == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(null(op, name));
    }
    if length > isize::MAX as usize / size_of::<T>().max(1) || !first.is_aligned() {
        return Err(Failure::argument(
            op,
            format_args!("{name} is no array of {length} elements"),
        ));
    }
    // SAFETY: not NULL, aligned and at most isize::MAX bytes by the checks above; readable and unchanged by this
    // function's condition; C's integers and pointers have no invalid values.
    Ok(unsafe { std::slice::from_raw_parts(first, length) })
}

/// The C string at `text`, which must be UTF-8.
///
/// # Safety
/// `text` is NULL or ends in NUL, and nobody writes it during `'a`.
pub(crate) unsafe fn text<'a>(op: &'static str, name: &'static str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: forwarded condition.
    unsafe { string(op, name, text) }?
        .to_str()
        .map_err(|_| Failure::argument(op, format_args!("{name} is not UTF-8")))
}

/// The C string at `text`.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn string<'a>(op: &'static str, name: &'static str, text: *const c_char) -> Result<&'a CStr> {
    if text.is_null() {
        return Err(null(op, name));
    }
    // SAFETY: not NULL; ends in NUL and is unchanged by this function's condition.
    Ok(unsafe { CStr::from_ptr(text) })
}

/// A shape that C gave as `ndim` signed numbers.
///
/// # Safety
/// `lengths` is NULL, or readable for `ndim` numbers that nobody writes during `'a`.
pub(crate) unsafe fn shape<'a>(op: &'static str, ndim: usize, lengths: *const i64) -> Result<&'a [usize]> {
    if ndim > MAX_NDIM {
        return Err(Failure::argument(
            op,
            format_args!("{ndim} dimensions; there can be at most {MAX_NDIM}"),
        ));
    }
    // SAFETY: forwarded condition.
    let lengths = unsafe { array(op, "shape", lengths, ndim) }?;
    unsigned(lengths).map_err(|_| {
        let message = format!("{op}: shape {lengths:?} has a negative length; lengths are 0 or more");
        Failure::new(NEURO_BAD_SHAPE, message)
    })
}

/// One index for each dimension, that C gave as `ndim` signed numbers.
///
/// # Safety
/// `indices` is NULL, or readable for `ndim` numbers that nobody writes during `'a`.
pub(crate) unsafe fn indices<'a>(op: &'static str, ndim: usize, indices: *const i64) -> Result<&'a [usize]> {
    // SAFETY: forwarded condition.
    unsigned(unsafe { array(op, "index", indices, ndim) }?).map_err(|negative| negative_index(op, negative))
}

/// Refuses another number of `what` than the tensor has dimensions, before any of them is read: a wrong count says that
/// the array may be shorter.
pub(crate) fn one_for_each(op: &'static str, what: &str, given: usize, ndim: usize) -> Result<()> {
    if given == ndim {
        return Ok(());
    }
    Err(Failure::argument(
        op,
        format_args!("{given} {what} for {ndim} dimensions; give one for each"),
    ))
}

/// An index that C gave as a signed number.
pub(crate) fn index(op: &'static str, index: i64) -> Result<usize> {
    usize::try_from(index).map_err(|_| negative_index(op, index))
}

fn negative_index(op: &'static str, index: i64) -> Failure {
    Failure::new(
        NEURO_OUT_OF_RANGE,
        format!("{op}: index {index} is negative; indices count from 0"),
    )
}

/// The same numbers without a sign, or the first negative one.
fn unsigned(numbers: &[i64]) -> std::result::Result<&[usize], i64> {
    match numbers.iter().find(|&&number| number < 0) {
        Some(&negative) => Err(negative),
        // SAFETY: both types have 64 bits (`handles` asserts it) and the same alignment, and every pattern is valid for
        // both; the slice stays borrowed as it was.
        None => Ok(unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), numbers.len()) }),
    }
}

/// The most bytes of `text`, up to `room`, that end with a character.
pub(crate) fn fitting(text: &str, room: usize) -> usize {
    let mut fits = room.min(text.len());
    while !text.is_char_boundary(fits) {
        fits -= 1;
    }
    fits
}

/// One line on standard error, with the last error: for callbacks that cannot return one.
pub(crate) fn say_last_error() {
    // SAFETY: a C string until this thread's next failing call.
    let words = unsafe { CStr::from_ptr(neuro_last_error()) };
    let line = format!("neuro-memory: {}\n", words.to_string_lossy());
    // Where nobody reads it, nobody can be told.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

fn null(op: &'static str, name: &'static str) -> Failure {
    Failure::argument(op, format_args!("{name} is NULL"))
}

fn not_live<T: Handle>(op: &'static str, handle: *const T::Opaque) -> Failure {
    if handle.is_null() {
        return Failure::argument(op, format_args!("the {} is NULL", T::NAME));
    }
    let address = handle.addr();
    Failure::argument(
        op,
        format_args!("{address:#x} is no live {}: it was released, or never was one", T::NAME),
    )
}

fn caught<R>(body: impl FnOnce() -> Result<R>) -> std::result::Result<R, neuro_status_t> {
    // AssertUnwindSafe: what a panic leaves half done lies behind the core's own locks, which poison or restore; this
    // crate keeps no state of its own but the handle tables, whose steps cannot panic half way.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => {
            let status = failure.status;
            remember(failure);
            Err(status)
        }
        Err(payload) => {
            let message = format!("bug in neuro_memory, please report: {}", panic_text(&*payload));
            remember(Failure::new(NEURO_PANIC, message));
            // A payload is any value; should its drop panic too, it must not do so here.
            std::mem::forget(payload);
            Err(NEURO_PANIC)
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::NEURO_INVALID_ARGUMENT;

    fn last_error() -> String {
        // SAFETY: the pointer is a C string until this thread's next failing call.
        unsafe { CStr::from_ptr(neuro_last_error()) }
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(status(|| panic!("on purpose {}", 1)), NEURO_PANIC);
        assert!(
            last_error().ends_with("please report: on purpose 1"),
            "{}",
            last_error()
        );
        assert_eq!(value(7, || panic!("on purpose 2")), 7);
        assert!(last_error().ends_with("on purpose 2"));
    }

    #[test]
    fn out_is_neutral_after_a_failure() {
        let mut out = 5;
        // SAFETY: `out` is writable.
        let failed = unsafe { give("op", &mut out, 0, || Err(null("op", "x"))) };
        assert_eq!((failed, out), (NEURO_INVALID_ARGUMENT, 0));
        // SAFETY: `out` is writable.
        let panicked = unsafe { give("op", &mut out, 0, || panic!("on purpose")) };
        assert_eq!((panicked, out), (NEURO_PANIC, 0));
        // SAFETY: NULL is allowed.
        let no_out = unsafe { give("op", ptr::null_mut(), 0, || Ok(1)) };
        assert_eq!(no_out, NEURO_INVALID_ARGUMENT);
        assert_eq!(last_error(), "op: out is NULL");
    }
}
