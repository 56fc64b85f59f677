//! Operations on integers, as functions of up to four registers that are chosen once, when the code is decoded.

use super::code::Pure;
use super::types::{Kind, Type, extend, mask};

/// The integer types that arithmetic is done in.
trait Int: Copy + Ord {
    const BITS: u32;
    fn of(bits: u64) -> Self;
    fn bits(self) -> u64;
    fn wide(self) -> i128;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn shr(self, by: u64) -> Self;
    fn abs(self) -> Self;
}

macro_rules! int {
    ($name:ident, $unsigned:ident, $signed:ident) => {
        impl Int for $name {
            const BITS: u32 = $name::BITS;
            fn of(bits: u64) -> Self {
                bits as $name
            }
            fn bits(self) -> u64 {
                u64::from(self as $unsigned)
            }
            fn wide(self) -> i128 {
                i128::from(self)
            }
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            fn div(self, other: Self) -> Self {
                // Without meaning in PTX; the hardware gives ones.
                if other == 0 { !0 } else { self.wrapping_div(other) }
            }
            fn rem(self, other: Self) -> Self {
                if other == 0 {
                    self
                } else {
                    self.wrapping_rem(other)
                }
            }
            fn shr(self, by: u64) -> Self {
                // Two shifts, since shifting by all bits at once is no shift of the processor.
                let by = u32::try_from(by).unwrap_or(u32::MAX).min($name::BITS);
                (self >> (by / 2)) >> (by - by / 2)
            }
            fn abs(self) -> Self {
                (self as $signed).wrapping_abs() as $name
            }
        }
    };
}

int!(u16, u16, i16);
int!(u32, u32, i32);
int!(u64, u64, i64);
int!(i16, u16, i16);
int!(i32, u32, i32);
int!(i64, u64, i64);

/// The function of the operation `name` (`add`, `mul.lo`, …) on `ty`.
pub(super) fn operation(name: &str, ty: Type) -> Option<Pure> {
    if ty.kind == Kind::Predicate {
        return predicate(name);
    }
    match (ty.kind, ty.bits) {
        (Kind::Unsigned | Kind::Bits, 16) => of::<u16>(name),
        (Kind::Unsigned | Kind::Bits, 32) => of::<u32>(name),
        (Kind::Unsigned | Kind::Bits, 64) => of::<u64>(name),
        (Kind::Signed, 16) => of::<i16>(name),
        (Kind::Signed, 32) => of::<i32>(name),
        (Kind::Signed, 64) => of::<i64>(name),
        _ => None,
    }
}

fn predicate(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "and" => |a, b, _, _| a & b,
        "or" => |a, b, _, _| a | b,
        "xor" => |a, b, _, _| a ^ b,
        "not" => |a, _, _, _| a ^ 1,
        _ => return None,
    };
    Some(f)
}

fn of<T: Int>(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "add" => |a, b, _, _| T::of(a).add(T::of(b)).bits(),
        "sub" => |a, b, _, _| T::of(a).sub(T::of(b)).bits(),
        "mul.lo" => |a, b, _, _| T::of(a).mul(T::of(b)).bits(),
        "mul.hi" => |a, b, _, _| high::<T>(a, b),
        "mul.wide" if T::BITS < 64 => |a, b, _, _| wide::<T>(a, b),
        "mad.lo" => |a, b, c, _| T::of(a).mul(T::of(b)).add(T::of(c)).bits(),
        "mad.hi" => |a, b, c, _| T::of(high::<T>(a, b)).add(T::of(c)).bits(),
        "mad.wide" if T::BITS < 64 => |a, b, c, _| wide::<T>(a, b).wrapping_add(c) & mask(2 * T::BITS),
        "div" => |a, b, _, _| T::of(a).div(T::of(b)).bits(),
        "rem" => |a, b, _, _| T::of(a).rem(T::of(b)).bits(),
        "min" => |a, b, _, _| T::of(a).min(T::of(b)).bits(),
        "max" => |a, b, _, _| T::of(a).max(T::of(b)).bits(),
        "sad" => |a, b, c, _| {
            let (a, b) = (T::of(a), T::of(b));
            T::of(c).add(a.max(b).sub(a.min(b))).bits()
        },
        "neg" => |a, _, _, _| T::of(0).sub(T::of(a)).bits(),
        "abs" => |a, _, _, _| T::of(a).abs().bits(),
        "and" => |a, b, _, _| T::of(a & b).bits(),
        "or" => |a, b, _, _| T::of(a | b).bits(),
        "xor" => |a, b, _, _| T::of(a ^ b).bits(),
        "not" => |a, _, _, _| T::of(!a).bits(),
        "cnot" => |a, _, _, _| u64::from(T::of(a).bits() == 0),
        "shl" => |a, b, _, _| {
            if b >= u64::from(T::BITS) {
                0
            } else {
                T::of(a << b).bits()
            }
        },
        "shr" => |a, b, _, _| T::of(a).shr(b).bits(),
        "popc" => |a, _, _, _| u64::from(T::of(a).bits().count_ones()),
        "clz" => |a, _, _, _| u64::from(T::of(a).bits().leading_zeros() + T::BITS - 64),
        "brev" => |a, _, _, _| T::of(a).bits().reverse_bits() >> (64 - T::BITS),
        "bfi" => |a, b, at, length| insert(a, b, at, length) & mask(T::BITS),
        "bfe" => |a, at, length, _| extract::<T>(a, at, length),
        "inc" => |a, b, _, _| if a >= b { 0 } else { a + 1 },
        "dec" => |a, b, _, _| if a == 0 || a > b { b } else { a - 1 },
        "exch" => |_, b, _, _| T::of(b).bits(),
        "cas" => |a, b, c, _| if a == T::of(b).bits() { T::of(c).bits() } else { a },
        "lop3" => lop3,
        "prmt" => prmt,
        "shf.l.wrap" => |a, b, by, _| funnel(a, b, 32 - (by & 31)),
        "shf.r.wrap" => |a, b, by, _| funnel(a, b, by & 31),
        "shf.l.clamp" => |a, b, by, _| funnel(a, b, 32 - by.min(32)),
        "shf.r.clamp" => |a, b, by, _| funnel(a, b, by.min(32)),
        "dp4a" => |a, b, c, _| dot::<T>(a, b, c),
        _ => return None,
    };
    Some(f)
}

fn high<T: Int>(a: u64, b: u64) -> u64 {
    ((T::of(a).wide() * T::of(b).wide()) >> T::BITS) as u64 & mask(T::BITS)
}

fn wide<T: Int>(a: u64, b: u64) -> u64 {
    (T::of(a).wide() * T::of(b).wide()) as u64 & mask(2 * T::BITS)
}

fn insert(a: u64, b: u64, at: u64, length: u64) -> u64 {
    let (at, length) = (at & 255, length & 255);
    if at > 63 {
        return b;
    }
    let ones = mask(u32::try_from(length).unwrap_or(64)) << at;
    (b & !ones) | ((a << at) & ones)
}

fn extract<T: Int>(a: u64, at: u64, length: u64) -> u64 {
    let (at, length) = (at & 255, u32::try_from(length & 255).unwrap_or(0));
    let value = T::of(a).shr(at).bits();
    if length == 0 {
        return 0;
    }
    if length >= T::BITS {
        return value;
    }
    let signed = T::of(u64::MAX).wide() < 0;
    // The sign of a field that reaches beyond the value is the sign of the value.
    let sign = u64::from(T::BITS - 1).min(at + u64::from(length) - 1);
    let ones = mask(length);
    let negative = signed && (T::of(a).bits() >> sign) & 1 == 1;
    if negative {
        (value | !ones) & mask(T::BITS)
    } else {
        value & ones
    }
}

fn lop3(a: u64, b: u64, c: u64, table: u64) -> u64 {
    (0..8u64).filter(|row| (table >> row) & 1 == 1).fold(0, |sum, row| {
        let pick = |bits: u64, at: u64| if (row >> at) & 1 == 1 { bits } else { !bits };
        sum | (pick(a, 2) & pick(b, 1) & pick(c, 0))
    }) & mask(32)
}

fn prmt(a: u64, b: u64, selector: u64, _: u64) -> u64 {
    let pool = (a & mask(32)) | (b << 32);
    (0..4).fold(0, |sum, at| {
        let pick = (selector >> (4 * at)) & 15;
        let byte = (pool >> (8 * (pick & 7))) & 255;
        let byte = if pick & 8 == 0 {
            byte
        } else {
            extend(byte >> 7, 1) & 255
        };
        sum | (byte << (8 * at))
    })
}

/// The low 32 bits of `high:low` shifted right by up to 32.
fn funnel(low: u64, high: u64, by: u64) -> u64 {
    (((high << 32) | (low & mask(32))) >> by) & mask(32)
}

fn dot<T: Int>(a: u64, b: u64, c: u64) -> u64 {
    let signed = T::of(u64::MAX).wide() < 0;
    let lane = |bits: u64, at: u64| {
        let byte = (bits >> (8 * at)) & 255;
        if signed { extend(byte, 8) } else { byte }
    };
    (0..4).fold(c, |sum, at| sum.wrapping_add(lane(a, at).wrapping_mul(lane(b, at)))) & mask(32)
}

/// The comparison `name` on `ty`, giving 0 or 1.
pub(super) fn comparison(name: &str, ty: Type) -> Option<Pure> {
    match (ty.kind, ty.bits) {
        (Kind::Unsigned | Kind::Bits, 16) => compare::<u16>(name),
        (Kind::Unsigned | Kind::Bits, 32) => compare::<u32>(name),
        (Kind::Unsigned | Kind::Bits, 64) => compare::<u64>(name),
        (Kind::Signed, 16) => compare::<i16>(name),
        (Kind::Signed, 32) => compare::<i32>(name),
        (Kind::Signed, 64) => compare::<i64>(name),
        _ => None,
    }
}

fn compare<T: Int>(name: &str) -> Option<Pure> {
    let f: Pure = match name {
        "eq" => |a, b, _, _| u64::from(T::of(a) == T::of(b)),
        "ne" => |a, b, _, _| u64::from(T::of(a) != T::of(b)),
        "lt" | "lo" => |a, b, _, _| u64::from(T::of(a) < T::of(b)),
        "le" | "ls" => |a, b, _, _| u64::from(T::of(a) <= T::of(b)),
        "gt" | "hi" => |a, b, _, _| u64::from(T::of(a) > T::of(b)),
        "ge" | "hs" => |a, b, _, _| u64::from(T::of(a) >= T::of(b)),
        _ => return None,
    };
    Some(f)
}
