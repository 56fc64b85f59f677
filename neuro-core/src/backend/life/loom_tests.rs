//! Two threads call a driver while a third shuts it down: every interleaving. Each ordering is weakened once, and the check left out;
//! the model must then fail; else it proves nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use super::Door;
use crate::sync::Ordering;

thread_local! {
    /// What is planted. Loom runs all threads of a model on the thread that started it.
    static WEAK: Cell<Weak> = const { Cell::new(Weak::Nothing) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weak {
    Nothing,
    Leave,
    Close,
    /// Who enters goes in whatever the door says.
    Enter,
    /// Who closes does not look who is inside.
    Look,
}

pub(super) fn leave() -> Ordering {
    if WEAK.get() == Weak::Leave {
        Ordering::Relaxed
    } else {
        Ordering::Release
    }
}

pub(super) fn close() -> Ordering {
    if WEAK.get() == Weak::Close {
        Ordering::Relaxed
    } else {
        Ordering::Acquire
    }
}

/// What a driver has, which calls use and the end destroys.
struct Driver {
    door: Door,
    calls: UnsafeCell<u32>,
    lock: loom::sync::Mutex<()>,
}

// SAFETY: the cell is used under the lock, or when nobody is inside: loom checks it.
unsafe impl Sync for Driver {}
// SAFETY: as above.
unsafe impl Send for Driver {}

fn model() {
    loom::model(|| {
        let driver = Arc::new(Driver {
            door: Door::new(),
            calls: UnsafeCell::new(0),
            lock: loom::sync::Mutex::new(()),
        });
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let driver = driver.clone();
                loom::thread::spawn(move || {
                    let entered = driver.door.enter();
                    if entered || WEAK.get() == Weak::Enter {
                        let lock = driver.lock.lock().unwrap();
                        // SAFETY: under the lock; loom checks that it happened before the end, or does not happen.
                        driver.calls.with_mut(|calls| unsafe { *calls += 1 });
                        drop(lock);
                    }
                    if entered {
                        driver.door.leave();
                    }
                })
            })
            .collect();
        while driver.door.close() && WEAK.get() != Weak::Look {
            loom::thread::yield_now();
        }
        // SAFETY: nobody is inside, and nobody comes: loom checks it. Not under the lock, as what destroys a driver.
        driver.calls.with_mut(|calls| unsafe { *calls = 0 });
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        // SAFETY: the threads are gone.
        let after = driver.calls.with(|calls| unsafe { *calls });
        assert_eq!(after, 0, "somebody called a driver that was gone");
    });
}

#[test]
fn loom_nobody_calls_a_driver_that_is_gone() {
    WEAK.set(Weak::Nothing);
    model();
}

#[test]
fn loom_each_weakened_part_is_found_out() {
    for weak in [Weak::Leave, Weak::Close, Weak::Enter, Weak::Look] {
        WEAK.set(weak);
        let caught = catch_unwind(AssertUnwindSafe(model)).is_err();
        WEAK.set(Weak::Nothing);
        assert!(caught, "loom passed with {weak:?} weakened");
    }
}
