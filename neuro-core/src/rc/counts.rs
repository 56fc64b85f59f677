//! The two counts in one atomic word, and every change they can make. No pointers.
//!
//! The orderings are all here. An increment is Relaxed: it is made through a handle that exists, so the count cannot reach
//! its end meanwhile, and a handle reaches another thread by means that synchronise on their own. A decrement is Release,
//! and whoever finds itself the last loads once more with Acquire (R5 in `rc/mod.rs`).

use super::probe::{Mutant, Watch, chosen, ordering};
use crate::sync::AtomicU64;
use crate::sync::Ordering::{Acquire, Relaxed, Release};

const STRONG: u64 = 1;
const WEAK: u64 = 1 << 32;

/// The most handles of a kind. Half the range of a count: an increment is checked after it is made, and 2^31 threads
/// would have to be between the two at once to carry a count into its neighbour.
pub(super) const MAX: u32 = i32::MAX as u32;

const fn strong(word: u64) -> u32 {
    // The low half.
    word as u32
}

const fn weak(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The counts of one block. Exactly the atomic, so that a reference to it covers no byte that is not shared.
pub(super) struct Counts {
    word: AtomicU64,
    watch: Watch,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Counts>() == 8);

/// What the last strong handle finds when it goes: the value is its own to drop, and then
/// - with `weak`, it must give up the weak count that the strong handles held together;
/// - without, there is no other handle at all, and the block is its own too.
pub(super) struct Last {
    pub(super) weak: bool,
}

impl Counts {
    /// The counts of a block with one strong handle.
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(STRONG + WEAK),
            watch: Watch::new(),
        }
    }

    /// One more strong handle, made through a strong handle.
    pub(super) fn add_strong(&self) {
        self.watch.touch();
        let old = self.word.fetch_add(STRONG, Relaxed);
        if strong(old) >= MAX {
            overflow("Arc");
        }
    }

    /// One more strong handle, made through a weak one: only while the value is alive.
    ///
    /// Relaxed, although the caller will read the value: the weak handle was made through a strong one, after all that
    /// was ever done to the value by right of being alone with it (`is_sole` counts weak handles too).
    pub(super) fn try_add_strong(&self) -> bool {
        self.watch.touch();
        if chosen(Mutant::UpgradeInTwoSteps) {
            return strong(self.look()) != 0 && strong(self.word.fetch_add(STRONG, Relaxed)) < MAX;
        }
        let mut seen = self.look();
        loop {
            if strong(seen) == 0 && !chosen(Mutant::UpgradeFromZero) {
                return false;
            }
            if strong(seen) >= MAX {
                overflow("Arc");
            }
            match self.word.compare_exchange_weak(seen, seen + STRONG, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// One more weak handle, made through a handle of either kind.
    pub(super) fn add_weak(&self) {
        self.watch.touch();
        if chosen(Mutant::DowngradeInTwoSteps) {
            return self.word.store(self.look() + WEAK, Relaxed);
        }
        let old = self.word.fetch_add(WEAK, Relaxed);
        if weak(old) >= MAX {
            overflow("Weak");
        }
    }

    /// A strong handle goes. `Some` if it was the last.
    pub(super) fn drop_strong(&self) -> Option<Last> {
        self.watch.touch();
        let old = self
            .word
            .fetch_sub(STRONG, ordering(Release, Mutant::StrongDropRelaxed));
        // From here on the block may be gone, unless this was the last strong handle.
        if strong(old) != 1 {
            return None;
        }
        self.word.load(ordering(Acquire, Mutant::LastStrongRelaxed));
        Some(Self::last(old))
    }

    /// The one strong handle goes, if it is the only one.
    pub(super) fn take_last(&self) -> Option<Last> {
        self.watch.touch();
        let mut seen = self.look();
        // Weak handles come and go meanwhile, so one failure says nothing.
        while strong(seen) == 1 {
            let acquire = ordering(Acquire, Mutant::TryUnwrapRelaxed);
            match self.word.compare_exchange_weak(seen, seen - STRONG, acquire, Relaxed) {
                Ok(old) => return Some(Self::last(old)),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// A weak handle goes, or the one that the strong handles held together. `true` if the block is the caller's to free.
    pub(super) fn drop_weak(&self) -> bool {
        self.watch.touch();
        let old = self.word.fetch_sub(WEAK, ordering(Release, Mutant::WeakDropRelaxed));
        if weak(old) != 1 {
            return false;
        }
        self.word.load(ordering(Acquire, Mutant::LastWeakRelaxed));
        true
    }

    /// Whether the caller's strong handle is the only handle of any kind. If so, all that was done through others
    /// happened before, and it stays the only one until the caller makes another.
    pub(super) fn is_sole(&self) -> bool {
        self.watch.touch();
        let word = self.word.load(ordering(Acquire, Mutant::GetMutRelaxed));
        strong(word) == 1 && (weak(word) == 1 || chosen(Mutant::GetMutDespiteWeak))
    }

    /// Strong handles and `Weak`s at one moment. No `Weak`s are told of once the value is gone.
    pub(super) fn read(&self) -> (usize, usize) {
        self.watch.touch();
        let word = self.word.load(Relaxed);
        match strong(word) {
            0 => (0, 0),
            handles => (handles as usize, weak(word) as usize - 1),
        }
    }

    /// To be called last, before the block is freed.
    pub(super) fn end(&self) {
        self.watch.end();
    }

    fn last(old: u64) -> Last {
        Last {
            weak: weak(old) != 1 && !chosen(Mutant::LastStrongForgetsWeak),
        }
    }

    /// The word, to start a compare-and-exchange from. Loom does not explore what may happen between a plain load and
    /// what follows it, so there it looks by changing nothing.
    fn look(&self) -> u64 {
        if cfg!(loom) {
            self.word.fetch_add(0, Relaxed)
        } else {
            self.word.load(Relaxed)
        }
    }

    /// Pretends that there are `handles` handles of each kind.
    #[cfg(all(test, not(loom)))]
    pub(super) fn pretend(&self, handles: u32) {
        self.word.store(u64::from(handles) * (STRONG + WEAK), Relaxed);
    }
}

/// One handle more could wrap the count to 0 and free a value that is in use. Safe code gets here only by leaking two
/// thousand million handles, so there is nothing to recover.
#[cold]
fn overflow(kind: &str) -> ! {
    use std::io::Write;
    let text = "handles of one value; they are leaked somewhere (mem::forget, into_raw, or a cycle)";
    // The message is a courtesy: a closed stderr must not turn the abort into a panic.
    let _ = writeln!(std::io::stderr(), "neuro-memory: more than {MAX} {kind} {text}");
    std::process::abort();
}
