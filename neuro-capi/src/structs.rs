//! Structs that begin with `size_t struct_size`, so that programs and libraries of different versions understand each other.
//!
//! A caller with an older header gives a shorter struct: what it lacks counts as 0 going in, and is not written coming out.
//! A caller with a newer header gives a longer one: going in, what this library does not know must be 0; coming out, it is.
//!
//! Invariant: types that come through here hold integers and nullable pointers only, with no padding, and begin with
//! their `struct_size`.

use std::ptr;

use crate::status::{Failure, Result};

/// No struct of this interface will be longer; a `struct_size` above it was never set.
const MAX_STRUCT: usize = 4096;

/// A struct of this interface that begins with its size.
///
/// # Safety
/// `repr(C)`; the first field is `struct_size: usize`; no padding; all zeros is a valid value, and so is every other
/// pattern of bits.
pub(crate) unsafe trait SizedStruct: Copy {}

/// All fields 0.
pub(crate) fn zeroed<T: SizedStruct>() -> T {
    // SAFETY: all zeros is a valid `T`.
    unsafe { std::mem::zeroed() }
}

/// The options at `from`; all 0 for NULL.
///
/// # Safety
/// `from` is NULL, or readable for as many bytes as its first `size_t` says.
pub(crate) unsafe fn read<T: SizedStruct>(op: &'static str, from: *const T) -> Result<T> {
    let mut options: T = zeroed();
    if from.is_null() {
        return Ok(options);
    }
    // SAFETY: forwarded condition.
    let given = unsafe { struct_size(op, from.cast()) }?;
    let known = given.min(size_of::<T>());
    // SAFETY: `from` is readable for `given >= known` bytes; `options` is writable for `size_of::<T>() >= known`; any bits
    // make a valid `T`; one is a local variable, so they don't overlap.
    unsafe { ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut options).cast(), known) };
    for offset in known..given {
        // SAFETY: `offset < given`, and `from` is readable for that many bytes.
        if unsafe { from.cast::<u8>().add(offset).read() } != 0 {
            return Err(Failure::argument(
                op,
                format_args!(
                    "an option beyond byte {known} is set, and this library knows none there; run it with the library \
                     that its header came with"
                ),
            ));
        }
    }
    Ok(options)
}

/// Writes `value` to `*to`, all but its `struct_size`.
///
/// # Safety
/// `to` is not NULL, and writable for as many bytes as its first `size_t` says.
pub(crate) unsafe fn write<T: SizedStruct>(op: &'static str, to: *mut T, value: &T) -> Result<()> {
    // SAFETY: forwarded condition.
    let given = unsafe { struct_size(op, to.cast()) }?;
    let (from, to) = (ptr::from_ref(value).cast::<u8>(), to.cast::<u8>());
    let (first, known) = (size_of::<usize>(), given.min(size_of::<T>()));
    // SAFETY: `first <= known <= size_of::<T>()`, so `from` is readable there; `to` is writable for `given >= known`
    // bytes and not part of `value`, which nobody else writes.
    unsafe { ptr::copy_nonoverlapping(from.add(first), to.add(first), known - first) };
    // SAFETY: `known..given` lies within the `given` writable bytes.
    unsafe { to.add(known).write_bytes(0, given - known) };
    Ok(())
}

/// # Safety
/// `at` is readable for a `size_t`, not necessarily aligned.
unsafe fn struct_size(op: &'static str, at: *const usize) -> Result<usize> {
    // SAFETY: as this function's condition says.
    let given = unsafe { at.read_unaligned() };
    if (size_of::<usize>()..=MAX_STRUCT).contains(&given) {
        return Ok(given);
    }
    Err(Failure::argument(
        op,
        format_args!("struct_size is {given}; set it to sizeof of the struct before the call"),
    ))
}
