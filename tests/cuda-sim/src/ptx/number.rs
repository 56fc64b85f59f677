//! Literals: integers in four bases, floating-point numbers as bits (`0f…`, `0d…`) and with a decimal point.

use super::round::{self, Mode};
use super::types::{Kind, Type};

/// A literal before its type is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// An integer, modulo 2^64.
    Int(u64),
    /// A floating-point number.
    Real(f64),
    /// The bits of a 32-bit floating-point number.
    Single(u32),
}

impl Number {
    /// The literal that `word` is, if it is one.
    pub(super) fn of(word: &str) -> Option<Self> {
        let lower = word.to_ascii_lowercase();
        if !lower.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if let Some(hex) = lower.strip_prefix("0f").filter(|hex| hex.len() == 8) {
            return u32::from_str_radix(hex, 16).ok().map(Self::Single);
        }
        if let Some(hex) = lower.strip_prefix("0d").filter(|hex| hex.len() == 16) {
            return u64::from_str_radix(hex, 16)
                .ok()
                .map(|bits| Self::Real(f64::from_bits(bits)));
        }
        if lower.contains('.') {
            return lower.parse().ok().map(Self::Real);
        }
        let digits = lower.strip_suffix('u').unwrap_or(&lower);
        let (digits, base) = match digits.get(..2) {
            Some("0x") => (&digits[2..], 16),
            Some("0b") => (&digits[2..], 2),
            Some(_) if digits.starts_with('0') => (&digits[1..], 8),
            _ => (digits, 10),
        };
        u64::from_str_radix(digits, base).ok().map(Self::Int)
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Int(value) => Self::Int(value.wrapping_neg()),
            Self::Real(value) => Self::Real(-value),
            Self::Single(bits) => Self::Single(bits ^ 0x8000_0000),
        }
    }

    /// The bits of the literal as a value of type `ty`; `None` for a floating-point number where an integer belongs.
    pub(super) fn bits(self, ty: Type) -> Option<u64> {
        let value = match self {
            Self::Int(value) => return Some(value & ty.mask()),
            Self::Single(bits) if ty.bits == 32 => return Some(u64::from(bits)),
            Self::Single(bits) => f64::from(f32::from_bits(bits)),
            Self::Real(value) => value,
        };
        match (ty.kind, ty.bits) {
            (Kind::Float | Kind::Bits, 64) => Some(value.to_bits()),
            (Kind::Float | Kind::Bits, 32) => Some(round::encode(value, 0, round::SINGLE, Mode::Nearest)),
            (Kind::Float, 16) => Some(round::encode(value, 0, round::HALF, Mode::Nearest)),
            (Kind::BrainFloat, 16) => Some(round::encode(value, 0, round::BRAIN, Mode::Nearest)),
            _ => None,
        }
    }
}
