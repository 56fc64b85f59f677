//! `Domain`: the devices that reach what any of them imported of the host's memory.
//!
//! Most are alone in theirs, and import for themselves what they use, when they first use it; such imports may overlap. Those of CUDA
//! are in one: memory is locked in place once, for all of them, and no page of it twice.
//!
//! Invariants:
//! - D1: imports of a domain that locks do not overlap: whoever makes some, or gives some back, holds the domain's lock until the driver
//!   has done it.
//! - D2: one device does it for all, the first that was asked. It is shut down after the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use crate::backend::Backend;
use crate::sync::global::{Mutex, MutexGuard, OnceLock, lock};

#[derive(Debug, Default)]
pub(crate) struct Domain {
    changing: Mutex<()>,
    /// Why memory could not be imported, the last time.
    refused: Mutex<Option<String>>,
    leader: OnceLock<Arc<Engine>>,
}

impl Domain {
    /// That of a device.
    pub(super) fn of(backend: &dyn Backend) -> Arc<Self> {
        static SHARED: Mutex<BTreeMap<usize, Arc<Domain>>> = Mutex::new(BTreeMap::new());
        match backend.import_domain() {
            Some(number) => Arc::clone(lock(&SHARED).entry(number).or_default()),
            None => Arc::default(),
        }
    }

    /// Held while memory is imported; and, where it is locked (D1), given back.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        lock(&self.changing)
    }

    /// The device that locks memory for all (D2), `engine` if there was none.
    pub(super) fn leader<'a>(&'a self, engine: &Arc<Engine>) -> &'a Arc<Engine> {
        self.leader.get_or_init(|| Arc::clone(engine))
    }

    /// Whether it is this one.
    pub(super) fn is_led_by(&self, engine: &Arc<Engine>) -> bool {
        self.leader.get().is_some_and(|leader| Arc::ptr_eq(leader, engine))
    }

    /// What came of the latest import: why it was refused, if it was.
    pub(super) fn note_refused(&self, why: Option<String>) {
        *lock(&self.refused) = why;
    }

    /// Why memory could not be imported when it was last tried, if it could not.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.refused).clone()
    }
}
