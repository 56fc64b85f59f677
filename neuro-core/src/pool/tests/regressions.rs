//! Defects that a review found, each with the name of what must hold instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn resize_in_place_keeps_the_limit() {
    let limit = 1 << 20;
    let pool = MemoryPool::new(limit);
    let small: Vec<_> = (0..128).map(|_| take(&pool, 4096)).collect(); // 512 KiB
    let large = take(&pool, 256 << 10);
    // SAFETY: ours.
    let grown = unsafe { MemoryPool::reallocate(large, 900 << 10, Some(64)) };
    let live = pool.stats().live_bytes;
    let ok = live <= limit;
    free(grown.unwrap_or(large)).unwrap();
    for ptr in small {
        free(ptr).unwrap();
    }
    assert!(ok, "limit {limit}, live {live}");
}

#[test]
fn an_overdrawn_pool_keeps_the_limit_for_aligned_blocks() {
    let limit = 1 << 20;
    let pool = MemoryPool::new(limit);
    let mut small: Vec<_> = (0..128).map(|_| Some(take(&pool, 4096))).collect();
    for slot in small.iter_mut().step_by(2) {
        free(slot.take().unwrap()).unwrap();
    }
    let live = pool.stats().live_bytes;
    // All but one granule.
    let large = take(&pool, limit - live - 64);
    let aligned = pool.allocate_bytes(64, Some(4096), Init::Uninit);
    let now = pool.stats().live_bytes;
    assert!(now <= limit, "{now} > {limit}; {:?}", aligned.is_ok());
    free(large).unwrap();
}

#[test]
fn limits_near_the_maximum() {
    for limit in [
        usize::MAX,
        usize::MAX - 1,
        usize::MAX - 63,
        usize::MAX - STEP,
        isize::MAX as usize,
    ] {
        let pool = MemoryPool::new(limit).with_keep(usize::MAX);
        let a = take(&pool, 100);
        let b = take(&pool, 100_000);
        let c = take(&pool, 10 << 20);
        valid(&pool);
        for p in [a, b, c] {
            free(p).unwrap();
        }
        pool.trim(usize::MAX);
        valid(&pool);
    }
}

#[test]
fn resize_beyond_the_end_of_a_full_region() {
    let pool = MemoryPool::new(1 << 40);
    let first = take(&pool, 100 << 10);
    let second = take(&pool, 100 << 10);
    let size = (u32::MAX as usize - 50) * 64;
    // SAFETY: ours.
    let grown = unsafe { MemoryPool::reallocate(second, size, Some(64)) };
    match grown {
        Ok(ptr) => {
            let end = ptr.addr().get() + size;
            assert!(
                MemoryPool::owns(std::ptr::without_provenance(end - 1)),
                "the block ends outside its region"
            );
        }
        Err(_) => free(second).unwrap(),
    }
    free(first).unwrap();
}

#[test]
fn a_soft_limits_callback_may_hold_the_pool() {
    assert!(
        ends(|| {
            let pool = MemoryPool::unlimited();
            let mine = pool.clone();
            let pool = pool.with_soft_limit(1 << 20, move |_| {
                mine.trim(0);
            });
            // The way to let go of it again.
            let pool = pool.with_soft_limit(1 << 20, |_| {});
            drop(pool);
        }),
        "replacing a callback that holds a handle hangs"
    );
}

#[test]
fn the_soft_limit_is_not_reached_by_less_than_nothing() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = called.clone();
    let pool = MemoryPool::unlimited()
        .with_decay(None)
        .with_soft_limit(1 << 30, move |_| {
            count.fetch_add(1, Relaxed);
        });
    // Both threads get a cache.
    let warm = |pool: &MemoryPool| {
        let blocks: Vec<_> = (0..40).map(|_| take(pool, 64)).collect();
        blocks.into_iter().for_each(|p| free(p).unwrap());
    };
    warm(&pool);
    let (there, back) = (mpsc::channel::<Vec<usize>>(), mpsc::channel::<()>());
    let other = {
        let pool = pool.clone();
        let (inbox, outbox) = (there.1, back.0);
        std::thread::spawn(move || {
            warm(&pool);
            pool.stats(); // everything folded
            outbox.send(()).unwrap();
            let blocks = inbox.recv().unwrap();
            for a in blocks {
                free(NonNull::new(std::ptr::with_exposed_provenance_mut(a)).unwrap()).unwrap();
            }
            // A request of another length folds.
            let p = take(&pool, 640);
            free(p).unwrap();
            outbox.send(()).unwrap();
        })
    };
    back.1.recv().unwrap();
    let blocks: Vec<_> = (0..20).map(|_| take(&pool, 64).as_ptr().expose_provenance()).collect();
    there.0.send(blocks).unwrap();
    back.1.recv().unwrap();
    other.join().unwrap();
    let (peak, called) = (pool.state().recent_peak, called.load(Relaxed));
    assert!(
        peak < 1 << 40 && called == 0,
        "recent peak {peak:#x}, which the reaper doubles; called {called} times with nothing live"
    );
}

#[test]
fn a_reallocation_that_finds_corruption_loses_no_block() {
    let pool = MemoryPool::unlimited().with_debug(true);
    let p = take(&pool, 100);
    let _wall = take(&pool, 100);
    // SAFETY: in the red zone.
    unsafe { p.add(101).write(1) };
    // SAFETY: ours.
    let result = unsafe { MemoryPool::reallocate(p, 100_000, Some(64)) };
    assert!(result.is_err(), "not told");
    // "the old block is then as it was"
    // SAFETY: the pool lives.
    let old = unsafe { MemoryPool::block_of(p.as_ptr()) };
    let live = pool.stats().live_blocks;
    assert!(
        old.is_some() && live == 2,
        "old block {old:?}, {live} live blocks, of which the caller knows one"
    );
}

#[test]
fn a_reallocation_in_place_tells_of_corruption() {
    let pool = MemoryPool::unlimited().with_debug(true);
    let p = take(&pool, 100);
    // SAFETY: in the red zone.
    unsafe { p.add(101).write(1) };
    // SAFETY: ours.
    let result = unsafe { MemoryPool::reallocate(p, 110, Some(64)) };
    let told = result.is_err() || pool.check().is_err() || free(p).is_err();
    assert!(told, "a write behind the end was wiped out");
}

/// Debug mode tells on standard error with the pool's lock held; whoever prints a pool holds standard error.
#[test]
fn printing_a_pool_while_it_tells() {
    assert!(
        ends(|| {
            let pool = MemoryPool::unlimited().with_debug(true);
            let p = take(&pool, 100);
            free(p).unwrap();
            // SAFETY: in quarantine; that is the misuse that is looked for.
            unsafe { p.write(1) };
            let mine = pool.clone();
            let stderr = std::io::stderr().lock();
            let teller = std::thread::spawn(move || {
                mine.trim(0); // releases the quarantine, and tells
            });
            std::thread::sleep(Duration::from_millis(300));
            let _ = format!("{pool:?}"); // what eprintln!("{pool:?}") does with standard error locked
            drop(stderr);
            teller.join().unwrap();
        }),
        "deadlock between standard error and the pool's lock"
    );
}

#[test]
fn a_large_block_in_a_thread_local_goes_with_its_thread() {
    thread_local!(static MINE: std::cell::RefCell<Vec<PoolPtr<u8>>> = const { std::cell::RefCell::new(Vec::new()) });
    let pool = MemoryPool::unlimited();
    let wait = Instant::now();
    while super::reaper::is_awake() && wait.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(50));
    }
    for first in [false, true] {
        let handle = pool.clone();
        std::thread::spawn(move || {
            if first {
                MINE.with(|mine| mine.borrow_mut().clear());
            }
            let blocks: Vec<_> = (0..100).map(|i| handle.allocate::<u8>(i * 37).unwrap()).collect();
            MINE.with(|mine| mine.borrow_mut().extend(blocks));
            MINE.with(|mine| mine.borrow_mut().push(handle.allocate::<u8>(64 << 20).unwrap()));
            println!("captured");
        })
        .join()
        .unwrap();
        assert_eq!(pool.stats().live_blocks, 0);
    }
    valid(&pool);
}

#[test]
fn scopes_orders_and_debug_nest_in_any_order() {
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize
    };
    for round in 0..60 {
        let pool = if round % 2 == 0 {
            MemoryPool::unlimited()
        } else {
            MemoryPool::new(8 << 20)
        };
        let mut scopes = Vec::new();
        let mut owned: Vec<Owned> = Vec::new();
        let mut pool = pool;
        for step in 0..400 {
            match random() % 12 {
                0 => scopes.push(pool.scope()),
                1 if !scopes.is_empty() => {
                    let at = random() % scopes.len();
                    scopes.swap_remove(at);
                }
                2 => pool.fail_nth((random() % 5) as u64),
                3 => pool = pool.with_debug(random() % 2 == 0),
                4 => {
                    pool.trim(random() % (4 << 20));
                }
                5 | 6 if !owned.is_empty() => {
                    let at = random() % owned.len();
                    owned.swap_remove(at).give_back();
                }
                7 if !owned.is_empty() => {
                    let at = random() % owned.len();
                    let bytes = [random() % 300, random() % 6000, random() % 400_000][random() % 3];
                    let ptr = owned[at].ptr;
                    // SAFETY: ours.
                    if let Ok(new) = unsafe { MemoryPool::reallocate(ptr, bytes, None) } {
                        let mut block = owned.swap_remove(at);
                        block.ptr = new;
                        block.bytes = block.bytes.min(bytes);
                        assert!(block.contents().iter().all(|&b| b == block.fill));
                        owned.push(block);
                    }
                }
                _ => {
                    let bytes = [random() % 300, random() % 6000, random() % 400_000][random() % 3];
                    let align = 1 << (random() % 14);
                    let init = if random() % 2 == 0 { Init::Zeroed } else { Init::Uninit };
                    if let Ok(block) = Owned::take(&pool, bytes, Some(align), init, (step % 250) as u8 + 1) {
                        assert!(block.ptr.addr().get().is_multiple_of(align));
                        owned.push(block);
                    }
                }
            }
            if step % 16 == 0 {
                let stats = pool.stats();
                assert_eq!(stats.live_blocks, owned.len());
                for scope in &scopes {
                    assert_eq!(scope.counters().blocks.current, owned.len());
                    assert_eq!(scope.counters().allocated.current, stats.live_bytes);
                }
                assert!(pool.check().is_ok());
            }
        }
        pool.fail_nth(0);
        drop(scopes);
        pool = pool.with_debug(false);
        let keep_one = owned.pop();
        owned.into_iter().for_each(Owned::give_back);
        valid(&pool);
        let overdrawn = pool.state().overdrawn;
        assert!(!overdrawn);
        assert_eq!(pool.state().slow, 0);
        drop(pool);
        if let Some(block) = keep_one {
            block.give_back();
        }
    }
}

/// A thread without a cache of a pool that serves everything under its lock asks for one with every request, and loses the
/// cache of another pool in the same place.
#[test]
fn a_scope_costs_no_other_pools_cache() {
    let first = MemoryPool::unlimited();
    let mut others: Vec<_> = (0..8).map(|_| MemoryPool::unlimited()).collect();
    let at = others
        .iter()
        .position(|pool| pool.inner().number % 8 == first.inner().number % 8);
    let Some(at) = at else { return };
    let second = others.swap_remove(at);
    for _ in 0..30 {
        free(take(&first, 64)).unwrap();
    }
    assert_eq!(first.stats().caches, 1);
    let _scope = second.scope();
    for _ in 0..30 {
        free(take(&second, 64)).unwrap();
    }
    assert_eq!((first.stats().caches, second.stats().caches), (1, 0));
}

/// Small blocks beyond an eighth of the machine's memory.
#[test]
fn small_blocks_beyond_the_first_region() {
    let pool = MemoryPool::unlimited().with_decay(None);
    drop(pool.allocate::<u8>(1));
    let room = pool.state().regions.iter().map(|r| r.addresses().len()).sum::<usize>();
    let fits = (room / 4096).min(6 << 20);
    let start = Instant::now();
    let mut all: Vec<_> = (0..fits - 1000).map(|_| take(&pool, 4096)).collect();
    let within = start.elapsed() / (fits as u32);
    all.extend((0..1000).map(|_| take(&pool, 4096)));
    let start = Instant::now();
    all.extend((0..20_000).map(|_| take(&pool, 4096)));
    let beyond = start.elapsed() / 20_000;
    let regions = pool.stats().regions;
    eprintln!("{room} B: {within:?} each within, {beyond:?} beyond, {regions} regions");
    let start = Instant::now();
    all.into_iter().for_each(|p| free(p).unwrap());
    eprintln!("freed in {:?}", start.elapsed());
    valid(&pool);
    assert!(beyond < within * 20, "{within:?} {beyond:?}");
}

/// A growth that has to move empties every thread's cache first.
#[test]
fn growing_a_block_leaves_other_caches_alone() {
    let pool = MemoryPool::unlimited();
    let small: Vec<_> = (0..60).map(|_| take(&pool, 64)).collect();
    small.into_iter().for_each(|p| free(p).unwrap());
    let block = take(&pool, 10_000);
    let wall = take(&pool, 10_000);
    let before = pool.stats().cache_blocks;
    // SAFETY: ours.
    let (block, wall) = unsafe {
        (
            MemoryPool::reallocate(block, 20_000, None).unwrap(),
            MemoryPool::reallocate(wall, 10_001, None).unwrap(),
        )
    };
    let after = pool.stats().cache_blocks;
    free(block).unwrap();
    free(wall).unwrap();
    assert!(
        before > 10 && after >= before,
        "{before} blocks in the cache before, {after} after"
    );
}

/// Two pools whose numbers meet in a thread's table, used in turn; and one in a scope, without a cache.
#[test]
fn pools_in_turn() {
    let mut pools: Vec<_> = (0..9).map(|_| MemoryPool::unlimited().with_decay(None)).collect();
    let first = pools.remove(0);
    let meets = |pool: &MemoryPool| pool.inner().number % 8 == first.inner().number % 8;
    let at = pools.iter().position(meets).unwrap_or(0);
    let other = usize::from(at == 0);
    let time = |a: &MemoryPool, b: &MemoryPool| {
        let start = Instant::now();
        for _ in 0..5000 {
            let (p, q) = (take(a, 64), take(b, 64));
            free(p).unwrap();
            free(q).unwrap();
        }
        start.elapsed() / 10_000
    };
    time(&first, &pools[other]);
    let apart = time(&first, &pools[other]);
    time(&first, &pools[at]);
    let meeting = time(&first, &pools[at]);
    let third = MemoryPool::unlimited();
    let _scope = third.scope();
    let without = time(&third, &third);
    let fourth = MemoryPool::unlimited();
    for _ in 0..20 {
        free(take(&fourth, 64)).unwrap();
    }
    let _scope = fourth.scope();
    let with = time(&fourth, &fourth);
    eprintln!("apart {apart:?}, meeting {meeting:?}; scope: with a cache {with:?}, without {without:?}");
    assert!(
        meeting < apart * 20 && without < with * 3,
        "{apart:?} {meeting:?} {with:?} {without:?}"
    );
}

#[test]
fn a_growth_in_place_reaches_the_soft_limit() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = called.clone();
    let pool = MemoryPool::unlimited().with_soft_limit(10 << 20, move |_| {
        count.fetch_add(1, Relaxed);
    });
    let p = take(&pool, 1 << 20);
    // SAFETY: ours.
    let p = unsafe { MemoryPool::reallocate(p, 20 << 20, None) }.unwrap();
    let q = called.load(Relaxed);
    free(p).unwrap();
    assert_eq!(q, 1, "20 MiB live and nobody called");
}

#[test]
fn a_callback_that_panics_loses_no_block() {
    let pool = MemoryPool::unlimited().with_soft_limit(1 << 20, |_| panic!("the program's own"));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&pool, 2 << 20)));
    assert!(result.is_err());
    assert_eq!(pool.stats().live_blocks, 0, "nobody has its address");
}

#[test]
fn an_overdraft_ends_with_a_shrink() {
    let pool = MemoryPool::new(1 << 20);
    let mut small: Vec<_> = (0..128).map(|_| Some(take(&pool, 4096))).collect();
    for slot in small.iter_mut().step_by(2) {
        free(slot.take().unwrap()).unwrap();
    }
    let live = pool.stats().live_bytes;
    let large = take(&pool, (1 << 20) - live);
    assert!(pool.state().overdrawn);
    // SAFETY: ours.
    let large = unsafe { MemoryPool::reallocate(large, 100_000, None) }.unwrap();
    let overdrawn = pool.state().overdrawn;
    free(large).unwrap();
    small.into_iter().flatten().for_each(|p| free(p).unwrap());
    assert!(!overdrawn, "every request still takes the lock");
}
