//! A pool of a device answers what a pool of the host is asked.

use std::sync::Arc;

use super::ask::{enter, pools};
use super::tests::engine;
use crate::device::Device;
use crate::error::Error;
use crate::{DType, DynTensor, MemoryPool};

const MIB: usize = 1 << 20;

fn bytes(pool: &MemoryPool, bytes: usize) -> crate::Result<DynTensor> {
    DynTensor::empty_in(pool, None, &[bytes], DType::U8)
}

#[test]
fn the_nth_allocation_is_refused_and_an_order_can_be_taken_back() {
    let (engine, sim) = engine(40);
    let pool = MemoryPool::of_engine(engine, 8 * MIB);
    pool.fail_nth(3);
    let kept = [(); 2].map(|()| DynTensor::zeros_in(&pool, None, &[100], DType::U8).unwrap());
    let refused = bytes(&pool, 100).unwrap_err();
    assert!(
        matches!(&refused, Error::OutOfMemory { device: Device::Vulkan(0), asked: 100, figures, .. } if figures.live_blocks == 2),
        "{refused}"
    );
    assert!(refused.to_string().contains("fail_nth"), "{refused}");
    bytes(&pool, 100).unwrap();
    for (order, refusals) in [(1, 1), (0, 0)] {
        pool.fail_nth(2);
        pool.fail_nth(order);
        let refused = (0..5).filter(|_| bytes(&pool, 100).is_err()).count();
        assert_eq!(refused, refusals);
    }
    // What is no allocation is not counted.
    pool.fail_nth(1);
    assert_eq!(kept[0].to_pool(&MemoryPool::unlimited()).unwrap().nbytes(), 100);
    assert!(kept[0].to_pool(&pool).is_err());
    drop(kept);
    assert_eq!((pool.stats().live_blocks, sim.findings()), (0, vec![]));
}

#[test]
fn scopes_count_for_themselves_and_peaks_are_reset() {
    let (engine, _) = engine(41);
    let pool = MemoryPool::of_engine(engine, 8 * MIB);
    let before = bytes(&pool, 1000).unwrap();
    let outer = pool.scope();
    let large = bytes(&pool, 3000).unwrap();
    drop(large);
    let inner = pool.scope();
    let small = bytes(&pool, 10).unwrap();
    let usage = |usage: crate::Usage| (usage.current, usage.peak, usage.total);
    let seen = outer.counters();
    assert_eq!(usage(seen.allocated), (1024 + 256, 1024 + 3072, 3072 + 256));
    assert_eq!(
        (usage(seen.requested), usage(seen.blocks)),
        ((1010, 4000, 3010), (2, 2, 2))
    );
    assert_eq!(usage(inner.counters().allocated), (1280, 1280, 256));
    outer.reset();
    assert_eq!(usage(outer.counters().allocated), (1280, 1280, 0));
    drop(outer);
    drop(small);
    assert_eq!(usage(inner.counters().blocks), (1, 2, 1));
    assert_eq!((pool.stats().peak_bytes, pool.stats().peak_blocks), (1024 + 3072, 2));
    pool.reset_peak();
    let stats = pool.stats();
    assert_eq!(
        (stats.peak_bytes, stats.peak_requested_bytes, stats.peak_blocks),
        (1024, 1000, 1)
    );
    assert_eq!(stats.total_allocations, 3);
    drop((before, inner));
}

#[test]
fn a_trim_keeps_what_it_is_told_to_and_the_committed_peak_starts_again() {
    let (engine, sim) = engine(42);
    // Each slab is of one tensor's length, since the device has no longer one.
    let pool = MemoryPool::of_engine(engine, 64 * MIB);
    sim.set_limit(64 << 20);
    let first = bytes(&pool, 40 * MIB).unwrap();
    let rest: Vec<_> = (0..3).map(|_| bytes(&pool, 8 * MIB).unwrap()).collect();
    let committed = pool.stats().committed_bytes;
    assert_eq!(pool.trim(0), 0, "all is live");
    drop(rest);
    drop(first);
    assert_eq!(pool.trim(committed), 0);
    assert_eq!(pool.trim(usize::MAX), 0);
    let given_back = pool.trim(committed - 1);
    assert!(given_back > 0, "{:?}", pool.stats());
    assert!(pool.stats().cached_bytes() < committed);
    assert_eq!(pool.stats().committed_bytes, committed - given_back);
    pool.reset_peak();
    assert_eq!(pool.stats().peak_committed_bytes, committed - given_back);
    pool.trim(0);
    assert_eq!((pool.stats().committed_bytes, sim.slabs()), (0, 0));
}

/// Whether something is so before long.
fn soon(is_so: impl Fn() -> bool) -> bool {
    (0..10_000).any(|_| {
        let so = is_so();
        if !so {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        so
    })
}

/// Totals over all pools count it, also while only a block of it is left, and all are trimmed together.
#[test]
fn it_is_one_of_all_pools() {
    let (engine, sim) = engine(43);
    let pool = MemoryPool::of_engine(engine, 64 * MIB);
    let address = pool.device_pool().unwrap().address;
    let is_listed = || pools().iter().any(|listed| listed.address == address);
    assert!(!is_listed());
    enter(pool.device_pool().unwrap());
    assert!(is_listed());
    let tensor = bytes(&pool, 20 * MIB).unwrap();
    assert!(MemoryPool::global_stats().live_bytes >= 20 * MIB);
    MemoryPool::trim_all(0);
    assert_eq!(sim.slabs(), 1, "all that it has is live");
    drop(pool);
    assert!(MemoryPool::global_stats().live_bytes >= 20 * MIB, "its tensor lives");
    assert!(is_listed());
    // Who found it may look on when all else is gone.
    let visit = pools().into_iter().find(|listed| listed.address == address).unwrap();
    drop(tensor);
    assert_eq!(visit.stats().live_blocks, 0);
    // Another test may be trimming all pools, or looking at them, at this moment, and be the last.
    MemoryPool::trim_all(0);
    assert!(soon(|| sim.slabs() == 0));
    drop(visit);
    assert!(soon(|| !is_listed()), "nobody has it, and it is listed");
}

/// Pools are made, used and dropped while others look at all of them.
#[test]
fn pools_come_and_go_while_all_are_asked() {
    let (engine, sim) = engine(44);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..200 {
                    let pool = MemoryPool::of_engine(Arc::clone(engine), MIB);
                    enter(pool.device_pool().unwrap());
                    let tensor = bytes(&pool, 1000).unwrap();
                    if round % 2 == 0 {
                        drop(tensor);
                        drop(pool);
                    } else {
                        drop(pool);
                        drop(tensor);
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..300 {
                    MemoryPool::trim_all(0);
                    assert!(MemoryPool::global_stats().side_bytes > 0);
                }
            });
        }
    });
    assert_eq!((sim.slabs(), sim.findings()), (0, vec![]));
}
