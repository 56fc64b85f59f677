//! `cvt`: conversion between the numeric types.

use super::float;
use super::round::{self, BRAIN, HALF, Mode, SINGLE};
use super::types::{Kind, Type, extend, mask};

/// A conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cvt {
    pub(super) to: Type,
    pub(super) from: Type,
    pub(super) mode: Mode,
    /// To an integral value, for a result of floating-point type.
    pub(super) integral: bool,
    pub(super) saturate: bool,
}

impl Cvt {
    /// The conversion of the qualifiers of `cvt`; `None` where it is not supported.
    pub(super) fn of(qualifiers: &[&str]) -> Option<Self> {
        let [how @ .., to, from] = qualifiers else { return None };
        let (to, from) = (Type::of(to)?, Type::of(from)?);
        let mut cvt = Self {
            to,
            from,
            mode: Mode::Nearest,
            integral: false,
            saturate: false,
        };
        for &name in how {
            match name {
                "ftz" => {}
                "sat" => cvt.saturate = true,
                "rni" | "rzi" | "rmi" | "rpi" => {
                    cvt.integral = true;
                    cvt.mode = Mode::of(&name[..2])?;
                }
                _ => cvt.mode = Mode::of(name)?,
            }
        }
        let numeric = |ty: Type| ty.kind != Kind::Predicate;
        // Saturation of a narrow or a double result, and integers of 64 bits in other directions, do not occur.
        let odd = (cvt.saturate && to.is_float() && to.bits != 32)
            || (from.bits == 64 && !from.is_float() && to.is_float() && cvt.mode != Mode::Nearest);
        (numeric(to) && numeric(from) && !odd).then_some(cvt)
    }

    /// The converted value: of the target's width, or extended by its sign to 64 bits for a signed target.
    pub(super) fn apply(self, value: u64) -> u64 {
        match (self.from.is_float(), self.to.is_float()) {
            (false, false) => self.between_integers(value),
            (false, true) => self.integer_to_real(value),
            (true, false) => self.real_to_integer(real(value, self.from)),
            (true, true) => self.between_reals(value),
        }
    }

    fn between_integers(self, value: u64) -> u64 {
        let value = integer(value, self.from);
        if self.saturate {
            let (least, most) = range(self.to);
            return value.clamp(least, most) as u64;
        }
        if self.to.is_signed() {
            extend(value as u64, self.to.bits)
        } else {
            value as u64 & self.to.mask()
        }
    }

    fn integer_to_real(self, value: u64) -> u64 {
        let value = integer(value, self.from);
        let bits = if self.to.bits == 32 && self.mode == Mode::Nearest {
            u64::from((value as f32).to_bits())
        } else {
            narrowed(value as f64, self.to, self.mode)
        };
        if self.saturate { float::saturated(bits) } else { bits }
    }

    fn real_to_integer(self, value: f64) -> u64 {
        if value.is_nan() {
            let wide = self.to.bits == 64 || (self.from.bits == 64 && self.to.bits >= 32);
            return if wide {
                extend(1 << (self.to.bits - 1), 64) & mask(self.to.bits)
            } else {
                0
            };
        }
        let (least, most) = range(self.to);
        (integral(value, self.mode) as i128).clamp(least, most) as u64
    }

    fn between_reals(self, value: u64) -> u64 {
        let mut number = real(value, self.from);
        if self.integral {
            number = integral(number, self.mode);
        }
        let bits = narrowed(number, self.to, if self.integral { Mode::Nearest } else { self.mode });
        if self.saturate { float::saturated(bits) } else { bits }
    }
}

fn integer(value: u64, ty: Type) -> i128 {
    if ty.is_signed() {
        i128::from(extend(value, ty.bits).cast_signed())
    } else {
        i128::from(value & ty.mask())
    }
}

fn range(ty: Type) -> (i128, i128) {
    if ty.is_signed() {
        let half = 1i128 << (ty.bits - 1);
        (-half, half - 1)
    } else {
        (0, (1i128 << ty.bits) - 1)
    }
}

fn real(bits: u64, ty: Type) -> f64 {
    match (ty.kind, ty.bits) {
        (Kind::BrainFloat, _) => round::decode(bits, BRAIN),
        (_, 16) => round::decode(bits, HALF),
        (_, 32) => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

fn narrowed(value: f64, ty: Type, mode: Mode) -> u64 {
    match (ty.kind, ty.bits) {
        (Kind::BrainFloat, _) => round::encode(value, 0, BRAIN, mode),
        (_, 16) => round::encode(value, 0, HALF, mode),
        (_, 32) => round::encode(value, 0, SINGLE, mode),
        _ => value.to_bits(),
    }
}

fn integral(value: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => value.round_ties_even(),
        Mode::Zero => value.trunc(),
        Mode::Down => value.floor(),
        Mode::Up => value.ceil(),
    }
}
