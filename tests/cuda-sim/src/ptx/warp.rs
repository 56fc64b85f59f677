//! What threads do together: shuffles, votes and reductions of a warp, and barriers of a block.
//!
//! Invariant W1: an operation takes place when the threads that its mask names, as far as they exist and have not
//! ended, all wait at the same instruction. All values are read before the first is written.

use super::code::{Inst, Op, Shuffle, Vote, Warp};
use super::thread::{State, Thread};

/// The threads of a warp.
pub(super) const LANES: usize = 32;

/// Lets the waiting threads of one warp go on where they may; whether any did. `registers` holds those of each thread
/// in turn, `size` of them.
pub(super) fn meet(code: &[Inst], threads: &mut [Thread], registers: &mut [u64], size: usize) -> bool {
    if threads.iter().any(|thread| thread.state == State::Ready) {
        return false;
    }
    // Who is active is asked last, when all threads that can come have come.
    meet_at(code, threads, registers, size, false) || meet_at(code, threads, registers, size, true)
}

fn meet_at(code: &[Inst], threads: &mut [Thread], registers: &mut [u64], size: usize, active: bool) -> bool {
    let mut went_on = false;
    for first in 0..threads.len() {
        let (at, State::Warp { mask }) = (threads[first].at, threads[first].state) else {
            continue;
        };
        let Some(Inst {
            op: Op::Warp { op, .. },
            ..
        }) = code.get(at)
        else {
            continue;
        };
        if matches!(op, Warp::Active { .. }) != active {
            continue;
        }
        let waits = |thread: &Thread| thread.at == at && matches!(thread.state, State::Warp { .. });
        let here = lanes(threads, waits);
        let alive = lanes(threads, |thread| thread.state != State::Done);
        let group = if active { here } else { mask & alive };
        if group & !here != 0 || group & (1 << first) == 0 {
            continue;
        }
        perform(*op, group, registers, size);
        for lane in each(group) {
            threads[lane] = Thread {
                at: at + 1,
                state: State::Ready,
            };
        }
        went_on = true;
    }
    went_on
}

fn lanes(threads: &[Thread], belongs: impl Fn(&Thread) -> bool) -> u32 {
    threads
        .iter()
        .enumerate()
        .filter(|(_, thread)| belongs(thread))
        .fold(0, |sum, (lane, _)| sum | 1 << lane)
}

fn each(group: u32) -> impl Iterator<Item = usize> + Clone {
    (0..LANES).filter(move |lane| (group >> lane) & 1 == 1)
}

fn perform(op: Warp, group: u32, registers: &mut [u64], size: usize) {
    let of = |registers: &[u64], lane: usize, register: u32| registers[lane * size + register as usize];
    match op {
        Warp::Sync => {}
        Warp::Active { d } => set(registers, size, group, d, u64::from(group)),
        Warp::Reduce { f, d, value } => {
            let values = each(group).map(|lane| of(registers, lane, value));
            let result = values.reduce(|a, b| f(a, b, 0, 0)).unwrap_or(0);
            set(registers, size, group, d, result);
        }
        Warp::Vote { how, d, of: guard } => {
            let holds = |&lane: &usize| guard.holds(&registers[lane * size..(lane + 1) * size]);
            let ballot = each(group).filter(holds).fold(0u32, |sum, lane| sum | 1 << lane);
            let count = each(group).count();
            set(registers, size, group, d, tally(how, ballot, count));
        }
        Warp::Shuffle {
            how,
            d,
            valid,
            value,
            lane,
            clamp,
        } => {
            let read = |at: usize| {
                let (source, inside) = chosen(how, at, of(registers, at, lane), of(registers, at, clamp));
                let from = if (group >> source) & 1 == 1 { source } else { at };
                (at, of(registers, from, value) & 0xffff_ffff, u64::from(inside))
            };
            let results: Vec<_> = each(group).map(read).collect();
            for (at, value, inside) in results {
                registers[at * size + valid as usize] = inside;
                registers[at * size + d as usize] = value;
            }
        }
    }
}

fn set(registers: &mut [u64], size: usize, group: u32, d: u32, value: u64) {
    for lane in each(group) {
        registers[lane * size + d as usize] = value;
    }
}

/// The result of a vote in which the lanes of `ballot` said yes, of `count` that were asked.
fn tally(how: Vote, ballot: u32, count: usize) -> u64 {
    let yes = ballot.count_ones() as usize;
    match how {
        Vote::All => u64::from(yes == count),
        Vote::Any => u64::from(yes > 0),
        Vote::Uniform => u64::from(yes == 0 || yes == count),
        Vote::Ballot => u64::from(ballot),
        Vote::Count => yes as u64,
    }
}

/// The lane that `at` reads, and whether the lane that was asked for lies in its segment.
fn chosen(how: Shuffle, at: usize, lane: u64, clamp: u64) -> (usize, bool) {
    let (at, lane) = (at as i64, (lane & 31) as i64);
    let (segment, clamp) = (((clamp >> 8) & 31) as i64, (clamp & 31) as i64);
    let (least, most) = (at & segment, (at & segment) | (clamp & !segment & 31));
    let (asked, inside) = match how {
        Shuffle::Up => (at - lane, at - lane >= most),
        Shuffle::Down => (at + lane, at + lane <= most),
        Shuffle::Butterfly => (at ^ lane, (at ^ lane) <= most),
        Shuffle::Index => {
            let asked = least | (lane & !segment & 31);
            (asked, asked <= most)
        }
    };
    ((if inside { asked } else { at } & 31) as usize, inside)
}

/// Lets the threads of a block pass the barriers at which all that have to have arrived; whether any did.
pub(super) fn pass_barriers(code: &[Inst], threads: &mut [Thread], registers: &mut [u64], size: usize) -> bool {
    let alive = threads.iter().filter(|thread| thread.state != State::Done).count();
    let mut went_on = false;
    for first in 0..threads.len() {
        let State::Barrier { id, threads: meeting } = threads[first].state else {
            continue;
        };
        let waits = |thread: &Thread| matches!(thread.state, State::Barrier { id: other, .. } if other == id);
        let here: Vec<usize> = (0..threads.len()).filter(|&at| waits(&threads[at])).collect();
        if here.len() < meeting.map_or(alive, |count| count as usize) {
            continue;
        }
        let vote_of = |thread: &Thread| match code.get(thread.at).map(|inst| &inst.op) {
            Some(Op::Barrier { vote, .. }) => *vote,
            _ => None,
        };
        let holds = |&&at: &&usize| {
            let guard = vote_of(&threads[at]).map(|(_, _, guard)| guard);
            guard.is_some_and(|guard| guard.holds(&registers[at * size..(at + 1) * size]))
        };
        let yes = here.iter().filter(holds).count();
        for &at in &here {
            if let Some((how, d, _)) = vote_of(&threads[at]) {
                let result = match how {
                    Vote::All => u64::from(yes == here.len()),
                    Vote::Any => u64::from(yes > 0),
                    _ => yes as u64,
                };
                registers[at * size + d as usize] = result;
            }
            threads[at] = Thread {
                at: threads[at].at + 1,
                state: State::Ready,
            };
        }
        went_on = true;
    }
    went_on
}
