//! Operations and their operands to decoded instructions: arithmetic, moves, conversions. A form that is not
//! supported is refused, which makes it an error when it is reached.

use super::code::{Op, Pure, ZERO};
use super::convert::Cvt;
use super::operand::{Operand, Refusal};
use super::round::Mode;
use super::scope::Scopes;
use super::types::{Kind, Type};
use super::{decode_choice, decode_memory, decode_warp, float, integer};

const WORD: Type = Type {
    kind: Kind::Unsigned,
    bits: 32,
};

/// The operations whose operands are looked at. What others mean is not known, nor whether their operands are right.
const KNOWN: &str = "\
    abs activemask add and atom bar barrier bfe bfi bra brev brx clz cnot copysign cos cvt cvta div dp4a ex2 \
    exit fma ld ldu lg2 lop3 mad max min mov mul neg not or popc prmt rcp red redux rem ret rsqrt sad selp set \
    setp shf shfl shl shr sin slct sqrt st sub tanh testp vote xor";

/// Operations that do nothing here: they order memory, which is in order, or give hints.
const NOTHING: &str = "applypriority brkpt discard fence griddepcontrol membar nanosleep pmevent prefetch prefetchu";

/// Whether the operation of `opcode` is one that [`decode`] may know.
pub(super) fn is_known(opcode: &str) -> bool {
    let base = opcode.split('.').next().unwrap_or("");
    KNOWN.split(' ').chain(NOTHING.split(' ')).any(|known| known == base) || base == "trap"
}

/// Decodes `opcode` (with its qualifiers).
pub(super) fn decode(scopes: &mut Scopes<'_>, opcode: &str, operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let mut parts = opcode.split('.');
    let base = parts.next().unwrap_or("");
    let qualifiers: Vec<&str> = parts.collect();
    match base {
        "ret" | "exit" => Ok(Op::Exit),
        "trap" => Ok(Op::Trap),
        _ if NOTHING.split(' ').any(|known| known == base) => Ok(Op::Nothing),
        "mov" => mov(scopes, &qualifiers, operands),
        "cvt" => cvt(scopes, &qualifiers, operands),
        "setp" => decode_choice::setp(scopes, &qualifiers, operands),
        "set" => decode_choice::set(scopes, &qualifiers, operands),
        "selp" => decode_choice::selp(scopes, &qualifiers, operands),
        "slct" => decode_choice::slct(scopes, &qualifiers, operands),
        "ld" | "ldu" | "st" | "atom" | "red" | "cvta" => decode_memory::decode(scopes, base, &qualifiers, operands),
        "bar" | "barrier" | "shfl" | "vote" | "activemask" | "redux" => {
            decode_warp::decode(scopes, base, &qualifiers, operands)
        }
        _ => pure(scopes, base, &qualifiers, operands),
    }
}

/// The qualifiers of an operation, sorted by what they say.
struct How {
    ty: Type,
    mode: Mode,
    saturate: bool,
    /// The operation and the qualifiers that choose it, such as `mul.lo`.
    name: String,
}

impl How {
    fn of(base: &str, qualifiers: &[&str]) -> Result<Self, Refusal> {
        // Their type stands before or among the qualifiers.
        let (&last, rest) = qualifiers.split_last().ok_or(Refusal::Unsupported)?;
        let ty = Type::of(last).ok_or(Refusal::Unsupported)?;
        let mut how = Self {
            ty,
            mode: Mode::Nearest,
            saturate: false,
            name: base.to_string(),
        };
        for &qualifier in rest {
            match qualifier {
                "ftz" | "approx" | "full" => {}
                "sat" => how.saturate = true,
                _ => match Mode::of(qualifier) {
                    Some(mode) => how.mode = mode,
                    None => {
                        // dp4a has two types, of which the first says how both factors are read.
                        if !(base == "dp4a" && qualifier == last) {
                            how.name = format!("{}.{qualifier}", how.name);
                        }
                    }
                },
            }
        }
        Ok(how)
    }

    fn function(&self) -> Result<Pure, Refusal> {
        let found = if self.ty.is_float() {
            float::operation(&self.name, self.ty, self.mode)
        } else {
            integer::operation(&self.name, self.ty)
        };
        found.ok_or(Refusal::Unsupported)
    }
}

/// Sources that are 32-bit numbers whatever the type of the operation is: positions, lengths and amounts of shifts.
fn source_type(name: &str, at: usize, ty: Type) -> Type {
    match (name, at) {
        ("shl" | "shr", 1) | ("bfe", 1 | 2) | ("bfi", 2 | 3) => WORD,
        ("mad.wide", 2) => Type {
            bits: 2 * ty.bits,
            ..ty
        },
        _ => ty,
    }
}

/// The number of sources of an operation.
fn sources(name: &str) -> usize {
    match name.split('.').next().unwrap_or("") {
        "neg" | "abs" | "not" | "cnot" | "popc" | "clz" | "brev" | "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin"
        | "cos" | "tanh" | "testp" => 1,
        "mad" | "fma" | "sad" | "bfe" | "prmt" | "shf" | "dp4a" => 3,
        "bfi" | "lop3" => 4,
        _ => 2,
    }
}

fn pure(scopes: &mut Scopes<'_>, base: &str, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let how = How::of(base, qualifiers)?;
    if matches!(base, "inc" | "dec" | "exch" | "cas") {
        return Err(Refusal::Unsupported);
    }
    let f = how.function()?;
    let Some((target, rest)) = operands.split_first() else {
        return Err(Refusal::Unsupported);
    };
    if rest.len() != sources(&how.name) {
        return Err(Refusal::Unsupported);
    }
    let d = scopes.target(target)?;
    let mut s = [ZERO; 4];
    for (at, (slot, operand)) in s.iter_mut().zip(rest).enumerate() {
        *slot = scopes.source(operand, source_type(&how.name, at, how.ty))?;
    }
    match (how.saturate, how.ty) {
        (false, _) => Ok(Op::Pure { f, d, s }),
        (
            true,
            Type {
                kind: Kind::Float,
                bits: 32,
            },
        ) => Ok(Op::Saturated { f, d, s }),
        (true, _) => Err(Refusal::Unsupported),
    }
}

fn mov(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let &[name] = qualifiers else {
        return Err(Refusal::Unsupported);
    };
    let ty = Type::of(name).ok_or(Refusal::Unsupported)?;
    match operands {
        [Operand::Vector(parts), from] => {
            let bits = part_bits(ty, parts)?;
            let a = scopes.source(from, ty)?;
            let parts = parts.iter().map(|part| scopes.target(part)).collect::<Result<_, _>>()?;
            Ok(Op::Unpack { parts, a, bits })
        }
        [to, Operand::Vector(parts)] => {
            let bits = part_bits(ty, parts)?;
            let part = Type { kind: Kind::Bits, bits };
            let parts = parts
                .iter()
                .map(|from| scopes.source(from, part))
                .collect::<Result<_, _>>()?;
            Ok(Op::Pack {
                d: scopes.target(to)?,
                parts,
                bits,
            })
        }
        [to, from] => {
            let a = scopes.source(from, ty)?;
            let f: Pure = if ty.bits == 64 { |a, _, _, _| a } else { narrow(ty)? };
            Ok(Op::Pure {
                f,
                d: scopes.target(to)?,
                s: [a, ZERO, ZERO, ZERO],
            })
        }
        _ => Err(Refusal::Unsupported),
    }
}

fn narrow(ty: Type) -> Result<Pure, Refusal> {
    let f: Pure = match ty.bits {
        1 => |a, _, _, _| a & 1,
        16 => |a, _, _, _| a & 0xffff,
        32 => |a, _, _, _| a & 0xffff_ffff,
        _ => return Err(Refusal::Unsupported),
    };
    Ok(f)
}

fn part_bits(ty: Type, parts: &[Operand<'_>]) -> Result<u32, Refusal> {
    match (parts.len(), ty.bits) {
        (2, 16 | 32 | 64) => Ok(ty.bits / 2),
        (4, 32 | 64) => Ok(ty.bits / 4),
        _ => Err(Refusal::Unsupported),
    }
}

fn cvt(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let cvt = Cvt::of(qualifiers).ok_or(Refusal::Unsupported)?;
    let [to, from] = operands else {
        return Err(Refusal::Unsupported);
    };
    let (d, a) = (scopes.target(to)?, scopes.source(from, cvt.from)?);
    Ok(Op::Convert {
        cvt,
        d,
        a,
        keep: scopes.keep(d),
    })
}
