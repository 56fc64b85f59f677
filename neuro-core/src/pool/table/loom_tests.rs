//! The one lock-free protocol of the pool: a reader walks the table while a writer adds a lower table to it.
//!
//! Each ordering of T2 is weakened once, and the model must then fail; else it proves nothing.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use super::{AddressTable, FAN_BITS, LEVELS, SLOT_BITS};
use crate::sync::Ordering;

thread_local! {
    /// Which ordering is weakened: (read, write). Loom runs all threads of a model on the thread that started it.
    static WEAK: Cell<(bool, bool)> = const { Cell::new((false, false)) };
}

pub(super) fn read() -> Ordering {
    if WEAK.get().0 {
        Ordering::Relaxed
    } else {
        Ordering::Acquire
    }
}

pub(super) fn write() -> Ordering {
    if WEAK.get().1 {
        Ordering::Relaxed
    } else {
        Ordering::Release
    }
}

const SLOT: usize = 1 << SLOT_BITS;

/// What a pool is to the table: something behind a pointer, written before it is entered.
struct Pool(UnsafeCell<u32>);

// SAFETY: written before it is published and only read afterwards; loom checks exactly that.
unsafe impl Sync for Pool {}

fn model() {
    loom::model(|| {
        assert_eq!(
            (FAN_BITS, LEVELS),
            (1, 3),
            "under loom a table is small, so that every schedule is tried"
        );
        let table = Arc::new(AddressTable::new());
        let pool = Box::into_raw(Box::new(Pool(UnsafeCell::new(0))));
        let writer = {
            let (table, pool) = (table.clone(), pool.expose_provenance());
            loom::thread::spawn(move || {
                let pool_ref: *const Pool = std::ptr::with_exposed_provenance(pool);
                // SAFETY: not published yet, so nobody else has it.
                unsafe { (*pool_ref).0.with_mut(|value| *value = 7) };
                table.set(SLOT..2 * SLOT, pool);
            })
        };
        // Loom switches threads at a yield, but not before every plain load: without it, it tries only the schedule in
        // which the reader comes first.
        loom::thread::yield_now();
        if let Some(found) = table.find(SLOT + 5) {
            // SAFETY: the pool lives until both threads are done.
            let value = unsafe { found.cast::<Pool>().as_ref().0.with(|value| *value) };
            assert_eq!(value, 7);
        }
        assert_eq!(table.find(0), None);
        writer.join().unwrap();
        assert!(table.find(SLOT).is_some());
        table.set(SLOT..2 * SLOT, 0);
        assert_eq!(table.find(SLOT), None);
        // SAFETY: from `Box::into_raw`, and nobody has it any more.
        drop(unsafe { Box::from_raw(pool) });
    });
}

#[test]
fn loom_a_reader_sees_a_whole_table_or_none() {
    WEAK.set((false, false));
    model();
}

#[test]
fn loom_each_weakened_ordering_is_found_out() {
    for weak in [(true, false), (false, true)] {
        WEAK.set(weak);
        let caught = catch_unwind(AssertUnwindSafe(model)).is_err();
        WEAK.set((false, false));
        assert!(caught, "loom passed with (read, write) weakened: {weak:?}");
    }
}
