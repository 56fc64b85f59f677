//! Loads, stores, atomics and conversions of addresses to decoded instructions.

use super::code::{Op, Place, Pure, SINK, Space, ZERO};
use super::operand::{Operand, Refusal};
use super::round::Mode;
use super::scope::{Scopes, Symbol};
use super::types::{Kind, Type};
use super::{float, integer, space};

pub(super) fn decode(
    scopes: &mut Scopes<'_>,
    base: &str,
    qualifiers: &[&str],
    operands: &[Operand<'_>],
) -> Result<Op, Refusal> {
    match (base, operands) {
        ("cvta", [to, from]) => cvta(scopes, qualifiers, to, from),
        ("ld" | "ldu", [to, address]) => {
            let (place, ty, lanes) = place(scopes, qualifiers, address)?;
            let d: Box<[u32]> = each(to, lanes)?
                .iter()
                .map(|to| scopes.target(to))
                .collect::<Result<_, _>>()?;
            let keep = d
                .iter()
                .map(|&register| scopes.keep(register))
                .min()
                .unwrap_or(u64::MAX);
            Ok(Op::Load {
                place,
                sign_bits: ty.is_signed().then_some(ty.bits),
                keep,
                d,
            })
        }
        ("st", [address, from]) => {
            let (place, ty, lanes) = place(scopes, qualifiers, address)?;
            let values = each(from, lanes)?
                .iter()
                .map(|from| scopes.source(from, ty))
                .collect::<Result<_, _>>()?;
            Ok(Op::Store { place, values })
        }
        ("atom", [to, address, from @ ..]) => atomic(scopes, qualifiers, Some(to), address, from),
        ("red", [address, from @ ..]) => atomic(scopes, qualifiers, None, address, from),
        _ => Err(Refusal::Unsupported),
    }
}

/// The registers of a vector, or the one register.
fn each<'o, 't>(operand: &'o Operand<'t>, lanes: usize) -> Result<&'o [Operand<'t>], Refusal> {
    let parts = match operand {
        Operand::Vector(parts) => &parts[..],
        one => std::slice::from_ref(one),
    };
    if parts.len() == lanes {
        Ok(parts)
    } else {
        Err(Refusal::Unsupported)
    }
}

/// The memory that a qualifier names.
fn space_of(name: &str) -> Option<Space> {
    Some(match name {
        // Constants of the module have addresses of their own in global memory.
        "global" | "const" => Space::Global,
        "shared" | "shared::cta" => Space::Shared,
        "local" => Space::Local,
        "param" | "param::entry" => Space::Param,
        _ => return None,
    })
}

/// The place that a load or store names, its type and its number of elements.
fn place(scopes: &mut Scopes<'_>, qualifiers: &[&str], address: &Operand<'_>) -> Result<(Place, Type, usize), Refusal> {
    let (mut space, mut lanes) = (Space::Generic, 1);
    let (name, how) = qualifiers.split_last().ok_or(Refusal::Unsupported)?;
    let ty = Type::of(name)
        .filter(|ty| ty.kind != Kind::Predicate)
        .ok_or(Refusal::Unsupported)?;
    for &name in how {
        match name {
            "v2" => lanes = 2,
            "v4" => lanes = 4,
            "weak" | "volatile" | "relaxed" | "acquire" | "release" | "cta" | "cluster" | "gpu" | "sys" | "ca"
            | "cg" | "cs" | "cv" | "lu" | "wb" | "wt" | "nc" | "mmio" | "unified" => {}
            _ if (name.starts_with("L1::") || name.starts_with("L2::")) && name != "L2::cache_hint" => {}
            _ => space = space_of(name).ok_or(Refusal::Unsupported)?,
        }
    }
    Ok((located(scopes, space, ty, address)?, ty, lanes))
}

fn located(scopes: &mut Scopes<'_>, space: Space, ty: Type, address: &Operand<'_>) -> Result<Place, Refusal> {
    let (base, offset) = scopes.address(address)?;
    let mut space = space;
    // A generic access that names a variable means the memory of the variable.
    if let (Space::Generic, Operand::Address(inside)) = (space, address)
        && let Operand::Name(name, _) = **inside
    {
        space = match scopes.find_symbol(name) {
            Some(Symbol::Param(_)) => Space::Param,
            Some(Symbol::Shared(_) | Symbol::DynamicShared) => Space::Shared,
            Some(Symbol::Local(_)) => Space::Local,
            Some(Symbol::Data(_) | Symbol::Foreign) | None => Space::Generic,
        };
    }
    Ok(Place {
        space,
        base,
        offset,
        bytes: ty.bytes(),
    })
}

fn atomic(
    scopes: &mut Scopes<'_>,
    qualifiers: &[&str],
    to: Option<&Operand<'_>>,
    address: &Operand<'_>,
    from: &[Operand<'_>],
) -> Result<Op, Refusal> {
    let (mut space, mut operation) = (Space::Generic, None);
    let (name, how) = qualifiers.split_last().ok_or(Refusal::Unsupported)?;
    let ty = Type::of(name).filter(|ty| ty.bits >= 16).ok_or(Refusal::Unsupported)?;
    for &name in how {
        match name {
            "relaxed" | "acquire" | "release" | "acq_rel" | "cta" | "cluster" | "gpu" | "sys" | "noftz" => {}
            "add" | "min" | "max" | "and" | "or" | "xor" | "exch" | "cas" | "inc" | "dec" => operation = Some(name),
            _ => space = space_of(name).ok_or(Refusal::Unsupported)?,
        }
    }
    let name = operation.ok_or(Refusal::Unsupported)?;
    let f: Option<Pure> = if ty.is_float() {
        float::operation(name, ty, Mode::Nearest)
    } else {
        integer::operation(name, ty)
    };
    let f = f.ok_or(Refusal::Unsupported)?;
    let (b, c) = match (from, name) {
        ([b, c], "cas") => (scopes.source(b, ty)?, scopes.source(c, ty)?),
        ([b], _) if name != "cas" => (scopes.source(b, ty)?, ZERO),
        _ => return Err(Refusal::Unsupported),
    };
    let d = to.map_or(Ok(SINK), |to| scopes.target(to))?;
    Ok(Op::Atomic {
        place: located(scopes, space, ty, address)?,
        f,
        d,
        b,
        c,
    })
}

/// Addresses of global memory and of constants are generic ones already; the others have windows.
fn cvta(scopes: &mut Scopes<'_>, qualifiers: &[&str], to: &Operand<'_>, from: &Operand<'_>) -> Result<Op, Refusal> {
    let (back, name) = match qualifiers {
        ["to", name, "u64"] => (true, *name),
        [name, "u64"] => (false, *name),
        _ => return Err(Refusal::Unsupported),
    };
    let window = space::window(space_of(name).ok_or(Refusal::Unsupported)?);
    let a = scopes.source(
        from,
        Type {
            kind: Kind::Unsigned,
            bits: 64,
        },
    )?;
    let f: Pure = if back {
        |a, window, _, _| a.wrapping_sub(window)
    } else {
        |a, window, _, _| a.wrapping_add(window)
    };
    let window = scopes.constant(window)?;
    Ok(Op::Pure {
        f,
        d: scopes.target(to)?,
        s: [a, window, ZERO, ZERO],
    })
}
