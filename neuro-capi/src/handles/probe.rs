//! Planted mistakes, for the models to catch.
//!
//! A model that passes proves little until it is seen to fail. So each ordering of the table that is more than Relaxed, and
//! each step that must not be two, has a mutant here. Outside `cfg(loom)` nothing of this is left in the code.

/// The mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// `insert` counts the value without publishing it.
    InsertRelaxed,
    /// `get` does not wait for what `insert` published.
    GetRelaxed,
    /// A reference goes without publishing what was done through it.
    ReleaseUnpublished,
    /// The last reference does not wait for what the others published.
    ReleaseBlind,
    /// `retain` reads, then writes: what others count between the two is lost.
    RetainInTwoSteps,
    /// `release` reads, then writes.
    ReleaseInTwoSteps,
    /// The last release leaves the slot's generation as it was.
    GenerationKept,
    /// A new chunk is entered without publishing its slots.
    ChunkRelaxed,
    /// A new chunk is entered over the one of another thread.
    ChunkReplaced,
    /// Who finds a chunk does not wait for its slots.
    SlotRelaxed,
    /// Two threads may take the same new slot.
    SlotMadeInTwoSteps,
    /// A slot goes onto the free list without publishing that it is empty, and what follows it there.
    PushRelaxed,
    /// The free list is not told apart from what it was before a slot came back to it.
    PushUncounted,
    /// The first look at the free list does not wait for what was published with it.
    PopRelaxed,
    /// Neither does a later look.
    PopAgainRelaxed,
}

/// Loads an atomic that is about to be changed by an exchange.
///
/// Loom does not try all that may happen between a plain load and what follows it, but between two changes it does; so
/// it runs each model a second time, in which a look changes nothing by adding 0. That look is never out of date, which
/// is why the first time is needed too.
macro_rules! look {
    ($atomic:expr, $ordering:expr) => {
        if $crate::handles::probe::closely() {
            $atomic.fetch_add(0, $ordering)
        } else {
            $atomic.load($ordering)
        }
    };
}
pub(super) use look;

#[cfg(not(loom))]
pub(super) use shipped::{chosen, closely, unless};
#[cfg(all(loom, test))]
pub(super) use watched::{choose, look_closely};
#[cfg(loom)]
pub(super) use watched::{chosen, closely, unless};

#[cfg(not(loom))]
mod shipped {
    use super::Mutant;

    /// No mistake is ever chosen.
    pub(in crate::handles) const fn chosen(_: Mutant) -> bool {
        false
    }

    /// Loads are loads.
    pub(in crate::handles) const fn closely() -> bool {
        false
    }

    /// What is right.
    pub(in crate::handles) const fn unless<T: Copy>(_: Mutant, right: T, _: T) -> T {
        right
    }
}

#[cfg(loom)]
mod watched {
    use std::cell::Cell;

    use super::Mutant;

    // Loom runs a model and all its threads on the thread that called it, so each test has a choice of its own.
    std::thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
        static CLOSELY: Cell<bool> = const { Cell::new(false) };
    }

    /// The mistake that models on this thread run with from now on.
    #[cfg(test)]
    pub(in crate::handles) fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    pub(in crate::handles) fn chosen(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }

    /// How models on this thread look from now on.
    #[cfg(test)]
    pub(in crate::handles) fn look_closely(closely: bool) {
        CLOSELY.set(closely);
    }

    pub(in crate::handles) fn closely() -> bool {
        CLOSELY.get()
    }

    /// `wrong` where the mutant is chosen.
    pub(in crate::handles) fn unless<T: Copy>(mutant: Mutant, right: T, wrong: T) -> T {
        if chosen(mutant) { wrong } else { right }
    }
}
