//! Comparisons and choices to decoded instructions.

use super::code::{Join, Op, Pure, SINK, ZERO};
use super::operand::{Operand, Refusal};
use super::scope::Scopes;
use super::types::{Kind, Type};
use super::{float, integer};

fn comparison(name: &str, ty: Type) -> Result<Pure, Refusal> {
    let found = if ty.is_float() {
        float::comparison(name, ty)
    } else {
        integer::comparison(name, ty)
    };
    found.ok_or(Refusal::Unsupported)
}

pub(super) fn setp(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let kept: Vec<&str> = qualifiers.iter().copied().filter(|&name| name != "ftz").collect();
    let (name, join, ty) = match kept[..] {
        [name, ty] => (name, None, ty),
        [name, join, ty] => (name, Some(join), ty),
        _ => return Err(Refusal::Unsupported),
    };
    let ty = Type::of(ty).ok_or(Refusal::Unsupported)?;
    let f = comparison(name, ty)?;
    let (to, a, b, with) = match (operands, join) {
        ([to, a, b], None) => (to, a, b, None),
        ([to, a, b, with], Some(join)) => (to, a, b, Some((join, with))),
        _ => return Err(Refusal::Unsupported),
    };
    let (d, not_d) = match *to {
        Operand::Pair(d, not_d) => (
            scopes.target(&Operand::Name(d, 0))?,
            scopes.target(&Operand::Name(not_d, 0))?,
        ),
        _ => (scopes.target(to)?, SINK),
    };
    let join = match with {
        Some((join, with)) => {
            let predicate = Type {
                kind: Kind::Predicate,
                bits: 1,
            };
            let f = integer::operation(join, predicate).ok_or(Refusal::Unsupported)?;
            Some(Join {
                f,
                with: scopes.predicate(with)?,
            })
        }
        None => None,
    };
    Ok(Op::Compare {
        f,
        d,
        not_d,
        a: scopes.source(a, ty)?,
        b: scopes.source(b, ty)?,
        join,
    })
}

pub(super) fn set(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let kept: Vec<&str> = qualifiers.iter().copied().filter(|&name| name != "ftz").collect();
    let ([name, to_type, ty], [to, a, b]) = (&kept[..], operands) else {
        return Err(Refusal::Unsupported);
    };
    let (to_type, ty) = (
        Type::of(to_type).ok_or(Refusal::Unsupported)?,
        Type::of(ty).ok_or(Refusal::Unsupported)?,
    );
    let yes = match (to_type.is_float(), to_type.bits) {
        (true, 32) => u64::from(1.0f32.to_bits()),
        (false, 32) => u64::from(u32::MAX),
        _ => return Err(Refusal::Unsupported),
    };
    let f = comparison(name, ty)?;
    Ok(Op::Set {
        f,
        d: scopes.target(to)?,
        a: scopes.source(a, ty)?,
        b: scopes.source(b, ty)?,
        yes,
    })
}

pub(super) fn selp(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let (&[ty], [to, a, b, choice]) = (qualifiers, operands) else {
        return Err(Refusal::Unsupported);
    };
    let ty = Type::of(ty).ok_or(Refusal::Unsupported)?;
    let (a, b, p) = (scopes.source(a, ty)?, scopes.source(b, ty)?, scopes.predicate(choice)?);
    let (a, b) = if p.negated { (b, a) } else { (a, b) };
    let f: Pure = |a, b, p, _| if p != 0 { a } else { b };
    Ok(Op::Pure {
        f,
        d: scopes.target(to)?,
        s: [a, b, p.register, ZERO],
    })
}

pub(super) fn slct(scopes: &mut Scopes<'_>, qualifiers: &[&str], operands: &[Operand<'_>]) -> Result<Op, Refusal> {
    let (&[.., ty, by], [to, a, b, c]) = (qualifiers, operands) else {
        return Err(Refusal::Unsupported);
    };
    let (ty, by) = (
        Type::of(ty).ok_or(Refusal::Unsupported)?,
        Type::of(by).ok_or(Refusal::Unsupported)?,
    );
    let f: Pure = match (by.kind, by.bits) {
        (Kind::Signed, 32) => |a, b, c, _| if (c as u32).cast_signed() >= 0 { a } else { b },
        (Kind::Float, 32) => |a, b, c, _| if f32::from_bits(c as u32) >= 0.0 { a } else { b },
        _ => return Err(Refusal::Unsupported),
    };
    let s = [
        scopes.source(a, ty)?,
        scopes.source(b, ty)?,
        scopes.source(c, by)?,
        ZERO,
    ];
    Ok(Op::Pure {
        f,
        d: scopes.target(to)?,
        s,
    })
}
