//! What the loom models need inside the counts: planted mistakes, and a watch on the life of a block.
//!
//! A model that passes proves little until it is seen to fail. So each ordering and each check of `counts.rs` has a mutant
//! here, a named mistake that the models must catch, and the models run against all of them. Outside `cfg(loom)` all of
//! this is constants and empty functions, and leaves nothing in the code.

use std::sync::atomic::Ordering;

/// The mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A strong handle goes without publishing what was done through it.
    StrongDropRelaxed,
    /// The last strong handle does not wait for what the others published.
    LastStrongRelaxed,
    /// The last strong handle frees the block under the weak ones.
    LastStrongForgetsWeak,
    /// `try_unwrap` does not wait for what others published.
    TryUnwrapRelaxed,
    /// A weak handle goes without publishing that it is done with the block.
    WeakDropRelaxed,
    /// The last weak handle does not wait for what the others published.
    LastWeakRelaxed,
    /// `get_mut` does not wait for what others published.
    GetMutRelaxed,
    /// `get_mut` does not ask for weak handles, which may become strong.
    GetMutDespiteWeak,
    /// `upgrade` revives a value that is gone.
    UpgradeFromZero,
    /// `upgrade` looks, then counts: the value may go between the two.
    UpgradeInTwoSteps,
    /// `downgrade` reads, then writes: what others count between the two is lost.
    DowngradeInTwoSteps,
}

#[cfg(not(loom))]
pub(super) use shipped::{Watch, chosen, ordering};
#[cfg(all(loom, test))]
pub(super) use watched::choose;
#[cfg(loom)]
pub(super) use watched::{Watch, chosen, ordering};

#[cfg(not(loom))]
mod shipped {
    use super::{Mutant, Ordering};

    /// Nothing to watch.
    pub(in crate::rc) struct Watch;

    impl Watch {
        pub(in crate::rc) fn new() -> Self {
            Self
        }

        pub(in crate::rc) fn touch(&self) {}

        pub(in crate::rc) fn end(&self) {}
    }

    /// No mistake is ever chosen.
    pub(in crate::rc) const fn chosen(_: Mutant) -> bool {
        false
    }

    /// The ordering as written.
    pub(in crate::rc) const fn ordering(right: Ordering, _: Mutant) -> Ordering {
        right
    }
}

#[cfg(loom)]
mod watched {
    use std::cell::Cell;

    use loom::alloc::Track;
    use loom::cell::UnsafeCell;

    use super::{Mutant, Ordering};

    // Loom runs a model and all its threads on the thread that called it, so each test has a choice of its own.
    std::thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// The mistake that models on this thread run with from now on.
    #[cfg(test)]
    pub(in crate::rc) fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    pub(in crate::rc) fn chosen(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// Relaxed where the mutant is chosen.
    pub(in crate::rc) fn ordering(right: Ordering, mutant: Mutant) -> Ordering {
        if chosen(mutant) { Ordering::Relaxed } else { right }
    }

    /// Life of a block as loom can see it: a touch reads the cell and the end writes it, so a touch that is not ordered
    /// before the end is a race. `Track` reports a block that never ends. Once a thread panics the mistake is found, and
    /// the watch looks away, because a second panic in a destructor would abort the process.
    pub(in crate::rc) struct Watch(UnsafeCell<Option<Track<()>>>);

    impl Watch {
        pub(in crate::rc) fn new() -> Self {
            Self(UnsafeCell::new(Some(Track::new(()))))
        }

        pub(in crate::rc) fn touch(&self) {
            if std::thread::panicking() {
                return;
            }
            // SAFETY: loom runs one thread at a time and panics on overlapping access before the closure runs.
            let alive = self.0.with(|life| unsafe { (*life).is_some() });
            assert!(alive, "a freed block was touched");
        }

        pub(in crate::rc) fn end(&self) {
            if std::thread::panicking() {
                return;
            }
            // SAFETY: as in `touch`.
            let life = self.0.with_mut(|life| unsafe { (*life).take() });
            assert!(life.is_some(), "a block was freed twice");
        }
    }
}
