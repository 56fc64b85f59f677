//! Expandable pools on the simulated device. The random programs that run on them, too, are in `tests.rs`.

use super::block::submit;
use super::tests::engine;
use super::*;
use crate::MemoryPool;
use crate::backend::planted::without;
use crate::backend::sim::Sim;
use crate::backend::{Op, Queue};
use crate::device::Device;
use crate::error::{Error, Result};

const MIB: u64 = 1 << 20;
/// A piece of a small pool of the simulated device.
const PIECE: u64 = 64 << 10;

fn pool(seed: u64, limit: u64) -> (MemoryPool, &'static Sim) {
    let (engine, sim) = engine(seed);
    (MemoryPool::of_engine(engine, limit as usize).with_expandable(true), sim)
}

fn take(pool: &MemoryPool, bytes: u64) -> Result<PoolBlock> {
    let pool = pool.device_pool().unwrap();
    pool.allocate(bytes as usize, 256, Queue::COMPUTE)
}

/// Writes to the ends of a block.
fn touch(block: &DeviceBlock, queue: Queue) {
    for at in [0, block.bytes() - 4] {
        let to = block.part(at, 4);
        // SAFETY: the span is the block's.
        unsafe { submit(queue, &[(block, Access::Write)], &[], &[Op::Fill { to, value: 7 }]) }.unwrap();
    }
}

/// What the pool is for: short blocks leave one piece of memory for a long one. A pool of slabs has to give slabs back for that.
#[test]
fn no_border_between_what_was_short() {
    let (pool, sim) = pool(1, 256 * MIB);
    let short: Vec<_> = [60, 100, 60].map(|mib| take(&pool, mib * MIB).unwrap()).into();
    short.iter().for_each(|block| touch(block, Queue::COMPUTE));
    drop(short);
    let (before, calls) = (pool.stats(), sim.calls());
    let long = take(&pool, 220 * MIB).unwrap();
    touch(&long, Queue::UPLOAD);
    let (after, now) = (pool.stats(), sim.calls());
    assert_eq!(
        (after.committed_bytes, after.peak_committed_bytes),
        (before.committed_bytes, before.committed_bytes)
    );
    assert_eq!((now.extend, now.shorten, now.allocate), (calls.extend, 0, 0));
    drop(long);
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn figures_count_what_is_mapped() {
    let (pool, sim) = pool(2, 10 * MIB);
    assert_eq!((pool.stats().reserved_bytes, pool.stats().regions), (0, 0));
    let first = take(&pool, 100_000).unwrap();
    let stats = pool.stats();
    assert_eq!(
        (stats.reserved_bytes, stats.committed_bytes as u64),
        (10 << 20, 2 * PIECE)
    );
    let [second, third] = [4 * MIB, MIB].map(|bytes| take(&pool, bytes).unwrap());
    drop(second);
    // The hole stays, what is behind the last block goes.
    let (held, before) = (pool.stats().committed_bytes, pool.stats().live_bytes);
    let least = (100_096 + 5 * MIB).next_multiple_of(PIECE) as usize;
    assert_eq!(pool.trim(0), held - least);
    assert_eq!((pool.stats().committed_bytes, pool.stats().live_bytes), (least, before));
    drop((first, third));
    assert_eq!(pool.trim(MIB as usize), least - (MIB as usize));
    assert_eq!(pool.stats().committed_bytes, 1 << 20);
    assert_eq!(pool.trim(0), 1 << 20);
    let stats = pool.stats();
    assert_eq!(
        (stats.committed_bytes, stats.reserved_bytes, stats.cached_bytes()),
        (0, 10 << 20, 0)
    );
    assert_eq!(stats.peak_committed_bytes, held);
    drop(take(&pool, 10 * MIB).unwrap());
    drop(pool);
    assert_eq!((sim.slabs(), sim.findings().len()), (0, 0));
}

/// Every byte of a limit can be had, also of one that is no multiple of a piece, and no more.
#[test]
fn the_limit_is_that_of_the_blocks() {
    let limit = 3 * PIECE + 1000;
    let (pool, sim) = pool(3, limit);
    let whole = take(&pool, limit / 256 * 256).unwrap();
    touch(&whole, Queue::COMPUTE);
    assert_eq!(pool.stats().committed_bytes as u64, 4 * PIECE);
    assert!(matches!(take(&pool, 4), Err(Error::OutOfMemory { .. })));
    drop(whole);
    let refused = take(&pool, limit).unwrap_err();
    assert!(refused.to_string().contains(&limit.to_string()), "{refused}");
    let parts: Vec<_> = (0..limit / 256).map(|_| take(&pool, 256).unwrap()).collect();
    assert!(take(&pool, 1).is_err());
    drop(parts);
    assert_eq!((sim.calls().extend, sim.findings().len()), (1, 0));
}

/// Memory ends while the pool grows: it takes what there is, refuses the rest, and nothing is lost.
#[test]
fn memory_ends_half_way() {
    let (pool, sim) = pool(4, 64 * MIB);
    sim.set_limit(5 * MIB);
    let blocks: Vec<_> = (0..5).map(|_| take(&pool, MIB).unwrap()).collect();
    blocks.iter().for_each(|block| touch(block, Queue::DOWNLOAD));
    let refused = take(&pool, MIB).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    assert_eq!(pool.stats().committed_bytes, 5 << 20);
    drop(blocks);
    let whole = take(&pool, 5 * MIB).unwrap();
    sim.set_limit(9 * MIB);
    let more = take(&pool, 4 * MIB).unwrap();
    [&whole, &more].iter().for_each(|block| touch(block, Queue::UPLOAD));
    drop((whole, more));
    // With a budget it is the same, and the budget is kept.
    sim.set_limit(1 << 30);
    sim.set_budget(Some(10 * MIB + 100));
    let most = take(&pool, 10 * MIB).unwrap();
    let text = take(&pool, MIB).unwrap_err().to_string();
    assert!(text.contains("left to this process"), "{text}");
    drop(most);
    assert_eq!(sim.findings(), [""; 0]);
}

/// Each call of the driver, refused once: an error, and nothing is lost.
#[test]
fn every_call_may_fail() {
    let mut refused = 0;
    for n in 1..8 {
        let (pool, sim) = pool(20 + u64::from(n), 8 * MIB);
        sim.fail_nth(n);
        let run = || -> Result<()> {
            let a = take(&pool, MIB)?;
            let b = take(&pool, 2 * MIB)?;
            drop(a);
            take(&pool, 3 * MIB).map(|c| drop((b, c)))
        };
        let result = run();
        assert_eq!(result.is_err(), n <= 4, "{n}: {result:?}"); // reserve, and three extensions
        refused += usize::from(result.is_err());
        sim.fail_nth(0);
        run().unwrap();
        assert_eq!((pool.stats().live_blocks, pool.stats().regions), (0, 1), "{n}");
        pool.trim(0);
        assert_eq!((pool.stats().committed_bytes, sim.findings()), (0, vec![]), "{n}");
    }
    assert_eq!(refused, 4);
}

/// What work still uses is not unmapped; when the work is done it can be. One who unmapped all the same would be found.
#[test]
fn what_work_uses_stays_mapped() {
    let run = |seed| {
        let (pool, sim) = pool(seed, 8 * MIB);
        let block = take(&pool, 6 * MIB).unwrap();
        for queue in [Queue::COMPUTE, Queue::COMPUTE, Queue::COMPUTE, Queue::UPLOAD] {
            touch(&block, queue);
        }
        drop(block);
        let (held, trimmed) = (pool.stats().committed_bytes, pool.trim(0));
        let early = trimmed > 0 && sim.calls().wait == 0;
        let pool = pool.device_pool().unwrap();
        pool.engine()
            .wait(&[Queue::COMPUTE, Queue::UPLOAD].map(|queue| {
                let number = sim.submitted(queue);
                crate::backend::Ticket { queue, number }
            }))
            .unwrap();
        let later = pool.trim(0);
        assert_eq!(trimmed + later, held);
        (early, sim.findings())
    };
    for seed in 1..20 {
        assert_eq!(run(seed).1, [""; 0], "seed {seed}");
    }
    assert!((1..20).any(|seed| !run(seed).0), "the work was always done at once");
    let found = (1..20).any(|seed| without(Omission::PieceInUse, || run(seed).1 != [""; 0]));
    assert!(found, "the omission is not found");
}

/// Blocks of 2 MiB alignment leave no memory unmapped below them.
#[test]
fn alignments_are_kept() {
    let (pool, sim) = pool(5, 32 * MIB);
    let mut blocks = Vec::new();
    for alignment in [256, 4096, 2 << 20, 512, 2 << 20, 1 << 16] {
        let block = pool
            .device_pool()
            .unwrap()
            .allocate(70_000, alignment, Queue::COMPUTE)
            .unwrap();
        assert!(block.part(0, 4).offset.is_multiple_of(alignment as u64));
        touch(&block, Queue::COMPUTE);
        blocks.push(block);
    }
    drop(blocks);
    assert_eq!(sim.findings(), [""; 0]);
}

/// A pool of 1 GiB is mapped in pieces of 32 MiB.
#[test]
fn large_pools_have_large_pieces() {
    let (pool, sim) = pool(6, 1 << 30);
    let block = take(&pool, 33 * MIB).unwrap();
    assert_eq!(pool.stats().committed_bytes, 64 << 20);
    drop(block);
    assert_eq!((sim.findings(), sim.calls().extend), (vec![], 1));
}

#[test]
fn the_first_allocation_says_that_the_device_cannot() {
    let mut sim = Sim::new(7);
    sim.set_granularity(None);
    let sim: &'static Sim = Box::leak(Box::new(sim));
    let engine = Arc::new(Engine::new(Device::Cuda(3), sim));
    let pool = MemoryPool::of_engine(engine, 64 << 20).with_expandable(true);
    let error = take(&pool, 100).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("cuda:3") && text.contains("make the pool without it"),
        "{text}"
    );
    let pool = pool.with_expandable(false);
    drop(take(&pool, 100).unwrap());
    assert_eq!((sim.calls().allocate, sim.findings().len()), (1, 0));
}

/// Told late, a pool has slabs and a range: both serve, and both go.
#[test]
fn a_pool_that_changes_its_mind() {
    let (engine, sim) = engine(8);
    let pool = MemoryPool::of_engine(engine, 8 << 20);
    let slab = take(&pool, 8 * MIB).unwrap();
    let pool = pool.with_expandable(true);
    assert!(take(&pool, MIB).is_err(), "the slab has all of the limit");
    drop(slab);
    let slab = take(&pool, 2 * MIB).unwrap();
    drop(slab);
    pool.trim(0);
    let range = take(&pool, 3 * MIB).unwrap();
    let pool = pool.with_expandable(false);
    let slab = take(&pool, 4 * MIB).unwrap();
    [&range, &slab].iter().for_each(|block| touch(block, Queue::COMPUTE));
    assert_eq!(pool.stats().regions, 2);
    drop((slab, range));
    drop(take(&pool, 8 * MIB).unwrap()); // all of the limit: what is mapped makes way
    assert_eq!((pool.stats().committed_bytes, sim.findings().len()), (8 << 20, 0));
}

/// A range goes with its pool when the work is done.
#[test]
fn a_pool_goes_before_its_work_is_done() {
    let (pool, sim) = pool(9, 8 * MIB);
    let engine = Arc::clone(pool.device_pool().unwrap().engine());
    let block = take(&pool, 5 * MIB).unwrap();
    (0..10).for_each(|_| touch(&block, Queue::UPLOAD));
    drop((pool, block));
    assert_eq!(sim.slabs(), 1);
    engine.finish_kept();
    assert_eq!((sim.slabs(), sim.findings().len()), (0, 0));
}

/// While some threads allocate, one trims.
#[test]
fn trimming_beside_those_who_allocate() {
    let (pool, sim) = pool(10, 16 * MIB);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let pool = &pool;
            scope.spawn(move || {
                for step in 0..200u64 {
                    let block = take(pool, 4 * (1 + (step * 7919 + thread * 104_729) % 150_000)).unwrap();
                    touch(&block, [Queue::COMPUTE, Queue::UPLOAD][(step % 2) as usize]);
                    if step % 5 == thread {
                        pool.trim(0);
                    }
                }
            });
        }
    });
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
    assert!(sim.calls().shorten > 0);
}
