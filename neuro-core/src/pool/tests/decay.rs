//! The reaper: each pool's own time, what wakes it, and what must not end it. Defects that a review found.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn memory_stays_for_its_decay_time() {
    let pool = MemoryPool::unlimited().with_decay(Some(Duration::from_secs(60)));
    let p = take(&pool, 64 << 20);
    free(p).unwrap();
    let before = pool.stats().committed_bytes;
    std::thread::sleep(Duration::from_secs(4));
    let after = pool.stats().committed_bytes;
    assert_eq!(before, after, "gone long before a minute");
}

#[test]
fn a_shrunk_block_leaves_memory_to_the_reaper() {
    let pool = MemoryPool::unlimited();
    // Until the reaper of other tests sleeps.
    let wait = Instant::now();
    while super::reaper::is_awake() && wait.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let awake = super::reaper::is_awake();
    let p = take(&pool, 256 << 20);
    // SAFETY: ours.
    let p = unsafe { MemoryPool::reallocate(p, 1 << 20, Some(64)) }.unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let committed = pool.state().committed.current;
    free(p).unwrap();
    assert!(
        committed < 16 << 20,
        "{committed} B still there (reaper awake before: {awake})"
    );
}

/// One pool's short decay must not be another's.
#[test]
fn each_pool_has_its_own_decay_time() {
    let slow = MemoryPool::unlimited().with_decay(Some(Duration::from_secs(2)));
    let fast = MemoryPool::unlimited().with_decay(Some(Duration::from_millis(1)));
    let p = take(&slow, 64 << 20);
    free(p).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        let q = take(&fast, 16 << 20);
        free(q).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = slow.state().committed.current;
    assert!(after >= 64 << 20, "gone after 400 ms of 2 s: {after}");
}

/// A big free that meets the lock goes to the pending list, and nobody wakes the reaper.
#[test]
fn what_is_pending_wakes_the_reaper() {
    let pool = MemoryPool::unlimited();
    let p = take(&pool, 256 << 20);
    let address = p.as_ptr().expose_provenance();
    let wait = Instant::now();
    while super::reaper::is_awake() && wait.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let state = pool.state(); // as an allocating thread holds it
    std::thread::spawn(move || free(NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap()).unwrap())
        .join()
        .unwrap();
    drop(state);
    let q = take(&pool, 1 << 20); // drains
    std::thread::sleep(Duration::from_secs(4));
    let committed = pool.state().committed.current;
    free(q).unwrap();
    assert!(committed < 16 << 20, "{committed} B");
}

/// Debug builds: the reaper's thread panics over a peak below zero, and no memory of any pool goes back any more.
#[test]
fn the_reaper_survives_a_peak_below_zero() {
    let pool = MemoryPool::unlimited();
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
            pool.stats();
            outbox.send(()).unwrap();
            for a in inbox.recv().unwrap() {
                free(NonNull::new(std::ptr::with_exposed_provenance_mut(a)).unwrap()).unwrap();
            }
            free(take(&pool, 640)).unwrap();
        })
    };
    back.1.recv().unwrap();
    let blocks: Vec<_> = (0..20).map(|_| take(&pool, 64).as_ptr().expose_provenance()).collect();
    there.0.send(blocks).unwrap();
    other.join().unwrap();
    free(take(&pool, 64 << 20)).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let committed = pool.state().committed.current;
    assert!(
        committed < 8 << 20,
        "{committed} B, reaper awake: {}",
        super::reaper::is_awake()
    );
}
