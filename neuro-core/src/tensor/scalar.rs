//! `Scalar`: one value of any dtype, and its checked conversion to the bytes of an element.

use std::fmt;

use half::{bf16, f16};
use num_complex::Complex;

use crate::dtype::DType;
use crate::error::{Error, Result};

/// One value, as callers without generics give and take it.
///
/// It converts to any dtype that can hold it: integers in range; floats to integers when integral and in range; finite
/// values to narrower floats when they do not become infinite (they are rounded); NaN and infinities to float and complex
/// types only; complex to real where the imaginary part is 0; 0 and 1 to bool.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// Any integer of any dtype.
    Int(i128),
    /// Any real number of any float dtype.
    Float(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
}

/// The bytes of one element, in the machine's byte order.
#[repr(align(16))]
pub(crate) struct Pattern {
    bytes: [u8; 16],
    len: usize,
}

impl Pattern {
    fn new<const N: usize>(value: [u8; N]) -> Self {
        let mut bytes = [0; 16];
        bytes[..N].copy_from_slice(&value);
        Self { bytes, len: N }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn is_zero(&self) -> bool {
        self.bytes().iter().all(|&byte| byte == 0)
    }
}

impl Scalar {
    /// The element of `dtype` with this value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where there is none.
    pub(crate) fn to_pattern(self, op: &'static str, dtype: DType) -> Result<Pattern> {
        macro_rules! integer {
            ($type:ty) => {
                self.to_integer()
                    .and_then(|value| <$type>::try_from(value).ok())
                    .map(|value| Pattern::new(value.to_ne_bytes()))
            };
        }
        macro_rules! real {
            ($type:ty) => {
                self.to_real()
                    .and_then(<$type>::narrow)
                    .map(|value| Pattern::new(value.to_ne_bytes()))
            };
        }
        macro_rules! complex {
            ($type:ty, $bytes:literal) => {{
                let (re, im) = self.to_complex();
                <$type>::narrow(re).zip(<$type>::narrow(im)).map(|(re, im)| {
                    let mut bytes = [0; $bytes];
                    bytes[..$bytes / 2].copy_from_slice(&re.to_ne_bytes());
                    bytes[$bytes / 2..].copy_from_slice(&im.to_ne_bytes());
                    Pattern::new(bytes)
                })
            }};
        }
        let pattern = match dtype {
            DType::Bool => self
                .to_integer()
                .filter(|value| matches!(value, 0 | 1))
                .map(|value| Pattern::new([u8::from(value == 1)])),
            DType::U8 => integer!(u8),
            DType::U16 => integer!(u16),
            DType::U32 => integer!(u32),
            DType::U64 => integer!(u64),
            DType::I8 => integer!(i8),
            DType::I16 => integer!(i16),
            DType::I32 => integer!(i32),
            DType::I64 => integer!(i64),
            DType::F16 => real!(f16),
            DType::BF16 => real!(bf16),
            DType::F32 => real!(f32),
            DType::F64 => real!(f64),
            DType::C64 => complex!(f32, 8),
            DType::C128 => complex!(f64, 16),
        };
        pattern.ok_or_else(|| Error::InvalidArgument {
            op,
            what: format!("{self} does not fit {dtype} ({})", holds(dtype)),
        })
    }

    fn to_integer(self) -> Option<i128> {
        match self {
            Scalar::Bool(value) => Some(i128::from(value)),
            Scalar::Int(value) => Some(value),
            Scalar::Float(value) | Scalar::Complex(value, 0.0) => {
                // 2^64 bounds every integer dtype; below it the cast is exact.
                let integral = value.fract() == 0.0 && value.abs() <= 18_446_744_073_709_551_616.0;
                integral.then_some(value as i128)
            }
            Scalar::Complex(..) => None,
        }
    }

    fn to_real(self) -> Option<f64> {
        match self {
            Scalar::Complex(re, im) => (im == 0.0).then_some(re),
            other => Some(other.to_complex().0),
        }
    }

    fn to_complex(self) -> (f64, f64) {
        match self {
            Scalar::Bool(value) => (f64::from(u8::from(value)), 0.0),
            // Rounded to the nearest, as `as` does.
            Scalar::Int(value) => (value as f64, 0.0),
            Scalar::Float(value) => (value, 0.0),
            Scalar::Complex(re, im) => (re, im),
        }
    }
}

/// Floats that an `f64` is rounded to.
trait Narrow: Sized {
    /// The nearest value; `None` where a finite one would become infinite.
    fn narrow(value: f64) -> Option<Self>;
}

macro_rules! narrow {
    ($type:ty, $convert:expr, $is_infinite:expr) => {
        impl Narrow for $type {
            fn narrow(value: f64) -> Option<Self> {
                let narrowed: $type = $convert(value);
                (value.is_infinite() || !$is_infinite(narrowed)).then_some(narrowed)
            }
        }
    };
}

narrow!(f16, f16::from_f64, f16::is_infinite);
narrow!(bf16, bf16::from_f64, bf16::is_infinite);
narrow!(f32, |value| value as f32, f32::is_infinite);
narrow!(f64, |value| value, f64::is_infinite);

/// What a dtype holds, for messages.
fn holds(dtype: DType) -> String {
    match dtype {
        DType::Bool => "false, true, 0, 1".to_owned(),
        DType::U8 => format!("0 to {}", u8::MAX),
        DType::U16 => format!("0 to {}", u16::MAX),
        DType::U32 => format!("0 to {}", u32::MAX),
        DType::U64 => format!("0 to {}", u64::MAX),
        DType::I8 => format!("{} to {}", i8::MIN, i8::MAX),
        DType::I16 => format!("{} to {}", i16::MIN, i16::MAX),
        DType::I32 => format!("{} to {}", i32::MIN, i32::MAX),
        DType::I64 => format!("{} to {}", i64::MIN, i64::MAX),
        DType::F16 => format!("real, up to ±{:e}", f16::MAX.to_f64()),
        DType::BF16 => format!("real, up to ±{:e}", bf16::MAX.to_f64()),
        DType::F32 => format!("real, up to ±{:e}", f32::MAX),
        DType::F64 => format!("real, up to ±{:e}", f64::MAX),
        DType::C64 => format!("parts up to ±{:e}", f32::MAX),
        DType::C128 => format!("parts up to ±{:e}", f64::MAX),
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Bool(value) => write!(f, "{value}"),
            Scalar::Int(value) => write!(f, "{value}"),
            Scalar::Float(value) => write!(f, "{value:?}"),
            Scalar::Complex(re, im) => write!(f, "{re:?}{im:+?}i"),
        }
    }
}

macro_rules! from {
    ($($type:ty: $value:ident => $scalar:expr;)*) => {
        $(
            impl From<$type> for Scalar {
                fn from($value: $type) -> Self { $scalar }
            }
        )*
    };
}

from! {
    bool: value => Scalar::Bool(value);
    u8: value => Scalar::Int(value.into());
    u16: value => Scalar::Int(value.into());
    u32: value => Scalar::Int(value.into());
    u64: value => Scalar::Int(value.into());
    i8: value => Scalar::Int(value.into());
    i16: value => Scalar::Int(value.into());
    i32: value => Scalar::Int(value.into());
    i64: value => Scalar::Int(value.into());
    f16: value => Scalar::Float(value.into());
    bf16: value => Scalar::Float(value.into());
    f32: value => Scalar::Float(value.into());
    f64: value => Scalar::Float(value);
    Complex<f32>: value => Scalar::Complex(value.re.into(), value.im.into());
    Complex<f64>: value => Scalar::Complex(value.re, value.im);
}
