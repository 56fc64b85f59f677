//! Caches, the pending list and the counts, with several threads at a pool.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::pool::cache::Store;

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// Sizes of all kinds: slots, medium blocks, blocks of the heap.
fn any_size(state: &mut u64) -> usize {
    match random(state) % 8 {
        0..5 => random(state) % 4097,
        5 | 6 => random(state) % (64 << 10),
        _ => random(state) % (1 << 20),
    }
}

fn fill_of(ptr: NonNull<u8>) -> u8 {
    (ptr.addr().get() / GRANULE % 251) as u8
}

/// A block whose ends were written when it was handed out, so that two owners of one would be found out.
struct Marked {
    ptr: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the block is this value's alone.
unsafe impl Send for Marked {}

impl Marked {
    fn take(pool: &MemoryPool, bytes: usize) -> Self {
        let ptr = pool.allocate_bytes(bytes, None, Init::Uninit).unwrap();
        let marked = Marked { ptr, bytes };
        for at in marked.ends() {
            // SAFETY: within the block, which is ours.
            unsafe { ptr.add(at).write(fill_of(ptr)) };
        }
        marked
    }

    fn ends(&self) -> impl Iterator<Item = usize> + use<> {
        [0, self.bytes / 2, self.bytes.wrapping_sub(1)]
            .into_iter()
            .take(if self.bytes == 0 { 0 } else { 3 })
    }

    fn give_back(self) {
        for at in self.ends() {
            // SAFETY: within the block, which is ours and was written there.
            assert_eq!(unsafe { self.ptr.add(at).read() }, fill_of(self.ptr), "two owners");
        }
        // SAFETY: the block is ours, and not used after this.
        unsafe { MemoryPool::free(self.ptr) }.unwrap();
    }
}

/// Four threads allocate, keep, and pass blocks around a ring, while a fifth trims and asks: nothing is lost, handed out twice
/// or counted wrong.
#[test]
fn blocks_go_round_between_threads() {
    const THREADS: u64 = 4;
    const STEPS: usize = 20_000;
    let pool = MemoryPool::unlimited();
    let (senders, receivers): (Vec<Sender<Marked>>, Vec<Receiver<Marked>>) = (0..THREADS).map(|_| channel()).unzip();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(thread, receiver)| {
                let next = senders[(thread + 1) % THREADS as usize].clone();
                let pool = &pool;
                scope.spawn(move || {
                    let mut state = 0x9E37_79B9_7F4A_7C15 ^ (thread as u64 + 1);
                    let mut kept: Vec<Marked> = Vec::new();
                    for _ in 0..STEPS {
                        match random(&mut state) % 5 {
                            0 | 1 => kept.push(Marked::take(pool, any_size(&mut state))),
                            2 if !kept.is_empty() => {
                                let at = random(&mut state) % kept.len();
                                // The other may have ended; then the block is freed here.
                                if let Err(back) = next.send(kept.swap_remove(at)) {
                                    back.0.give_back();
                                }
                            }
                            3 if !kept.is_empty() => {
                                let at = random(&mut state) % kept.len();
                                kept.swap_remove(at).give_back();
                            }
                            _ => receiver.try_iter().for_each(Marked::give_back),
                        }
                        if kept.len() > 300 {
                            kept.drain(..150).for_each(Marked::give_back);
                        }
                    }
                    kept.into_iter().for_each(Marked::give_back);
                    drop(next);
                    receiver.into_iter().for_each(Marked::give_back);
                })
            })
            .collect();
        drop(senders);
        let (pool, done) = (&pool, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let stats = pool.stats();
                assert!(stats.requested_bytes <= stats.live_bytes && stats.live_bytes <= stats.committed_bytes);
                pool.trim(1 << 20);
            }
        });
        for worker in workers {
            let ended = worker.join();
            if ended.is_err() {
                done.store(true, Ordering::Relaxed);
            }
            ended.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let stats = pool.stats();
    assert_eq!((stats.live_bytes, stats.requested_bytes, stats.live_blocks), (0, 0, 0));
    valid(&pool);
}

/// A free while another thread has the pool's lock comes back at once, and the block is counted when the lock is next taken.
#[test]
fn a_free_waits_for_nobody() {
    let pool = MemoryPool::unlimited();
    let blocks: Vec<_> = [64, 4096, 10_000, 1 << 20]
        .map(|bytes| pool.allocate_bytes(bytes, None, Init::Uninit).unwrap().addr())
        .into();
    let held = pool.state();
    std::thread::spawn(move || {
        for address in blocks {
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut(address.get())).unwrap();
            // SAFETY: the block is live, and nobody uses it after this.
            unsafe { MemoryPool::free(block) }.unwrap();
            // SAFETY: the pool lives and has not handed it out again.
            let again = unsafe { MemoryPool::free(block) };
            assert!(again.is_err(), "freed twice while it waits");
        }
    })
    .join()
    .unwrap();
    drop(held);
    assert_eq!(pool.stats().live_blocks, 0);
    valid(&pool);
}

/// What an ended thread had cached is there for others.
#[test]
fn a_thread_that_ends_leaves_nothing_behind() {
    let pool = MemoryPool::new(1 << 20);
    std::thread::spawn({
        let pool = pool.clone();
        move || {
            let blocks: Vec<_> = (0..1000).map(|_| pool.allocate::<u8>(200).unwrap()).collect();
            drop(blocks);
            assert!(pool.stats().cache_blocks > 0, "{:?}", pool.stats());
        }
    })
    .join()
    .unwrap();
    let stats = pool.stats();
    assert_eq!((stats.caches, stats.cache_blocks, stats.live_blocks), (0, 0, 0));
    drop(pool.allocate::<u8>(1 << 20).unwrap());
}

/// What other threads have cached does not stand in the way of the last byte.
#[test]
fn the_caches_of_idle_threads_are_emptied_before_a_request_fails() {
    let pool = MemoryPool::new(4 << 20);
    let (filled, ended) = (Barrier::new(4), Barrier::new(4));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let blocks: Vec<_> = (64..600).map(|bytes| pool.allocate::<u8>(bytes).unwrap()).collect();
                drop(blocks);
                drop(pool.allocate::<u8>(20_000).unwrap());
                filled.wait();
                ended.wait();
            });
        }
        filled.wait();
        let cached = pool.stats().cache_bytes;
        let whole = pool.allocate::<u8>(4 << 20);
        ended.wait();
        assert!(cached > 0);
        assert!(whole.is_ok(), "{cached} B were cached: {whole:?}");
    });
}

/// Pools and threads come and go in any order: a pool may end before the threads that have caches of it, and after.
#[test]
fn pools_and_threads_end_in_any_order() {
    let (send, receive) = channel::<PoolPtr<u8>>();
    std::thread::scope(|scope| {
        for thread in 0..3usize {
            let send = send.clone();
            scope.spawn(move || {
                for round in 0..200 {
                    let pool = MemoryPool::unlimited();
                    let blocks: Vec<_> = (0..40)
                        .map(|at| pool.allocate::<u8>(at * 37 + thread).unwrap())
                        .collect();
                    if round % 2 == 0 {
                        drop(pool);
                        blocks.into_iter().for_each(|block| send.send(block).unwrap());
                    } else {
                        drop(blocks);
                        drop(pool);
                    }
                }
            });
        }
        drop(send);
        let addresses: Vec<_> = receive.into_iter().map(|block| block.as_ptr()).collect();
        assert_eq!(addresses.len(), 3 * 100 * 40);
    });
}

/// More pools than a thread can have caches of: places are taken over, and nothing is lost.
#[test]
fn a_thread_with_many_pools_keeps_them_apart() {
    let pools: Vec<_> = (0..40).map(|_| MemoryPool::unlimited()).collect();
    let mut kept = Vec::new();
    for round in 0..30 {
        for (number, pool) in pools.iter().enumerate() {
            kept.push((number, Marked::take(pool, round * 50 + number)));
        }
        if round % 3 == 2 {
            kept.drain(..).for_each(|(_, block)| block.give_back());
        }
    }
    for pool in &pools {
        assert_eq!((pool.stats().live_blocks, pool.stats().total_allocations), (0, 30));
        valid(pool);
    }
    assert!(pools.iter().map(|pool| pool.stats().caches).sum::<usize>() <= 8);
}

/// The pages that blocks lie in: slabs cover whole ones.
fn pages(blocks: &[Marked]) -> std::collections::BTreeSet<usize> {
    blocks.iter().map(|block| block.ptr.addr().get() / 4096).collect()
}

/// Threads that write records side by side would wait for each other: each draws from slabs of its own.
#[test]
fn threads_draw_from_slabs_of_their_own() {
    let pool = MemoryPool::unlimited();
    let take = || -> Vec<Marked> { (0..500).map(|_| Marked::take(&pool, 200)).collect() };
    let first = take();
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let blocks = take();
            let own: Vec<Marked> = blocks.into_iter().skip(100).collect(); // without a cache, the first may be anyone's
            barrier.wait();
            barrier.wait(); // what an ended thread drew from is nobody's
            own
        });
        barrier.wait();
        let second = take();
        barrier.wait();
        let own = other.join().unwrap();
        let theirs = pages(&own);
        assert!(pages(&first).is_disjoint(&theirs) && pages(&second).is_disjoint(&theirs));
        first.into_iter().chain(second).chain(own).for_each(Marked::give_back);
    });
    valid(&pool);
}

/// A thread that only frees gets a cache, too, and what it frees comes back to the thread that allocates: nothing grows.
#[test]
fn what_another_thread_frees_comes_back() {
    let pool = MemoryPool::unlimited();
    let (send, receive) = channel::<Vec<Marked>>();
    let (back, freed) = channel::<usize>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let back = back; // goes with this thread
            for blocks in receive {
                blocks.into_iter().for_each(Marked::give_back);
                back.send(pool.stats().caches).unwrap();
            }
        });
        let mut committed = 0;
        for round in 0..50 {
            send.send((0..1000).map(|_| Marked::take(&pool, 256)).collect())
                .unwrap();
            let caches = freed.recv().unwrap();
            let stats = pool.stats();
            if round == 0 {
                committed = stats.committed_bytes;
                assert_eq!(caches, 2, "{stats:?}");
                assert!(
                    stats.cache_blocks > Store::batch(4),
                    "its own, and what is on the way: {stats:?}"
                );
            }
            assert_eq!((stats.committed_bytes, stats.live_blocks), (committed, 0));
        }
        drop(send);
    });
    assert!(pool.trim(0) > 0);
    assert_eq!(pool.stats().cache_blocks, 0);
    valid(&pool);
}
