//! Many threads over one value: it is dropped once, and nobody sees it after.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use super::super::Arc;
use super::{Counted, counts};

/// Runs `work(i)` on as many threads as it takes to collide, all at once.
fn at_once(work: impl Fn(usize) + Sync) {
    const THREADS: usize = 8;
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for i in 0..THREADS {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(i);
            });
        }
    });
}

#[test]
fn many_threads_drop_once() {
    for _ in 0..50 {
        let drops = AtomicUsize::new(0);
        let arc = Arc::new(Counted(&drops));
        at_once(|_| {
            let mut mine: Vec<_> = (0..100).map(|_| arc.clone()).collect();
            mine.extend(mine[..50].to_vec());
        });
        assert_eq!((counts(&arc), drops.load(Ordering::Relaxed)), ((1, 0), 0));
        drop(arc);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn upgrades_race_the_last_drop() {
    for _ in 0..200 {
        let drops = AtomicUsize::new(0);
        let arc = Arc::new(Counted(&drops));
        let weak = Arc::downgrade(&arc);
        let last = Mutex::new(Some(arc));
        at_once(|i| {
            if i == 0 {
                drop(last.lock().unwrap().take());
            }
            let weak = weak.clone();
            // Not until it fails: the threads could keep the value alive for each other without end.
            for strong in (0..100).map_while(|_| weak.upgrade()) {
                assert_eq!(strong.0.load(Ordering::Relaxed), 0, "upgraded to a dropped value");
            }
        });
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!((weak.strong_count(), weak.weak_count()), (0, 0));
    }
}

#[test]
fn one_of_many_unwraps_at_most() {
    for _ in 0..200 {
        let drops = AtomicUsize::new(0);
        let arc = Arc::new(Counted(&drops));
        let handles: Vec<_> = (0..8).map(|_| Mutex::new(Some(arc.clone()))).collect();
        drop(arc);
        let unwrapped = AtomicUsize::new(0);
        at_once(|i| {
            let mine = handles[i].lock().unwrap().take().unwrap();
            if Arc::try_unwrap(mine).is_ok() {
                unwrapped.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(unwrapped.into_inner() <= 1);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }
}
