//! Owner and claimer at one gate, every interleaving of them. Each ordering and each barrier is left out once, and the model
//! must then fail; else it proves nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use super::{Gate, barrier};
use crate::sync::Ordering;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Without {
    Nothing,
    Look,
    Leave,
    Light,
    Heavy,
}

thread_local! {
    /// Loom runs all threads of a model on the thread that started it.
    static WITHOUT: Cell<Without> = const { Cell::new(Without::Nothing) };
}

fn unless(what: Without, strong: Ordering) -> Ordering {
    if WITHOUT.get() == what {
        Ordering::Relaxed
    } else {
        strong
    }
}

pub(super) fn look() -> Ordering {
    unless(Without::Look, Ordering::Acquire)
}

pub(super) fn leave() -> Ordering {
    unless(Without::Leave, Ordering::Release)
}

pub(super) fn has_light() -> bool {
    WITHOUT.get() != Without::Light
}

pub(super) fn has_heavy() -> bool {
    WITHOUT.get() != Without::Heavy
}

struct Guarded {
    gate: Gate,
    cache: UnsafeCell<u32>,
}

// SAFETY: that the gate keeps the accesses apart is what the model checks; loom reports every one that is not.
unsafe impl Sync for Guarded {}

fn add_one(cache: &UnsafeCell<u32>) {
    // SAFETY: loom checks that nobody else is at it.
    cache.with_mut(|value| unsafe { *value += 1 });
}

/// The owner goes in twice, the claimer takes the cache once.
fn model() {
    loom::model(|| {
        let guarded = Arc::new(Guarded {
            gate: Gate::new(false),
            cache: UnsafeCell::new(0),
        });
        let owner = {
            let guarded = guarded.clone();
            loom::thread::spawn(move || {
                (0..2)
                    .filter(|_| guarded.gate.enter().map(|_inside| add_one(&guarded.cache)).is_some())
                    .count() as u32
            })
        };
        guarded.gate.claim();
        barrier::heavy();
        guarded.gate.wait();
        add_one(&guarded.cache);
        guarded.gate.release();
        let times = owner.join().unwrap();
        // SAFETY: the other thread is done.
        let value = guarded.cache.with(|value| unsafe { *value });
        assert_eq!(value, times + 1);
    });
}

#[test]
fn loom_owner_and_claimer_are_never_in_together() {
    WITHOUT.set(Without::Nothing);
    model();
}

#[test]
fn loom_each_part_left_out_is_found_out() {
    for without in [Without::Look, Without::Leave, Without::Light, Without::Heavy] {
        WITHOUT.set(without);
        let caught = catch_unwind(AssertUnwindSafe(model)).is_err();
        WITHOUT.set(Without::Nothing);
        assert!(caught, "loom did not notice the lack of {without:?}");
    }
}
