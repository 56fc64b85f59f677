//! Every interleaving of a few threads over one small table, without a mistake and then with each planted one (`probe.rs`).
//!
//! A value is a loom cell: writing it when it is made, reading it through a handle and writing it when it is dropped must
//! be ordered by the table, or loom reports a race; and it reports values that are never dropped. The slots are loom's
//! too, so it also reports a slot that is used before it was published.
//!
//! Loom switches threads at a yield but not before every plain load: hence the yields where a thread begins to look.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::alloc::Track;
use loom::cell::UnsafeCell;
use loom::thread;

use super::probe::Mutant::{self, *};
use super::probe::{choose, look_closely};
use super::slots::CAPACITY;
use super::{Stale, Table, index_of};

/// A value whose making, reads and death loom sees.
struct Data(UnsafeCell<Option<Track<u32>>>);

// SAFETY: that its accesses never overlap is what the models test; loom panics before one that would.
unsafe impl Sync for Data {}

impl Data {
    fn new(number: u32) -> Self {
        Self(UnsafeCell::new(Some(Track::new(number))))
    }

    fn read(&self) -> u32 {
        // SAFETY: loom panics before an access that overlaps a write.
        self.0
            .with(|value| unsafe { *(*value).as_ref().expect("a dropped value was read").get_ref() })
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // Once a thread panics the mistake is found, and a second panic would abort the process.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: loom panics before an access that overlaps another.
        let was = self.0.with_mut(|value| unsafe { (*value).take() });
        assert!(was.is_some(), "a value was dropped twice");
    }
}

fn table() -> Arc<Table<Data>> {
    Arc::new(Table::new(1))
}

fn insert(table: &Table<Data>, number: u32) -> usize {
    table.insert(|| Ok(Data::new(number)), || "full").unwrap()
}

fn read(table: &Table<Data>, handle: usize) -> Result<u32, Stale> {
    // SAFETY: each model holds a reference to what it reads; a stale handle asks for nothing.
    unsafe { table.get(handle) }.map(Data::read)
}

/// Whether this was the last release, which has the value.
fn release(table: &Table<Data>, handle: usize) -> bool {
    let value = table.release(handle).expect("a reference is held");
    value.is_some_and(|value| {
        value.read();
        true
    })
}

/// A handle reaches another thread by means that order nothing: it is stale there, or its value is whole.
fn handle_without_order() {
    let table = table();
    let passed = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    let other = {
        let (table, passed) = (table.clone(), passed.clone());
        thread::spawn(move || {
            let handle = insert(&table, 7);
            passed.store(handle, Ordering::Relaxed);
            handle
        })
    };
    thread::yield_now();
    let handle = passed.load(Ordering::Relaxed);
    if let Ok(number) = read(&table, handle) {
        assert_eq!(number, 7);
    }
    let handle = other.join().unwrap();
    assert_eq!(read(&table, handle), Ok(7));
    assert!(release(&table, handle));
}

/// As above, and the reference goes with the handle.
fn reference_without_order() {
    let table = table();
    let passed = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    let other = {
        let (table, passed) = (table.clone(), passed.clone());
        thread::spawn(move || {
            let handle = insert(&table, 7);
            passed.store(handle, Ordering::Relaxed);
            handle
        })
    };
    thread::yield_now();
    let released = match table.release(passed.load(Ordering::Relaxed)) {
        Ok(value) => value.expect("there is one reference").read() == 7,
        Err(Stale) => false,
    };
    let handle = other.join().unwrap();
    assert_eq!(table.count(handle).is_err(), released);
    if !released {
        assert!(release(&table, handle));
    }
}

/// Two threads read, then release: one of them gets the value, after both.
fn last_release() {
    let table = table();
    let handle = insert(&table, 7);
    table.retain(handle).unwrap();
    let other = {
        let table = table.clone();
        thread::spawn(move || {
            assert_eq!(read(&table, handle), Ok(7));
            release(&table, handle)
        })
    };
    assert_eq!(read(&table, handle), Ok(7));
    let mine = release(&table, handle);
    assert!(other.join().unwrap() != mine, "one of the two releases is the last");
    assert_eq!(table.count(handle), Err(Stale));
}

/// A thread takes and gives back a further reference while another releases its own.
fn retain_against_release() {
    let table = table();
    let handle = insert(&table, 7);
    table.retain(handle).unwrap();
    let other = {
        let table = table.clone();
        thread::spawn(move || release(&table, handle))
    };
    table.retain(handle).unwrap();
    assert!(!release(&table, handle), "a reference is left");
    assert_eq!(read(&table, handle), Ok(7));
    let mine = release(&table, handle);
    assert!(other.join().unwrap() != mine, "one of the two releases is the last");
}

/// A thread takes slots from the list while another gives one back.
fn pop_against_push() {
    let table = table();
    let [first, second] = [1, 2].map(|number| insert(&table, number));
    assert!(release(&table, second));
    let other = {
        let table = table.clone();
        thread::spawn(move || assert!(release(&table, first)))
    };
    thread::yield_now();
    let handles = [3, 4].map(|number| insert(&table, number));
    other.join().unwrap();
    assert_alive(&table, &handles, 3);
}

/// Two threads take slots from a list of two. One gives back the first that it took while the other may stand between
/// reading that slot's successor and taking the slot.
fn slot_comes_back() {
    let table = table();
    let [first, second] = [1, 2].map(|number| insert(&table, number));
    assert!(release(&table, first) && release(&table, second));
    let other = {
        let table = table.clone();
        thread::spawn(move || {
            let gone = insert(&table, 9);
            let kept = insert(&table, 4);
            assert!(release(&table, gone));
            kept
        })
    };
    thread::yield_now();
    let mine = insert(&table, 3);
    let theirs = other.join().unwrap();
    let last = insert(&table, 5);
    assert_alive(&table, &[mine, theirs, last], 3);
}

/// Two threads put the first values into a table: both make its first slots, and a chunk for them.
fn first_slots() {
    let table = table();
    let other = {
        let table = table.clone();
        thread::spawn(move || insert(&table, 4))
    };
    thread::yield_now();
    let mine = insert(&table, 3);
    assert_eq!(read(&table, mine), Ok(3));
    let theirs = other.join().unwrap();
    assert_alive(&table, &[mine, theirs], 3);
}

/// Three threads on a list of one: one gives a slot back, two put a value in.
fn three_threads() {
    let table = table();
    let [first, second] = [1, 2].map(|number| insert(&table, number));
    assert!(release(&table, first));
    let giving = {
        let table = table.clone();
        thread::spawn(move || assert!(release(&table, second)))
    };
    let using = {
        let table = table.clone();
        thread::spawn(move || insert(&table, 4))
    };
    thread::yield_now();
    let mine = insert(&table, 3);
    giving.join().unwrap();
    let theirs = using.join().unwrap();
    let last = insert(&table, 5);
    assert_alive(&table, &[mine, theirs, last], 3);
}

/// A handle that is stale before the threads part stays so, whatever its slot is used for.
fn stale_handle() {
    let table = table();
    let stale = insert(&table, 1);
    assert!(release(&table, stale));
    let other = {
        let table = table.clone();
        thread::spawn(move || {
            let handle = insert(&table, 2);
            assert_eq!(index_of(handle), index_of(stale));
            handle
        })
    };
    thread::yield_now();
    assert_eq!(table.retain(stale), Err(Stale));
    assert_eq!(read(&table, stale), Err(Stale));
    assert!(table.release(stale).is_err(), "a stale handle was released");
    let handle = other.join().unwrap();
    assert_eq!(table.count(handle), Ok(1));
    assert!(release(&table, handle));
}

/// The handles name different slots whose values are `first` and up; releases them.
fn assert_alive(table: &Table<Data>, handles: &[usize], first: u32) {
    for (number, &handle) in (first..).zip(handles) {
        assert_eq!(read(table, handle), Ok(number), "a slot was given to two");
    }
    for &handle in handles {
        assert!(release(table, handle), "a slot was given to two");
    }
}

type Model = fn();

/// Each model with the mistakes that it must catch.
const MODELS: &[(&str, Model, &[Mutant])] = &[
    (
        "handle_without_order",
        handle_without_order,
        &[InsertRelaxed, GetRelaxed, ChunkRelaxed, SlotRelaxed],
    ),
    (
        "reference_without_order",
        reference_without_order,
        &[InsertRelaxed, ReleaseBlind],
    ),
    (
        "last_release",
        last_release,
        &[ReleaseUnpublished, ReleaseBlind, ReleaseInTwoSteps],
    ),
    (
        "retain_against_release",
        retain_against_release,
        &[RetainInTwoSteps, ReleaseInTwoSteps],
    ),
    (
        "pop_against_push",
        pop_against_push,
        &[PushRelaxed, PopRelaxed, PopAgainRelaxed],
    ),
    ("slot_comes_back", slot_comes_back, &[PushUncounted]),
    (
        "first_slots",
        first_slots,
        &[SlotMadeInTwoSteps, ChunkReplaced, ChunkRelaxed, SlotRelaxed],
    ),
    (
        "three_threads",
        three_threads,
        &[PushRelaxed, PopRelaxed, PopAgainRelaxed],
    ),
    ("stale_handle", stale_handle, &[GenerationKept]),
];

const MUTANTS: &[Mutant] = &[
    InsertRelaxed,
    GetRelaxed,
    ReleaseUnpublished,
    ReleaseBlind,
    RetainInTwoSteps,
    ReleaseInTwoSteps,
    GenerationKept,
    ChunkRelaxed,
    ChunkReplaced,
    SlotRelaxed,
    SlotMadeInTwoSteps,
    PushRelaxed,
    PushUncounted,
    PopRelaxed,
    PopAgainRelaxed,
];

/// How many schedules loom tried, or what it found.
fn explore(model: Model, mutant: Option<Mutant>) -> Result<usize, String> {
    choose(mutant);
    let schedules = Arc::new(AtomicUsize::new(0));
    let counted = schedules.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        loom::model(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            model();
        });
    }));
    choose(None);
    match outcome {
        Ok(()) => Ok(schedules.load(Ordering::Relaxed)),
        Err(found) => Err(found
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| found.downcast_ref::<&str>().map(|text| (*text).into()))
            .unwrap_or_default()),
    }
}

#[test]
fn loom_models_pass() {
    for closely in [false, true] {
        look_closely(closely);
        for (name, model, _) in MODELS {
            let schedules = explore(*model, None).unwrap_or_else(|found| panic!("{name}: {found}"));
            println!("{name}: {schedules} schedules (looking closely: {closely})");
            assert!(schedules > 1, "{name}: loom saw no choice to make");
        }
    }
    look_closely(false);
}

#[test]
fn loom_mutants_are_caught() {
    for (name, model, mutants) in MODELS {
        for &mutant in *mutants {
            match explore(*model, Some(mutant)) {
                Ok(schedules) => panic!("{name}: {mutant:?} passed all {schedules} schedules"),
                Err(found) => println!(
                    "{name}: {mutant:?} caught: {}",
                    found.lines().next().unwrap_or_default()
                ),
            }
        }
    }
    for mutant in MUTANTS {
        assert!(
            MODELS.iter().any(|(_, _, mutants)| mutants.contains(mutant)),
            "no model catches {mutant:?}"
        );
    }
}

#[test]
fn loom_a_full_table_says_so_and_stays_whole() {
    loom::model(|| {
        let table = table();
        let handles: Vec<usize> = (0..CAPACITY).map(|number| insert(&table, number)).collect();
        let refused = table.insert(|| panic!("made although there is no slot"), || "full");
        assert_eq!(refused, Err("full"));
        assert!(release(&table, handles[0]));
        let handle = insert(&table, 0);
        assert_eq!(index_of(handle), index_of(handles[0]));
        assert_alive(&table, &[&[handle], &handles[1..]].concat(), 0);
    });
}
