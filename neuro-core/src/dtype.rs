//! `DType`, the element types at run time, and `Element`, the Rust types that have one.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};
use num_complex::Complex;

use crate::error::{Error, Result};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $rust:ty;)*) => {
        /// The type of a tensor's elements.
        ///
        /// The numbers are the codes of the C header and never change.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum DType { $($(#[$doc])* $name = $code),* }

        impl DType {
            /// All of them, by code.
            pub const ALL: &'static [DType] = &[$(DType::$name),*];

            /// The name NumPy, PyTorch and JAX use: `float32`, `bfloat16`, …
            pub const fn name(self) -> &'static str {
                match self { $(DType::$name => $text),* }
            }

            /// Bytes of one element.
            pub const fn size(self) -> usize {
                match self { $(DType::$name => size_of::<$rust>()),* }
            }

            /// Alignment of one element in bytes.
            pub const fn align(self) -> usize {
                match self { $(DType::$name => align_of::<$rust>()),* }
            }

            pub(crate) fn names() -> &'static str { concat!($($text, " "),*).trim_ascii_end() }
        }

        $(
            // SAFETY: `DTYPE` is the code that the table above pairs with this very type, so size and alignment agree (E1);
            // the type is Copy, has no padding (E2), and every bit pattern is valid but for `bool`, whose bytes the
            // readers in `tensor/` check (E3).
            unsafe impl Element for $rust { const DTYPE: DType = DType::$name; }
        )*
    };
}

/// A Rust type that can be the element of a tensor.
///
/// # Safety
/// E1: `Self` has the size and alignment of `DTYPE`. E2: it has no padding. E3: every bit pattern is a valid value, or
/// `DTYPE` is [`DType::Bool`] and the bytes 0 and 1 are valid.
pub unsafe trait Element: Copy + Send + Sync + 'static {
    /// Its run-time name.
    const DTYPE: DType;
}

dtypes! {
    /// One byte, 0 or 1.
    Bool = 1, "bool", bool;
    /// Unsigned 8-bit.
    U8 = 2, "uint8", u8;
    /// Unsigned 16-bit.
    U16 = 3, "uint16", u16;
    /// Unsigned 32-bit.
    U32 = 4, "uint32", u32;
    /// Unsigned 64-bit.
    U64 = 5, "uint64", u64;
    /// Signed 8-bit.
    I8 = 6, "int8", i8;
    /// Signed 16-bit.
    I16 = 7, "int16", i16;
    /// Signed 32-bit.
    I32 = 8, "int32", i32;
    /// Signed 64-bit.
    I64 = 9, "int64", i64;
    /// IEEE 754 binary16.
    F16 = 10, "float16", f16;
    /// bfloat16: the upper half of a binary32.
    BF16 = 11, "bfloat16", bf16;
    /// IEEE 754 binary32.
    F32 = 12, "float32", f32;
    /// IEEE 754 binary64.
    F64 = 13, "float64", f64;
    /// Two binary32: real, imaginary.
    C64 = 14, "complex64", Complex<f32>;
    /// Two binary64: real, imaginary.
    C128 = 15, "complex128", Complex<f64>;
}

impl DType {
    /// The code of the C header.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The type with this code.
    ///
    /// # Errors
    /// [`Error::UnknownDType`] where no type has it.
    pub fn from_code(code: u32) -> Result<Self> {
        DType::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.code() == code)
            .ok_or_else(|| Error::UnknownDType {
                name: format!("code {code}"),
            })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = Error;

    /// Parses the name that [`DType::name`] gives.
    fn from_str(text: &str) -> Result<Self> {
        DType::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| Error::UnknownDType {
                name: format!("{text:?}"),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_lead_back_to_the_type() {
        for &dtype in DType::ALL {
            assert_eq!(DType::from_code(dtype.code()).unwrap(), dtype);
            assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
        }
        assert_eq!(DType::ALL.len(), 15);
    }

    #[test]
    fn unknown_ones_are_refused_with_the_list_of_known_ones() {
        for error in [
            DType::from_code(0),
            DType::from_code(16),
            DType::from_code(u32::MAX),
            "float".parse(),
            "".parse(),
        ] {
            assert!(error.unwrap_err().to_string().contains("float32 float64 complex64"));
        }
    }
}
