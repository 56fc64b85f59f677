//! Device pools on the simulated device: laws as random programs in adversarial orders, what is tried before a refusal, life and
//! death; and that each planted omission is found.

use super::block::submit;
use super::*;
use crate::backend::planted::{Omission, without};
use crate::backend::sim::Sim;
use crate::backend::{OWN_QUEUES, Op, QUEUES, Queue, Ticket};
use crate::device::Device;
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;

pub(super) fn engine(seed: u64) -> (Arc<Engine>, &'static Sim) {
    let sim: &'static Sim = Box::leak(Box::new(Sim::new(seed)));
    (Arc::new(Engine::new(Device::Vulkan(0), sim)), sim)
}

fn pool(seed: u64, limit: u64) -> (PoolOwner, &'static Sim) {
    let (engine, sim) = engine(seed);
    (DevicePool::make(engine, limit), sim)
}

fn take(pool: &DevicePool, bytes: usize, queue: Queue) -> PoolBlock {
    pool.allocate(bytes, 256, queue).unwrap()
}

fn fill(queue: Queue, block: &DeviceBlock, value: u32) -> Ticket {
    let to = block.part(0, block.bytes() / 4 * 4);
    // SAFETY: the span is the block's.
    unsafe { submit(queue, &[(block, Access::Write)], &[], &[Op::Fill { to, value }]) }.unwrap()
}

fn copy(queue: Queue, from: &DeviceBlock, to: &DeviceBlock) -> Ticket {
    let bytes = from.bytes().min(to.bytes()) / 4 * 4;
    let op = Op::Copy {
        from: from.part(0, bytes),
        to: to.part(0, bytes),
    };
    // SAFETY: the spans are the blocks'.
    unsafe { submit(queue, &[(from, Access::Read), (to, Access::Write)], &[], &[op]) }.unwrap()
}

fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize % below
}

/// What a pool does about memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Slabs,
    Range,
    Debug,
}

/// A random program: blocks made, filled, copied and dropped on any queue while work is under way. What the device found.
fn program(seed: u64, limit: u64, steps: usize, mode: Mode) -> Vec<String> {
    let (pool, sim) = pool(seed, limit);
    pool.expands
        .store(mode == Mode::Range, crate::sync::global::Ordering::Relaxed);
    pool.set_debug(mode == Mode::Debug);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut blocks: Vec<(PoolBlock, bool)> = Vec::new();
    for step in 0..steps {
        let queue = QUEUES[random(&mut state, 3)];
        match random(&mut state, 8) {
            0..3 => {
                let bytes = 4 * (1 + random(&mut state, 40_000));
                match pool.allocate(bytes, 256, queue) {
                    Ok(block) => blocks.push((block, false)),
                    Err(Error::OutOfMemory { .. }) => drop(blocks.drain(..blocks.len() / 2)),
                    Err(error) => panic!("{error}"),
                }
            }
            3 | 4 if !blocks.is_empty() => {
                let at = random(&mut state, blocks.len());
                fill(queue, &blocks[at].0, step as u32);
                blocks[at].1 = true;
            }
            5 if blocks.len() > 1 => {
                let (from, to) = (random(&mut state, blocks.len()), random(&mut state, blocks.len()));
                if from != to && blocks[from].1 && blocks[to].0.bytes() <= blocks[from].0.bytes() {
                    copy(queue, &blocks[from].0, &blocks[to].0);
                    blocks[to].1 = true;
                }
            }
            6 if !blocks.is_empty() => {
                let at = random(&mut state, blocks.len());
                blocks.swap_remove(at);
            }
            _ if step % 50 == 0 => drop(pool.trim(0)),
            _ => {}
        }
    }
    drop(blocks);
    let stats = pool.stats();
    assert_eq!((stats.live_bytes, stats.live_blocks), (0, 0));
    let engine = Arc::clone(pool.engine());
    drop(pool);
    let all: Numbers = std::array::from_fn(|at| OWN_QUEUES.get(at).map_or(0, |&queue| sim.submitted(queue)));
    engine.finish(&all).unwrap();
    assert_eq!(sim.slabs(), 0, "every slab went back");
    sim.findings()
}

/// Law: whatever is allocated, used and dropped when, on whatever queues: no use is unordered, nothing is freed too early.
#[test]
fn random_programs_are_ordered() {
    for seed in 1..200 {
        for mode in [Mode::Slabs, Mode::Range, Mode::Debug] {
            assert_eq!(program(seed, 3 * MIB, 300, mode), [""; 0], "seed {seed}, {mode:?}");
        }
    }
}

/// Each of these, left out, is found by some program.
#[test]
fn omissions_are_found() {
    for omission in [
        Omission::WaitForWrite,
        Omission::WaitForReads,
        Omission::NoteRead,
        Omission::NoteWrite,
        Omission::LastOfQueue,
        Omission::TagOfFreed,
        Omission::SecondQueue,
        Omission::DoneBeforeIdle,
        Omission::DoneBeforePendingIsFree,
        Omission::BehindOfReused,
        Omission::SlabInUse,
        Omission::PieceInUse,
        Omission::Ceiling,
    ] {
        for mode in [Mode::Slabs, Mode::Range, Mode::Debug] {
            // Some can be made in one mode only; in debug mode nothing is handed out behind work.
            let possible = match omission {
                Omission::PieceInUse | Omission::Ceiling => mode == Mode::Range,
                Omission::SecondQueue | Omission::DoneBeforeIdle | Omission::BehindOfReused | Omission::SlabInUse => {
                    mode != Mode::Debug
                }
                _ => true,
            };
            if possible {
                let run = |seed| without(omission, || program(seed, 3 * MIB, 300, mode));
                let found = (1..200).any(|seed| !run(seed).is_empty());
                assert!(found, "{omission:?} was not found, {mode:?}");
            }
        }
    }
}

#[test]
fn a_freed_block_is_there_at_once_for_its_queue_and_behind_its_work_for_others() {
    let (pool, sim) = pool(7, MIB);
    let block = take(&pool, MIB as usize, Queue::COMPUTE);
    let span = block.part(0, 4);
    fill(Queue::COMPUTE, &block, 1);
    drop(block);
    let (waits, again) = (sim.calls().wait, take(&pool, MIB as usize, Queue::COMPUTE));
    assert_eq!(
        (again.part(0, 4), sim.calls().wait),
        (span, waits),
        "the same bytes, and nobody waited"
    );
    fill(Queue::UPLOAD, &again, 2); // ordered behind the first owner's work
    drop(again);
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn the_limit_can_be_reached_and_is_kept() {
    let (pool, sim) = pool(8, 10 * MIB);
    let blocks: Vec<_> = (0..10).map(|_| take(&pool, MIB as usize, Queue::COMPUTE)).collect();
    let refused = pool.allocate(4, 256, Queue::COMPUTE).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, Error::OutOfMemory { asked: 4, .. }), "{text}");
    assert!(text.contains("vulkan:0") && text.contains("10485760"), "{text}");
    drop(blocks);
    drop(take(&pool, 10 * MIB as usize, Queue::COMPUTE));
    assert_eq!(sim.calls().allocate, 1);
    assert!(pool.allocate(10 * MIB as usize + 1, 256, Queue::COMPUTE).is_err());
    assert!(pool.allocate(usize::MAX, 256, Queue::COMPUTE).is_err());
    assert!(matches!(
        pool.allocate(4, 3, Queue::COMPUTE),
        Err(Error::InvalidArgument { .. })
    ));
}

/// Before a request is refused, the pool waits for work on what is freed.
#[test]
fn work_under_way_is_waited_for_at_last() {
    let (pool, sim) = pool(9, 2 * MIB);
    let [a, b] = [(); 2].map(|()| take(&pool, MIB as usize, Queue::COMPUTE));
    for value in 0..20 {
        fill(Queue::UPLOAD, &a, value);
        copy(Queue::COMPUTE, &a, &b);
    }
    drop((a, b));
    drop(take(&pool, 2 * MIB as usize, Queue::DOWNLOAD));
    assert!(sim.calls().wait > 0);
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn a_device_with_less_memory_gives_shorter_slabs() {
    let (pool, sim) = pool(10, 1 << 30);
    sim.set_limit(5 * MIB);
    let blocks: Vec<_> = (0..4).map(|_| take(&pool, MIB as usize, Queue::COMPUTE)).collect();
    assert!(pool.allocate(2 * MIB as usize, 256, Queue::COMPUTE).is_err());
    drop(blocks);
    assert!(pool.stats().committed_bytes <= 5 << 20);
    // The slabs there are stand in the way of a longer one, and go.
    drop(take(&pool, 5 * MIB as usize, Queue::COMPUTE));
    assert_eq!(pool.trim(0), 5 << 20);
    assert_eq!((sim.slabs(), pool.stats().committed_bytes), (0, 0));
}

/// A pool that goes while its work is under way waits for nothing; its slabs go when the work is done.
#[test]
fn a_pool_goes_before_its_work_is_done() {
    let (engine, sim) = engine(11);
    let pool = DevicePool::make(Arc::clone(&engine), 8 * MIB);
    let block = take(&pool, 1000, Queue::COMPUTE);
    let tickets: Vec<Ticket> = (0..20).map(|at| fill(QUEUES[at % 3], &block, at as u32)).collect();
    drop(pool);
    let waits = sim.calls().wait;
    drop(block);
    assert_eq!((sim.calls().wait, sim.slabs()), (waits, 1));
    engine.wait(&tickets).unwrap();
    engine.poll().unwrap();
    assert_eq!((sim.slabs(), sim.findings().len()), (0, 0));
}

/// Each call of the driver, refused once: an error, and nothing is lost.
#[test]
fn every_call_may_fail() {
    for n in 1..12 {
        let (pool, sim) = pool(12 + u64::from(n), 3 * MIB);
        sim.fail_nth(n);
        let run = || -> Result<()> {
            let [a, b] = [
                pool.allocate(MIB as usize, 256, Queue::COMPUTE)?,
                pool.allocate(9, 256, Queue::UPLOAD)?,
            ];
            for value in 0..5 {
                let to = a.part(0, 64);
                // SAFETY: the span is the block's.
                unsafe { submit(Queue::COMPUTE, &[(&a, Access::Write)], &[], &[Op::Fill { to, value }]) }?;
            }
            drop(b);
            pool.allocate(2 * MIB as usize, 256, Queue::DOWNLOAD).map(drop)
        };
        let result = run();
        assert_eq!(result.is_err(), n <= 6, "{n}: {result:?}");
        let stats = pool.stats();
        assert_eq!((stats.live_blocks, sim.findings()), (0, vec![]), "{n}");
        sim.fail_nth(0);
        run().unwrap();
    }
}

#[test]
fn a_lost_device_is_told_and_left_alone() {
    let (pool, sim) = pool(30, 4 * MIB);
    let block = take(&pool, 1000, Queue::COMPUTE);
    fill(Queue::COMPUTE, &block, 1);
    sim.lose();
    let to = block.part(0, 8);
    // SAFETY: the span is the block's.
    let error = unsafe {
        submit(
            Queue::COMPUTE,
            &[(&block, Access::Write)],
            &[],
            &[Op::Fill { to, value: 2 }],
        )
    }
    .unwrap_err();
    assert!(
        matches!(error, Error::DeviceLost { .. }) && error.to_string().contains("vulkan:0"),
        "{error}"
    );
    drop(block);
    assert!(pool.allocate(4 * MIB as usize, 256, Queue::COMPUTE).is_err());
    drop(pool);
}

/// Whatever lock somebody held at the fork, the child hangs nowhere: it refuses, and its drops do nothing.
#[test]
fn a_forked_child_touches_no_lock() {
    let (pool, sim) = pool(32, 4 * MIB);
    let block = take(&pool, 1000, Queue::COMPUTE);
    let public = crate::MemoryPool::of_engine(Arc::clone(pool.engine()), 1 << 20);
    let scope = public.scope();
    let held = (pool.state(), public.device_pool().unwrap().state());
    // SAFETY: the child does what is tested, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: an alarm ends a child that hangs.
        unsafe { libc::alarm(20) };
        let refused = [
            matches!(pool.allocate(4, 256, Queue::COMPUTE), Err(Error::DeviceLost { .. })),
            block.zero().is_err(),
            crate::transfer::download(&block, 0, &mut [0; 4]).is_err(),
            crate::transfer::upload(&[0; 4], &block).is_err(),
            public.trim(0) == 0 && public.stats().live_blocks == 0,
            {
                public.reset_peak();
                public.fail_nth(1);
                let ended = public.scope().counters() == crate::Counters::default();
                ended && scope.counters() == crate::Counters::default()
            },
        ];
        drop(block);
        let code = refused
            .iter()
            .position(|refused| !refused)
            .map_or(0, |at| at as i32 + 1);
        // SAFETY: as above.
        unsafe { libc::_exit(code) };
    }
    drop(held);
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    fill(Queue::UPLOAD, &block, 1);
    drop(block);
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
}

#[test]
fn many_threads_share_a_pool() {
    let (pool, sim) = pool(31, 16 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let pool = &pool;
            scope.spawn(move || {
                let mut state = thread + 99;
                let mut last: Option<PoolBlock> = None;
                for step in 0..300 {
                    let queue = QUEUES[random(&mut state, 3)];
                    let block = take(pool, 4 * (1 + random(&mut state, 5000)), queue);
                    fill(queue, &block, step);
                    if let Some(last) = last.filter(|last| last.bytes() >= block.bytes()) {
                        copy(QUEUES[random(&mut state, 3)], &last, &block);
                    }
                    last = Some(block);
                }
            });
        }
    });
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
}

/// Slabs that are free once work is done make room for a longer one, before a request is refused.
#[test]
fn what_work_leaves_makes_room_for_a_longer_slab() {
    for seed in 1..4 {
        let (pool, sim) = pool(seed, 256 * MIB);
        let short: Vec<_> = [60, 100, 60]
            .map(|mib| take(&pool, (mib * MIB) as usize, Queue::COMPUTE))
            .into();
        for value in 0..20 {
            for block in &short {
                let to = block.part(0, 4); // the whole would take long
                // SAFETY: the span is the block's.
                unsafe {
                    submit(
                        Queue::COMPUTE,
                        &[(block, Access::Write)],
                        &[],
                        &[Op::Fill { to, value }],
                    )
                }
                .unwrap();
            }
        }
        drop(short);
        let long = pool.allocate((200 * MIB) as usize, 256, Queue::UPLOAD);
        assert!(long.is_ok(), "seed {seed}: {long:?}");
        assert_eq!(sim.findings(), [""; 0]);
    }
}
