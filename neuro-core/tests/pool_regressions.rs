//! Regressions of pools: the soft limit, counts below zero, a spoilt block's drop, the greatest limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use neuro_core::{Init, MemoryPool};

const LIMIT: usize = 1 << 20;

/// A pool with a soft limit of 1 MiB, and how often it called.
fn counted() -> (MemoryPool, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let pool = MemoryPool::unlimited().with_soft_limit(LIMIT, move |stats| {
        assert!(stats.live_bytes > LIMIT);
        seen.fetch_add(1, Ordering::Relaxed);
    });
    (pool, calls)
}

/// The pool fell below its limit without an allocation that could have noticed.
#[test]
fn a_soft_limit_calls_again_after_a_free_that_nothing_followed() {
    let (pool, calls) = counted();
    for round in 1..=3 {
        drop(pool.allocate::<u8>(2 * LIMIT).unwrap());
        assert_eq!(calls.load(Ordering::Relaxed), round);
    }
    // Blocks that wait in a thread's cache when they are freed.
    for round in 4..=6 {
        let blocks: Vec<_> = (0..40).map(|_| pool.allocate::<u8>(60_000).unwrap()).collect();
        assert_eq!(calls.load(Ordering::Relaxed), round);
        drop(blocks);
    }
}

#[test]
fn a_soft_limit_calls_when_a_block_grows_where_it_lies() {
    let (pool, calls) = counted();
    let block = pool.allocate_bytes(LIMIT / 2, None, Init::Uninit).unwrap();
    // SAFETY: the block is ours, and used no more under its old address.
    let grown = unsafe { MemoryPool::reallocate(block, 2 * LIMIT, None) }.unwrap();
    assert_eq!(grown, block, "nothing lies behind it");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    // SAFETY: as above.
    unsafe { MemoryPool::free(grown) }.unwrap();
}

/// One thread hands out from its cache and has not folded its counts; another takes back and has: together they are right,
/// alone they are below zero, which is no great number.
#[test]
fn counts_below_zero_are_not_above_a_soft_limit_and_do_not_stop_decay() {
    let (pool, calls) = counted();
    let pool = pool.with_decay(Some(Duration::from_millis(50)));
    let (to_other, blocks) = mpsc::channel();
    let warm_up = |pool: &MemoryPool| {
        for _ in 0..4 {
            drop((0..32).map(|_| pool.allocate::<u8>(64).unwrap()).collect::<Vec<_>>());
        }
    };
    warm_up(&pool);
    let other = std::thread::spawn({
        let pool = pool.clone();
        move || {
            warm_up(&pool);
            for block in blocks {
                drop(block);
            }
            // The first of its length: this thread goes to the pool for it, and folds.
            drop(pool.allocate::<u8>(128).unwrap());
        }
    });
    for _ in 0..16 {
        to_other.send(pool.allocate::<u8>(64).unwrap()).unwrap();
    }
    drop(to_other);
    other.join().unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    drop(pool.allocate::<u8>(LIMIT / 2).unwrap());
    let start = Instant::now();
    while pool.stats().committed_bytes > 2 << 20 {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nothing was given back: {pool:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A drop has nobody to tell but standard error; it must not panic, and the block is freed.
#[test]
fn a_spoilt_block_may_be_dropped() {
    let pool = MemoryPool::unlimited().with_debug(true);
    let mut block = pool.allocate::<u8>(100).unwrap();
    // SAFETY: the red zone behind the block is memory of the pool, which this test spoils on purpose.
    unsafe { block.as_mut_ptr().add(100).write(1) };
    drop(block);
    assert_eq!(pool.stats().live_blocks, 0);
}

#[test]
fn the_greatest_limit_is_one() {
    for limit in [usize::MAX, usize::MAX - (2 << 20), usize::MAX / 2] {
        let pool = MemoryPool::new(limit);
        drop(pool.allocate::<u8>(100).unwrap());
        drop(pool.allocate::<u8>(3 << 20).unwrap());
        assert_eq!((pool.limit(), pool.stats().live_blocks), (Some(limit), 0));
    }
}
