//! Hammers `Arc` and `Weak` from several threads, over values that are written without atomics: for ThreadSanitizer, which
//! sees the machine's own interleavings where loom sees those of the memory model. Passes as a plain program too.
//!
//! Under ThreadSanitizer (the standard library is not instrumented, hence no test harness, no locks, and a suppression for
//! what `thread::spawn` does inside):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" \
//! TSAN_OPTIONS="suppressions=$PWD/neuro-core/tests/tsan.supp exitcode=66" \
//! cargo test -p neuro-core --test tsan_rc --target x86_64-unknown-linux-gnu
//! ```

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::thread;

use neuro_core::{Arc, Weak};

const THREADS: usize = 4;
const ROUNDS: usize = 2_000;

/// A value whose accesses ThreadSanitizer sees: plain memory, which only the counts protect.
struct Plain(UnsafeCell<[u64; 4]>);

// SAFETY: written only through `&mut` and in the destructor; read through `&`. That the counts keep these apart is what
// is tested.
unsafe impl Sync for Plain {}

impl Plain {
    fn new() -> Self {
        Self(UnsafeCell::new([1; 4]))
    }

    fn read(&self) {
        // SAFETY: writers are alone with the value.
        let sum: u64 = unsafe { *self.0.get() }.iter().sum();
        assert_ne!(black_box(sum), 0, "read after the destructor ran");
    }

    fn write(&mut self) {
        self.0.get_mut()[0] += 1;
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        *black_box(self.0.get_mut()) = [0; 4];
    }
}

/// `ROUNDS` values, and one handle of each for every thread. No other handle is left.
fn shared() -> Vec<Vec<Arc<Plain>>> {
    let values: Vec<_> = (0..ROUNDS).map(|_| Arc::new(Plain::new())).collect();
    vec![values; THREADS]
}

/// Does the work on as many threads as there are parts, each owning its part.
fn at_once<T: Send + 'static>(parts: Vec<T>, work: fn(T)) {
    let threads: Vec<_> = parts
        .into_iter()
        .map(|part| thread::spawn(move || work(part)))
        .collect();
    for thread in threads {
        thread.join().expect("a thread failed");
    }
}

/// Whoever is last runs the destructor, after the reads of all others.
fn last_drops() {
    at_once(shared(), |mine| mine.into_iter().for_each(|value| value.read()));
}

/// Whoever finds itself alone writes, after the reads of all others.
fn get_mut() {
    at_once(shared(), |mine| {
        for mut value in mine {
            value.read();
            if let Some(plain) = Arc::get_mut(&mut value) {
                plain.write();
            }
        }
    });
}

/// Whoever is last takes the value out and writes.
fn try_unwrap() {
    at_once(shared(), |mine| {
        for value in mine {
            value.read();
            if let Ok(mut plain) = Arc::try_unwrap(value) {
                plain.write();
            }
        }
    });
}

/// The values go while other threads try to hold them.
fn upgrades() {
    let values = shared().swap_remove(0);
    let weak: Vec<Weak<Plain>> = values.iter().map(Arc::downgrade).collect();
    let mut parts = vec![(vec![], weak); THREADS];
    parts[0].0 = values;
    at_once(parts, |(strong, weak)| {
        drop(strong);
        for weak in weak {
            if let Some(value) = weak.upgrade() {
                value.read();
            }
        }
    });
}

/// Weak handles are made while strong ones go; whoever drops the last one frees the block, after all have left it.
fn last_weaks() {
    at_once(shared(), |mine| {
        for value in mine {
            let weak = Arc::downgrade(&value);
            drop(value);
            if let Some(value) = weak.clone().upgrade() {
                value.read();
            }
        }
    });
}

fn main() {
    for scenario in [last_drops, get_mut, try_unwrap, upgrades, last_weaks] {
        for _ in 0..5 {
            scenario();
        }
    }
    println!("rc under threads: {} values, all well", 5 * 5 * ROUNDS);
}
