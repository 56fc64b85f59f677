//! Rounding of floating-point numbers to narrower formats, in each of the four directions.

/// Where a number goes that lies between two numbers of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To the nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
}

/// A binary format: bits of the exponent and of the fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    exponent: u32,
    fraction: u32,
}

pub(super) const HALF: Format = Format {
    exponent: 5,
    fraction: 10,
};
pub(super) const BRAIN: Format = Format {
    exponent: 8,
    fraction: 7,
};
pub(super) const SINGLE: Format = Format {
    exponent: 8,
    fraction: 23,
};

impl Mode {
    /// The mode of a qualifier such as `rn`.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "rn" => Self::Nearest,
            "rz" => Self::Zero,
            "rm" => Self::Down,
            "rp" => Self::Up,
            _ => return None,
        })
    }
}

/// The bits of `value + error` in `format`, where `error` is the sign (-1, 0, 1) of an amount that is smaller than half
/// of the last bit of `value`. Any NaN becomes the one that has all low bits set.
pub(super) fn encode(value: f64, error: i64, format: Format, mode: Mode) -> u64 {
    let sign_at = format.exponent + format.fraction;
    let infinity = ((1u64 << format.exponent) - 1) << format.fraction;
    if value.is_nan() {
        return (1 << sign_at) - 1;
    }
    let negative = value.is_sign_negative();
    let sign = u64::from(negative) << sign_at;
    if value.is_infinite() || value == 0.0 {
        return sign | if value == 0.0 { 0 } else { infinity };
    }
    let field = i64::from(u16::try_from((value.to_bits() >> 52) & 0x7ff).unwrap_or(0));
    let fraction = value.to_bits() & ((1 << 52) - 1);
    let (whole, exponent) = if field == 0 {
        (fraction, -1022)
    } else {
        (fraction | (1 << 52), field - 1023)
    };
    // Two bits more, so that the error has a place below the last bit: magnitude = wide * 2^(exponent - 54).
    let away = if negative { -error } else { error };
    let wide = (whole << 2).wrapping_add_signed(away);
    let lowest = 2 - (1i64 << (format.exponent - 1));
    let scale = exponent.max(lowest);
    let shift = u32::try_from(scale - exponent + 54)
        .unwrap_or(63)
        .saturating_sub(format.fraction)
        .min(63);
    let kept = wide >> shift;
    let (rest, half) = (wide & ((1 << shift) - 1), 1u64 << (shift - 1));
    let up = match mode {
        Mode::Nearest => rest > half || (rest == half && kept & 1 == 1),
        Mode::Zero => false,
        Mode::Down => negative && rest > 0,
        Mode::Up => !negative && rest > 0,
    };
    let steps = u64::try_from(scale - lowest).unwrap_or(0);
    let bits = (steps << format.fraction) + kept + u64::from(up);
    if bits < infinity {
        return sign | bits;
    }
    let beyond = match mode {
        Mode::Nearest => true,
        Mode::Zero => false,
        Mode::Down => negative,
        Mode::Up => !negative,
    };
    sign | if beyond { infinity } else { infinity - 1 }
}

/// The number whose bits are `bits` in `format`, exactly.
pub(super) fn decode(bits: u64, format: Format) -> f64 {
    let fraction = bits & ((1 << format.fraction) - 1);
    let top = (1u64 << format.exponent) - 1;
    let field = (bits >> format.fraction) & top;
    let negative = (bits >> (format.exponent + format.fraction)) & 1 == 1;
    let bias = i32::try_from(top >> 1).unwrap_or(0);
    let below = i32::try_from(format.fraction).unwrap_or(0);
    let magnitude = if field == top {
        if fraction == 0 { f64::INFINITY } else { f64::NAN }
    } else if field == 0 {
        fraction as f64 * f64::powi(2.0, 1 - bias - below)
    } else {
        let exponent = i32::try_from(field).unwrap_or(0) - bias - below;
        (fraction | (1 << format.fraction)) as f64 * f64::powi(2.0, exponent)
    };
    if negative { -magnitude } else { magnitude }
}

/// `a + b` as the nearest number and the sign of what that lacks.
pub(super) fn add(a: f64, b: f64) -> (f64, i64) {
    let sum = a + b;
    let shadow = sum - a;
    let lost = (a - (sum - shadow)) + (b - shadow);
    (sum, i64::from(lost > 0.0) - i64::from(lost < 0.0))
}
