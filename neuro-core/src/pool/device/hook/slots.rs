//! Hooks by a small number, for callbacks that are told nothing else: PyTorch's.
//!
//! A number is bound to a pool as long as somebody has a handle of it or a block lives that was allocated through it, and is free after that.
//!
//! Invariant S1: a hook leaves its number only when nobody is inside it and no block of it is live: whoever uses it has a count of its own, which is taken
//! under the lock.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Hook;
use crate::error::{Error, Result};
use crate::pool::MemoryPool;
use crate::pool::device::may_enter;
use crate::sync::global::{Mutex, lock};

/// Numbers there are.
pub const SLOTS: usize = 16;

/// What a callback does when there is no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// It returns NULL: who calls it looks.
    Null,
    /// It throws, since who calls it does not look. Such a caller also sees to it that nothing is allocated while a stream is captured.
    Throw,
}

#[derive(Debug)]
struct Bound {
    hook: Arc<Hook>,
    on_failure: OnFailure,
    handles: usize,
}

static BOUND: [RwLock<Option<Bound>>; SLOTS] = [const { RwLock::new(None) }; SLOTS];

/// A number that is bound to a pool. Dropping it gives the handle back; the number stays bound while blocks live that were allocated through it.
#[derive(Debug)]
pub struct HookSlot(usize);

/// A bound number, in use.
#[derive(Debug)]
pub struct SlotUse {
    number: usize,
    /// Until this is dropped.
    hook: Option<Arc<Hook>>,
    on_failure: OnFailure,
    /// Nobody has a handle.
    unbound: bool,
}

impl HookSlot {
    /// Binds a number to a pool; the same one as before, if it is bound to that already for the same kind of caller.
    ///
    /// # Errors
    /// As [`Hook::new`]; [`Error::Unavailable`] where all numbers are bound to other pools; [`Error::DeviceLost`].
    pub fn bind(pool: &MemoryPool, on_failure: OnFailure) -> Result<Self> {
        static ONE: Mutex<()> = Mutex::new(());
        let hook = match on_failure {
            OnFailure::Null => Hook::new(pool),
            OnFailure::Throw => Hook::without_captures(pool),
        }?;
        hook.pool_of_device()?; // in a forked child the locks may be those of threads that are not there
        // Dropped when no lock is held.
        let mut gone = Vec::new();
        let _one = lock(&ONE);
        let mut free = None;
        for number in 0..SLOTS {
            let mut slot = write(number);
            gone.extend(forget_if_done(&mut slot));
            match &mut *slot {
                Some(bound) if bound.on_failure == on_failure && bound.hook.pool.0 == pool.0 => {
                    bound.handles += 1;
                    return Ok(Self(number));
                }
                Some(_) => {}
                None => free = free.or(Some(number)),
            }
        }
        let number = free.ok_or_else(|| Error::Unavailable {
            what: "one more hook of PyTorch".to_owned(),
            reason: format!(
                "{SLOTS} pools are bound, which is the most; let go of one, and free what was allocated from it"
            ),
        })?;
        *write(number) = Some(Bound {
            hook: Arc::new(hook),
            on_failure,
            handles: 1,
        });
        Ok(Self(number))
    }

    /// The number.
    pub fn number(&self) -> usize {
        self.0
    }

    /// Takes a handle up again, by its number.
    ///
    /// # Errors
    /// [`Error::InvalidFree`] for a number of which nobody has a handle.
    pub fn release(number: usize) -> Result<()> {
        let none = Error::InvalidFree {
            address: number,
            reason: "no slot of this number is bound",
        };
        if number >= SLOTS || !may_enter() {
            return Err(none);
        }
        let mut slot = write(number);
        let Some(bound) = slot.as_mut().filter(|bound| bound.handles > 0) else {
            return Err(none);
        };
        bound.handles -= 1;
        let gone = forget_if_done(&mut slot);
        drop(slot);
        drop(gone);
        Ok(())
    }

    /// Gives the handle away, to be [released](Self::release) by its number.
    pub fn into_number(self) -> usize {
        let number = self.0;
        std::mem::forget(self);
        number
    }

    /// A number as a callback uses it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where it is bound to no pool; [`Error::Unavailable`] in a forked child, after
    /// [`shutdown`](crate::shutdown), and when the process ends.
    pub fn enter(number: usize) -> Result<SlotUse> {
        // Also keeps a forked child from a lock that a thread may have had which is not there.
        if !may_enter() {
            return Err(Error::Unavailable {
                what: "the hook of PyTorch".to_owned(),
                reason: "the process ends, has called shutdown, or is a forked child, which has no devices".to_owned(),
            });
        }
        let slot = BOUND.get(number).map(read);
        let Some(bound) = slot.as_ref().and_then(|slot| slot.as_ref()) else {
            return Err(Error::InvalidArgument {
                op: "hook of PyTorch",
                what: format!("slot {number} is bound to no pool; keep the handle of it as long as it is used"),
            });
        };
        Ok(SlotUse {
            number,
            hook: Some(Arc::clone(&bound.hook)),
            on_failure: bound.on_failure,
            unbound: bound.handles == 0,
        })
    }
}

impl Drop for HookSlot {
    fn drop(&mut self) {
        // In a forked child it is the parent's.
        let _ = Self::release(self.0);
    }
}

impl SlotUse {
    /// What its caller expects of a failure.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }
}

impl std::ops::Deref for SlotUse {
    type Target = Hook;

    fn deref(&self) -> &Hook {
        self.hook.as_deref().expect("it is taken when this is dropped")
    }
}

impl Drop for SlotUse {
    fn drop(&mut self) {
        self.hook = None;
        if self.unbound && may_enter() {
            // Its last block may have gone.
            let gone = forget_if_done(&mut write(self.number));
            drop(gone);
        }
    }
}

/// Frees a number that nobody uses; the hook is to be dropped without the lock.
fn forget_if_done(slot: &mut Option<Bound>) -> Option<Bound> {
    slot.take_if(|bound| bound.handles == 0 && Arc::strong_count(&bound.hook) == 1 && bound.hook.is_unused())
}

fn read(slot: &RwLock<Option<Bound>>) -> RwLockReadGuard<'_, Option<Bound>> {
    slot.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(number: usize) -> RwLockWriteGuard<'static, Option<Bound>> {
    BOUND[number].write().unwrap_or_else(PoisonError::into_inner)
}
