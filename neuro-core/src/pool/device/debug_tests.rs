//! Debug mode of device pools on the simulated device. The random programs that run in it, too, are in `tests.rs`; what it finds is shown in
//! `kernel/cuda/tests/bounds.rs`.

use std::sync::Arc;

use super::block::submit;
use super::tests::engine;
use super::*;
use crate::MemoryPool;
use crate::backend::sim::Sim;
use crate::backend::{Op, Queue};
use crate::error::{Error, Result};

const MIB: usize = 1 << 20;

fn pool(seed: u64, limit: usize) -> (MemoryPool, &'static Sim) {
    let (engine, sim) = engine(seed);
    (MemoryPool::of_engine(engine, limit).with_debug(true), sim)
}

fn take(pool: &MemoryPool, bytes: usize) -> Result<PoolBlock> {
    pool.device_pool().unwrap().allocate(bytes, 64, Queue::COMPUTE)
}

fn write(queue: Queue, block: &DeviceBlock) {
    let to = block.part(0, block.bytes() / 4 * 4);
    // SAFETY: the span is the block's.
    unsafe { submit(queue, &[(block, Access::Write)], &[], &[Op::Fill { to, value: 7 }]) }.unwrap();
}

#[test]
fn a_block_is_an_allocation_of_the_bytes_asked_for() {
    let (pool, sim) = pool(1, MIB);
    let blocks = [0, 1, 4, 1000, 1001].map(|bytes| take(&pool, bytes).unwrap());
    assert_eq!(sim.slabs(), 5);
    let stats = pool.stats();
    // In fours; this device gives no less than eights.
    let (live, given) = (4 + 4 + 4 + 1000 + 1004, 8 + 8 + 8 + 1000 + 1008);
    assert_eq!(
        (stats.live_bytes, stats.committed_bytes, stats.reserved_bytes),
        (live, given, given)
    );
    assert_eq!(
        (stats.requested_bytes, stats.live_blocks, stats.hole_bytes),
        (2006, 5, 0)
    );
    for block in &blocks {
        block.zero().unwrap();
    }
    drop(blocks);
    let stats = pool.stats();
    assert_eq!((stats.live_bytes, stats.live_blocks), (0, 0));
    pool.trim(0); // what was under way then
    assert_eq!(sim.findings(), [""; 0]);
}

/// What nothing uses goes back when it is freed; what is used when a request, a trim, or another free finds that the work is done.
#[test]
fn a_freed_block_goes_back_when_its_work_is_done() {
    let (pool, sim) = pool(2, MIB);
    drop(take(&pool, 1000).unwrap());
    assert_eq!((sim.slabs(), pool.stats().committed_bytes), (0, 0));
    for round in 0..20 {
        let block = take(&pool, 1000).unwrap();
        (0..10).for_each(|_| write([Queue::COMPUTE, Queue::UPLOAD][round % 2], &block));
        drop(block);
        let waits = sim.calls().wait;
        while sim.slabs() > 0 {
            assert!(pool.stats().committed_bytes > 0, "it counts as long as it is there");
            pool.trim(usize::MAX); // it is never used again, so that it is not kept either
        }
        assert_eq!((sim.calls().wait, pool.stats().committed_bytes), (waits, 0));
    }
    assert_eq!(sim.findings(), [""; 0]);
}

#[test]
fn the_limit_is_exact_and_work_is_waited_for_before_a_refusal() {
    let (pool, sim) = pool(3, 10_000);
    let blocks: Vec<_> = (0..10).map(|_| take(&pool, 1000).unwrap()).collect();
    let refused = take(&pool, 1).unwrap_err();
    assert!(
        matches!(&refused, Error::OutOfMemory { asked: 1, .. }) && refused.to_string().contains("10000"),
        "{refused}"
    );
    blocks.iter().for_each(|block| write(Queue::UPLOAD, block));
    drop(blocks);
    drop(take(&pool, 10_000).unwrap());
    assert!(matches!(take(&pool, 10_001), Err(Error::OutOfMemory { .. })));
    assert_eq!(sim.findings(), [""; 0]);
}

/// As a device has less than the pool: first what is done goes back, then what is under way is waited for.
#[test]
fn a_device_without_memory_is_asked_again() {
    let (pool, sim) = pool(4, 64 * MIB);
    sim.set_limit(4 * MIB as u64);
    for _ in 0..20 {
        let blocks: Vec<_> = (0..4).map(|_| take(&pool, MIB).unwrap()).collect();
        blocks.iter().for_each(|block| write(Queue::DOWNLOAD, block));
        assert!(matches!(take(&pool, MIB), Err(Error::OutOfMemory { .. })));
    }
    sim.set_limit(64 * MIB as u64);
    sim.set_budget(Some(2 * MIB as u64));
    drop(take(&pool, 2 * MIB).unwrap());
    let text = take(&pool, 2 * MIB + 4).unwrap_err().to_string();
    assert!(text.contains("left to this process"), "{text}");
    assert_eq!(sim.findings(), [""; 0]);
}

/// What a pool had before stays as it is, and what comes later is in slabs again.
#[test]
fn it_can_be_switched_on_and_off() {
    let (pool, sim) = pool(5, 200 * MIB);
    let pool = pool.with_debug(false).with_expandable(false);
    let [a, b] = [(); 2].map(|()| take(&pool, MIB).unwrap());
    let pool = pool.with_debug(true);
    let c = take(&pool, MIB).unwrap();
    write(Queue::COMPUTE, &c);
    drop(a);
    let pool = pool.with_debug(false);
    drop(c); // still one of debug mode
    let again = take(&pool, MIB).unwrap();
    assert_eq!(again.part(0, 4).slab, b.part(0, 4).slab, "where the first one was");
    drop((b, again));
    while pool.trim(0) > 0 {}
    assert_eq!(pool.stats().committed_bytes, 0);
    assert_eq!((sim.slabs(), sim.findings().len()), (0, 0));
}

/// The pool may go first, or while work is under way.
#[test]
fn the_last_block_takes_the_pool_along() {
    let (engine, sim) = engine(6);
    let pool = MemoryPool::of_engine(Arc::clone(&engine), MIB).with_debug(true);
    let [a, b] = [(); 2].map(|()| take(&pool, 1000).unwrap());
    let tickets: Vec<_> = [&a, &b]
        .map(|block| block.uses_under_way())
        .into_iter()
        .flatten()
        .collect();
    (0..5).for_each(|_| write(Queue::UPLOAD, &a));
    drop(a);
    drop(pool);
    (0..5).for_each(|_| write(Queue::COMPUTE, &b));
    let last = b.last_use();
    drop(b);
    engine.finish(&last).unwrap();
    engine.wait(&tickets).unwrap();
    while engine.finish_kept() {}
    engine.poll().unwrap();
    assert_eq!((sim.slabs(), sim.findings().len()), (0, 0));
}

#[test]
fn many_threads_keep_the_limit() {
    let (pool, sim) = pool(7, 100_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for step in 0..200 {
                    match take(pool, 4 * (1 + (step * 37 + thread) % 6000)) {
                        Ok(block) => write([Queue::COMPUTE, Queue::UPLOAD, Queue::DOWNLOAD][step % 3], &block),
                        Err(error) => assert!(matches!(error, Error::OutOfMemory { .. }), "{error}"),
                    }
                    assert!(pool.stats().committed_bytes <= 100_000);
                }
            });
        }
    });
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
}

#[test]
fn every_call_may_fail() {
    let mut refused = 0;
    for n in 1..12 {
        let (pool, sim) = pool(20 + n, MIB);
        sim.fail_nth(n as u32);
        let run = || -> Result<()> {
            let a = take(&pool, 1000)?;
            let b = take(&pool, 500)?;
            a.zero()?;
            b.zero()?;
            drop(a);
            take(&pool, 2000).map(drop)
        };
        refused += usize::from(run().is_err());
        sim.fail_nth(0);
        run().unwrap();
        assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]), "{n}");
        while pool.trim(0) > 0 || pool.stats().committed_bytes > 0 {}
        assert_eq!(sim.slabs(), 0, "{n}");
    }
    assert!(refused > 2, "{refused}");
}
