//! Work of others on blocks of the simulated device, in adversarial orders; and that each wait and note that is left out is found, by
//! this library or by him whose work it is.

use std::sync::Arc;

use super::{Access, DeviceBlock, DevicePool, Engine, PoolBlock, submit, turn};
use crate::backend::planted::{Omission, without};
use crate::backend::raw::{QueueTurn, SemaphoreValue};
use crate::backend::sim::Sim;
use crate::backend::{OWN_QUEUES, Op, QUEUES, Queue};
use crate::device::Device;
use crate::error::{Error, Result};

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// What he whose work it is leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Forgets {
    Nothing,
    /// Waits for other queues.
    Others,
    /// The wait for what the queue itself had before.
    Own,
    /// He submits, and says that he has not.
    ToSaySo,
}

/// Submits one piece in a turn.
fn in_turn(sim: &Sim, blocks: &[(&DeviceBlock, Access)], op: Op, forgets: Forgets) -> Result<()> {
    let work = |turn: &QueueTurn<'_>| {
        let own = |wait: &&SemaphoreValue| wait.semaphore == turn.signal.semaphore;
        let waits: Vec<SemaphoreValue> = match forgets {
            Forgets::Nothing | Forgets::ToSaySo => turn.waits.to_vec(),
            Forgets::Others => turn.waits.iter().filter(own).copied().collect(),
            Forgets::Own => turn.waits.iter().filter(|wait| !own(wait)).copied().collect(),
        };
        sim.submit_in_turn(&waits, turn.signal, &[op]);
        match forgets {
            Forgets::ToSaySo => Err(Error::UnknownDevice { name: String::new() }),
            _ => Ok(()),
        }
    };
    // SAFETY: one submission, which touches the blocks as is said; or it is what the test is about.
    unsafe { turn(blocks, work) }
}

/// A random program: blocks made, filled and copied, by this library on any queue or in turns, and dropped. What the device found.
fn program(seed: u64, forgets: Forgets) -> Vec<String> {
    let sim: &'static Sim = Box::leak(Box::new(Sim::new(seed)));
    let engine = Arc::new(Engine::new(Device::Vulkan(0), sim));
    let pool = DevicePool::make(Arc::clone(&engine), 3 << 20);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut blocks: Vec<PoolBlock> = Vec::new();
    for step in 0..200u32 {
        let queue = QUEUES[random.below(3)];
        let theirs = random.below(2) == 0;
        if blocks.len() < 2 || random.below(4) == 0 {
            let Ok(block) = pool.allocate(4 * (1 + random.below(40_000)), 256, queue) else {
                blocks.truncate(1);
                continue;
            };
            blocks.push(block);
            let fresh: &DeviceBlock = &blocks[blocks.len() - 1];
            let op = Op::Fill {
                to: fresh.part(0, fresh.bytes()),
                value: step,
            };
            let uses = [(fresh, Access::Write)];
            let filled = if theirs {
                in_turn(sim, &uses, op, forgets)
            } else {
                // SAFETY: the spans are the blocks'.
                unsafe { submit(queue, &uses, &[], &[op]) }.map(drop)
            };
            if filled.is_err() {
                break;
            }
        } else if random.below(5) == 0 {
            blocks.swap_remove(random.below(blocks.len()));
        } else {
            let from = random.below(blocks.len());
            let to = (from + 1 + random.below(blocks.len() - 1)) % blocks.len();
            let (from, to): (&DeviceBlock, &DeviceBlock) = (&blocks[from], &blocks[to]);
            let bytes = from.bytes().min(to.bytes());
            let op = Op::Copy {
                from: from.part(0, bytes),
                to: to.part(0, bytes),
            };
            // A block may be named twice: it is written if it is once.
            let uses = [(from, Access::Read), (to, Access::Read), (to, Access::Write)];
            let copied = if theirs {
                in_turn(sim, &uses, op, forgets)
            } else {
                // SAFETY: the spans are the blocks'.
                unsafe { submit(queue, &uses, &[], &[op]) }.map(drop)
            };
            if copied.is_err() {
                break;
            }
        }
    }
    drop((blocks, pool));
    let all = std::array::from_fn(|at| OWN_QUEUES.get(at).map_or(0, |&queue| sim.submitted(queue)));
    engine.finish(&all).unwrap();
    sim.findings()
}

#[test]
fn work_of_others_is_ordered_with_ours() {
    for seed in 1..150 {
        assert_eq!(program(seed, Forgets::Nothing), [""; 0], "seed {seed}");
    }
}

#[test]
fn omissions_are_found() {
    for omission in [
        Omission::WaitForWrite,
        Omission::WaitForReads,
        Omission::NoteRead,
        Omission::NoteWrite,
        Omission::LastOfQueue,
        Omission::TagOfFreed,
        Omission::BehindOfReused,
    ] {
        let run = |seed| without(omission, || program(seed, Forgets::Nothing)).into_iter().next();
        assert!((1..150).find_map(run).is_some(), "{omission:?} was not found");
    }
}

#[test]
fn who_forgets_something_in_his_turn_is_found() {
    for forgets in [Forgets::Others, Forgets::Own, Forgets::ToSaySo] {
        let found = (1..150).find_map(|seed| program(seed, forgets).into_iter().next());
        assert!(found.is_some(), "{forgets:?} was not found");
    }
}

/// A turn that is refused, or comes to nothing, leaves the block as it was: the next turn has the same number and waits.
#[test]
fn a_turn_that_comes_to_nothing_leaves_no_trace() {
    let sim: &'static Sim = Box::leak(Box::new(Sim::new(5)));
    let pool = DevicePool::make(Arc::new(Engine::new(Device::Vulkan(0), sim)), 1 << 20);
    let block = pool.allocate(64, 256, Queue::UPLOAD).unwrap();
    let op = Op::Fill {
        to: block.part(0, 64),
        value: 1,
    };
    // SAFETY: the span is the block's.
    unsafe { submit(Queue::UPLOAD, &[(&block, Access::Write)], &[], &[op]) }.unwrap();
    let mut seen = Vec::new();
    let mut look = || {
        let look = |turn: &QueueTurn<'_>| {
            seen.push((turn.waits.to_vec(), turn.signal));
            Err::<(), _>(Error::UnknownDevice { name: String::new() })
        };
        // SAFETY: nothing is submitted, and the answer says so.
        assert!(unsafe { turn(&[(&block, Access::Write)], look) }.is_err());
    };
    look();
    look();
    assert_eq!(seen[0], seen[1]);
    assert_eq!((seen[0].0.len(), seen[0].1.value), (1, 1), "behind the fill");
    sim.fail_nth(1);
    let never = |_: &QueueTurn<'_>| -> Result<()> { unreachable!("the device refused") };
    // SAFETY: it submits nothing.
    let refused = unsafe { turn(&[(&block, Access::Write)], never) }.unwrap_err();
    assert!(matches!(refused, Error::Driver { .. }), "{refused}");
    in_turn(sim, &[(&block, Access::Write)], op, Forgets::Nothing).unwrap();
    assert_eq!((sim.submitted(Queue::COMPUTE), sim.findings()), (1, vec![]));
}
