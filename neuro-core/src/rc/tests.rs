//! One thread: counts, drop moments, layout, and the specification's own examples.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::counts::MAX;
use super::{Arc, Weak};

mod model;
mod threads;

/// Counts its drops.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counts<T>(arc: &Arc<T>) -> (usize, usize) {
    (Arc::strong_count(arc), Arc::weak_count(arc))
}

#[test]
fn spec_basic_model() {
    let data = Arc::new(vec![1, 2, 3, 4, 5]);
    assert_eq!(Arc::strong_count(&data), 1);
    let reference1 = data.clone();
    assert_eq!(Arc::strong_count(&data), 2);
    let reference2 = data.clone();
    assert_eq!(Arc::strong_count(&data), 3);
    drop(reference1);
    assert_eq!(Arc::strong_count(&data), 2);
    drop(data);
    assert_eq!(
        (Arc::strong_count(&reference2), &reference2[..]),
        (1, &[1, 2, 3, 4, 5][..])
    );
}

#[test]
fn spec_weak_references_break_cycles() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Node {
        data: i32,
        parent: Option<Weak<Node>>,
        children: Vec<Arc<Node>>,
        _counted: Counted<'static>,
    }
    let node = |data, parent| Node {
        data,
        parent,
        children: vec![],
        _counted: Counted(&DROPS),
    };
    let parent = Arc::new(node(1, None));
    let child = Arc::new(node(2, Some(Arc::downgrade(&parent))));
    let up = child.parent.as_ref().and_then(Weak::upgrade).unwrap();
    assert_eq!((up.data, child.data, parent.children.len()), (1, 2, 0));
    drop((up, parent));
    assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    assert!(child.parent.as_ref().unwrap().upgrade().is_none());

    // The same both ways: the parent owns the child, the child knows its parent, and both go.
    struct Linked {
        child: OnceLock<Arc<Linked>>,
        parent: OnceLock<Weak<Linked>>,
        _counted: Counted<'static>,
    }
    let linked = || {
        Arc::new(Linked {
            child: OnceLock::new(),
            parent: OnceLock::new(),
            _counted: Counted(&DROPS),
        })
    };
    let (parent, child) = (linked(), linked());
    assert!(parent.child.set(child.clone()).is_ok() && child.parent.set(Arc::downgrade(&parent)).is_ok());
    drop(child);
    assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    let seen = Arc::downgrade(&parent);
    drop(parent);
    assert!(seen.upgrade().is_none());
    assert_eq!(DROPS.load(Ordering::Relaxed), 3);
}

/// Distance from the start of the block to the value, which must also be aligned.
fn offset<T>(value: T) -> usize {
    let arc = Arc::new(value);
    let at = Arc::as_ptr(&arc);
    assert!(at.is_aligned(), "{at:?} for alignment {}", align_of::<T>());
    assert_eq!(at, std::ptr::from_ref(&*arc));
    at.addr() - arc.block.start()
}

#[test]
fn header_is_16_bytes() {
    #[repr(align(64))]
    struct Line(#[expect(dead_code, reason = "for its size")] u8);
    #[repr(align(4096))]
    struct Page;
    assert_eq!([offset(()), offset(1_u8), offset(1_u64), offset(1_u128)], [16; 4]);
    assert_eq!([offset(Line(1)), offset(Page)], [64, 4096]);
    let word = size_of::<usize>();
    assert_eq!([size_of::<Arc<u64>>(), size_of::<Option<Arc<u64>>>()], [word; 2]);
    assert_eq!([size_of::<Weak<u64>>(), size_of::<Option<Weak<u64>>>()], [word; 2]);
}

#[test]
fn zero_sized_values_are_counted_and_dropped() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (a, b) = (Arc::new(Nothing), Arc::new(Nothing));
    assert!(!Arc::ptr_eq(&a, &b), "each has a block of its own");
    drop((a.clone(), a, b));
    assert_eq!(DROPS.load(Ordering::Relaxed), 2);
}

#[test]
fn get_mut_wants_no_other_handle_of_either_kind() {
    let mut arc = Arc::new(1);
    *Arc::get_mut(&mut arc).unwrap() += 1;
    let other = arc.clone();
    assert_eq!(Arc::get_mut(&mut arc), None);
    drop(other);
    let weak = Arc::downgrade(&arc);
    assert_eq!(Arc::get_mut(&mut arc), None);
    drop(weak);
    assert_eq!(Arc::get_mut(&mut arc), Some(&mut 2));
}

#[test]
fn try_unwrap_moves_out_the_last() {
    let drops = AtomicUsize::new(0);
    let arc = Arc::new(Counted(&drops));
    let weak = Arc::downgrade(&arc);
    let other = arc.clone();
    let arc = Arc::try_unwrap(arc).err().expect("two handles");
    assert_eq!(counts(&arc), (2, 1));
    drop(other);
    let value = Arc::try_unwrap(arc).ok().expect("one handle");
    assert!(weak.upgrade().is_none());
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(value);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn raw_pointers_carry_a_count() {
    #[repr(align(128))]
    struct Wide<'a>(Counted<'a>);
    let drops = AtomicUsize::new(0);
    let arc = Arc::new(Wide(Counted(&drops)));
    let raw = Arc::into_raw(arc.clone());
    assert_eq!((raw, counts(&arc)), (Arc::as_ptr(&arc), (2, 0)));
    // SAFETY: `raw` is from `into_raw`; its one count and the one added are taken back once each.
    let back = unsafe {
        Arc::increment_strong_count(raw);
        assert_eq!(counts(&arc), (3, 0));
        Arc::decrement_strong_count(raw);
        Arc::from_raw(raw)
    };
    assert!(Arc::ptr_eq(&arc, &back) && counts(&arc) == (2, 0));
    assert!(std::ptr::eq(&raw const back.0.0, &raw const arc.0.0));
    drop((arc, back));
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_weak_of_nothing() {
    let none = Weak::<String>::new();
    assert!(none.upgrade().is_none() && none.clone().upgrade().is_none());
    assert_eq!((none.strong_count(), none.weak_count()), (0, 0));
    assert!(none.ptr_eq(&Weak::default()));
    let some = Arc::downgrade(&Arc::new(String::new()));
    assert!(!none.ptr_eq(&some) && some.ptr_eq(&some.clone()));
    assert_eq!((some.strong_count(), some.weak_count()), (0, 0));
    assert_eq!(format!("{some:?}"), "(Weak)");
}

#[test]
fn a_destructor_sees_its_own_weak_expired() {
    struct Selfish<'a>(RefCell<Option<Weak<Selfish<'a>>>>, &'a AtomicUsize);
    // SAFETY: this test has one thread.
    unsafe impl Sync for Selfish<'_> {}
    impl Drop for Selfish<'_> {
        fn drop(&mut self) {
            let own = self.0.take().unwrap();
            assert!(own.upgrade().is_none() && own.clone().upgrade().is_none());
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = AtomicUsize::new(0);
    let arc = Arc::new(Selfish(RefCell::new(None), &drops));
    arc.0.replace(Some(Arc::downgrade(&arc)));
    drop(arc);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn stands_for_its_value() {
    use std::collections::{BTreeSet, HashMap};
    let (one, two) = (Arc::from("1".to_string()), Arc::new("2".to_string()));
    assert_eq!((format!("{one}"), format!("{one:?}")), ("1".into(), "\"1\"".into()));
    assert!(one == Arc::new("1".to_string()) && one != two && one < two);
    assert_eq!((one.as_ref().as_str(), Arc::<String>::default().as_str()), ("1", ""));
    let map = HashMap::from([(one.clone(), 1), (two.clone(), 2)]);
    let key = String::from("2");
    assert_eq!((map.get(&key), map.get(&one)), (Some(&2), Some(&1)));
    assert_eq!(BTreeSet::from([two, one.clone()]).first(), Some(&one));
}

#[test]
fn a_panicking_destructor_still_ends_the_value() {
    struct Bomb(#[expect(dead_code, reason = "dropped, never read")] Counted<'static>);
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }
    let arc = Arc::new(Bomb(Counted(&DROPS)));
    let weak = Arc::downgrade(&arc);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(arc))).is_err());
    assert_eq!((DROPS.load(Ordering::Relaxed), weak.upgrade().is_none()), (1, true));
}

/// Counts past the limit abort the process, so each way to get there runs in a process of its own: this test again, told
/// by a variable to do it.
#[test]
fn too_many_handles_abort() {
    const ASK: &str = "NEURO_TEST_OVERFLOW";
    let Ok(way) = std::env::var(ASK) else {
        for way in ["clone", "increment", "upgrade", "downgrade", "weak clone"] {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "rc::tests::too_many_handles_abort", "--nocapture"])
                .env(ASK, way)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stderr);
            assert!(said.contains("more than 2147483647"), "{way}: {said}");
            assert!(!child.status.success(), "{way}: went on after the last count");
        }
        return;
    };
    let arc = Arc::new(1);
    let weak = Arc::downgrade(&arc);
    // SAFETY: `arc` keeps the block. Counts that are too high free nothing.
    unsafe { arc.block.counts() }.pretend(MAX - 1);
    // The last that is allowed, then the first that is not.
    let handle: fn(&Arc<i32>, &Weak<i32>) = match way.as_str() {
        "clone" => |arc, _| std::mem::forget(arc.clone()),
        // SAFETY: the pointer is what `into_raw` would give, and the count added is leaked.
        "increment" => |arc, _| unsafe { Arc::increment_strong_count(Arc::as_ptr(arc)) },
        "upgrade" => |_, weak| std::mem::forget(weak.upgrade()),
        "downgrade" => |arc, _| std::mem::forget(Arc::downgrade(arc)),
        _ => |_, weak| std::mem::forget(weak.clone()),
    };
    handle(&arc, &weak);
    // SAFETY: as above.
    let (strong, weaks) = unsafe { arc.block.counts() }.read();
    assert_eq!(strong.max(weaks + 1), MAX as usize, "the limit itself is allowed");
    handle(&arc, &weak);
    std::process::exit(0);
}
