//! One thread: runs until it ends, meets other threads, or used up its turn.

use super::code::{Guard, Inst, Op, Place};
use super::float;
use super::space::Spaces;
use super::types::{extend, mask};

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It can run.
    Ready,
    /// It waits at an operation of its warp, for the threads of this mask.
    Warp { mask: u32 },
    /// It waits at the barrier `id`; `threads` is how many meet there, if not all of the block.
    Barrier { id: u32, threads: Option<u32> },
    /// It has ended.
    Done,
}

/// A thread: where it is. While it waits, `at` is the instruction at which it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thread {
    pub(super) at: usize,
    pub(super) state: State,
}

impl Guard {
    /// Whether the predicate holds.
    pub(super) fn holds(self, registers: &[u64]) -> bool {
        (registers[self.register as usize] != 0) != self.negated
    }
}

/// Runs `thread` for at most `turn` steps, and returns how many it took.
pub(super) fn run(
    code: &[Inst],
    registers: &mut [u64],
    local: &mut [u8],
    spaces: &mut Spaces<'_>,
    thread: &mut Thread,
    turn: u64,
) -> Result<u64, String> {
    let get = |registers: &[u64], index: u32| registers[index as usize];
    for step in 0..turn {
        let inst = &code[thread.at];
        if inst.guard.is_some_and(|guard| !guard.holds(registers)) {
            thread.at += 1;
            continue;
        }
        match &inst.op {
            Op::Pure { f, d, s } => {
                let [a, b, c, e] = s.map(|index| registers[index as usize]);
                registers[*d as usize] = f(a, b, c, e);
            }
            Op::Saturated { f, d, s } => {
                let [a, b, c, e] = s.map(|index| registers[index as usize]);
                registers[*d as usize] = float::saturated(f(a, b, c, e));
            }
            Op::Compare {
                f,
                d,
                not_d,
                a,
                b,
                join,
            } => {
                let holds = f(get(registers, *a), get(registers, *b), 0, 0);
                let (yes, no) = match join {
                    None => (holds, holds ^ 1),
                    Some(join) => {
                        let with = u64::from(join.with.holds(registers));
                        ((join.f)(holds, with, 0, 0), (join.f)(holds ^ 1, with, 0, 0))
                    }
                };
                registers[*not_d as usize] = no;
                registers[*d as usize] = yes;
            }
            Op::Set { f, d, a, b, yes } => {
                let holds = f(get(registers, *a), get(registers, *b), 0, 0) != 0;
                registers[*d as usize] = if holds { *yes } else { 0 };
            }
            Op::Convert { cvt, d, a, keep } => registers[*d as usize] = cvt.apply(get(registers, *a)) & keep,
            Op::Pack { d, parts, bits } => {
                let join = |sum: u64, &part: &u32| (sum << bits) | (get(registers, part) & mask(*bits));
                registers[*d as usize] = parts.iter().rev().fold(0, join);
            }
            Op::Unpack { parts, a, bits } => {
                let mut value = get(registers, *a);
                for &part in parts {
                    registers[part as usize] = value & mask(*bits);
                    value >>= bits;
                }
            }
            Op::Load {
                place,
                sign_bits,
                keep,
                d,
            } => {
                let address = place.address(registers);
                Spaces::aligned(address, place.bytes * d.len() as u32)?;
                for (lane, &d) in d.iter().enumerate() {
                    let at = address.wrapping_add(lane as u64 * u64::from(place.bytes));
                    let value = spaces.load(local, place.space, at, place.bytes)?;
                    registers[d as usize] = sign_bits.map_or(value, |bits| extend(value, bits)) & keep;
                }
            }
            Op::Store { place, values } => {
                let address = place.address(registers);
                Spaces::aligned(address, place.bytes * values.len() as u32)?;
                for (lane, &value) in values.iter().enumerate() {
                    let at = address.wrapping_add(lane as u64 * u64::from(place.bytes));
                    spaces.store(local, place.space, at, place.bytes, get(registers, value))?;
                }
            }
            Op::Atomic { place, f, d, b, c } => {
                let address = place.address(registers);
                Spaces::aligned(address, place.bytes)?;
                let old = spaces.load(local, place.space, address, place.bytes)?;
                let new = f(old, get(registers, *b), get(registers, *c), 0);
                spaces.store(local, place.space, address, place.bytes, new)?;
                registers[*d as usize] = old;
            }
            Op::Branch { to } => {
                thread.at = *to as usize;
                continue;
            }
            Op::Switch { index, to } => {
                let index = get(registers, *index);
                let target = usize::try_from(index).ok().and_then(|index| to.get(index));
                thread.at =
                    *target.ok_or_else(|| format!("brx.idx: {index} is beyond its {} labels", to.len()))? as usize;
                continue;
            }
            Op::Barrier { id, threads, .. } => {
                let threads = threads.map(|threads| get(registers, threads) as u32);
                thread.state = State::Barrier {
                    id: get(registers, *id) as u32,
                    threads,
                };
                return Ok(step + 1);
            }
            Op::Warp { mask, .. } => {
                thread.state = State::Warp {
                    mask: get(registers, *mask) as u32,
                };
                return Ok(step + 1);
            }
            Op::Exit => {
                thread.state = State::Done;
                return Ok(step + 1);
            }
            Op::Nothing => {}
            Op::Trap => return Err("the kernel stopped itself (trap)".into()),
            Op::Unknown(text) => return Err(format!("the instruction `{text}` is not supported")),
        }
        thread.at += 1;
    }
    Ok(turn)
}

impl Place {
    fn address(self, registers: &[u64]) -> u64 {
        registers[self.base as usize].wrapping_add_signed(self.offset)
    }
}
