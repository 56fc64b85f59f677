//! The types of PTX, as far as they are supported.

/// What the bits of a value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bits,
    Unsigned,
    Signed,
    Float,
    BrainFloat,
    Predicate,
}

/// A type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) kind: Kind,
    pub(super) bits: u32,
}

impl Type {
    /// The type of a name without its dot; `None` for types that are not supported (packed ones, 128 bits, 8-bit
    /// floats).
    pub(super) fn of(name: &str) -> Option<Self> {
        let (kind, bits) = match name {
            "pred" => {
                return Some(Self {
                    kind: Kind::Predicate,
                    bits: 1,
                });
            }
            "bf16" => {
                return Some(Self {
                    kind: Kind::BrainFloat,
                    bits: 16,
                });
            }
            _ => (name.get(..1)?, name.get(1..)?),
        };
        let bits = match bits {
            "8" => 8,
            "16" => 16,
            "32" => 32,
            "64" => 64,
            _ => return None,
        };
        let kind = match kind {
            "b" => Kind::Bits,
            "u" => Kind::Unsigned,
            "s" => Kind::Signed,
            "f" if bits > 8 => Kind::Float,
            _ => return None,
        };
        Some(Self { kind, bits })
    }

    pub(super) fn bytes(self) -> u32 {
        self.bits.div_ceil(8)
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self.kind, Kind::Float | Kind::BrainFloat)
    }

    pub(super) fn is_signed(self) -> bool {
        self.kind == Kind::Signed
    }

    /// The low bits that a value of this type has.
    pub(super) fn mask(self) -> u64 {
        mask(self.bits)
    }
}

/// `bits` ones.
pub(super) fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// The low `bits` (1 to 64) of `value`, extended by their sign.
pub(super) fn extend(value: u64, bits: u32) -> u64 {
    let up = 64 - bits.clamp(1, 64);
    ((value << up).cast_signed() >> up).cast_unsigned()
}
