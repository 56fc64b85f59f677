//! Element types: their codes, names and sizes.

use std::ffi::c_char;

use neuro_core::DType;

use crate::guard;
use crate::status::neuro_status_t;

/// One byte, 0 or 1.
pub const NEURO_DTYPE_BOOL: u32 = 1;
/// Unsigned 8-bit.
pub const NEURO_DTYPE_UINT8: u32 = 2;
/// Unsigned 16-bit.
pub const NEURO_DTYPE_UINT16: u32 = 3;
/// Unsigned 32-bit.
pub const NEURO_DTYPE_UINT32: u32 = 4;
/// Unsigned 64-bit.
pub const NEURO_DTYPE_UINT64: u32 = 5;
/// Signed 8-bit.
pub const NEURO_DTYPE_INT8: u32 = 6;
/// Signed 16-bit.
pub const NEURO_DTYPE_INT16: u32 = 7;
/// Signed 32-bit.
pub const NEURO_DTYPE_INT32: u32 = 8;
/// Signed 64-bit.
pub const NEURO_DTYPE_INT64: u32 = 9;
/// IEEE 754 binary16.
pub const NEURO_DTYPE_FLOAT16: u32 = 10;
/// The upper half of a binary32.
pub const NEURO_DTYPE_BFLOAT16: u32 = 11;
/// IEEE 754 binary32: `float`.
pub const NEURO_DTYPE_FLOAT32: u32 = 12;
/// IEEE 754 binary64: `double`.
pub const NEURO_DTYPE_FLOAT64: u32 = 13;
/// Two `float`: real, imaginary.
pub const NEURO_DTYPE_COMPLEX64: u32 = 14;
/// Two `double`: real, imaginary.
pub const NEURO_DTYPE_COMPLEX128: u32 = 15;

/// The header's codes beside the core's types, which must agree.
const CODES: [(u32, DType); 15] = [
    (NEURO_DTYPE_BOOL, DType::Bool),
    (NEURO_DTYPE_UINT8, DType::U8),
    (NEURO_DTYPE_UINT16, DType::U16),
    (NEURO_DTYPE_UINT32, DType::U32),
    (NEURO_DTYPE_UINT64, DType::U64),
    (NEURO_DTYPE_INT8, DType::I8),
    (NEURO_DTYPE_INT16, DType::I16),
    (NEURO_DTYPE_INT32, DType::I32),
    (NEURO_DTYPE_INT64, DType::I64),
    (NEURO_DTYPE_FLOAT16, DType::F16),
    (NEURO_DTYPE_BFLOAT16, DType::BF16),
    (NEURO_DTYPE_FLOAT32, DType::F32),
    (NEURO_DTYPE_FLOAT64, DType::F64),
    (NEURO_DTYPE_COMPLEX64, DType::C64),
    (NEURO_DTYPE_COMPLEX128, DType::C128),
];
const _: () = {
    assert!(CODES.len() == DType::ALL.len());
    let mut i = 0;
    while i < CODES.len() {
        assert!(CODES[i].0 == CODES[i].1.code());
        i += 1;
    }
};

/// Bytes of one element. 0 for an unknown code, which sets the error.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_dtype_size(dtype: u32) -> usize {
    guard::value(0, || Ok(DType::from_code(dtype)?.size()))
}

/// The name that NumPy, PyTorch and JAX use, as `"float32"`. Static. NULL for an unknown code, which sets the error.
#[unsafe(no_mangle)]
pub extern "C" fn neuro_dtype_name(dtype: u32) -> *const c_char {
    guard::value(std::ptr::null(), || Ok(c_name(DType::from_code(dtype)?)))
}

/// The code of the dtype called `name`. `*out` is 0 where none is.
///
/// # Safety
/// `name` is NULL or a string; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn neuro_dtype_from_name(name: *const c_char, out: *mut u32) -> neuro_status_t {
    const OP: &str = "neuro_dtype_from_name";
    // SAFETY: `out` as this function's condition says.
    unsafe {
        guard::give(OP, out, 0, || {
            // SAFETY: `name` as this function's condition says.
            let name = guard::text(OP, "name", name)?;
            Ok(name.parse::<DType>()?.code())
        })
    }
}

fn c_name(dtype: DType) -> *const c_char {
    match dtype {
        DType::Bool => c"bool",
        DType::U8 => c"uint8",
        DType::U16 => c"uint16",
        DType::U32 => c"uint32",
        DType::U64 => c"uint64",
        DType::I8 => c"int8",
        DType::I16 => c"int16",
        DType::I32 => c"int32",
        DType::I64 => c"int64",
        DType::F16 => c"float16",
        DType::BF16 => c"bfloat16",
        DType::F32 => c"float32",
        DType::F64 => c"float64",
        DType::C64 => c"complex64",
        DType::C128 => c"complex128",
    }
    .as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn names_are_the_cores() {
        for &dtype in DType::ALL {
            // SAFETY: `c_name` gives static C strings.
            assert_eq!(unsafe { CStr::from_ptr(c_name(dtype)) }.to_str().unwrap(), dtype.name());
        }
    }
}
