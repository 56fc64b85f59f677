//! What two atomic counts in front of the value promise: 16 bytes of overhead, handles of one pointer, any number of
//! threads, and one destructor that sees all that the other handles did.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use neuro_core::Arc;

/// Remembers what was done to it, and writes that down when it dies.
struct Witness {
    visits: AtomicUsize,
    obituary: std::sync::Arc<AtomicUsize>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.obituary
            .fetch_add(self.visits.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[test]
pub(crate) fn arc_implementation() {
    assert_eq!(size_of::<Arc<Witness>>(), size_of::<*const Witness>());

    const THREADS: usize = 4;
    const VISITS: usize = 1000;
    let obituary = std::sync::Arc::new(AtomicUsize::new(0));
    let shared = Arc::new(Witness {
        visits: AtomicUsize::new(0),
        obituary: obituary.clone(),
    });
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let mine = shared.clone();
            thread::spawn(move || {
                for _ in 0..VISITS {
                    mine.clone().visits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    drop(shared);
    for thread in threads {
        thread.join().expect("a thread panicked");
    }
    // Dropped once, and after every visit: the sum would be another otherwise.
    assert_eq!(obituary.load(Ordering::Relaxed), THREADS * VISITS);
}
