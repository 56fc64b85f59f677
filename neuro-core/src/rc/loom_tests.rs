//! Every interleaving of a few threads over one block, without a mistake and then with each planted one (`probe.rs`).
//!
//! The value is a loom cell: reading it through a handle and writing it in its destructor must be ordered by the counts,
//! or loom reports a race. `Watch` does the same for the block itself and reports leaks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::cell::UnsafeCell;
use loom::thread;

use super::probe::Mutant::{self, *};
use super::probe::choose;
use super::{Arc, Weak};

/// A value whose reads, writes and death loom sees.
struct Data(UnsafeCell<Option<u32>>);

// SAFETY: that its accesses never overlap is what the models test; loom panics before one that would.
unsafe impl Sync for Data {}

impl Data {
    fn new() -> Self {
        Self(UnsafeCell::new(Some(0)))
    }

    fn read(&self) -> u32 {
        // SAFETY: loom panics before an access that overlaps a write.
        self.0
            .with(|value| unsafe { *value })
            .expect("a dropped value was read")
    }

    fn add(&mut self) {
        // SAFETY: loom panics before an access that overlaps another.
        self.0.with_mut(|value| unsafe {
            let value = (*value).as_mut().expect("a dropped value was written");
            *value += 1;
        });
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // As with `Watch`: the mistake is found already.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: loom panics before an access that overlaps another.
        let was = self.0.with_mut(|value| unsafe { (*value).take() });
        assert!(was.is_some(), "a value was dropped twice");
    }
}

/// Two threads read, then drop; whoever is last runs the destructor.
fn last_drop() {
    let a = Arc::new(Data::new());
    let b = a.clone();
    let other = thread::spawn(move || b.read());
    a.read();
    drop(a);
    other.join().unwrap();
}

/// Three threads: the last drop must see through a chain of decrements.
fn last_of_three_drops() {
    let a = Arc::new(Data::new());
    let (b, c) = (a.clone(), a.clone());
    let others = [thread::spawn(move || b.read()), thread::spawn(move || c.read())];
    drop(a);
    for other in others {
        other.join().unwrap();
    }
}

/// One thread wants to write, while another reads and drops.
fn get_mut_after_drop() {
    let mut a = Arc::new(Data::new());
    let b = a.clone();
    let other = thread::spawn(move || b.read());
    if let Some(data) = Arc::get_mut(&mut a) {
        data.add();
    }
    other.join().unwrap();
    Arc::get_mut(&mut a).expect("the other is joined").add();
}

/// One thread wants to write, while another upgrades and reads.
fn get_mut_against_upgrade() {
    let mut a = Arc::new(Data::new());
    let weak = Arc::downgrade(&a);
    let other = thread::spawn(move || weak.upgrade().map(|strong| strong.read()));
    if let Some(data) = Arc::get_mut(&mut a) {
        data.add();
    }
    other.join().unwrap();
}

/// The last handle goes while another thread upgrades: it gets the value or nothing.
fn upgrade_against_last_drop() {
    let a = Arc::new(Data::new());
    let weak = Arc::downgrade(&a);
    let other = thread::spawn(move || weak.upgrade().map(|strong| strong.read()));
    drop(a);
    other.join().unwrap();
}

/// The block goes with the last of one strong and two weak handles, on whichever thread.
fn last_weak_frees() {
    let a = Arc::new(Data::new());
    let (one, two) = (Arc::downgrade(&a), Arc::downgrade(&a));
    let others = [thread::spawn(move || drop(one)), thread::spawn(move || drop(two))];
    drop(a);
    for other in others {
        other.join().unwrap();
    }
}

/// Two threads make weak handles at once; none may be lost, neither may the block be.
fn downgrades_at_once() {
    let a = Arc::new(Data::new());
    let b = a.clone();
    let other = thread::spawn(move || Arc::downgrade(&b));
    let one = Arc::downgrade(&a);
    let two = other.join().unwrap();
    assert_eq!((Arc::strong_count(&a), Arc::weak_count(&a)), (1, 2));
    drop((one, a));
    assert!(two.upgrade().is_none());
}

/// A weak handle is cloned while the strong one goes.
fn weak_clone_against_last_drop() {
    let a = Arc::new(Data::new());
    let weak = Arc::downgrade(&a);
    let other = thread::spawn(move || weak.clone().upgrade().map(|strong| strong.read()));
    drop(a);
    other.join().unwrap();
}

/// Two threads want the value itself: at most one gets it, and then may write.
fn try_unwrap_at_once() {
    let a = Arc::new(Data::new());
    let b = a.clone();
    let other = thread::spawn(move || {
        b.read();
        Arc::try_unwrap(b).is_ok()
    });
    let mine = match Arc::try_unwrap(a) {
        Ok(mut data) => {
            data.add();
            true
        }
        Err(_) => false,
    };
    assert!(!(other.join().unwrap() && mine), "both got the value");
}

/// A thread takes the value out while another upgrades.
fn try_unwrap_against_upgrade() {
    let a = Arc::new(Data::new());
    let weak = Arc::downgrade(&a);
    let other = thread::spawn(move || weak.upgrade().map(|strong| strong.read()));
    if let Ok(mut data) = Arc::try_unwrap(a) {
        data.add();
    }
    other.join().unwrap();
}

type Model = fn();

/// Each model with the mistakes that it must catch.
const MODELS: &[(Model, &[Mutant])] = &[
    (last_drop, &[StrongDropRelaxed, LastStrongRelaxed]),
    (last_of_three_drops, &[StrongDropRelaxed, LastStrongRelaxed]),
    (get_mut_after_drop, &[StrongDropRelaxed, GetMutRelaxed]),
    (get_mut_against_upgrade, &[GetMutDespiteWeak]),
    (
        upgrade_against_last_drop,
        &[UpgradeFromZero, UpgradeInTwoSteps, LastStrongForgetsWeak],
    ),
    (
        last_weak_frees,
        &[WeakDropRelaxed, LastWeakRelaxed, LastStrongForgetsWeak],
    ),
    (downgrades_at_once, &[DowngradeInTwoSteps]),
    (weak_clone_against_last_drop, &[UpgradeFromZero, DowngradeInTwoSteps]),
    (try_unwrap_at_once, &[TryUnwrapRelaxed, StrongDropRelaxed]),
    (
        try_unwrap_against_upgrade,
        &[UpgradeFromZero, UpgradeInTwoSteps, LastStrongForgetsWeak],
    ),
];

const MUTANTS: &[Mutant] = &[
    StrongDropRelaxed,
    LastStrongRelaxed,
    LastStrongForgetsWeak,
    TryUnwrapRelaxed,
    WeakDropRelaxed,
    LastWeakRelaxed,
    GetMutRelaxed,
    GetMutDespiteWeak,
    UpgradeFromZero,
    UpgradeInTwoSteps,
    DowngradeInTwoSteps,
];

/// How many schedules loom tried, or what it found.
fn explore(model: Model, mutant: Option<Mutant>) -> Result<usize, String> {
    choose(mutant);
    let schedules = std::sync::Arc::new(AtomicUsize::new(0));
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
    for (at, (model, _)) in MODELS.iter().enumerate() {
        let schedules = explore(*model, None).unwrap_or_else(|found| panic!("model {at}: {found}"));
        println!("model {at}: {schedules} schedules");
        assert!(schedules > 1, "model {at}: loom saw no choice to make");
    }
}

#[test]
fn loom_mutants_are_caught() {
    for (at, (model, mutants)) in MODELS.iter().enumerate() {
        for &mutant in *mutants {
            match explore(*model, Some(mutant)) {
                Ok(schedules) => panic!("model {at}: {mutant:?} passed all {schedules} schedules"),
                Err(found) => println!(
                    "model {at}: {mutant:?} caught: {}",
                    found.lines().next().unwrap_or_default()
                ),
            }
        }
    }
    for mutant in MUTANTS {
        assert!(
            MODELS.iter().any(|(_, mutants)| mutants.contains(mutant)),
            "no model catches {mutant:?}"
        );
    }
}

#[test]
fn loom_a_weak_of_nothing_needs_no_block() {
    loom::model(|| assert!(Weak::<Data>::new().upgrade().is_none()));
}
