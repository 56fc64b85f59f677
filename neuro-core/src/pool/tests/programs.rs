//! Programs that try to break the pool: modes in any order, wild addresses, forks, ends, and every alignment.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::sync::mpsc;
use std::time::Duration;

use super::*;

fn roll(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*seed >> 33) as usize
}

/// Threads with their own caches, a limit, and another that trims, opens scopes, and turns debug mode on and off.
#[test]
fn threads_limits_modes() {
    for (round, limit) in [(1u64, 2 << 20), (2, 24 << 20), (3, usize::MAX)] {
        let pool = if limit == usize::MAX {
            MemoryPool::unlimited()
        } else {
            MemoryPool::new(limit)
        };
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel::<(usize, usize, u8)>();
            let receiver = Arc::new(std::sync::Mutex::new(receiver));
            let mut workers = Vec::new();
            for thread in 0..4u64 {
                let (pool, sender, receiver) = (pool.clone(), sender.clone(), receiver.clone());
                workers.push(scope.spawn(move || {
                    let mut seed = round * 1000 + thread;
                    let mut owned: Vec<Owned> = Vec::new();
                    for step in 0..8000 {
                        match roll(&mut seed) % 10 {
                            0..=3 => {
                                let bytes = [roll(&mut seed) % 300, roll(&mut seed) % 6000, roll(&mut seed) % 300_000]
                                    [[0, 0, 0, 1, 1, 2][roll(&mut seed) % 6]];
                                let align = 1 << (roll(&mut seed) % 14);
                                let init = if roll(&mut seed).is_multiple_of(2) {
                                    Init::Zeroed
                                } else {
                                    Init::Uninit
                                };
                                if let Ok(block) = Owned::take(&pool, bytes, Some(align), init, (step % 250) as u8 + 1)
                                {
                                    owned.push(block);
                                }
                            }
                            4 | 5 if !owned.is_empty() => {
                                let at = roll(&mut seed) % owned.len();
                                owned.swap_remove(at).give_back();
                            }
                            6 if !owned.is_empty() => {
                                let at = roll(&mut seed) % owned.len();
                                let bytes = [roll(&mut seed) % 300, roll(&mut seed) % 6000, roll(&mut seed) % 300_000]
                                    [roll(&mut seed) % 3];
                                // SAFETY: ours.
                                if let Ok(new) = unsafe { MemoryPool::reallocate(owned[at].ptr, bytes, None) } {
                                    owned[at].ptr = new;
                                    owned[at].bytes = owned[at].bytes.min(bytes);
                                    assert!(owned[at].contents().iter().all(|&b| b == owned[at].fill));
                                }
                            }
                            7 if !owned.is_empty() => {
                                let at = roll(&mut seed) % owned.len();
                                let Owned { ptr, bytes, fill, .. } = owned.swap_remove(at);
                                sender.send((ptr.as_ptr().expose_provenance(), bytes, fill)).unwrap();
                            }
                            8 => {
                                let next = receiver.lock().unwrap().try_recv();
                                if let Ok((ptr, bytes, fill)) = next {
                                    let ptr = NonNull::new(std::ptr::with_exposed_provenance_mut(ptr)).unwrap();
                                    Owned {
                                        ptr,
                                        bytes,
                                        fill,
                                        occupied: 0,
                                    }
                                    .give_back();
                                }
                            }
                            _ => {
                                if owned.len() > 200 {
                                    owned.drain(..100).for_each(Owned::give_back);
                                }
                            }
                        }
                    }
                    owned.into_iter().for_each(Owned::give_back);
                }));
            }
            drop(sender);
            let (handle, stop) = (pool.clone(), &stop);
            scope.spawn(move || {
                let mut seed = round + 77;
                let mut scopes = Vec::new();
                while !stop.load(Relaxed) {
                    match roll(&mut seed) % 8 {
                        0 => scopes.push(handle.scope()),
                        1 => drop(scopes.pop()),
                        2 => {
                            handle.trim(roll(&mut seed) % (2 << 20));
                        }
                        3 => {
                            let _ = handle.clone().with_debug(roll(&mut seed).is_multiple_of(3));
                        }
                        4 => handle.fail_nth((roll(&mut seed) % 50) as u64),
                        5 => valid(&handle),
                        _ => {
                            let stats = handle.stats();
                            assert!(stats.live_bytes <= stats.committed_bytes);
                        }
                    }
                    if scopes.len() > 5 {
                        scopes.clear();
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                handle.fail_nth(0);
                let _ = handle.clone().with_debug(false);
            });
            for worker in workers {
                let ended = worker.join();
                if ended.is_err() {
                    stop.store(true, Relaxed);
                }
                ended.unwrap();
            }
            let rest: Vec<_> = receiver.lock().unwrap().try_iter().collect();
            for (ptr, bytes, fill) in rest {
                let ptr = NonNull::new(std::ptr::with_exposed_provenance_mut(ptr)).unwrap();
                Owned {
                    ptr,
                    bytes,
                    fill,
                    occupied: 0,
                }
                .give_back();
            }
            stop.store(true, Relaxed);
        });
        let stats = pool.stats();
        assert_eq!((stats.live_blocks, stats.live_bytes, stats.requested_bytes), (0, 0, 0));
        valid(&pool);
        assert_eq!(pool.state().slow, 0);
    }
}

/// Addresses that no block starts at: every granule of what a pool has, and odd ones.
#[test]
fn wrong_addresses_are_refused() {
    let pool = MemoryPool::new(4 << 20);
    let mut seed = 3;
    let mut owned: Vec<Owned> = Vec::new();
    for step in 0..300 {
        let bytes = [roll(&mut seed) % 300, roll(&mut seed) % 6000, roll(&mut seed) % 60_000][roll(&mut seed) % 3];
        if let Ok(block) = Owned::take(&pool, bytes, None, Init::Uninit, (step % 250) as u8 + 1) {
            owned.push(block);
        }
        if step % 3 == 0 && !owned.is_empty() {
            owned.swap_remove(roll(&mut seed) % owned.len()).give_back();
        }
    }
    // Slabs are cut short, holes filled, the pool is overdrawn.
    let mut fill = Vec::new();
    for bytes in [1 << 20, 100_000, 10_000, 1000, 64] {
        while let Ok(ptr) = pool.allocate_bytes(bytes, None, Init::Uninit) {
            fill.push(ptr);
        }
    }
    assert_eq!(pool.stats().live_bytes, 4 << 20);
    let starts: std::collections::HashSet<usize> = owned
        .iter()
        .map(|o| o.ptr.addr().get())
        .chain(fill.iter().map(|p| p.addr().get()))
        .collect();
    let ranges: Vec<_> = pool.state().regions.iter().map(super::Region::addresses).collect();
    for range in ranges {
        for address in range.step_by(32) {
            if !starts.contains(&address) {
                let ptr = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
                assert!(free(ptr).is_err(), "{address:#x}");
                if address % 4096 == 64 {
                    // SAFETY: no block.
                    assert!(unsafe { MemoryPool::reallocate(ptr, 10, None) }.is_err());
                    // SAFETY: no block.
                    assert!(unsafe { MemoryPool::block_of(ptr.as_ptr()) }.is_none());
                }
            }
        }
    }
    fill.into_iter().for_each(|p| free(p).unwrap());
    owned.into_iter().for_each(Owned::give_back);
    valid(&pool);
}

/// A forked child goes on whatever its parent was in the middle of: scopes, debug mode, threads with caches.
#[test]
fn a_child_goes_on_in_every_mode() {
    for mode in 0..4 {
        let pool = MemoryPool::unlimited().with_debug(mode == 1);
        let scope = (mode == 2).then(|| pool.scope());
        if mode == 3 {
            pool.fail_nth(1 << 40);
        }
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let (pool, stop) = (pool.clone(), stop.clone());
                std::thread::spawn(move || {
                    let mut seed = i;
                    while !stop.load(Relaxed) {
                        free(take(&pool, roll(&mut seed) % 5000)).unwrap();
                    }
                })
            })
            .collect();
        let mine: Vec<_> = (0..50).map(|i| take(&pool, i * 100)).collect();
        for round in 0..30 {
            // SAFETY: the child uses this library and `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: numbers.
                unsafe { libc::alarm(10) };
                let fine = std::panic::catch_unwind(|| {
                    let more: Vec<_> = (0..100).map(|i| take(&pool, i * 333)).collect();
                    for p in more {
                        free(p).unwrap();
                    }
                    valid(&pool);
                    for &p in &mine {
                        free(p).unwrap();
                    }
                    pool.trim(0);
                    // What other threads had in their hands is lost.
                    pool.stats().live_blocks <= 3
                })
                .unwrap_or(false);
                // SAFETY: numbers.
                unsafe { libc::_exit(if fine { 0 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: our child.
            unsafe { libc::waitpid(child, &mut status, 0) };
            assert_eq!(status, 0, "mode {mode}, round {round}");
        }
        stop.store(true, Relaxed);
        threads.into_iter().for_each(|t| t.join().unwrap());
        mine.into_iter().for_each(|p| free(p).unwrap());
        drop(scope);
        pool.fail_nth(0);
        valid(&pool);
    }
}

/// Pools end while their blocks are freed on other threads, in every mode.
#[test]
fn pools_end_in_every_mode() {
    for round in 0..400usize {
        let pool = MemoryPool::unlimited().with_debug(round % 5 == 4);
        let scope = (round % 7 == 6).then(|| pool.scope());
        let barrier = Arc::new(std::sync::Barrier::new(4));
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let (pool, barrier) = (pool.clone(), barrier.clone());
                let count = 12 + (round + i) % 40;
                std::thread::spawn(move || {
                    let blocks: Vec<_> = (0..count).map(|n| take(&pool, n * 61 % 9000)).collect();
                    let big = take(&pool, 300_000);
                    barrier.wait();
                    drop(pool);
                    for (n, p) in blocks.into_iter().enumerate() {
                        if n % 4 == 0 {
                            // SAFETY: ours.
                            let q = unsafe { MemoryPool::reallocate(p, n * 97, None) }.unwrap();
                            free(q).unwrap();
                        } else {
                            free(p).unwrap();
                        }
                    }
                    free(big).unwrap();
                })
            })
            .collect();
        barrier.wait();
        drop(scope);
        drop(pool);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// Zeroed blocks after trims at all heights, with blocks that hold the top or leave it.
#[test]
fn zeros_after_trims() {
    let mut seed = 11;
    for limited in [false, true] {
        for _ in 0..6 {
            let pool = if limited {
                MemoryPool::new(64 << 20)
            } else {
                MemoryPool::unlimited()
            }
            .with_decay(None);
            let mut owned: Vec<Owned> = Vec::new();
            for step in 0..150 {
                let fill = (step % 250) as u8 + 1;
                match roll(&mut seed) % 6 {
                    0..=2 => {
                        let bytes = [roll(&mut seed) % 300_000, roll(&mut seed) % (5 << 20)][roll(&mut seed) % 2];
                        let align = [64, 4096, 2 << 20][roll(&mut seed) % 3];
                        if let Ok(block) = Owned::take(&pool, bytes, Some(align), Init::Zeroed, fill) {
                            owned.push(block);
                        }
                    }
                    3 if !owned.is_empty() => {
                        let at = roll(&mut seed) % owned.len();
                        owned.swap_remove(at).give_back();
                    }
                    4 if !owned.is_empty() => {
                        let at = roll(&mut seed) % owned.len();
                        let bytes = roll(&mut seed) % (6 << 20);
                        // SAFETY: ours.
                        if let Ok(new) = unsafe { MemoryPool::reallocate(owned[at].ptr, bytes, None) } {
                            let block = &mut owned[at];
                            (block.ptr, block.bytes) = (new, block.bytes.min(bytes));
                            assert!(block.contents().iter().all(|&b| b == block.fill));
                            // SAFETY: ours.
                            unsafe { new.write_bytes(block.fill, bytes) };
                            block.bytes = bytes;
                        }
                    }
                    _ => {
                        pool.trim(roll(&mut seed) % (16 << 20));
                    }
                }
            }
            valid(&pool);
            owned.into_iter().for_each(Owned::give_back);
            valid(&pool);
        }
    }
}

/// Every alignment with lengths around every boundary.
#[test]
fn every_alignment() {
    let pool = MemoryPool::unlimited();
    for log2 in 0..=21 {
        let align = 1usize << log2;
        let mut all = Vec::new();
        for bytes in [
            0,
            1,
            63,
            64,
            65,
            127,
            128,
            4032,
            4033,
            4095,
            4096,
            4097,
            65536,
            65537,
            262_144,
            262_145,
            32 << 20,
        ] {
            for near in [align.saturating_sub(1), align, align + 1, bytes] {
                if near > 33 << 20 {
                    continue;
                }
                let p = pool.allocate_bytes(near, Some(align), Init::Uninit).unwrap();
                assert!(p.addr().get().is_multiple_of(align.max(64)));
                // SAFETY: ours.
                assert!(unsafe { MemoryPool::block_of(p.as_ptr()) }.unwrap() >= near);
                all.push(p);
            }
        }
        all.into_iter().for_each(|p| free(p).unwrap());
    }
    for bytes in [
        usize::MAX,
        usize::MAX - 63,
        isize::MAX as usize,
        (u32::MAX as usize) * 64,
        (u32::MAX as usize + 1) * 64,
    ] {
        for align in [1, 64, 4096, 2 << 20] {
            if let Ok(p) = pool.allocate_bytes(bytes, Some(align), Init::Uninit) {
                free(p).unwrap();
            }
            let _ = MemoryPool::new(usize::MAX / 2)
                .allocate_bytes(bytes, Some(align), Init::Uninit)
                .map(free);
        }
    }
    valid(&pool);
}
