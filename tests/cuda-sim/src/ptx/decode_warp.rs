//! Operations in which several threads meet, to decoded instructions: barriers, shuffles, votes, reductions of a warp.

use super::code::{Guard, Op, SINK, Shuffle, Vote, Warp};
use super::integer;
use super::operand::{Operand, Refusal};
use super::scope::Scopes;
use super::types::{Kind, Type};

const WORD: Type = Type {
    kind: Kind::Bits,
    bits: 32,
};

pub(super) fn decode(
    scopes: &mut Scopes<'_>,
    base: &str,
    qualifiers: &[&str],
    operands: &[Operand<'_>],
) -> Result<Op, Refusal> {
    let kept: Vec<&str> = qualifiers
        .iter()
        .copied()
        .filter(|name| !matches!(*name, "cta" | "aligned"))
        .collect();
    match (base, &kept[..], operands) {
        ("bar", ["warp", "sync"], [mask]) => Ok(Op::Warp {
            op: Warp::Sync,
            mask: scopes.source(mask, WORD)?,
        }),
        ("bar" | "barrier", ["sync"], [id, threads @ ..]) if threads.len() < 2 => barrier(scopes, id, threads, None),
        ("bar" | "barrier", ["red", name, _], [to, id, threads @ .., of]) if threads.len() < 2 => {
            let vote = match *name {
                "and" => Vote::All,
                "or" => Vote::Any,
                "popc" => Vote::Count,
                _ => return Err(Refusal::Unsupported),
            };
            let vote = (vote, scopes.target(to)?, scopes.predicate(of)?);
            barrier(scopes, id, threads, Some(vote))
        }
        ("shfl", ["sync", how, "b32"], [to, value, lane, clamp, mask]) => {
            let how = match *how {
                "up" => Shuffle::Up,
                "down" => Shuffle::Down,
                "bfly" => Shuffle::Butterfly,
                "idx" => Shuffle::Index,
                _ => return Err(Refusal::Unsupported),
            };
            let (d, valid) = match *to {
                Operand::Pair(d, valid) => (
                    scopes.target(&Operand::Name(d, 0))?,
                    scopes.target(&Operand::Name(valid, 0))?,
                ),
                _ => (scopes.target(to)?, SINK),
            };
            let value = scopes.source(value, WORD)?;
            let (lane, clamp) = (scopes.source(lane, WORD)?, scopes.source(clamp, WORD)?);
            let op = Warp::Shuffle {
                how,
                d,
                valid,
                value,
                lane,
                clamp,
            };
            Ok(Op::Warp {
                op,
                mask: scopes.source(mask, WORD)?,
            })
        }
        ("vote", ["sync", how, _], [to, of, mask]) => {
            let how = match *how {
                "all" => Vote::All,
                "any" => Vote::Any,
                "uni" => Vote::Uniform,
                "ballot" => Vote::Ballot,
                _ => return Err(Refusal::Unsupported),
            };
            let op = Warp::Vote {
                how,
                d: scopes.target(to)?,
                of: scopes.predicate(of)?,
            };
            Ok(Op::Warp {
                op,
                mask: scopes.source(mask, WORD)?,
            })
        }
        ("redux", ["sync", name @ ("add" | "min" | "max" | "and" | "or" | "xor"), ty], [to, value, mask]) => {
            let ty = Type::of(ty).filter(|ty| !ty.is_float()).ok_or(Refusal::Unsupported)?;
            let f = integer::operation(name, ty).ok_or(Refusal::Unsupported)?;
            let op = Warp::Reduce {
                f,
                d: scopes.target(to)?,
                value: scopes.source(value, WORD)?,
            };
            Ok(Op::Warp {
                op,
                mask: scopes.source(mask, WORD)?,
            })
        }
        ("activemask", ["b32"], [to]) => Ok(Op::Warp {
            op: Warp::Active { d: scopes.target(to)? },
            mask: scopes.constant(0)?,
        }),
        _ => Err(Refusal::Unsupported),
    }
}

fn barrier(
    scopes: &mut Scopes<'_>,
    id: &Operand<'_>,
    threads: &[Operand<'_>],
    vote: Option<(Vote, u32, Guard)>,
) -> Result<Op, Refusal> {
    let threads = threads
        .first()
        .map(|threads| scopes.source(threads, WORD))
        .transpose()?;
    Ok(Op::Barrier {
        id: scopes.source(id, WORD)?,
        threads,
        vote,
    })
}
