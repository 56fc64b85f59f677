//! Limits with small blocks, decay, scopes, the soft limit, injected failures, debug mode.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::ledger::Usage;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_small_block_leaves_the_rest_of_the_limit() {
    for bytes in [1, 64, 100, 4096] {
        let pool = MemoryPool::new(1 << 20);
        let small = pool.allocate::<u8>(bytes).unwrap();
        let rest = (1 << 20) - bytes.next_multiple_of(GRANULE);
        let large = pool.allocate::<u8>(rest).unwrap();
        assert!(pool.allocate::<u8>(1).is_err());
        drop((small, large));
        drop(pool.allocate::<u8>(1 << 20).unwrap());
        valid(&pool);
    }
}

/// After any growth, every byte of the limit can be had again, in one block and in the smallest.
#[test]
fn a_limit_is_reached_after_any_growth() {
    const LIMIT: usize = 3 << 20;
    let pool = MemoryPool::new(LIMIT);
    let mut state = 88172645463325252u64;
    for _ in 0..20 {
        let mut blocks = Vec::new();
        loop {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let bytes = 1usize << (state % 20);
            match pool.allocate::<u8>(bytes + (state >> 40) as usize % bytes) {
                Ok(block) => blocks.push(block),
                Err(_) => break,
            }
        }
        // Some stay, and the rest of the limit must still be there, granule by granule.
        blocks.retain(|block| block.len() % 3 == 0);
        let rest = LIMIT - pool.stats().live_bytes;
        let granules: Vec<_> = (0..rest / GRANULE).map(|_| pool.allocate::<u8>(GRANULE)).collect();
        let missing = granules.iter().filter(|block| block.is_err()).count();
        assert!(
            granules.is_empty() || missing == 0,
            "{missing} of {} granules; {:?}",
            granules.len(),
            pool.stats()
        );
        assert!(pool.allocate::<u8>(1).is_err());
        drop((blocks, granules));
        drop(pool.allocate::<u8>(LIMIT).unwrap());
        valid(&pool);
    }
    assert!(pool.stats().peak_committed_bytes <= LIMIT.next_multiple_of(STEP) + 2 * STEP);
}

#[test]
fn an_idle_pool_gives_its_memory_back_and_a_kept_part_stays() {
    let pool = MemoryPool::unlimited().with_decay(Some(Duration::from_millis(100)));
    let keeping = MemoryPool::unlimited()
        .with_decay(Some(Duration::from_millis(100)))
        .with_keep(20 << 20);
    let never = MemoryPool::unlimited().with_decay(None);
    for pool in [&pool, &keeping, &never] {
        let mut blocks: Vec<_> = (1..2000).map(|at| pool.allocate::<u8>(at * 64).unwrap()).collect();
        for block in &mut blocks {
            block.as_uninit_mut()[0].write(1);
        }
        drop(blocks);
        assert_eq!(pool.stats().live_bytes, 0);
    }
    until("an empty pool", || pool.stats().committed_bytes == 0);
    until("what is kept", || keeping.stats().committed_bytes <= 22 << 20);
    assert!(keeping.stats().committed_bytes >= 20 << 20);
    assert!(never.stats().committed_bytes > 100 << 20);
    // It wakes again.
    drop(pool.allocate::<u8>(64 << 20).unwrap());
    until("an empty pool again", || pool.stats().committed_bytes == 0);
}

#[test]
fn a_busy_pool_keeps_what_it_uses_again() {
    let pool = MemoryPool::unlimited().with_decay(Some(Duration::from_millis(40)));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        let blocks: Vec<_> = (0..4).map(|_| pool.allocate::<u8>(8 << 20).unwrap()).collect();
        drop(blocks);
        std::thread::sleep(Duration::from_millis(2));
    }
    // Each decay would have made it commit anew.
    assert!(
        pool.stats().total_committed_bytes <= 3 * (34 << 20),
        "{:?}",
        pool.stats()
    );
}

#[test]
fn scopes_count_for_themselves() {
    let pool = MemoryPool::unlimited();
    let before = pool.allocate::<u8>(100).unwrap();
    let outer = pool.scope();
    let first = pool.allocate::<u8>(1000).unwrap();
    let inner = pool.scope();
    drop(first);
    let second = pool.allocate::<u8>(300).unwrap();
    let usage = |current, peak, total| Usage { current, peak, total };
    assert_eq!(outer.counters().requested, usage(400, 1100, 1300));
    assert_eq!(outer.counters().blocks, usage(2, 2, 2));
    assert_eq!(inner.counters().requested, usage(400, 1100, 300));
    assert_eq!(inner.counters().allocated, usage(128 + 320, 128 + 1024, 320));
    outer.reset();
    assert_eq!(outer.counters().requested, usage(400, 400, 0));
    assert_eq!(
        inner.counters().requested,
        usage(400, 1100, 300),
        "another scope was reset"
    );
    drop(outer);
    drop((before, second));
    assert_eq!(inner.counters().requested, usage(0, 1100, 300));
    drop(inner);
    // Caches serve again.
    for _ in 0..100 {
        drop(pool.allocate::<u8>(100).unwrap());
    }
    assert!(pool.stats().cache_blocks > 0);
    valid(&pool);
}

#[test]
fn a_scope_is_exact_from_many_threads() {
    let pool = MemoryPool::unlimited();
    let scope = pool.scope();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for at in 0..2000 {
                    drop(pool.allocate::<u8>(at % 900 + 1).unwrap());
                }
            });
        }
    });
    let counters = scope.counters();
    assert_eq!((counters.blocks.current, counters.blocks.total), (0, 8000));
    assert!(
        counters.blocks.peak <= 8,
        "four threads hold one block each, and may be freeing another"
    );
}

#[test]
fn the_soft_limit_calls_once_until_it_was_below() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let pool = MemoryPool::unlimited().with_soft_limit(1 << 20, move |stats| lock(&seen).push(stats.live_bytes));
    let below = pool.allocate::<u8>(1 << 19).unwrap();
    assert!(lock(&calls).is_empty());
    let above = pool.allocate::<u8>(600_000).unwrap();
    let more = pool.allocate::<u8>(600_000).unwrap();
    assert_eq!(lock(&calls).len(), 1);
    assert!(lock(&calls)[0] > 1 << 20);
    drop((above, more));
    drop(pool.allocate::<u8>(1000).unwrap());
    let again = pool.allocate::<u8>(600_000).unwrap();
    assert_eq!(lock(&calls).len(), 2);
    drop((below, again));
}

#[test]
fn a_soft_limits_callback_may_use_the_pool() {
    let other = MemoryPool::unlimited();
    let pool = other.clone().with_soft_limit(1 << 20, move |_| {
        drop(other.allocate::<u8>(64).unwrap());
        other.trim(0);
    });
    drop(pool.allocate::<u8>(2 << 20).unwrap());
}

/// Each allocation failure of a program is injected, one after the other: nothing is lost, and the pool goes on.
#[test]
fn the_nth_allocation_fails_and_nothing_else() {
    let pool = MemoryPool::unlimited();
    let program = || -> Result<usize> {
        let blocks: Vec<_> = [10, 5000, 100_000, 64]
            .into_iter()
            .map(|bytes| pool.allocate::<u8>(bytes))
            .collect::<Result<_>>()?;
        Ok(blocks.len())
    };
    for n in 1..=4 {
        pool.fail_nth(n);
        let error = program().unwrap_err().to_string();
        assert!(error.contains("fail_nth") && error.contains("out of memory"), "{error}");
        assert_eq!(pool.stats().live_blocks, 0);
        assert_eq!(program().unwrap(), 4);
    }
    pool.fail_nth(2);
    pool.fail_nth(0);
    assert_eq!(program().unwrap(), 4);
    valid(&pool);
}

fn taken(pool: &MemoryPool, bytes: usize) -> NonNull<u8> {
    pool.allocate_bytes(bytes, None, Init::Uninit).unwrap()
}

#[test]
fn debug_mode_finds_writes_past_the_end_and_after_the_free() {
    let pool = MemoryPool::unlimited().with_debug(true);
    for bytes in [1, 64, 100, 5000, 1 << 20] {
        let block = taken(&pool, bytes);
        // SAFETY: the red zone behind the block is memory of the pool, which this test spoils on purpose.
        unsafe { block.add(bytes).write(7) };
        let found = pool.check().unwrap_err().to_string();
        assert!(found.contains(&format!("behind the {bytes} B")), "{found}");
        // SAFETY: the block is ours.
        let error = unsafe { MemoryPool::free(block) }.unwrap_err();
        assert!(
            matches!(error, Error::Corrupted { .. }) && error.to_string().contains("1 B were written"),
            "{error}"
        );
        assert_eq!(pool.stats().live_blocks, 0, "it was freed all the same");
        pool.check().unwrap();

        let block = taken(&pool, bytes);
        // SAFETY: the block is ours; the pool keeps it in quarantine, where this test spoils it on purpose.
        unsafe {
            MemoryPool::free(block).unwrap();
            block.add(bytes / 2).write(7);
        }
        let found = pool.check().unwrap_err().to_string();
        assert!(found.contains("was written"), "{found}");
        // SAFETY: as above. Put right, so that the next round finds its own.
        unsafe { block.add(bytes / 2).write(0xdd) };
        // SAFETY: the pool lives and has not handed it out again.
        assert!(unsafe { MemoryPool::free(block) }.is_err(), "freed twice");
    }
    valid(&pool);
}

#[test]
fn debug_mode_keeps_every_other_promise() {
    let pool = MemoryPool::new(1 << 20).with_debug(true);
    let first = |ptr: NonNull<u8>| {
        // SAFETY: the block is ours, and its first 1000 bytes were zeroed, or moved from where they were.
        unsafe { std::slice::from_raw_parts(ptr.as_ptr(), 1000) }
            .iter()
            .all(|&byte| byte == 0)
    };
    let zeroed = pool.allocate_bytes(1000, None, Init::Zeroed).unwrap();
    assert!(first(zeroed));
    // SAFETY: the block is ours; only the address returned is used.
    let moved = unsafe { MemoryPool::reallocate(zeroed, 9000, None) }.unwrap();
    assert!(first(moved));
    // SAFETY: ours.
    let smaller = unsafe { MemoryPool::reallocate(moved, 50, None) }.unwrap();
    // SAFETY: ours.
    unsafe { MemoryPool::free(smaller) }.unwrap();
    // The quarantine is given up before a request fails.
    for _ in 0..50 {
        drop(pool.allocate::<u8>(900_000).unwrap());
    }
    pool.check().unwrap();
    drop(pool.clone().with_debug(false));
    drop(pool.allocate::<u8>(1 << 20).unwrap());
    valid(&pool);
}

#[test]
fn figures_answer_leak_or_cache() {
    let pool = MemoryPool::new(64 << 20);
    let kept: Vec<_> = (0..10).map(|_| pool.allocate::<u8>(100_000).unwrap()).collect();
    drop(
        (0..10)
            .map(|_| pool.allocate::<u8>(1 << 20).unwrap())
            .collect::<Vec<_>>(),
    );
    let stats = pool.stats();
    assert_eq!((stats.requested_bytes, stats.live_blocks), (1_000_000, 10));
    assert!(stats.cached_bytes() > 9 << 20 && stats.peak_bytes > 10 << 20);
    assert!(stats.requested_bytes <= stats.live_bytes && stats.live_bytes <= stats.committed_bytes);
    assert!(stats.committed_bytes <= stats.peak_committed_bytes && stats.committed_bytes <= stats.reserved_bytes);
    let text = pool.allocate::<u8>(64 << 20).unwrap_err().to_string();
    for part in [
        "live in 10 blocks",
        "1000000 B asked for",
        "committed",
        "cached",
        "largest free run",
        "fragmentation",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    drop(kept);
}

#[test]
fn a_million_small_blocks_cost_less_than_eight_bytes_each() {
    let pool = MemoryPool::unlimited();
    let blocks: Vec<_> = (0..1_000_000).map(|_| pool.allocate::<u64>(8).unwrap()).collect();
    let each = pool.stats().side_bytes as f64 / 1e6;
    assert!(each <= 8.0, "{each} B a block");
    drop(blocks);
    assert_eq!(pool.stats().live_blocks, 0);
}

#[test]
fn memory_is_there_before_it_is_used_where_that_was_asked_for() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * os::page_size()
    };
    let pool = MemoryPool::unlimited().with_prefault(true);
    let before = resident();
    let block = pool.allocate::<u8>(200 << 20).unwrap();
    assert!(
        resident() > before + (180 << 20),
        "{before} before, {} after",
        resident()
    );
    drop(block);
}
