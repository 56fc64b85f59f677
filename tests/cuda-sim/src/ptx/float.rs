//! Operations on floating-point numbers, as functions of up to four registers that are chosen once, when the code is
//! decoded.
//!
//! They calculate in double precision and round once more, which for one sum, product, quotient or root of normal
//! numbers gives the same bits as rounding once. Fused multiply-add of `f32` and `f64` is the exact one; those of `f16`
//! and `bf16` may differ from it in the last bit where a double cannot hold the sum.

use super::code::Pure;
use super::round::{self, BRAIN, HALF, Mode, SINGLE};
use super::types::{Kind, Type};

/// A format of numbers.
trait Real {
    const BITS: u32;
    fn of(bits: u64) -> f64;
    fn back(value: f64) -> u64;
    fn fma(a: u64, b: u64, c: u64) -> u64 {
        Self::back(Self::of(a).mul_add(Self::of(b), Self::of(c)))
    }
}

struct Half;
struct Brain;
struct Single;
struct Double;

impl Real for Half {
    const BITS: u32 = 16;
    fn of(bits: u64) -> f64 {
        round::decode(bits, HALF)
    }
    fn back(value: f64) -> u64 {
        round::encode(value, 0, HALF, Mode::Nearest)
    }
}

impl Real for Brain {
    const BITS: u32 = 16;
    fn of(bits: u64) -> f64 {
        round::decode(bits, BRAIN)
    }
    fn back(value: f64) -> u64 {
        round::encode(value, 0, BRAIN, Mode::Nearest)
    }
}

impl Real for Single {
    const BITS: u32 = 32;
    fn of(bits: u64) -> f64 {
        f64::from(single(bits))
    }
    fn back(value: f64) -> u64 {
        let bits = if value.is_nan() {
            0x7fff_ffff
        } else {
            (value as f32).to_bits()
        };
        u64::from(bits)
    }
    fn fma(a: u64, b: u64, c: u64) -> u64 {
        Self::back(f64::from(single(a).mul_add(single(b), single(c))))
    }
}

impl Real for Double {
    const BITS: u32 = 64;
    fn of(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    fn back(value: f64) -> u64 {
        value.to_bits()
    }
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// The function of the operation `name` on `ty`, rounding to `mode`; `None` where it is not supported.
pub(super) fn operation(name: &str, ty: Type, mode: Mode) -> Option<Pure> {
    match (ty.kind, ty.bits, mode) {
        (Kind::Float, 32, Mode::Zero) => directed::<0>(name),
        (Kind::Float, 32, Mode::Down) => directed::<-1>(name),
        (Kind::Float, 32, Mode::Up) => directed::<1>(name),
        (Kind::Float, 16, Mode::Nearest) => of::<Half>(name),
        (Kind::Float, 32, Mode::Nearest) => of::<Single>(name),
        (Kind::Float, 64, Mode::Nearest) => of::<Double>(name),
        (Kind::BrainFloat, 16, Mode::Nearest) => of::<Brain>(name),
        _ => None,
    }
}

fn of<T: Real>(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "add" => |a, b, _, _| T::back(T::of(a) + T::of(b)),
        "sub" => |a, b, _, _| T::back(T::of(a) - T::of(b)),
        "mul" => |a, b, _, _| T::back(T::of(a) * T::of(b)),
        "div" => |a, b, _, _| T::back(T::of(a) / T::of(b)),
        "fma" | "mad" => |a, b, c, _| T::fma(a, b, c),
        "min" => |a, b, _, _| T::back(lesser(T::of(a), T::of(b))),
        "max" => |a, b, _, _| T::back(-lesser(-T::of(a), -T::of(b))),
        "min.NaN" => |a, b, _, _| T::back(or_nan(T::of(a), T::of(b), lesser(T::of(a), T::of(b)))),
        "max.NaN" => |a, b, _, _| T::back(or_nan(T::of(a), T::of(b), -lesser(-T::of(a), -T::of(b)))),
        "neg" => |a, _, _, _| a ^ (1 << (T::BITS - 1)),
        "abs" => |a, _, _, _| a & !(1 << (T::BITS - 1)),
        "copysign" => |a, b, _, _| {
            let sign = 1 << (T::BITS - 1);
            (a & sign) | (b & !sign)
        },
        "exch" => |_, b, _, _| b,
        "sqrt" => |a, _, _, _| T::back(T::of(a).sqrt()),
        "rcp" => |a, _, _, _| T::back(1.0 / T::of(a)),
        "rsqrt" => |a, _, _, _| T::back(1.0 / T::of(a).sqrt()),
        "ex2" => |a, _, _, _| T::back(T::of(a).exp2()),
        "lg2" => |a, _, _, _| T::back(T::of(a).log2()),
        "sin" => |a, _, _, _| T::back(T::of(a).sin()),
        "cos" => |a, _, _, _| T::back(T::of(a).cos()),
        "tanh" => |a, _, _, _| T::back(T::of(a).tanh()),
        "testp.finite" => |a, _, _, _| u64::from(T::of(a).is_finite()),
        "testp.infinite" => |a, _, _, _| u64::from(T::of(a).is_infinite()),
        "testp.number" => |a, _, _, _| u64::from(!T::of(a).is_nan()),
        "testp.notanumber" => |a, _, _, _| u64::from(T::of(a).is_nan()),
        _ => return None,
    };
    Some(f)
}

/// The lesser number; a NaN gives way, and -0 is less than +0.
fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b < a || (a == b && b.is_sign_negative()) {
        b
    } else {
        a
    }
}

fn or_nan(a: f64, b: f64, value: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { value }
}

/// Operations on `f32` that round towards zero, minus infinity (-1) or plus infinity (1).
fn directed<const TO: i8>(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "add" => |a, b, _, _| toward::<TO>(round::add(Single::of(a), Single::of(b))),
        "sub" => |a, b, _, _| toward::<TO>(round::add(Single::of(a), -Single::of(b))),
        // The product of two singles is exact in a double.
        "mul" => |a, b, _, _| toward::<TO>((Single::of(a) * Single::of(b), 0)),
        "fma" | "mad" => |a, b, c, _| toward::<TO>(round::add(Single::of(a) * Single::of(b), Single::of(c))),
        _ => return None,
    };
    Some(f)
}

fn toward<const TO: i8>((value, error): (f64, i64)) -> u64 {
    let mode = match TO {
        0 => Mode::Zero,
        1 => Mode::Up,
        _ => Mode::Down,
    };
    round::encode(value, error, SINGLE, mode)
}

/// `value` of type `f32`, brought into 0 to 1; a NaN becomes 0.
pub(super) fn saturated(bits: u64) -> u64 {
    let value = single(bits);
    let kept = if value > 0.0 { value.min(1.0) } else { 0.0 };
    u64::from(kept.to_bits())
}

/// The comparison `name` on `ty`, giving 0 or 1.
pub(super) fn comparison(name: &str, ty: Type) -> Option<Pure> {
    match (ty.kind, ty.bits) {
        (Kind::Float, 16) => compare::<Half>(name),
        (Kind::Float, 32) => compare::<Single>(name),
        (Kind::Float, 64) => compare::<Double>(name),
        (Kind::BrainFloat, 16) => compare::<Brain>(name),
        _ => None,
    }
}

#[allow(
    clippy::neg_cmp_op_on_partial_ord,
    reason = "the unordered comparisons are true for a NaN"
)]
fn compare<T: Real>(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "eq" => |a, b, _, _| u64::from(T::of(a) == T::of(b)),
        "ne" => |a, b, _, _| u64::from(T::of(a) < T::of(b) || T::of(a) > T::of(b)),
        "lt" => |a, b, _, _| u64::from(T::of(a) < T::of(b)),
        "le" => |a, b, _, _| u64::from(T::of(a) <= T::of(b)),
        "gt" => |a, b, _, _| u64::from(T::of(a) > T::of(b)),
        "ge" => |a, b, _, _| u64::from(T::of(a) >= T::of(b)),
        "equ" => |a, b, _, _| u64::from(!(T::of(a) < T::of(b) || T::of(a) > T::of(b))),
        "neu" => |a, b, _, _| u64::from(T::of(a) != T::of(b)),
        "ltu" => |a, b, _, _| u64::from(!(T::of(a) >= T::of(b))),
        "leu" => |a, b, _, _| u64::from(!(T::of(a) > T::of(b))),
        "gtu" => |a, b, _, _| u64::from(!(T::of(a) <= T::of(b))),
        "geu" => |a, b, _, _| u64::from(!(T::of(a) < T::of(b))),
        "num" => |a, b, _, _| u64::from(!(T::of(a).is_nan() || T::of(b).is_nan())),
        "nan" => |a, b, _, _| u64::from(T::of(a).is_nan() || T::of(b).is_nan()),
        _ => return None,
    };
    Some(f)
}
