//! Two threads push while a third takes, and then closes: every interleaving. Each ordering of Q2 is weakened once, and the
//! model must then fail; else it proves nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use super::Pending;
use crate::sync::Ordering;

thread_local! {
    /// Which ordering is weakened: (push, take). Loom runs all threads of a model on the thread that started it.
    static WEAK: Cell<(bool, bool)> = const { Cell::new((false, false)) };
}

pub(super) fn push() -> Ordering {
    if WEAK.get().0 {
        Ordering::Relaxed
    } else {
        Ordering::Release
    }
}

pub(super) fn take() -> Ordering {
    if WEAK.get().1 {
        Ordering::Relaxed
    } else {
        Ordering::Acquire
    }
}

/// A block: the word that the list uses, and what its owner wrote before freeing it.
#[repr(C)]
struct Block {
    link: usize,
    contents: UnsafeCell<u32>,
}

fn collect(taken: super::Taken) -> u32 {
    taken
        .map(|block| {
            // SAFETY: made by `Box::into_raw` below and pushed once (Q1), so it is ours alone.
            let block = unsafe { Box::from_raw(block.as_ptr().cast::<Block>()) };
            // SAFETY: loom checks that the write before the push happened before this.
            block.contents.with(|contents| unsafe { *contents })
        })
        .sum()
}

fn model() {
    loom::model(|| {
        let pending = Arc::new(Pending::new());
        let pushers: Vec<_> = [1u32, 10]
            .into_iter()
            .map(|value| {
                let pending = pending.clone();
                loom::thread::spawn(move || {
                    let block = Box::new(Block {
                        link: 0,
                        contents: UnsafeCell::new(0),
                    });
                    // SAFETY: nobody else has the block yet.
                    block.contents.with_mut(|contents| unsafe { *contents = value });
                    let block = NonNull::from(Box::leak(block));
                    // SAFETY: the block begins with a word, and is this thread's to give away.
                    if unsafe { pending.push(block.cast()) } {
                        return 0;
                    }
                    // SAFETY: refused, so still this thread's.
                    drop(unsafe { Box::from_raw(block.as_ptr()) });
                    value
                })
            })
            .collect();
        let mut sum = collect(pending.take());
        sum += collect(pending.close());
        let refused: u32 = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        assert_eq!(sum + refused, 11, "each block is taken once or refused");
        assert!(pending.is_empty() && pending.close().next().is_none());
    });
}

#[test]
fn loom_each_block_is_taken_once_or_refused() {
    WEAK.set((false, false));
    model();
}

#[test]
fn loom_each_weakened_ordering_is_found_out() {
    for weak in [(true, false), (false, true)] {
        WEAK.set(weak);
        let caught = catch_unwind(AssertUnwindSafe(model)).is_err();
        WEAK.set((false, false));
        assert!(caught, "loom passed with (push, take) weakened: {weak:?}");
    }
}
