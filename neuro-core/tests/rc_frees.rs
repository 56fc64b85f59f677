//! What `Arc` takes from the allocator and gives back: exact sizes, and nothing left behind, also if a destructor panics.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, Ordering};

use neuro_core::{Arc, Weak};

/// Size of the values below: one that nothing else in this program asks for, so that its blocks can be told.
const SIZE: usize = 7_777 * 16;

/// Blocks of a header and a value that are out.
static LIVE: AtomicIsize = AtomicIsize::new(0);

/// The system's allocator, which also counts blocks of `SIZE + 16` bytes.
struct Counting;

// SAFETY: forwards to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() == SIZE + 16 {
            LIVE.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: forwarded.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if layout.size() == SIZE + 16 {
            LIVE.fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: forwarded.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Value([u8; SIZE]);

/// Panics when dropped.
struct Bomb(#[expect(dead_code, reason = "for its size")] [u8; SIZE]);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

fn live() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// One test, because the count is of the whole program.
#[test]
fn blocks_are_16_bytes_larger_than_values_and_all_come_back() {
    let arc = Arc::new(Value([1; SIZE]));
    assert_eq!(live(), 1, "a header of 16 bytes");
    let (other, weak) = (arc.clone(), Arc::downgrade(&arc));
    drop((arc, other));
    assert_eq!(live(), 1, "kept by the weak handle");
    drop((weak.clone(), weak));
    assert_eq!(live(), 0, "freed by the last weak handle");

    drop(Arc::new(Value([1; SIZE])));
    assert_eq!(live(), 0, "freed by the last handle of all");

    let weak = Weak::<Value>::new();
    assert_eq!(live(), 0, "a weak handle of nothing");
    drop(weak);

    let arc = Arc::new(Value([1; SIZE]));
    let weak = Arc::downgrade(&arc);
    let value = Arc::try_unwrap(arc).ok().expect("the only strong handle");
    assert_eq!((live(), value.0[SIZE - 1]), (1, 1), "kept by the weak handle");
    drop(weak);
    assert_eq!(live(), 0, "freed after its value was moved out");
    assert!(
        Arc::try_unwrap(Arc::new(value)).is_ok() && live() == 0,
        "freed by try_unwrap"
    );

    let arc = Arc::new(Bomb([1; SIZE]));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(arc))).is_err());
    assert_eq!(live(), 0, "freed although the destructor panicked");

    let arc = Arc::new(Bomb([1; SIZE]));
    let weak = Arc::downgrade(&arc);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(arc))).is_err());
    assert_eq!(live(), 1, "kept by the weak handle");
    drop(weak);
    assert_eq!(live(), 0, "freed although the destructor panicked");
}
