//! Slabs with owners, and depots: nothing is lost between threads, and nothing grows that is not needed.

use std::sync::Barrier;
use std::sync::mpsc::channel;

use super::*;

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// A block that goes to another thread.
struct Sent(NonNull<u8>);

// SAFETY: the block is this value's alone.
unsafe impl Send for Sent {}

fn take(pool: &MemoryPool, bytes: usize) -> Sent {
    Sent(pool.allocate_bytes(bytes, None, Init::Uninit).unwrap())
}

fn free(block: Sent) {
    // SAFETY: the block is the caller's, and not used after this.
    unsafe { MemoryPool::free(block.0) }.unwrap();
}

/// Many slabs of this thread with free slots in all of them: every other block is live.
fn every_other(pool: &MemoryPool) -> Vec<Sent> {
    let all: Vec<_> = (0..20_000).map(|_| take(pool, 256)).collect();
    let (kept, freed): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    freed.into_iter().for_each(|(_, block)| free(block));
    kept.into_iter().map(|(_, block)| block).collect()
}

/// Slabs of another thread that have free slots at low addresses hide neither a thread's own nor the new one made for it.
#[test]
fn a_cache_finds_its_own_slabs_behind_those_of_others() {
    let pool = MemoryPool::unlimited().with_decay(None);
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kept = every_other(&pool);
            ready.wait();
            done.wait();
            kept.into_iter().for_each(free);
        });
        ready.wait();
        let before = pool.stats();
        let mine: Vec<_> = (0..5_000).map(|_| take(&pool, 256)).collect();
        let after = pool.stats();
        mine.into_iter().for_each(free);
        done.wait();
        let more = after.committed_bytes - before.committed_bytes;
        assert!(
            more <= 5_000 * 256 + 2 * STEP,
            "{more} B more for {} B; {before:?} {after:?}",
            5_000 * 256
        );
    });
    valid(&pool);
}

/// A thread that keeps replacing its blocks uses the free slots of its own slabs again, wherever they lie.
#[test]
fn blocks_that_come_and_go_beside_another_thread_need_no_more() {
    let pool = MemoryPool::unlimited().with_decay(None);
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let kept = every_other(&pool);
            ready.wait();
            done.wait();
            kept.into_iter().for_each(free);
        });
        ready.wait();
        let before = pool.stats();
        let mut mine: Vec<_> = (0..5_000).map(|_| take(&pool, 256)).collect();
        let mut state = 7;
        for _ in 0..100_000 {
            let at = random(&mut state) % mine.len();
            free(mine.swap_remove(at));
            if random(&mut state).is_multiple_of(64) {
                // In bursts, so that slots go through the slabs.
                for _ in 0..1000 {
                    let at = random(&mut state) % mine.len();
                    free(mine.swap_remove(at));
                }
                mine.extend((0..1000).map(|_| take(&pool, 256)));
            }
            mine.push(take(&pool, 256));
        }
        let after = pool.stats();
        mine.into_iter().for_each(free);
        done.wait();
        let more = after.committed_bytes - before.committed_bytes;
        assert!(
            more <= 2 * 5_000 * 256 + 2 * STEP,
            "{more} B more for {} B; {before:?} {after:?}",
            5_000 * 256
        );
    });
    valid(&pool);
}

/// Bytes that the heaps have handed out, and what the figures say they are for: with caches and depots as they are.
fn adds_up(pool: &MemoryPool) {
    let mut state = pool.state();
    let stats = state.stats(pool.inner());
    let held: usize = state
        .regions
        .iter()
        .map(|region| region.used_units() as usize * GRANULE)
        .sum();
    let counted = stats.live_bytes + stats.cache_bytes + stats.slab_free_bytes + state.slabs.rest_bytes();
    assert_eq!(held, counted, "{stats:?}");
    state.slabs.assert_valid();
}

/// Threads come and go, allocate, and free what others allocated, in bursts: figures add up at any time, and the pool does not
/// grow with the number of threads that were ever there.
#[test]
fn threads_that_come_and_go_leave_neither_slots_nor_slabs() {
    for limit in [None, Some(24 << 20)] {
        let pool = limit
            .map_or_else(MemoryPool::unlimited, MemoryPool::new)
            .with_decay(None);
        let mut handed = Vec::new();
        let mut most = 0;
        for round in 0..60u64 {
            let (send, receive) = channel::<Sent>();
            std::thread::scope(|scope| {
                let pool = &pool;
                let mut threads = Vec::new();
                for thread in 0..3u64 {
                    let send = send.clone();
                    let mine: Vec<Sent> = handed.split_off(handed.len() - handed.len() / (3 - thread as usize));
                    threads.push(scope.spawn(move || {
                        let mut state = (round * 3 + thread + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                        let mut mine = mine.into_iter();
                        for _ in 0..2000 {
                            send.send(take(pool, random(&mut state) % 4200)).unwrap();
                            if !random(&mut state).is_multiple_of(4) {
                                mine.by_ref().take(2).for_each(free);
                            }
                            if random(&mut state).is_multiple_of(500) {
                                adds_up(pool);
                            }
                        }
                        mine.for_each(free);
                    }));
                }
                drop(send);
                handed = receive.into_iter().collect();
                adds_up(pool);
                threads.into_iter().for_each(|thread| thread.join().unwrap()); // caches and all
            });
            let stats = pool.stats();
            assert_eq!((stats.caches, stats.cache_blocks, stats.live_blocks), (0, 0, 6000));
            adds_up(&pool);
            if round == 9 {
                most = stats.committed_bytes;
            }
            assert!(
                round < 10 || stats.committed_bytes <= most + most / 4 + 2 * STEP,
                "{most} {stats:?}"
            );
            assert!(pool.state().depots.len() <= 5);
        }
        handed.into_iter().for_each(free);
        valid(&pool);
        pool.trim(0);
        assert_eq!(pool.stats().committed_bytes, 0);
    }
}

/// Slots on their way back do not stand in the way of the last byte, of a mode, or of the pool's end.
#[test]
fn depots_are_emptied_whenever_caches_are() {
    for end in 0..7 {
        let pool = if end < 2 {
            MemoryPool::new(4 << 20)
        } else {
            MemoryPool::unlimited()
        };
        let pool = pool.with_decay(None);
        let kept = take(&pool, 100_000);
        let blocks: Vec<_> = (0..4000).map(|_| take(&pool, 200)).collect();
        let (ready, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let (ready, done) = (&ready, &done);
            scope.spawn(move || {
                blocks.into_iter().for_each(free);
                ready.wait();
                done.wait();
            });
            ready.wait();
            let in_depots: usize = pool.state().depots.iter().map(|depot| depot.contents().0).sum();
            assert!(in_depots > 0);
            adds_up(&pool);
            match end {
                0 => free(take(&pool, (4 << 20) - 100_032)),
                1 => {
                    let all: Vec<_> = (0..(4 << 20) / 64 - 1563).map(|_| take(&pool, 64)).collect();
                    assert!(pool.allocate::<u8>(1).is_err());
                    adds_up(&pool);
                    all.into_iter().for_each(free);
                }
                2 => drop(pool.scope()),
                3 => drop(pool.clone().with_debug(true).with_debug(false)),
                4 => {
                    pool.fail_nth(1);
                    assert!(pool.allocate::<u8>(1).is_err());
                }
                5 => assert!(pool.trim(0) > 0),
                _ => {}
            }
            let in_depots: usize = pool.state().depots.iter().map(|depot| depot.contents().0).sum();
            assert!(end == 6 || end == 1 || in_depots == 0, "{end}: {in_depots}");
            adds_up(&pool);
            done.wait();
        });
        adds_up(&pool);
        if end % 2 == 0 {
            drop(pool);
            free(kept);
        } else {
            free(kept);
            valid(&pool);
        }
    }
}

/// Blocks that change between slots, the cache, leaves and long words, with neighbours that are odd and blocks of others in the
/// same words.
#[test]
fn a_block_keeps_its_record_across_every_boundary() {
    let edges = [
        0,
        1,
        63,
        64,
        65,
        4095,
        4096,
        4097,
        4160,
        65_472,
        65_536,
        65_537,
        65_600,
        262_080,
        262_144,
        262_145,
        262_208,
        524_288,
        LARGE - 1,
        LARGE,
        LARGE + 1,
    ];
    for limit in [None, Some(160 << 20)] {
        let pool = limit
            .map_or_else(MemoryPool::unlimited, MemoryPool::new)
            .with_decay(None);
        let mut owned: Vec<Owned> = Vec::new();
        let mut state = 99;
        for step in 0..6000usize {
            let most = if step % 50 == 0 { edges.len() } else { edges.len() - 3 };
            let bytes = edges[random(&mut state) % most];
            let align = [
                None,
                None,
                None,
                Some(128),
                Some(4096),
                Some(8192),
                Some(65_536),
                Some(STEP),
            ][random(&mut state) % 8];
            match random(&mut state) % 6 {
                0 | 1 => {
                    let init = [Init::Zeroed, Init::Uninit][random(&mut state) % 2];
                    if let Ok(block) = Owned::take(&pool, bytes, align, init, (step % 250) as u8 + 1) {
                        owned.push(block);
                    }
                }
                2 if !owned.is_empty() => {
                    let at = random(&mut state) % owned.len();
                    owned.swap_remove(at).give_back();
                }
                3 | 4 if !owned.is_empty() => {
                    let at = random(&mut state) % owned.len();
                    let block = owned.swap_remove(at);
                    let (address, kept, fill) = (block.ptr, block.bytes.min(bytes), block.fill);
                    // SAFETY: ours; a refused block stays as it was.
                    match unsafe { MemoryPool::reallocate(address, bytes, None) } {
                        Ok(ptr) => {
                            let mut block = Owned {
                                ptr,
                                bytes: kept,
                                fill,
                                occupied: 0,
                            };
                            assert!(block.contents().iter().all(|&byte| byte == fill));
                            // SAFETY: ours, of that many bytes.
                            unsafe { ptr.write_bytes(fill, bytes) };
                            block.bytes = bytes;
                            // SAFETY: the pool lives.
                            assert!(unsafe { MemoryPool::block_of(ptr.as_ptr()) }.unwrap() >= bytes);
                            owned.push(block);
                        }
                        Err(_) => owned.push(block),
                    }
                }
                _ => {
                    // Wild addresses around a live block are refused.
                    if let Some(block) = owned.last() {
                        for off in [64usize, 4096, 65_536, 262_144] {
                            let at = block.ptr.addr().get().wrapping_add(off);
                            if owned.iter().all(|other| other.ptr.addr().get() != at)
                                && let Some(ptr) = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(at))
                            {
                                // SAFETY: nothing of ours starts there.
                                assert!(unsafe { MemoryPool::free(ptr) }.is_err());
                            }
                        }
                    }
                }
            }
            while owned.len() > 60 {
                owned.swap_remove(random(&mut state) % 60).give_back();
            }
            if step % 64 == 0 {
                adds_up(&pool);
                let requested: usize = owned.iter().map(|block| block.bytes).sum();
                assert_eq!(
                    (pool.stats().live_blocks, pool.stats().requested_bytes),
                    (owned.len(), requested)
                );
            }
            if step % 700 == 0 {
                valid(&pool);
                pool.trim(random(&mut state) % (8 << 20));
            }
        }
        owned.into_iter().for_each(Owned::give_back);
        valid(&pool);
        pool.trim(0);
        assert_eq!(pool.stats().committed_bytes, 0);
        assert!(pool.inner().odd().is_empty());
    }
}

/// One thread alone: peaks are exact, also where small blocks of its cache and large ones of the heap are live at once.
#[test]
fn peaks_of_one_thread_are_exact_with_large_blocks_too() {
    let pool = MemoryPool::unlimited().with_decay(None);
    let sizes = [64, 320, 1024, 2048, 4096];
    let round = || -> Vec<Sent> {
        sizes
            .iter()
            .flat_map(|&bytes| [take(&pool, bytes), take(&pool, bytes)])
            .collect()
    };
    for _ in 0..10 {
        round().into_iter().for_each(free);
    }
    for bytes in [20_000, 1 << 20, LARGE] {
        free(take(&pool, bytes)); // from now on it is there
        pool.reset_peak();
        let before = pool.stats().live_bytes;
        let small = round();
        let large = take(&pool, bytes);
        let live = length_of(&large) + 2 * sizes.iter().sum::<usize>();
        free(large);
        small.into_iter().for_each(free);
        assert_eq!(pool.stats().peak_bytes - before, live, "{bytes}");
        // And nothing is counted that was gone by then.
        let small = round();
        let _ = pool.stats();
        pool.reset_peak();
        small.into_iter().for_each(free);
        let large = take(&pool, bytes);
        assert_eq!(
            pool.stats().peak_bytes,
            before + length_of(&large).max(2 * sizes.iter().sum::<usize>()),
            "{bytes}"
        );
        free(large);
    }
}

fn length_of(block: &Sent) -> usize {
    // SAFETY: the block is live, and keeps its pool.
    unsafe { MemoryPool::block_of(block.0.as_ptr()) }.unwrap()
}

/// Threads of one pool that need much one after the other, and then little, do not each keep what they needed.
#[test]
fn what_one_thread_needs_no_more_is_there_for_the_next() {
    let pool = MemoryPool::unlimited().with_decay(None);
    let turns: Vec<_> = (0..9).map(|_| Barrier::new(9)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (pool, turns) = (&pool, &turns);
            scope.spawn(move || {
                let mut kept = Vec::new();
                for (turn, barrier) in turns.iter().enumerate() {
                    if turn == thread {
                        let all: Vec<_> = (0..40_000).map(|_| take(pool, 256)).collect();
                        for (at, block) in all.into_iter().enumerate() {
                            if at % 50 == 0 {
                                kept.push(block);
                            } else {
                                free(block);
                            }
                        }
                    }
                    barrier.wait();
                }
                kept.into_iter().for_each(free);
            });
        }
        for barrier in &turns {
            barrier.wait();
        }
        let stats = pool.stats();
        assert!(stats.committed_bytes <= 3 * 40_000 * 256, "{stats:?}");
    });
}

/// A forked child has what was on its way between threads: its figures add up, and all of it can be given back.
#[test]
fn a_child_has_what_lay_in_depots() {
    let pool = MemoryPool::unlimited().with_decay(None);
    let blocks: Vec<_> = (0..4000).map(|_| take(&pool, 200)).collect();
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        let (ready, done) = (&ready, &done);
        let shared = &pool;
        scope.spawn(move || {
            blocks.into_iter().for_each(free);
            let own: Vec<_> = (0..500).map(|_| take(shared, 200)).collect();
            ready.wait();
            done.wait();
            own.into_iter().for_each(free);
        });
        ready.wait();
        // SAFETY: the child uses this library and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: a number.
            unsafe { libc::alarm(10) };
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let before = pool.stats();
                adds_up(&pool);
                let more: Vec<_> = (0..1000).map(|_| take(&pool, 200)).collect();
                more.into_iter().for_each(free);
                valid(&pool);
                // What the other thread had in its hands stays live.
                before.caches == 1 && before.live_blocks == 500 && pool.stats().live_blocks == 500
            }));
            // SAFETY: a number.
            unsafe { libc::_exit(i32::from(!fine.unwrap_or(false))) };
        }
        let mut status = 0;
        // SAFETY: our child.
        unsafe { libc::waitpid(child, &mut status, 0) };
        done.wait();
        assert_eq!(status, 0);
    });
}
